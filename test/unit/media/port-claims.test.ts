// Claims of media ports on a shared store: what is written, that two members never get the same ports of one public
// address, and the free range that a refusal names.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import type { PortRange } from '../../../src/config/media-section.ts';
import type { MediaPlan } from '../../../src/media/plan.ts';
import { freeGaps, freeRange, listPortClaims, type PortClaim, PortClaims } from '../../../src/media/port-claims.ts';
import { MemoryFarm, type MemoryStore } from '../../../src/store/memory-store.ts';
import type { Lease } from '../../../src/store/store.ts';
import { FakeClock } from '../../fake/clock.ts';

const G0 = '203.0.113.10';

let farm: MemoryFarm;

beforeEach(() => {
  farm = new MemoryFarm(new FakeClock());
});

interface Claimant {
  readonly store: MemoryStore;
  readonly lease: Lease;
  claim(range: PortRange, plan?: Partial<MediaPlan>): Promise<boolean>;
}

async function claimant(member: string, host = member, hostPorts = 10_000): Promise<Claimant> {
  const store = farm.open();
  const lease = await store.grantLease(5);
  const claims = new PortClaims({ store, commit: (writes) => store.commit(writes(lease)), member, host, hostPorts });
  const plan = { kind: 'single-ip', bind: '10.0.0.11', advertised: G0, inside: '127.0.0.1' } as const;
  return { store, lease, claim: (range, more) => claims.claim({ ...plan, ...range, ...more }) };
}

const range = (first: number, last: number): PortRange => ({ first, last });
const held = async (): Promise<string[]> =>
  (await listPortClaims(farm.open())).map(({ member, first, last }) => `${member} ${first}-${last}`);
const refusal = (message: RegExp) => ({ code: 'SF_MEDIA_PORTS', message });

test('a claim is a readable value under the name of the member, and ends with its lease', async () => {
  const fe1 = await claimant('fe1');
  assert.equal(await fe1.claim(range(10_000, 19_999)), true);
  const own: PortClaim = {
    member: 'fe1',
    host: 'fe1',
    plan: 'single-ip',
    bind: '10.0.0.11',
    advertised: G0,
    ...range(10_000, 19_999),
  };
  assert.deepEqual(await listPortClaims(fe1.store), [own]);
  await fe1.lease.revoke();
  assert.deepEqual(await held(), []);
});

test('a claim replaces the earlier one of the same member, also of a process that has just died', async () => {
  await (await claimant('fe1')).claim(range(10_000, 19_999));
  await (await claimant('fe1')).claim(range(15_000, 24_999));
  assert.deepEqual(await held(), ['fe1 15000-24999']);
});

test('without a lease nothing is written', async () => {
  const store = farm.open();
  const claims = new PortClaims({ store, commit: async () => undefined, member: 'fe1', host: 'fe1', hostPorts: 2 });
  for (const kind of ['single-ip', 'direct'] as const)
    assert.equal(await claims.claim({ kind, bind: G0, advertised: G0, inside: G0, ...range(10_000, 10_001) }), false);
  assert.deepEqual(await store.list(''), []);
});

describe('with single-ip', () => {
  test('an overlap is refused with the other member and a free range', async () => {
    const [fe1, fe2] = [await claimant('fe1'), await claimant('fe2')];
    await fe1.claim(range(10_000, 19_999));
    await assert.rejects(
      fe2.claim(range(19_998, 29_997)),
      refusal(/19998-29997 of fe2 overlap 10000-19999 of fe1.*; 20000-29999 is free/),
    );
    assert.equal(await fe2.claim(range(20_000, 29_999)), true);
    assert.deepEqual(await held(), ['fe1 10000-19999', 'fe2 20000-29999']);
  });

  test('a worker is refused with a free range for its whole host', async () => {
    const fe1 = await claimant('fe1');
    await fe1.claim(range(10_000, 14_999));
    const [first, second] = [await claimant('fe2.0', 'fe2'), await claimant('fe2.1', 'fe2')];
    await second.claim(range(15_000, 19_999));
    await assert.rejects(first.claim(range(10_000, 14_999)), refusal(/; 15000-24999 is free/));
  });

  test('a full address is reported as such', async () => {
    await (await claimant('fe1')).claim(range(1536, 65_535));
    await assert.rejects((await claimant('fe2')).claim(range(10_000, 19_999)), refusal(/no ports are free: narrow/));
  });

  for (const [title, plan] of [
    ['all want the same ports', () => range(10_000, 19_999)],
    ['each range overlaps the next', (k: number) => range(10_000 + 6000 * k, 19_999 + 6000 * k)],
    ['all fit', (k: number) => range(10_000 + 1000 * k, 10_999 + 1000 * k)],
  ] as const)
    test(`members that claim at once never have common ports: ${title}`, async () => {
      const all = await Promise.all(Array.from({ length: 8 }, (_, k) => claimant(`fe${k}`)));
      const outcomes = await Promise.allSettled(all.map((one, k) => one.claim(plan(k))));
      const claims = await listPortClaims(farm.open());
      for (const [index, one] of claims.entries())
        for (const other of claims.slice(index + 1))
          assert.ok(one.last < other.first || other.last < one.first, `${one.member} and ${other.member}`);
      for (const [k, outcome] of outcomes.entries()) {
        const overlaps = claims.some(({ member, first, last }) => {
          const own = plan(k);
          return member !== `fe${k}` && first <= own.last && own.first <= last;
        });
        assert.equal(outcome.status, overlaps ? 'rejected' : 'fulfilled', `fe${k}`);
      }
    });

  test('a claim that another one overtakes between its reading and its writing sees it', async () => {
    const [fe1, fe2] = [await claimant('fe1'), await claimant('fe2')];
    const { list } = fe1.store;
    fe1.store.list = async (prefix) => {
      fe1.store.list = list;
      const before = await list.call(fe1.store, prefix);
      await fe2.claim(range(10_000, 19_999));
      return before;
    };
    await assert.rejects(fe1.claim(range(10_000, 19_999)), refusal(/of fe2/));
    assert.deepEqual(await held(), ['fe2 10000-19999']);
  });
});

