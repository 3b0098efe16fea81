// The media in a call record: read as it was written, and refused where its shape or a bound is broken.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseMediaRecord } from '../../../../src/calls/records/media-record.ts';

const PLACE = { address: '10.0.0.1', port: 10_010 };
const TARGET = {
  address: '192.0.2.7',
  port: 4000,
  rtcp: { address: '192.0.2.8', port: 0 },
  signalling: '198.51.100.7',
};
const STREAM = {
  ports: [10_000, 10_001, 10_002, 10_003],
  shown: ['203.0.113.11', '10.0.0.1'],
  clear: true,
  mux: [false, true],
  targets: [TARGET, null],
  joined: PLACE,
};
const PARTY = { names: ['bz9hG4bK1', 'tb'], facing: 1, streams: [null, STREAM, 1] };

test('a record is read as it was written, without unknown fields', () => {
  const direct = { names: ['ta'], facing: 0, direct: true, streams: [] };
  const single = { ...STREAM, ports: [10_000, 10_000, 10_003, 10_003] };
  const record = [PARTY, direct, { ...PARTY, streams: [single] }];
  assert.deepEqual(parseMediaRecord(JSON.parse(JSON.stringify(record))), record);
  const more = [{ ...PARTY, later: 1, streams: [{ ...STREAM, later: 1, targets: [{ ...TARGET, later: 1 }, null] }] }];
  assert.deepEqual(parseMediaRecord(more), [{ ...PARTY, streams: [STREAM] }]);
});

describe('there is no media in', () => {
  const parties: readonly (readonly [string, unknown])[] = [
    ['no list', {}],
    ['an empty list', []],
    ['nine parties', Array(9).fill(PARTY)],
    ['a party that is none', [null]],
    ['a party without a name', [{ ...PARTY, names: [] }]],
    ['a party with five names', [{ ...PARTY, names: Array(5).fill('a') }]],
    ['a party with an empty name', [{ ...PARTY, names: [''] }]],
    ['a party with a long name', [{ ...PARTY, names: ['x'.repeat(129)] }]],
    ['a party that faces nothing', [{ ...PARTY, facing: 2 }]],
    ['nine streams', [{ ...PARTY, streams: Array(9).fill(null) }]],
    ['the number of no earlier stream', [{ ...PARTY, streams: [STREAM, 1] }]],
    ['the number of a number', [{ ...PARTY, streams: [STREAM, 0, 1] }]],
    ['a number below zero', [{ ...PARTY, streams: [STREAM, -1] }]],
  ];
  const streams: readonly (readonly [string, object])[] = [
    ['no ports', { ports: undefined }],
    ['three ports', { ports: [10_000, 10_001, 10_002] }],
    ['port 0', { ports: [0, 1, 10_002, 10_003] }],
    ['a port above 65535', { ports: [65_536, 65_537, 10_002, 10_003] }],
    ['a port that is no integer', { ports: ['10000', 10_001, 10_002, 10_003] }],
    ['ports that are no pair', { ports: [10_000, 10_002, 10_004, 10_005] }],
    ['a pair with an odd first port', { ports: [10_001, 10_002, 10_004, 10_005] }],
    ['one port on one side alone', { ports: [10_000, 10_000, 10_002, 10_003] }],
    ['one address', { shown: ['203.0.113.11'] }],
    ['a long address', { shown: ['203.0.113.11', '1'.repeat(65)] }],
    ['no word about clear', { clear: undefined }],
    ['a=rtcp-mux of one side', { mux: [true] }],
    ['a=rtcp-mux as a number', { mux: [0, 1] }],
    ['one target', { targets: [TARGET] }],
    ['a target of text', { targets: ['192.0.2.7:4000', null] }],
    ['a target without an address', { targets: [{ ...TARGET, address: '' }, null] }],
    ['a target with a port above 65535', { targets: [{ ...TARGET, port: 65_536 }, null] }],
    ['a broken place for RTCP', { targets: [{ ...TARGET, rtcp: {} }, null] }],
    ['a long address of signalling', { targets: [{ ...TARGET, signalling: '1'.repeat(65) }, null] }],
    ['a broken joined place', { joined: null }],
  ];
  for (const [title, value] of parties) test(title, () => assert.equal(parseMediaRecord(value), undefined));
  for (const [title, change] of streams)
    test(`a stream with ${title}`, () => {
      const value = [{ ...PARTY, streams: [{ ...STREAM, ...change }] }];
      assert.equal(parseMediaRecord(value), undefined);
    });
});
