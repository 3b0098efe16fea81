// Validation of values from the store.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseMemberRecord, parseNumberRecord } from '../../../src/membership/member-record.ts';
import { parseView } from '../../../src/membership/view-value.ts';
import { nextView, type Seat, type View } from '../../../src/ownership/view.ts';

const RECORD = {
  v: 1,
  id: 'fe1',
  number: 1,
  incarnation: 1,
  role: 'member',
  state: 'active',
  weight: 100,
  relay: '10.0.0.1:5064',
  listeners: [{ name: 'edge', transport: 'udp', bind: '[2001:db8::1]:5060', advertise: '198.51.100.1:5060' }],
  versions: { sipfarm: '0.1.0', min: 1, max: 1 },
  startedAt: '2026-01-01T00:00:00.000Z',
  host: 'fe1',
  claim: '0123456789abcdef',
};

const SEAT = { id: 'fe1', number: 1, incarnation: 1, weight: 100, state: 'active' } as const;
const VIEW = {
  v: 1,
  epoch: 3,
  seed: '00112233445566778899aabbccddeeff',
  seats: [SEAT, { ...SEAT, id: 'fe2', number: 2, state: 'draining' }],
  history: [
    { epoch: 2, shares: [{ number: 1, weight: 100 }] },
    { epoch: 1, shares: [] },
  ],
};

describe('a member record', () => {
  it('is read as it was written, without unknown fields', () => {
    assert.deepEqual(parseMemberRecord('fe1', { ...RECORD, load: 0.5 }), RECORD);
    const named = { ...RECORD, keys: ['0123456789abcdef'] };
    assert.deepEqual(parseMemberRecord('fe1', named), named);
    const door = { ...RECORD, listeners: [{ ...RECORD.listeners[0], transparent: '10.0.0.1:5065' }] };
    assert.deepEqual(parseMemberRecord('fe1', door), door);
  });

  it('has the advertised name in `told`, where an older version reads only the endpoint', () => {
    const tls = { ...RECORD.listeners[0], transport: 'tcp', told: 'sip.example.com:5061;transport=tls' };
    const record = { ...RECORD, listeners: [tls] };
    assert.deepEqual(parseMemberRecord('fe1', record), record);
  });

  it('is read without `told` when only a later version supports its value', () => {
    const { listeners } = RECORD;
    const long = `${'a.'.repeat(140)}example`;
    for (const told of ['sip.example.com;transport=wss', 'a b', 7, null, {}, long, `${long}:5060`])
      assert.deepEqual(parseMemberRecord('fe1', { ...RECORD, listeners: [{ ...listeners[0], told }] }), RECORD);
  });

  it('keeps its other listeners when a later version has one of a kind that this one lacks', () => {
    const later = { ...RECORD.listeners[0], name: 'edge-wss', transport: 'wss' };
    assert.deepEqual(parseMemberRecord('fe1', { ...RECORD, listeners: [...RECORD.listeners, later] }), RECORD);
    assert.equal(parseMemberRecord('fe1', { ...RECORD, listeners: [{ ...later, transport: 7 }] }), undefined);
  });

  it('is refused when it names another member than its key', () => {
    assert.equal(parseMemberRecord('fe2', RECORD), undefined);
    assert.equal(parseMemberRecord('a/b', { ...RECORD, id: 'a/b' }), undefined);
  });

  for (const [field, value] of [
    ['v', 2],
    ['number', 0],
    ['number', 65_536],
    ['number', '1'],
    ['incarnation', 16_777_216],
    ['incarnation', 1.5],
    ['role', 'boss'],
    ['state', 'dead'],
    ['weight', -1],
    ['weight', 1001],
    ['relay', '10.0.0.1'],
    ['relay', 'host:5064'],
    ['listeners', {}],
    ['listeners', [{ name: 'edge' }]],
    ['listeners', [{ ...RECORD.listeners[0], transparent: 'fe1:5065' }]],
    ['listeners', [{ ...RECORD.listeners[0], transparent: '10.0.0.1:0' }]],
    ['listeners', Array(65).fill(RECORD.listeners[0])],
    ['versions', null],
    ['versions', { sipfarm: '', min: 1, max: 1 }],
    ['keys', ['0123456789ABCDEF']],
    ['keys', ['00'.repeat(32)]],
    ['keys', Array(9).fill('0123456789abcdef')],
    ['startedAt', 'x'.repeat(41)],
    ['host', 7],
    ['claim', ''],
  ] as const) {
    it(`is refused with ${field} ${JSON.stringify(value).slice(0, 40)}`, () => {
      assert.equal(parseMemberRecord('fe1', { ...RECORD, [field]: value }), undefined);
    });
  }

  it('never throws, whatever the value is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...Object.keys(RECORD)), (value, field) => {
        parseMemberRecord('fe1', value);
        parseMemberRecord('fe1', { ...RECORD, [field]: value });
        parseNumberRecord(value);
      }),
    );
  });
});

