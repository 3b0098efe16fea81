// Statistics of the bench over its rounds: pure functions.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { INVITE_OCTETS, invite } from '../../../native-free-bench/messages.ts';
import { ownTimes } from '../../../native-free-bench/profile.ts';
import { compare, figure, type Row, ratios, showFigure, table } from '../../../native-free-bench/statistics.ts';
import { Scan, scan } from '../../../src/sip/scan.ts';

test('a figure has median, least and most, whatever the order of the rounds', () => {
  assert.deepEqual(figure([9, 1, 5]), { median: 5, min: 1, max: 9 });
  assert.deepEqual(figure([4, 1, 2, 9]), { median: 3, min: 1, max: 9 });
  assert.throws(() => figure([]), RangeError);
});

test('ratios are computed by round, and a round without a value on the other side is left out', () => {
  assert.deepEqual(ratios([10, 30, 8], [20, 10, 0]), [0.5, 3]);
  assert.deepEqual(ratios([10, 30], [20]), [0.5]);
});

test('a row is better or worse than an earlier run only when their ranges do not touch', () => {
  const row = (unit: Row['unit'], min: number, median: number, max: number): Row => ({
    group: 'g',
    name: 'n',
    unit,
    median,
    min,
    max,
  });
  const verdicts = (now: Row, then: Row): unknown[] =>
    compare([now], [then]).map(({ verdict, ratio }) => [verdict, ratio]);
  assert.deepEqual(verdicts(row('ns/op', 40, 50, 60), row('ns/op', 90, 100, 110)), [['better', 0.5]]);
  assert.deepEqual(verdicts(row('packets/s', 40, 50, 60), row('packets/s', 90, 100, 110)), [['worse', 0.5]]);
  assert.deepEqual(verdicts(row('ns/op', 40, 50, 95), row('ns/op', 90, 100, 110)), [['same', 0.5]]);
  assert.deepEqual(verdicts(row('B', 101, 101, 101), row('B', 100, 100, 100)), [['same', 1.01]]);
  assert.deepEqual(verdicts(row('ns/op', 1, 1, 1), row('us', 1, 1, 1)), [['new', undefined]]);
});

test('figures and tables are readable', () => {
  assert.equal(showFigure({ median: 131072, min: 99999.6, max: 200000 }), '131,072 (100,000-200,000)');
  assert.equal(showFigure({ median: 1.234, min: 1.234, max: 1.234 }), '1.23');
  assert.equal(
    table(['', 'a'], [['long name', '1'], [], ['b', '10']]),
    '            a\nlong name   1\n\nb          10',
  );
});

test('a profile has own time by function, without idle time', () => {
  const frame = (functionName: string, url = '', lineNumber = 0) => ({ functionName, url, lineNumber });
  const profile = {
    nodes: [
      { id: 1, callFrame: frame('(idle)') },
      { id: 2, callFrame: frame('scan', 'file:///somewhere/src/sip/scan.ts', 9) },
      { id: 3, callFrame: frame('', 'node:dgram', 1) },
    ],
    samples: [1, 2, 2, 3],
    timeDeltas: [1000, 30, 30, 20],
  };
  assert.deepEqual(ownTimes(profile, 5), [
    { name: 'scan src/sip/scan.ts:10', share: 0.75 },
    { name: '(anonymous) node:dgram:2', share: 0.25 },
  ]);
});

test('the INVITEs of the bench have one size, are accepted, and differ in Call-ID', () => {
  const at = { address: '127.200.13.37', port: 5080 };
  const callIds = [1, 2, 0xffffffff].map((index) => {
    const bytes = invite(index, at, { ...at, port: 5060 });
    const message = new Scan();
    assert.equal(bytes.length, INVITE_OCTETS);
    assert.equal(scan(bytes, 0, bytes.length, false, message), null);
    assert.equal(message.end, bytes.length);
    return bytes.toString('latin1', message.callIdStart, message.callIdEnd);
  });
  assert.equal(new Set(callIds).size, 3);
});
