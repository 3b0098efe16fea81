// The journal of call records: contents of the store after changes of calls and after faults of the store.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseRecordKey, recordKey } from '../../../../src/calls/records/call-record.ts';
import type { MediaRecord } from '../../../../src/calls/records/media-record.ts';
import { clientLeg, type Fault, JournalRig, ok, SELF, serverLeg } from './journal-rig.ts';

/** Longer than the first write and some retries. */
const SOON_MS = 100;
const SURELY_MS = 5_000;

async function talking(rig: JournalRig, entry: number, callId = 'call'): Promise<void> {
  rig.journal.began(entry, 'INVITE', callId, clientLeg(callId));
  rig.journal.answered(entry, '', ok(callId), true);
  await rig.clock.pass(SOON_MS);
}

describe('a plain call', () => {
  test('is stored while it rings and once it is confirmed, and deleted when it is over: three writes', async () => {
    const rig = new JournalRig();
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    await rig.clock.pass(40);
    assert.equal(rig.stored().size, 0, 'a call that fails at once costs nothing');
    await rig.clock.pass(SOON_MS);
    const tried = rig.stored().get(77)!;
    assert.deepEqual([tried.kind, tried.state, tried.callId, tried.method], ['pending', 'trying', 'call', 'INVITE']);
    assert.deepEqual([tried.incarnation, tried.epoch], [5, 9]);
    rig.journal.rings(77);
    await rig.clock.pass(SOON_MS);
    assert.equal(rig.writes.get(77), 1);
    rig.journal.answered(77, '', ok('call'), true);
    await rig.clock.pass(SOON_MS);
    const confirmed = rig.stored().get(77)!;
    assert.deepEqual([confirmed.kind, confirmed.state, confirmed.since], ['dialog', 'confirmed', tried.since]);
    rig.journal.over(77);
    await rig.clock.pass(SOON_MS);
    assert.deepEqual([rig.stored().size, rig.journal.size, rig.writes.get(77)], [0, 0, 3]);
  });

  test('is recorded with the identifying and routing headers of its messages, and without Via once it is confirmed', async () => {
    const rig = new JournalRig();
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    await rig.clock.pass(SOON_MS);
    const [tried] = rig.stored().get(77)!.legs;
    assert.match(
      tried!.request,
      /^INVITE sip:bob@example.org SIP\/2.0\r\nVia: SIP\/2.0\/UDP 192.0.2.7;branch=z9hG4bKphone\r\nFrom:/,
    );
    assert.doesNotMatch(tried!.request, /User-Agent|Content-Length|Max-Forwards|v=0/);
    assert.equal(tried!.answer, undefined);
    rig.journal.answered(77, '', ok('call'), true);
    await rig.clock.pass(SOON_MS);
    const [leg] = rig.stored().get(77)!.legs;
    assert.equal(leg!.request, tried!.request.replace(/Via:.*\r\n/, ''));
    assert.match(leg!.answer!, /^SIP\/2.0 200 OK\r\nRecord-Route: <sip:sf1@198.51.100.1;lr>\r\nFrom:/);
    assert.doesNotMatch(leg!.answer!, /Via|Server/);
    assert.deepEqual(rig.journal.recordOf(77)!.legs, rig.stored().get(77)!.legs);
  });

  test('is recorded with the epoch in which it began, whatever views come before the write, because routing needs it', async () => {
    const rig = new JournalRig();
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    rig.self.epoch += 2;
    await rig.clock.pass(SOON_MS);
    assert.equal(rig.stored().get(77)!.epoch, rig.self.epoch - 2);
    rig.journal.answered(77, '', ok('call'), true);
    await rig.clock.pass(SOON_MS);
    assert.equal(rig.journal.recordOf(77)!.epoch, rig.self.epoch - 2, 'also when it rests');
  });

  test('is not written when it fails within 50 ms', async () => {
    const rig = new JournalRig();
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    await rig.clock.pass(40);
    rig.journal.over(77);
    await rig.clock.pass(SOON_MS);
    assert.deepEqual([rig.commits, rig.journal.size], [0, 0]);
  });

  test('is written at once with both legs when a proxy sends it on, and each branch once', async () => {
    const rig = new JournalRig();
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    rig.journal.branched(77, serverLeg('call'));
    await rig.clock.pass(30);
    rig.journal.branched(77, serverLeg('call'));
    await rig.clock.pass(SOON_MS);
    assert.deepEqual(
      [
        rig
          .stored()
          .get(77)!
          .legs.map(({ from }) => from),
        rig.writes.get(77),
      ],
      [['client', 'server'], 1],
    );
    rig.journal.branched(77, serverLeg('call', 'z9hG4bKsf2'));
    rig.journal.answered(77, 'z9hG4bKsf2', ok('call'), false);
    rig.journal.answered(77, '', ok('call'), true);
    await rig.clock.pass(SOON_MS);
    const answers = rig
      .stored()
      .get(77)!
      .legs.map(({ answer }) => answer !== undefined);
    assert.deepEqual(answers, [true, false, true]);
  });

  test('is recorded again under its key when it is tried again', async () => {
    const rig = new JournalRig();
    await talking(rig, 77);
    rig.journal.over(77);
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    await rig.clock.pass(SOON_MS);
    assert.deepEqual(
      [...rig.stored().values()].map(({ kind }) => kind),
      ['pending'],
    );
  });
});

