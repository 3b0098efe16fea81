// Calls as the admin server shows them: those of this member, those in the store, and the record of one Call-ID.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CallStatus } from '../../../src/admin/call-status.ts';
import type { CallJournal } from '../../../src/calls/records/call-journal.ts';
import { type CallRecord, recordKey } from '../../../src/calls/records/call-record.ts';
import { buildOwnerTables } from '../../../src/ownership/owner-tables.ts';
import { CallHash, hashCallIdText } from '../../../src/ownership/slots.ts';
import { nextView, type Seat } from '../../../src/ownership/view.ts';
import { emptyWay } from '../../../src/packet/flow.ts';
import { MemoryFarm } from '../../../src/store/memory-store.ts';
import { FakeClock } from '../../fake/clock.ts';

const SELF = 1;
const SEED = '0f0e0d0c0b0a09080706050403020100';
const SINCE = '2026-01-01T00:00:00.000Z';
/** Members with a seat, by number. fe3 has taken all slots over from fe2 in the second view. */
const SEATS: readonly Seat[] = Array.from({ length: 40 }, (_, i) => {
  const number = i + 1;
  return { id: `fe${number}`, number, incarnation: 1, weight: number === 2 ? 100 : 0, state: 'active' };
});
const VIEW = nextView(
  nextView(undefined, SEATS, SEED),
  SEATS.map((seat) => ({ ...seat, weight: seat.number === 3 ? 100 : 0 })),
  SEED,
);
const TABLES = buildOwnerTables(VIEW, SELF, 1);

const REQUEST =
  'INVITE sip:bob@example.org SIP/2.0\r\nf: "A. Lee" <sip:alice@example.org>;tag=a\r\nTo: sip:bob@example.org\r\n';

function recordOf(callId: string, state: CallRecord['state'] = 'confirmed', request = REQUEST): CallRecord {
  const flow = { ...emptyWay(), member: 1, incarnation: 1, listener: 1, address: '192.0.2.7', port: 5060 };
  const legs = [{ from: 'client', flow, request }] as const;
  return { v: 1, state, method: 'INVITE', callId, incarnation: 4, epoch: 2, since: SINCE, legs };
}

/** The entry of a call that a client began. */
function entryOf(callId: string): number {
  const hash = new CallHash();
  hashCallIdText(TABLES.slotKey, callId, hash);
  return hash.key;
}

/** Ways of the streams of member 1 by their outer ports. */
const WAYS = new Map<number, 'kernel'>([[10_000, 'kernel']]);

/** Returns the calls as member 1 sees them, which holds `own`. `reads` has the keys that were read in the store. */
function rig(own: ReadonlyMap<number, CallRecord> = new Map()) {
  const memory = new MemoryFarm(new FakeClock());
  const store = memory.open();
  const reads: string[] = [];
  const get = store.get.bind(store);
  store.get = (key) => {
    reads.push(key);
    return get(key);
  };
  const journal = {
    recordOf: (entry: number) => own.get(entry),
    *tracked() {
      for (const [entry, record] of own) yield { entry, record };
    },
  } as unknown as CallJournal;
  const routing = { tables: TABLES, identity: { number: SELF } };
  const wayOf = (port: number) => WAYS.get(port);
  const status = new CallStatus({ store, routing, callRecovery: { journal }, wayOf });
  /** Stores a record under the number of `owner`. */
  const put = (owner: number, record: CallRecord, entry = entryOf(record.callId)): void =>
    void memory.apply([{ key: recordKey(owner, record.state, entry), value: record }]);
  return { memory, store, reads, routing, status, put };
}

describe('a call', () => {
  test('is shown with owner, parties and flows from its record, and not with its texts', async () => {
    const record = recordOf('one', 'early');
    const [leg] = record.legs;
    const server = { from: 'server', flow: { ...leg!.flow, address: '', port: 0, connection: 77 } } as const;
    const six = { from: 'server', flow: { ...leg!.flow, address: '2001:db8::7' } } as const;
    const legs = [leg!, { ...server, request: '', answer: 'SIP/2.0 200 OK\r\n' }, { ...six, request: '' }];
    const { status } = rig(new Map([[7, { ...record, legs }]]));
    assert.deepEqual(await status.list(10, false), {
      calls: [
        {
          ...{ callId: 'one', state: 'early', method: 'INVITE', since: SINCE, incarnation: 4, epoch: 2 },
          owner: { number: 1, id: 'fe1' },
          from: 'sip:alice@example.org',
          to: 'sip:bob@example.org',
          legs: [
            { from: 'client', remote: '192.0.2.7:5060', answered: false },
            { from: 'server', remote: 'connection 77', answered: true },
            { from: 'server', remote: '[2001:db8::7]:5060', answered: false },
          ],
        },
      ],
      more: false,
    });
  });

  test('is shown with the public port and the target of each relayed stream, and without parties that have none', async () => {
    const stream = {
      ports: [10_000, 10_001, 10_002, 10_003],
      shown: ['203.0.113.11', '10.0.0.1'],
      clear: true,
      mux: [false, false],
      targets: [{ address: '192.0.2.7', port: 4000 }, null],
    } as const;
    const six = {
      ...stream,
      ports: [10_004, 10_004, 10_006, 10_006],
      shown: ['2001:db8::7', '::1'],
      targets: [null, null],
    } as const;
    const media = [
      { names: ['bz9hG4bK1', 'tbob'], facing: 1, streams: [null, stream, 1, six] },
      { names: ['tcarol'], facing: 1, direct: true, streams: [] },
    ] as const;
    const { status, put } = rig(new Map([[7, { ...recordOf('one'), media }]]));
    const [call] = (await status.list(1, false)).calls;
    const streams = (way: object) => [
      { public: '203.0.113.11:10000', target: '192.0.2.7:4000', ...way },
      { public: '[2001:db8::7]:10004', target: '' },
    ];
    assert.deepEqual(call?.media, [{ party: 'bob', streams: streams({ way: 'kernel' }) }]);
    // The ways of other members are not known here.
    put(2, { ...recordOf('two', 'confirmed'), media });
    const [other] = (await status.list(1, true)).calls;
    assert.deepEqual(other?.media, [{ party: 'bob', streams: streams({}) }]);
  });

  const PARTIES = [
    {
      title: 'the URI of the first From and To',
      lines: 'From: <sip:a@x>;tag=1\r\nFrom: <sip:b@x>\r\nt: sip:c@x',
      from: 'sip:a@x',
      to: 'sip:c@x',
    },
    {
      title: 'a URI with its parameters in brackets',
      lines: 'From: <sip:a@x;user=phone>\r\nTo: <tel:+1>',
      from: 'sip:a@x;user=phone',
      to: 'tel:+1',
    },
    { title: 'nothing where a header is missing or has no URI', lines: 'From: <sip:a@x', from: '', to: '' },
    { title: 'nothing without headers', lines: '', from: '', to: '' },
  ];
  for (const { title, lines, from, to } of PARTIES)
    test(`has as parties ${title}`, async () => {
      const { status } = rig(new Map([[7, recordOf('one', 'early', `INVITE sip:b SIP/2.0\r\n${lines}\r\n`)]]));
      const [call] = (await status.list(1, false)).calls;
      assert.deepEqual([call?.from, call?.to], [from, to]);
    });
});

