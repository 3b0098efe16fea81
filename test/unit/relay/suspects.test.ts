// Members that the farm cannot reach, and the probe with the reports.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { Peers } from '../../../src/relay/peers.ts';
import {
  MAX_PROBE_OCTETS,
  PROBE_ANSWER,
  PROBE_QUESTION,
  Probe,
  readProbe,
  writeProbe,
} from '../../../src/relay/probe.ts';
import { INTERVAL_MS, Prober, SILENCE_MS, suspectsOf } from '../../../src/relay/prober.ts';
import { FakeClock } from '../../fake/clock.ts';

describe('a member is suspected when a majority of the other seated members cannot reach it', () => {
  const rows: readonly [string, number, Record<number, number[]>, number[]][] = [
    ['without a report: none', 5, {}, []],
    ['both others of three report it', 3, { 1: [3], 2: [3] }, [3]],
    ['one of two others is no majority', 3, { 1: [3] }, []],
    ['two of four others are no majority', 5, { 1: [5], 2: [5] }, []],
    ['three of four others', 5, { 1: [5], 2: [5], 3: [5] }, [5]],
    ['two members fall together', 5, { 1: [4, 5], 2: [4, 5], 3: [4, 5] }, [4, 5]],
    ['the smaller side of a split has no majority', 5, { 4: [1, 2, 3], 5: [1, 2, 3] }, []],
    ['its report about itself does not count', 3, { 1: [3], 3: [3] }, []],
    ['a report about a member without a seat', 3, { 1: [9], 2: [9] }, []],
    ['with two members only the lease decides', 2, { 1: [2] }, []],
  ];
  for (const [what, seats, reports, expected] of rows)
    test(what, () => {
      const seated = Array.from({ length: seats }, (_, i) => i + 1);
      const misses = (reporter: number): Set<number> | undefined => reports[reporter] && new Set(reports[reporter]);
      assert.deepEqual([...suspectsOf(seated, misses)], expected);
    });
});

test('a report that makes a majority takes effect on arrival, before the next tick', () => {
  const clock = new FakeClock();
  const relayed = new CellFamily({ name: 'x', help: '', labels: ['direction', 'peer'] });
  const peers = new Peers(
    relayed,
    () => clock.now(),
    () => 0,
  );
  const relay = { address: '10.0.0.9', port: 5064 };
  peers.setRecords(
    [2, 3].map((number) => ({ number, incarnation: 1, id: `fe${number}`, relay })),
    1,
  );
  peers.setSeats([1, 2, 3].map((number) => ({ number, incarnation: 1 })));
  const suspected: number[][] = [];
  const prober = new Prober({
    clock,
    peers,
    self: () => ({ number: 1, heldSince: 0 }),
    send: () => {},
    onSuspects: (numbers) => suspected.push([...numbers]),
    onLongSilence: () => {},
    observeHop: () => {},
  });
  prober.start();
  const report = new Probe();
  report.answer = true;
  // Member 2 answers each probe, member 3 none.
  for (let passed = 0; passed <= SILENCE_MS + INTERVAL_MS; passed += INTERVAL_MS) {
    clock.advance(INTERVAL_MS);
    report.question = peers.get(2)!.question;
    prober.onProbe(peers.get(2)!, report);
  }
  assert.deepEqual(suspected, []);
  report.unreachable.add(3);
  prober.onProbe(peers.get(2)!, report);
  assert.deepEqual(suspected, [[3]]);
  prober.stop();
});

test('nodes outside the farm neither suspect others nor are suspected', () => {
  const peers = new Peers(
    new CellFamily({ name: 'x', help: '', labels: ['direction', 'peer'] }),
    () => 0,
    () => 0,
  );
  peers.setSeats([
    { number: 1, incarnation: 1 },
    { number: 2, incarnation: 1, role: 'relay' },
    { number: 3, incarnation: 1, role: 'disabled' },
  ]);
  assert.deepEqual(peers.members(), [1]);
});

describe('a probe', () => {
  const bytes = Buffer.alloc(MAX_PROBE_OCTETS);
  const probe = new Probe();

  test('is decoded to the same values', () => {
    const octets = writeProbe(PROBE_ANSWER, 0xfffffffe, 77, new Set([3, 65_535]), bytes);
    assert.ok(readProbe(bytes, 0, octets, probe));
    assert.deepEqual(
      { ...probe },
      { answer: true, question: 0xfffffffe, heldSince: 77, unreachable: new Set([3, 65_535]) },
    );
    assert.ok(readProbe(bytes, 0, writeProbe(PROBE_QUESTION, 1, 0, new Set(), bytes), probe));
    assert.deepEqual({ ...probe }, { answer: false, question: 1, heldSince: 0, unreachable: new Set() });
  });

  test('is invalid when it is cut or longer', () => {
    const octets = writeProbe(PROBE_QUESTION, 1, 2, new Set([3, 4]), bytes);
    for (let end = 0; end < octets; end++) assert.equal(readProbe(bytes, 0, end, probe), false, `cut at ${end}`);
    assert.equal(readProbe(bytes, 0, octets + 1, probe), false);
    bytes[0] = 3;
    assert.equal(readProbe(bytes, 0, octets, probe), false);
  });

  test('names at most 256 members, so that it fits any datagram', () => {
    const many = new Set(Array.from({ length: 1000 }, (_, i) => i + 1));
    const octets = writeProbe(PROBE_QUESTION, 1, 2, many, bytes);
    assert.equal(octets, MAX_PROBE_OCTETS);
    assert.ok(readProbe(bytes, 0, octets, probe));
    assert.equal(probe.unreachable.size, 256);
  });
});
