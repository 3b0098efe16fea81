// A call journal on a memory store that can fail like a real store, for the tests of this folder.
import { pino } from 'pino';
import { SipfarmError } from '../../../../src/base/errors.ts';
import { NO_GUARD } from '../../../../src/base/guard.ts';
import { CallJournal, type RecordsMode } from '../../../../src/calls/records/call-journal.ts';
import { type CallRecord, parseCallRecord, parseRecordKey } from '../../../../src/calls/records/call-record.ts';
import type { CapturedMessage } from '../../../../src/calls/records/leg-text.ts';
import type { MediaRecord } from '../../../../src/calls/records/media-record.ts';
import type { CapturedLeg } from '../../../../src/calls/records/tracked-call.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { emptyWay } from '../../../../src/packet/flow.ts';
import { MemoryFarm, type MemoryStore } from '../../../../src/store/memory-store.ts';
import type { Store, Write } from '../../../../src/store/store.ts';
import { FakeClock } from '../../../fake/clock.ts';

export const SELF = 3;

/** Fault of the next commits: none, lost before the store, lost answer, refused, or slow. */
export type Fault = 'none' | 'unheard' | 'answer-lost' | 'refused' | 'slow';

/** What `faultyStore` does with the next commits, and what it counts. */
export interface Faults {
  readonly clock: FakeClock;
  readonly store: MemoryStore;
  readonly writes: Map<number, number>;
  readonly fault: Fault;
  commits: number;
}

/** Returns the store of `rig` with the faults of `rig`. */
export function faultyStore(rig: Faults): Store {
  const { store, clock, writes: counts } = rig;
  const commit = async (writes: readonly Write[]): Promise<boolean> => {
    const { fault } = rig;
    rig.commits++;
    if (fault === 'unheard') throw new SipfarmError('SF_STORE_UNREACHABLE', 'not heard');
    if (fault === 'refused') throw new SipfarmError('SF_STORE_REFUSED', 'no space');
    if (fault === 'slow') await new Promise<void>((resolve) => clock.after(100, resolve));
    const done = await store.commit(writes);
    if (fault === 'answer-lost') throw new SipfarmError('SF_STORE_UNREACHABLE', 'the answer is lost');
    const named = new Set(writes.flatMap(({ key }) => parseRecordKey(key)?.entry ?? []));
    for (const entry of named) counts.set(entry, (counts.get(entry) ?? 0) + 1);
    return done;
  };
  return new Proxy(store, {
    get: (_target, name) => {
      if (name === 'commit') return commit;
      const value = Reflect.get(store, name, store) as unknown;
      return typeof value === 'function' ? value.bind(store) : value;
    },
  });
}

export class JournalRig implements Faults {
  readonly clock = new FakeClock();
  readonly memory = new MemoryFarm(this.clock);
  readonly store: MemoryStore = this.memory.open();
  readonly journal: CallJournal;
  readonly taken: number[] = [];
  /** Number of writes for each key of a call. */
  readonly writes = new Map<number, number>();
  /** Media that is relayed now, by entry. */
  readonly media = new Map<number, MediaRecord>();
  readonly self = { number: SELF, incarnation: 5, epoch: 9 };
  commits = 0;
  fault: Fault = 'none';
  mayWrite = true;
  seated = true;
  readonly outcomes: CellFamily<'outcome'>;
  readonly dropped: CellFamily<'reason'>;

  constructor(mode: RecordsMode = 'calls') {
    const family = <L extends string>(label: L) => new CellFamily({ name: label, help: '', labels: [label] });
    this.outcomes = family('outcome');
    this.dropped = family('reason');
    this.journal = new CallJournal({
      store: faultyStore(this),
      clock: this.clock,
      log: pino({ level: 'silent' }),
      guard: NO_GUARD,
      mode,
      self: () => this.self,
      mayWrite: () => this.mayWrite,
      stillSeated: async () => {
        await this.store.reach();
        return this.seated;
      },
      onTaken: (entry) => void this.taken.push(entry),
      mediaOf: (entry) => this.media.get(entry),
      writes: this.outcomes,
      dropped: this.dropped,
    });
  }

  /** Returns the records in the store by `entry`, with the kind from their key. Throws when a value is no record. */
  stored(): Map<number, CallRecord & { readonly kind: string }> {
    const found = new Map<number, CallRecord & { readonly kind: string }>();
    for (const { key, value } of this.memory.readAll(`calls/${SELF}/`)) {
      const place = parseRecordKey(key);
      const record = parseCallRecord(value);
      if (place && !record) throw new Error(`${key} is no record`);
      if (place && found.has(place.entry)) throw new Error(`${place.entry} stands there twice`);
      if (place && record) found.set(place.entry, { ...record, kind: key.split('/')[2]! });
    }
    return found;
  }

  /** Deletes the first 100 keys under calls/, which are all keys in these tests. */
  wipe(): void {
    this.memory.apply(
      this.memory
        .readAll('calls/')
        .slice(0, 100)
        .map(({ key }) => ({ key, value: undefined })),
    );
  }
}

export function capturedMessage(text: string, ownLines = 0): CapturedMessage {
  const message = Buffer.from(text.replaceAll(/\r?\n/g, '\r\n'), 'latin1');
  const startLineEnd = message.indexOf('\r\n') + 2;
  let headersStart = startLineEnd;
  for (let line = 0; line < ownLines; line++) headersStart = message.indexOf('\r\n', headersStart) + 2;
  return { message, startLineEnd, headersStart, headersEnd: message.indexOf('\r\n\r\n') + 2 };
}

const FLOW = { ...emptyWay(), member: SELF, incarnation: 5, listener: 1, address: '192.0.2.7', port: 5060 };

export function invite(callId: string, via: string): string {
  return `INVITE sip:bob@example.org SIP/2.0
Via: ${via}
Max-Forwards: 70
From: <sip:alice@example.org>;tag=a
To: <sip:bob@example.org>
Call-ID: ${callId}
CSeq: 1 INVITE
Contact: <sip:alice@192.0.2.7>
User-Agent: verbose and of no use
Content-Length: 4

v=0
`;
}

export function clientLeg(callId: string): CapturedLeg {
  const via = 'SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKphone';
  return { from: 'client', flow: FLOW, request: capturedMessage(invite(callId, via)), branch: '' };
}

export function serverLeg(callId: string, branch = 'z9hG4bKsf1'): CapturedLeg {
  const via = `SIP/2.0/UDP 198.51.100.1:5060;branch=${branch}`;
  return { from: 'server', flow: FLOW, request: capturedMessage(invite(callId, via)), branch };
}

export function ok(callId: string): CapturedMessage {
  return capturedMessage(`SIP/2.0 200 OK
Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKphone
Record-Route: <sip:sf1@198.51.100.1;lr>
From: <sip:alice@example.org>;tag=a
To: <sip:bob@example.org>;tag=b
Call-ID: ${callId}
CSeq: 1 INVITE
Contact: <sip:bob@192.0.2.8>
Server: verbose

`);
}