test('with direct and multi-ip members have the same ports, and stand in the way of nobody', async () => {
  const plans = ['direct', 'multi-ip', 'single-ip'] as const;
  for (const [k, kind] of plans.entries())
    assert.equal(await (await claimant(`fe${k}`)).claim(range(10_000, 19_999), { kind }), true);
  assert.deepEqual(await held(), ['fe0 10000-19999', 'fe1 10000-19999', 'fe2 10000-19999']);
});

test('values that are no claims are left out', async () => {
  const store = farm.open();
  const good = { v: 1, host: 'fe1', plan: 'direct', bind: '10.0.0.11', advertised: '10.0.0.11', first: 2, last: 3 };
  const bad: readonly unknown[] = [
    'text',
    { ...good, v: 2 },
    { ...good, plan: 'other' },
    { ...good, bind: 'fe1' },
    { ...good, advertised: '10.0.0.11:5004' },
    { ...good, first: 0 },
    { ...good, last: 65_536 },
    { ...good, last: 1 },
    { ...good, host: 7 },
  ];
  for (const [index, value] of bad.entries()) await store.commit([{ key: `ports/bad${index}`, value }]);
  await store.commit([{ key: 'ports/fe1', value: good }]);
  assert.deepEqual(await held(), ['fe1 2-3']);
});

describe('the free ranges of one public address', () => {
  const claim = (first: number, last: number, plan: PortClaim['plan'] = 'single-ip'): PortClaim => ({
    ...{ member: 'x', host: 'x', plan, bind: '10.0.0.1', advertised: G0 },
    ...range(first, last),
  });
  const TEN = claim(10_000, 19_999);

  for (const [title, claims, gaps] of [
    ['all are free', [], [[1536, 65_535]]],
    ['claims of other plans take none', [claim(10_000, 19_999, 'multi-ip')], [[1536, 65_535]]],
    [
      'one in the middle',
      [TEN],
      [
        [1536, 9999],
        [20_000, 65_535],
      ],
    ],
    [
      'unsorted neighbours',
      [claim(20_000, 29_999), TEN],
      [
        [1536, 9999],
        [30_000, 65_535],
      ],
    ],
    [
      'odd bounds',
      [claim(10_001, 20_000)],
      [
        [1536, 9999],
        [20_002, 65_535],
      ],
    ],
    [
      'one within another',
      [claim(10_000, 29_999), claim(12_000, 13_999)],
      [
        [1536, 9999],
        [30_000, 65_535],
      ],
    ],
    ['none', [claim(1024, 65_535)], []],
  ] as const)
    test(title, () =>
      assert.deepEqual(
        freeGaps(claims).map(({ first, last }) => [first, last]),
        gaps,
      ),
    );

  for (const [title, claims, size, expected] of [
    ['begins at 10,000', [], 10_000, [10_000, 19_999]],
    ['is the first that is wide enough from 10,000 on', [TEN, claim(25_000, 29_999)], 6000, [30_000, 35_999]],
    ['lies below 10,000 if it must', [claim(10_000, 65_535)], 2000, [1536, 3535]],
    ['is the largest when none is wide enough', [claim(2000, 60_001)], 10_000, [60_002, 65_535]],
    ['does not exist', [claim(1536, 65_535)], 2, undefined],
  ] as const)
    test(`the range that a refusal names ${title}`, () => {
      const found = freeRange(claims, size);
      assert.deepEqual(found && [found.first, found.last], expected);
    });
});
