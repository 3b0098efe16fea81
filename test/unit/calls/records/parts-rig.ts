// The calls of a journal and their writer on a memory store, without a journal: for the tests of its parts.
import assert from 'node:assert/strict';
import { pino } from 'pino';
import { parseRecordKey } from '../../../../src/calls/records/call-record.ts';
import { HeldCalls } from '../../../../src/calls/records/held-calls.ts';
import { RecordWriter } from '../../../../src/calls/records/record-writer.ts';
import type { TrackedCall } from '../../../../src/calls/records/tracked-call.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { MemoryFarm } from '../../../../src/store/memory-store.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { clientLeg, type Fault, type Faults, faultyStore, ok, SELF } from './journal-rig.ts';

export class PartsRig implements Faults {
  readonly clock = new FakeClock();
  readonly memory = new MemoryFarm(this.clock);
  readonly store = this.memory.open();
  readonly writes = new Map<number, number>();
  readonly self = { number: SELF, incarnation: 5, epoch: 9 };
  readonly taken: number[] = [];
  readonly held: HeldCalls;
  readonly writer: RecordWriter;
  commits = 0;
  fault: Fault = 'none';
  mayWrite = true;
  seated = true;
  /** Number of calls that found the queue full. */
  behind = 0;
  /** An action 20 ms after a call waits. */
  work = (): void => {};

  constructor() {
    const guard = { caught: (_entrance: string, error: unknown) => assert.fail(error as Error) };
    const self = () => this.self;
    this.held = new HeldCalls(
      {
        ...{ clock: this.clock, guard, self },
        onTaken: (entry) => void this.taken.push(entry),
        mediaOf: () => undefined,
        dropped: new CellFamily({ name: 'dropped', help: '', labels: ['reason'] }),
      },
      () => this.work(),
      () => this.behind++,
    );
    this.writer = new RecordWriter({
      ...{ clock: this.clock, guard, self },
      store: faultyStore(this),
      log: pino({ level: 'silent' }),
      stillSeated: async () => this.seated,
      mediaOf: () => undefined,
      writes: new CellFamily({ name: 'writes', help: '', labels: ['outcome'] }),
    });
  }

  /** Adds a call that rings and waits for a write. */
  ring(entry: number): TrackedCall {
    const tracked = this.held.begin(entry, 'INVITE', `call-${entry}`);
    tracked.addLeg(clientLeg(`call-${entry}`));
    this.held.wait(tracked);
    return tracked;
  }

  /** Confirms a call. */
  confirm(tracked: TrackedCall): void {
    tracked.setAnswer('', ok(tracked.callId));
    tracked.apply('confirmed');
    this.held.wait(tracked);
  }

  /** Returns the keys of records in the store behind `calls/<number>/`, with the entry in decimal. */
  keys(number = this.self.number): string[] {
    const entries = this.memory.readAll(`calls/${number}/`).flatMap(({ key }) => {
      const place = parseRecordKey(key);
      return place ? [`${key.split('/')[2]} ${place.entry}`] : [];
    });
    return entries.sort();
  }
}
