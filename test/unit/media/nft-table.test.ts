// The texts for nft. The laboratory tests what the kernel does with them.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { changeText, listCounters, makeTable, removeTable, tableName } from '../../../src/media/kernel/nft-table.ts';

const FOUR = {
  number: 7,
  path: {
    from: { address: '203.0.113.5', port: 4000 },
    at: { address: '198.51.100.1', port: 20_000 },
    by: { address: '10.0.0.11', port: 30_000 },
    to: { address: '10.0.0.40', port: 5000 },
  },
};
const SIX = {
  number: 8,
  path: {
    from: { address: '2001:db8:c::5', port: 4000 },
    at: { address: '2001:db8::1', port: 20_000 },
    by: { address: '2001:db8::1', port: 30_000 },
    to: { address: '2001:db8:d::6', port: 5000 },
  },
};
const NONE = { add: [], stop: [], forget: [] };

describe('the table of a member', () => {
  it('has the name of the member', () => assert.equal(tableName('fe-1.2_x'), 'sipfarm_media_fe-1.2_x'));

  it('replaces an old one in the same transaction', () => {
    const lines = makeTable({ name: 't', capacity: 500 }).split('\n');
    assert.deepEqual(lines.slice(0, 3), ['add table inet t', 'delete table inet t', 'table inet t {']);
  });

  it('sets the mark of a packet back to 0 in each rule that sets it', () => {
    const rules = makeTable({ name: 't', capacity: 500 }).match(/meta nfproto[^;]+|(?<=350; |; )meta mark[^;]+/g) ?? [];
    assert.equal(rules.length, 4);
    for (const rule of rules) assert.match(rule, /meta mark set ip.* map @\w+ .*meta mark set 0$/);
  });

  for (const [title, dscp, expected] of [
    ['sets the code point of what leaves', 46, ['ip dscp set 46', 'ip6 dscp set 46']],
    ['keeps the code point of the party where none is given', undefined, []],
  ] as const)
    it(title, () => {
      const text = makeTable({ name: 't', capacity: 500, ...(dscp === undefined ? {} : { dscp }) });
      assert.deepEqual(text.match(/ip6? dscp set \d+/g) ?? [], expected);
    });

  it('is deleted whether it is there or not', () => {
    assert.equal(removeTable('t'), 'add table inet t\ndelete table inet t\n');
  });

  it('is listed by one map for each count and family', () => {
    assert.equal(listCounters('t', 'left', 4), '-n -j list map inet t by_port4');
    assert.equal(listCounters('t', 'came', 6), '-n -j list map inet t to_port6');
  });
});

describe('a transaction', () => {
  for (const [title, changes, expected] of [
    ['of nothing is empty', NONE, []],
    [
      'that adds a path takes its packets last, when all of its changes are there',
      { ...NONE, add: [FOUR] },
      [
        'add element inet t to_address4 { 7 : 10.0.0.40 }',
        'add element inet t to_port4 { 7 : 5000 }',
        'add element inet t by_address4 { 7 : 10.0.0.11 }',
        'add element inet t by_port4 { 7 : 30000 }',
        'add element inet t departures4 { 203.0.113.5 . 4000 . 10.0.0.40 . 5000 : 7 }',
        'add element inet t arrivals4 { 203.0.113.5 . 4000 . 198.51.100.1 . 20000 : 7 }',
      ],
    ],
    [
      'that stops paths deletes what takes their packets',
      { ...NONE, stop: [FOUR, SIX] },
      [
        'delete element inet t arrivals4 { 203.0.113.5 . 4000 . 198.51.100.1 . 20000 }',
        'delete element inet t arrivals6 { 2001:db8:c::5 . 4000 . 2001:db8::1 . 20000 }',
      ],
    ],
    [
      'that forgets a path deletes the rest',
      { ...NONE, forget: [SIX] },
      [
        'delete element inet t departures6 { 2001:db8:c::5 . 4000 . 2001:db8:d::6 . 5000 }',
        'delete element inet t to_address6 { 8 }',
        'delete element inet t to_port6 { 8 }',
        'delete element inet t by_address6 { 8 }',
        'delete element inet t by_port6 { 8 }',
      ],
    ],
  ] as const)
    it(title, () => assert.equal(changeText('t', changes), expected.map((line) => `${line}\n`).join('')));

  it('has one line for all paths of a map', () => {
    const two = { ...FOUR, number: 9, path: { ...FOUR.path, from: { address: '203.0.113.9', port: 4002 } } };
    const text = changeText('t', { ...NONE, add: [FOUR, two] });
    assert.match(text, /^add element inet t to_port4 \{ 7 : 5000, 9 : 5000 \}$/m);
    assert.equal(text.split('\n').length, 7);
  });

  it('deletes before it adds, so that a new path may have the keys of an old one', () => {
    const lines = changeText('t', { add: [{ ...FOUR, number: 9 }], stop: [FOUR], forget: [FOUR] })
      .trim()
      .split('\n');
    assert.deepEqual(
      lines.map((line) => line.split(' ', 1)[0]),
      [...Array(6).fill('delete'), ...Array(6).fill('add')],
    );
  });
});