test('a ringing call is not written when only dialogs are recorded', async () => {
  const rig = new JournalRig('dialogs');
  rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
  rig.journal.branched(77, serverLeg('call'));
  await rig.clock.pass(SOON_MS);
  assert.equal(rig.commits, 0);
  rig.journal.answered(77, '', ok('call'), true);
  await rig.clock.pass(SOON_MS);
  assert.deepEqual([rig.stored().get(77)?.kind, rig.writes.get(77)], ['dialog', 1]);
});

test('a call with too long texts is not recorded, and is counted', async () => {
  const rig = new JournalRig();
  rig.journal.began(77, 'INVITE', 'call', clientLeg('x'.repeat(9000)));
  await rig.clock.pass(SOON_MS);
  assert.deepEqual([rig.stored().size, rig.journal.size, rig.dropped.cell({ reason: 'size' }).n], [0, 0, 1]);
});

test('many calls share commits, and only one commit runs at a time', async () => {
  const rig = new JournalRig();
  rig.fault = 'slow';
  for (let entry = 1; entry <= 250; entry++) rig.journal.began(entry, 'INVITE', 'call', clientLeg('call'));
  await rig.clock.pass(150);
  assert.equal(rig.commits, 1, 'the second waits for the first');
  await rig.clock.pass(SURELY_MS);
  assert.deepEqual([rig.stored().size, rig.commits], [250, 3]);
});

describe('a store without answers', () => {
  test('gets the final state of each call when it is back', async () => {
    const rig = new JournalRig();
    await talking(rig, 1);
    rig.fault = 'unheard';
    rig.journal.over(1);
    await talking(rig, 2);
    rig.journal.began(3, 'INVITE', 'call', clientLeg('call'));
    await rig.clock.pass(SURELY_MS);
    rig.fault = 'none';
    await rig.clock.pass(SURELY_MS);
    assert.deepEqual([...rig.stored()].map(([entry, { kind }]) => `${entry} ${kind}`).sort(), [
      '2 dialog',
      '3 pending',
    ]);
  });

  test('makes calls that do not fit in the queue be counted and written later', async () => {
    const rig = new JournalRig();
    rig.mayWrite = false;
    const calls = 20_100;
    for (let entry = 1; entry <= calls; entry++) rig.journal.began(entry, 'INVITE', 'c', clientLeg('c'));
    assert.deepEqual([rig.journal.waiting, rig.dropped.cell({ reason: 'queue' }).n], [20_000, 100]);
    rig.mayWrite = true;
    await rig.clock.pass(60_000, 100);
    assert.deepEqual([rig.stored().size, rig.journal.waiting], [calls, 0]);
  });
});

