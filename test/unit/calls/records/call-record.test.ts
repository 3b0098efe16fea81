// Keys and values under calls/ in the store: encoding, decoding, and refused values.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type CallRecord,
  parseCallRecord,
  parseRecordKey,
  RECORD_STATES,
  recordKey,
} from '../../../../src/calls/records/call-record.ts';

const RECORD: CallRecord = {
  v: 1,
  state: 'early',
  method: 'INVITE',
  callId: 'a@example.org',
  incarnation: 7,
  epoch: 12,
  since: '2026-11-21T17:00:00.000Z',
  legs: [
    {
      from: 'client',
      flow: {
        member: 2,
        incarnation: 7,
        listener: 3,
        connection: 0,
        address: '192.0.2.7',
        port: 5060,
        target: -1,
        nat: false,
      },
      request: 'INVITE sip:bob@example.org SIP/2.0\r\n',
    },
  ],
};

test('a record is read as it was written', () => {
  assert.deepEqual(parseCallRecord(JSON.parse(JSON.stringify(RECORD))), RECORD);
});

test('a record with media of a wrong shape is read without it', () => {
  const media = [{ names: ['ta'], facing: 1, streams: [null] }];
  assert.deepEqual(parseCallRecord({ ...RECORD, media })?.media, media);
  assert.deepEqual(parseCallRecord({ ...RECORD, media: [{ ...media[0], facing: 7 }] }), RECORD);
});

test('a key has owner and call, with negative numbers for calls of servers', () => {
  const entries = fc.integer({ min: -Number.MAX_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER });
  const owners = fc.integer({ min: 1, max: 65_535 });
  fc.assert(
    fc.property(owners, fc.constantFrom(...RECORD_STATES), entries, (owner, state, entry) => {
      assert.deepEqual(parseRecordKey(recordKey(owner, state, entry)), { owner, entry });
    }),
  );
});

test('a value of another shape or size is no record', () => {
  const [leg] = RECORD.legs;
  const broken: readonly unknown[] = [
    undefined,
    'text',
    [],
    { ...RECORD, v: 2 },
    { ...RECORD, state: 'gone' },
    { ...RECORD, method: 'OPTIONS' },
    { ...RECORD, callId: 'c'.repeat(513) },
    { ...RECORD, incarnation: 0 },
    { ...RECORD, legs: [] },
    { ...RECORD, legs: Array(9).fill(leg) },
    { ...RECORD, legs: [{ ...leg, from: 'nobody' }] },
    { ...RECORD, legs: [{ ...leg, request: 'x'.repeat(8193) }] },
    { ...RECORD, legs: [{ ...leg, answer: 1 }] },
    { ...RECORD, legs: [{ ...leg, flow: { ...leg?.flow, port: 65_536 } }] },
  ];
  for (const value of broken) assert.equal(parseCallRecord(value), undefined, JSON.stringify(value)?.slice(0, 80));
});

test('other keys are no keys of records', () => {
  for (const key of ['calls/0/pending/1', 'calls/2/gone/1', 'calls/2/dialog/', 'calls/70000x/dialog/1', 'view'])
    assert.equal(parseRecordKey(key), undefined, key);
});