describe('a number record', () => {
  it('is refused without a valid time of the last sighting', () => {
    const good = { v: 1, member: 'fe1', incarnation: 3, lastSeen: '2026-01-01T00:00:00.000Z' };
    assert.deepEqual(parseNumberRecord(good), good);
    assert.equal(parseNumberRecord({ ...good, lastSeen: 'yesterday' }), undefined);
    assert.equal(parseNumberRecord({ ...good, incarnation: -1 }), undefined);
  });
});

describe('a view', () => {
  it('is read as it was written, without unknown fields', () => {
    assert.deepEqual(parseView({ ...VIEW, extra: 1 }), VIEW);
  });

  it('gives no weight to a seat outside the farm, whatever the value contains', () => {
    const seats = [{ ...SEAT, weight: 7, role: 'relay' }];
    assert.deepEqual(parseView({ ...VIEW, seats })?.seats, [{ ...SEAT, weight: 0, role: 'relay' }]);
  });

  it('has the seat of a member with its role, or without it as in versions before roles', () => {
    assert.deepEqual(parseView({ ...VIEW, seats: [{ ...SEAT, role: 'member' }] })?.seats, [SEAT]);
  });

  for (const [why, change] of [
    ['another version', { v: 2 }],
    ['epoch 0', { epoch: 0 }],
    ['an epoch that no frame can carry', { epoch: 2 ** 32 }],
    ['a short seed', { seed: '00' }],
    ['no seats', { seats: undefined }],
    ['one number twice', { seats: [SEAT, SEAT] }],
    ['seats out of order', { seats: [VIEW.seats[1], SEAT] }],
    ['an invalid seat', { seats: [null] }],
    ['a seat with an unknown role', { seats: [{ ...SEAT, role: 'boss' }] }],
    ['too many seats', { seats: Array.from({ length: 1025 }, (_, i) => ({ ...SEAT, number: i + 1 })) }],
    ['too long a history', { epoch: 99, history: [9, 8, 7, 6, 5, 4, 3, 2, 1].map((epoch) => ({ epoch, shares: [] })) }],
    ['a history from the future', { history: [{ epoch: 3, shares: [] }] }],
    ['a history out of order', { history: [...VIEW.history].reverse() }],
    ['a share without weight', { history: [{ epoch: 2, shares: [{ number: 1, weight: 0 }] }] }],
  ] as const) {
    it(`is refused with ${why}`, () => {
      assert.equal(parseView({ ...VIEW, ...change }), undefined);
    });
  }

  it('that members propose is always accepted by members, and is read as it was written', () => {
    const seat = fc.record({
      id: fc.constantFrom('a', 'b.c', 'D-4'),
      number: fc.integer({ min: 1, max: 65_535 }),
      incarnation: fc.integer({ min: 1, max: 16_777_215 }),
      weight: fc.integer({ min: 0, max: 1000 }),
      state: fc.constantFrom('active' as const, 'draining' as const),
    });
    const seats = fc.uniqueArray(seat, { selector: ({ number }) => number, maxLength: 8 });
    fc.assert(
      fc.property(fc.array(seats, { minLength: 1, maxLength: 12 }), (steps: Seat[][]) => {
        let view: View | undefined;
        for (const step of steps) view = nextView(view, step, VIEW.seed);
        assert.deepEqual(parseView(view), JSON.parse(JSON.stringify(view)));
        assert.equal(JSON.stringify(parseView(view)), JSON.stringify(view));
      }),
    );
  });

  it('never throws, whatever the value is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...Object.keys(VIEW)), (value, field) => {
        parseView(value);
        parseView({ ...VIEW, [field]: value });
      }),
    );
  });
});