test('a call that the store refuses alone is left out, and the others are written', async () => {
  const rig = new JournalRig();
  rig.fault = 'refused';
  await talking(rig, 1);
  await rig.clock.pass(SURELY_MS);
  assert.equal(rig.dropped.cell({ reason: 'size' }).n, 1);
  rig.fault = 'none';
  await talking(rig, 2);
  assert.deepEqual([...rig.stored().keys()], [2]);
});

describe('a record that another process has deleted', () => {
  test('counts as adopted when this member has lost its seat: the call is given up', async () => {
    const rig = new JournalRig();
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    await talking(rig, 78);
    await rig.store.commit([{ key: recordKey(SELF, 'trying', 77), value: undefined }]);
    rig.seated = false;
    rig.journal.answered(77, '', ok('call'), true);
    await rig.clock.pass(SURELY_MS);
    assert.deepEqual([rig.taken, [...rig.stored().keys()]], [[77], [78]]);
  });

  test('is written again when this member has kept its seat', async () => {
    const rig = new JournalRig();
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    await rig.clock.pass(SOON_MS);
    await rig.store.commit([{ key: recordKey(SELF, 'trying', 77), value: undefined }]);
    rig.journal.answered(77, '', ok('call'), true);
    await rig.clock.pass(SURELY_MS);
    assert.deepEqual([rig.taken, rig.stored().get(77)?.kind], [[], 'dialog']);
  });
});

test('a store that has lost all records gets them again', async () => {
  const rig = new JournalRig();
  await rig.journal.regain(() => {});
  await talking(rig, 1);
  rig.journal.began(2, 'INVITE', 'call', clientLeg('call'));
  await rig.clock.pass(SOON_MS);
  rig.wipe();
  rig.seated = false;
  await rig.clock.pass(40_000, 50);
  assert.deepEqual([...rig.stored()].map(([entry, { kind }]) => `${entry} ${kind}`).sort(), ['1 dialog', '2 pending']);
  assert.deepEqual(rig.taken, []);
});

test('a member that loses seat and store together, as when etcd restarts empty, keeps its calls because none can be adopted', async () => {
  const rig = new JournalRig();
  await rig.journal.regain(() => {});
  await talking(rig, 1);
  rig.journal.openOwnership();
  rig.wipe();
  rig.self.incarnation++;
  const kept: number[] = [];
  await rig.journal.regain((entry) => void kept.push(entry));
  await rig.clock.pass(SURELY_MS);
  assert.deepEqual([kept, rig.taken, [...rig.stored().keys()]], [[1], [], [1]]);
});