describe('the list', () => {
  const own = new Map([1, 2, 3].map((entry) => [entry, recordOf(`own-${entry}`)]));
  const LIMITS = [
    { limit: 2, calls: ['own-1', 'own-2'], more: true },
    { limit: 3, calls: ['own-1', 'own-2', 'own-3'], more: false },
    { limit: 4, calls: ['own-1', 'own-2', 'own-3'], more: false },
  ];
  for (const { limit, calls, more } of LIMITS)
    test(`of at most ${limit} calls of this member has ${calls.length} of 3, without the store`, async () => {
      const { status, store } = rig(own);
      store.cut();
      const list = await status.list(limit, false);
      assert.deepEqual([list.calls.map(({ callId }) => callId), list.more], [calls, more]);
    });

  test('of all members has the calls in the store, under the names of their owners', async () => {
    const { status, put } = rig(own);
    put(2, recordOf('two'));
    put(300, recordOf('of no seat', 'trying'));
    const { calls, more } = await status.list(10, true);
    assert.deepEqual(
      calls.map(({ callId, owner }) => [callId, owner]),
      [
        ['two', { number: 2, id: 'fe2' }],
        ['of no seat', { number: 300, id: '' }],
      ],
    );
    assert.equal(more, false);
    assert.equal((await status.list(1, true)).more, true);
  });

  test('of a node without records is empty, and without the store there is none of all members', async () => {
    const { store, routing } = rig();
    const status = new CallStatus({ store, routing, callRecovery: undefined, wayOf: () => undefined });
    assert.deepEqual(await status.list(10, false), { calls: [], more: false });
    store.cut();
    await assert.rejects(status.list(10, true), { code: 'SF_STORE_UNREACHABLE' });
  });
});

describe('the record of a Call-ID', () => {
  test('is the one of this member, from either side, without the store', async () => {
    for (const side of [1, -1]) {
      const { status, store } = rig(new Map([[side * entryOf('one'), recordOf('one')]]));
      store.cut();
      assert.deepEqual((await status.recordOf('one'))?.owner, { number: 1, id: 'fe1' });
    }
  });

  const OWNERS = [
    { title: 'the owner of its slot', owner: 3, reads: [2, 3] },
    { title: 'the earlier owner of its slot', owner: 2, reads: [2, 3] },
    { title: 'any other member', owner: 7, reads: [1, ...Array.from({ length: 17 }, (_, i) => i + 2)] },
  ];
  for (const { title, owner, reads: numbers } of OWNERS)
    for (const [state, side] of [
      ['trying', 1],
      ['confirmed', -1],
    ] as const)
      test(`is found at ${title}: ${state}, ${side > 0 ? 'from a client' : 'from a server'}`, async () => {
        const { status, put, reads } = rig();
        put(owner, recordOf('one', state), side * entryOf('one'));
        assert.deepEqual((await status.recordOf('one'))?.owner, { number: owner, id: `fe${owner}` });
        const read = [...new Set(reads.map((key) => Number(key.split('/')[1])))].sort((a, b) => a - b);
        assert.deepEqual(read, numbers, 'the members whose keys were read');
      });

  test('is none when no member has it, and when another Call-ID has its key', async () => {
    const { status, put } = rig();
    put(3, recordOf('another'), entryOf('one'));
    put(300, recordOf('one'));
    assert.equal(await status.recordOf('one'), null);
  });

  test('is unknown while the store does not answer', async () => {
    const { status, store } = rig();
    store.cut();
    await assert.rejects(status.recordOf('one'), { code: 'SF_STORE_UNREACHABLE' });
  });
});