describe('a member that joins again', () => {
  test('reads the records under its number and goes on with them', async () => {
    const before = new JournalRig();
    await talking(before, 1);
    before.journal.began(2, 'INVITE', 'rings', clientLeg('rings'));
    before.journal.branched(2, serverLeg('rings'));
    await before.clock.pass(SOON_MS);
    const records = before.memory.readAll('calls/');

    const rig = new JournalRig();
    rig.memory.apply(records.map(({ key, value }) => ({ key, value })));
    const found: number[] = [];
    await rig.journal.regain((entry, record) => {
      found.push(entry);
      rig.journal.restore(entry, record);
    });
    assert.deepEqual([found.sort(), rig.journal.recordOf(1)?.state], [[1, 2], 'confirmed']);
    rig.journal.branched(2, serverLeg('rings'));
    await rig.clock.pass(SOON_MS);
    assert.equal(rig.commits, 0, 'a retransmission of the branch in the record is none more');
    rig.journal.answered(2, 'z9hG4bKsf1', ok('rings'), false);
    rig.journal.answered(2, '', ok('rings'), true);
    rig.journal.over(1);
    await rig.clock.pass(SOON_MS);
    assert.deepEqual(
      [...rig.stored()].map(([entry, { kind }]) => `${entry} ${kind}`),
      ['2 dialog'],
    );
    assert.deepEqual(
      rig
        .stored()
        .get(2)!
        .legs.map(({ answer }) => answer !== undefined),
      [true, true],
    );
  });

  test('gives up adopted calls, and keeps the calls that it had not written yet', async () => {
    const rig = new JournalRig();
    await rig.journal.regain(() => {});
    await talking(rig, 1);
    await talking(rig, 2);
    rig.mayWrite = false;
    await talking(rig, 3);
    await rig.store.commit([{ key: recordKey(SELF, 'confirmed', 2), value: undefined }]);
    rig.self.incarnation++;
    rig.mayWrite = true;
    await rig.journal.regain(() => assert.fail('nothing is new'));
    await rig.clock.pass(SURELY_MS);
    assert.deepEqual([rig.taken, [...rig.stored().keys()].sort()], [[2], [1, 3]]);
  });

  test('writes nothing until the store has answered its read', async () => {
    const rig = new JournalRig();
    rig.store.cut();
    const reading = rig.journal.regain(() => {});
    await talking(rig, 1);
    await rig.clock.pass(SURELY_MS);
    assert.equal(rig.commits, 0);
    rig.store.heal();
    await rig.clock.pass(SURELY_MS);
    await reading;
    assert.deepEqual([...rig.stored().keys()], [1]);
  });
});

test('a call that ends before the answer to its first write leaves nothing in the store', async () => {
  for (const fault of ['answer-lost', 'unheard'] as const) {
    const rig = new JournalRig();
    rig.fault = fault;
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    await rig.clock.pass(SOON_MS);
    assert.equal(rig.stored().size, fault === 'answer-lost' ? 1 : 0);
    rig.journal.over(77);
    rig.fault = 'none';
    await rig.clock.pass(SURELY_MS);
    assert.deepEqual([rig.stored().size, rig.journal.size], [0, 0]);
  }
});

test('only the adopted calls are given up when several calls change at the same time', async () => {
  const rig = new JournalRig();
  for (const entry of [1, 2, 3]) rig.journal.began(entry, 'INVITE', `call-${entry}`, clientLeg(`call-${entry}`));
  await rig.clock.pass(SOON_MS);
  rig.seated = false;
  for (const entry of [1, 3]) rig.memory.apply([{ key: recordKey(SELF, 'trying', entry), value: undefined }]);
  rig.journal.answered(1, '', ok('call-1'), true);
  rig.journal.answered(2, '', ok('call-2'), true);
  rig.journal.branched(3, serverLeg('call-3'));
  await rig.clock.pass(SURELY_MS);
  assert.deepEqual(
    [rig.taken.sort(), [...rig.stored()].map(([entry, { kind }]) => [entry, kind])],
    [[1, 3], [[2, 'dialog']]],
  );
});

test('a call whose party reconnects is written once more', async () => {
  const rig = new JournalRig();
  rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
  await rig.clock.pass(SOON_MS);
  const flow = { ...clientLeg('call').flow, connection: 9, target: 5, nat: true };
  rig.journal.answered(77, '', ok('call'), true);
  await rig.clock.pass(SOON_MS);
  const before = rig.stored().get(77)!;
  rig.journal.moved(77, 0, flow);
  rig.journal.moved(77, 5, flow);
  await rig.clock.pass(SOON_MS);
  const [leg] = before.legs;
  assert.deepEqual(rig.stored().get(77), { ...before, legs: [{ ...leg, flow, moved: true }] });
  assert.equal(rig.writes.get(77), 3);
  rig.journal.over(77);
  await rig.clock.pass(SOON_MS);
  assert.equal(rig.stored().has(77), false);
});

test('a call whose CSeq numbers are shifted is written once more, and keeps the shifts', async () => {
  const rig = new JournalRig();
  await talking(rig, 1);
  const before = rig.stored().get(1)!;
  rig.journal.shifted(1, 0, [2 ** 28, 65_536]);
  await rig.clock.pass(SOON_MS);
  const legs = [{ ...before.legs[0], shift: [2 ** 28, 65_536] }];
  assert.deepEqual(rig.stored().get(1), { ...before, legs });
  assert.deepEqual(rig.journal.recordOf(1)?.legs, legs, 'the resting call has them, too');
});

test('a member that clears its journal writes nothing more of it', async () => {
  const rig = new JournalRig();
  await talking(rig, 1);
  rig.journal.over(1);
  rig.journal.began(2, 'INVITE', 'call', clientLeg('call'));
  rig.journal.clear();
  await rig.clock.pass(SURELY_MS);
  assert.deepEqual([[...rig.stored().keys()], rig.journal.size], [[1], 0]);
});

test('a member that stops writes all waiting records', async () => {
  const rig = new JournalRig();
  rig.journal.began(1, 'INVITE', 'call', clientLeg('call'));
  await rig.journal.flush();
  rig.journal.close();
  assert.deepEqual([[...rig.stored().keys()], rig.clock.timers], [[1], 0]);
});

const FAULTS: readonly Fault[] = ['none', 'unheard', 'answer-lost', 'refused', 'slow'];
const ENTRIES = 3;
const CALLS = ['began', 'branched', 'rings', 'answered', 'over'] as const;

/** Possible events for a journal, and the expected final contents of the store. */
class Schedule {
  readonly rig = new JournalRig();
  /** Living calls, with the kind of their record. */
  readonly alive = new Map<number, string>();
  /** Calls that may be missing: others may have adopted them, or they were not written when the seat was lost. */
  readonly doubtful = new Set<number>();
  readonly adopted = new Set<number>();
  #lost = false;

  async step(event: string, entry: number): Promise<void> {
    const { journal } = this.rig;
    const callId = `call-${entry}`;
    if (event === 'began') {
      journal.began(entry, 'INVITE', callId, clientLeg(callId));
      this.alive.set(entry, 'pending');
      this.adopted.delete(entry);
      if (!this.#lost) this.doubtful.delete(entry);
    } else if (event === 'branched') journal.branched(entry, serverLeg(callId));
    else if (event === 'rings') journal.rings(entry);
    else if (event === 'answered') {
      if (journal.has(entry)) this.alive.set(entry, 'dialog');
      journal.answered(entry, '', ok(callId), true);
    } else if (event === 'over') {
      journal.over(entry);
      this.alive.delete(entry);
    } else if (event === 'wipe' && !this.#lost) this.rig.wipe();
    else if (event === 'isolated') this.rig.mayWrite = !this.rig.mayWrite;
    else if (event === 'regain') this.regain();
    else if (event === 'lost') {
      this.#lost = true;
      this.rig.seated = false;
      journal.openOwnership();
      for (const each of this.alive.keys()) this.doubtful.add(each);
    } else if (event === 'adopted' && this.#lost) {
      const stored = this.rig.memory.readAll(`calls/${SELF}/`).find(({ key }) => parseRecordKey(key)?.entry === entry);
      if (stored && this.rig.memory.apply([{ key: stored.key, value: undefined }])) {
        this.adopted.add(entry);
        // A call that has begun again meanwhile is given up with its earlier record.
        this.doubtful.add(entry);
      }
    }
  }

  regain(): void {
    this.#lost = false;
    this.rig.seated = true;
    void this.rig.journal.regain((entry, record) => void this.rig.journal.restore(entry, record));
  }

  quiet(): void {
    this.rig.fault = 'none';
    this.rig.mayWrite = true;
    if (this.#lost) this.regain();
  }
}

test('a packed call with a wrong record in the store gets the right one', async () => {
  const rig = new JournalRig();
  void rig.journal.regain(() => {});
  rig.journal.began(1, 'INVITE', 'one', clientLeg('one'));
  rig.journal.answered(1, '', ok('one'), true);
  await rig.clock.pass(100, 5);
  const record = rig.stored().get(1)!;
  assert.equal(record.kind, 'dialog');
  rig.self.number = SELF + 1;
  rig.memory.apply([{ key: `calls/${SELF + 1}/mark`, value: {} }]);
  rig.memory.apply([{ key: recordKey(SELF + 1, 'early', 1), value: { ...record, state: 'early' } }]);
  await rig.journal.regain(() => assert.fail('it is known'));
  await rig.clock.pass(2000, 5);
  const keys = rig.memory.readAll(`calls/${SELF + 1}/`).flatMap(({ key }) => (parseRecordKey(key) ? [key] : []));
  assert.deepEqual(keys, [recordKey(SELF + 1, 'confirmed', 1)]);
  assert.equal(rig.journal.recordOf(1)?.legs[0]?.answer, record.legs[0]?.answer);
  rig.journal.close();
});

for (const end of ['answered', 'over'] as const)
  test(`a call written after an unnoticed loss of the store leaves nothing behind when it is ${end}`, async () => {
    const rig = new JournalRig();
    void rig.journal.regain(() => {});
    await talking(rig, 1);
    rig.wipe();
    rig.journal.began(2, 'INVITE', 'two', clientLeg('two'));
    await rig.clock.pass(SOON_MS);
    assert.equal(rig.stored().get(2)?.kind, 'pending');
    await rig.journal.regain(() => assert.fail('it is known'));
    if (end === 'over') rig.journal.over(2);
    else rig.journal.answered(2, '', ok('two'), true);
    await rig.clock.pass(SURELY_MS);
    assert.equal(rig.stored().get(1)?.kind, 'dialog');
    assert.equal(rig.stored().get(2)?.kind, end === 'over' ? undefined : 'dialog');
    rig.journal.close();
  });

test('the record of a call that ended without an answer to its write is read and deleted', async () => {
  const rig = new JournalRig();
  void rig.journal.regain(() => {});
  rig.fault = 'answer-lost';
  rig.journal.began(1, 'INVITE', 'one', clientLeg('one'));
  await rig.clock.pass(SOON_MS);
  rig.fault = 'none';
  rig.journal.over(1);
  await rig.clock.pass(SURELY_MS);
  assert.deepEqual([rig.stored().size, rig.journal.size], [0, 0]);
  rig.journal.close();
});

test('a call whose first write was lost is written when the records are read again with the same seat', async () => {
  const rig = new JournalRig();
  void rig.journal.regain(() => {});
  await talking(rig, 1);
  rig.fault = 'unheard';
  rig.journal.began(2, 'INVITE', 'two', clientLeg('two'));
  await rig.clock.pass(SOON_MS);
  rig.fault = 'none';
  await rig.journal.regain(() => assert.fail('it is known'));
  await rig.clock.pass(SURELY_MS);
  assert.deepEqual(rig.taken, []);
  assert.equal(rig.stored().get(2)?.kind, 'pending');
  rig.journal.close();
});

/** The deletion of an ended call succeeds unheard, the seat is lost, and a call begins anew under the same Call-ID. */
const BEGUN_ANEW_WITHOUT_THE_SEAT = [
  { entry: 1, event: 'began' as const, fault: 'none' as const, ms: 60 as const },
  { entry: 1, event: 'over' as const, fault: 'answer-lost' as const, ms: 300 as const },
  { entry: 1, event: 'lost' as const, fault: 'none' as const, ms: 0 as const },
  { entry: 1, event: 'began' as const, fault: 'none' as const, ms: 0 as const },
];

test("the store finally has exactly this member's calls, whatever happens to calls, seat and store", async () => {
  const step = fc.record({
    entry: fc.integer({ min: 1, max: ENTRIES }),
    event: fc.constantFrom(...CALLS, ...CALLS, 'wipe', 'isolated', 'regain', 'lost', 'adopted', 'adopted', 'nothing'),
    fault: fc.constantFrom(...FAULTS),
    ms: fc.constantFrom(0, 5, 20, 60, 300),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const schedule = new Schedule();
      const { rig, alive, doubtful, adopted } = schedule;
      schedule.regain();
      for (const { entry, event, fault, ms } of steps) {
        rig.fault = fault;
        await schedule.step(event, entry);
        await rig.clock.pass(ms, 5);
      }
      schedule.quiet();
      await rig.clock.pass(70_000, 20);
      const stored = rig.stored();
      for (const [entry, kind] of alive)
        if (!doubtful.has(entry)) assert.equal(stored.get(entry)?.kind, kind, `call ${entry} lives`);
      for (const entry of stored.keys()) {
        assert.ok(alive.has(entry), `call ${entry} is over`);
        assert.ok(!adopted.has(entry), `call ${entry} is another member's`);
        assert.ok(rig.journal.has(entry), `call ${entry} is known`);
      }
      for (const { entry } of rig.journal.tracked()) assert.ok(stored.has(entry), `call ${entry} is written`);
      assert.equal(rig.journal.waiting, 0);
      rig.journal.close();
    }),
    { numRuns: 60, examples: [[BEGUN_ANEW_WITHOUT_THE_SEAT]] },
  );
});

describe('the media of a call', () => {
  const media = (port: number): MediaRecord => [
    {
      names: ['ta'],
      facing: 1,
      streams: [
        {
          ports: [port, port + 1, port + 2, port + 3],
          shown: ['203.0.113.11', '10.0.0.1'],
          clear: true,
          mux: [false, false],
          targets: [null, null],
        },
      ],
    },
  ];

  test('stands in the writes that are due anyway, and its changes while the call rings cause none', async () => {
    const rig = new JournalRig();
    rig.media.set(77, media(10_000));
    rig.journal.began(77, 'INVITE', 'call', clientLeg('call'));
    rig.journal.mediaChanged(77);
    await rig.clock.pass(SOON_MS);
    assert.deepEqual(rig.stored().get(77)?.media, media(10_000));
    rig.media.set(77, media(20_000));
    rig.journal.mediaChanged(77);
    await rig.clock.pass(SOON_MS);
    assert.equal(rig.writes.get(77), 1);
    rig.journal.answered(77, '', ok('call'), true);
    rig.journal.mediaChanged(77);
    await rig.clock.pass(SOON_MS);
    assert.deepEqual([rig.stored().get(77)?.media, rig.writes.get(77)], [media(20_000), 2]);
  });

  test('is written once more when it changes later, for a call of the server, too', async () => {
    for (const entry of [77, -77]) {
      const rig = new JournalRig();
      await talking(rig, entry);
      assert.equal(rig.stored().get(entry)?.media, undefined);
      rig.media.set(entry, media(10_000));
      rig.journal.mediaChanged(77);
      await rig.clock.pass(SOON_MS);
      assert.deepEqual([rig.stored().get(entry)?.media, rig.writes.get(entry)], [media(10_000), 2]);
      assert.deepEqual(rig.journal.recordOf(entry)?.media, media(10_000), 'also when the call rests');
      rig.journal.over(entry);
      rig.journal.mediaChanged(77);
      await rig.clock.pass(SOON_MS);
      assert.equal(rig.stored().size, 0);
    }
  });

  test('is that of the moment when it is written: a store that was down gets the last one alone', async () => {
    const rig = new JournalRig();
    await talking(rig, 77);
    rig.fault = 'unheard';
    for (const port of [10_000, 20_000]) {
      rig.media.set(77, media(port));
      rig.journal.mediaChanged(77);
      await rig.clock.pass(SOON_MS);
    }
    rig.fault = 'none';
    await rig.clock.pass(SURELY_MS);
    assert.deepEqual([rig.stored().get(77)?.media, rig.writes.get(77)], [media(20_000), 2]);
  });

  test('of a call without a record is not written', async () => {
    const rig = new JournalRig();
    rig.media.set(77, media(10_000));
    rig.journal.mediaChanged(77);
    await rig.clock.pass(SOON_MS);
    assert.deepEqual([rig.stored().size, rig.commits], [0, 0]);
  });
});
