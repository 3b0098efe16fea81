// The report of the media ports: own ports and claims of the farm, what a plan can carry, and faults of the whole farm.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SipfarmError } from '../../../src/base/errors.ts';
import type { MediaPlan } from '../../../src/media/plan.ts';
import type { PortClaim } from '../../../src/media/port-claims.ts';
import {
  capacityOf,
  mergeReports,
  type PortCounts,
  PortStatus,
  type PortStatusOptions,
  portWarnings,
} from '../../../src/media/port-status.ts';
import { MemoryFarm } from '../../../src/store/memory-store.ts';
import { FakeClock } from '../../fake/clock.ts';

const claim = (k: number, first: number, last: number, given: Partial<PortClaim> = {}): PortClaim => ({
  member: `fe${k}`,
  host: `fe${k}`,
  plan: 'single-ip',
  bind: `10.0.0.1${k}`,
  advertised: '203.0.113.10',
  first,
  last,
  ...given,
});
const PLAN: MediaPlan = {
  kind: 'single-ip',
  ...{ bind: '10.0.0.11', advertised: '203.0.113.10', inside: '127.0.0.1', first: 10_000, last: 19_999 },
};
const side = { free: 9990, used: 4, resting: 6, foreign: 0 };
const COUNTS: PortCounts = { outside: side, inside: side };

async function status(given: Partial<PortStatusOptions> = {}): Promise<{ status: PortStatus; refreshed: string[] }> {
  const store = new MemoryFarm(new FakeClock()).open();
  const { member, ...value } = claim(1, 10_000, 19_999);
  await store.commit([{ key: `ports/${member}`, value: { v: 1, ...value } }]);
  const refreshed: string[] = [];
  const ports = { plan: PLAN, trouble: undefined, refresh: async () => void refreshed.push('refresh') };
  const options = { member: 'fe1', ports, store, members: () => ['fe1'], counts: () => null, ...given };
  return { status: new PortStatus(options), refreshed };
}

describe('the report', () => {
  test('has the plan of the member, the claims of the farm, and what the plan carries', async () => {
    const { kind: _, ...addresses } = PLAN;
    assert.deepEqual(await (await status()).status.report(), {
      own: [{ member: 'fe1', plan: 'single-ip', ...addresses, counts: null, trouble: null }],
      claims: [claim(1, 10_000, 19_999)],
      capacity: { ports: 64_000, claimed: 10_000, audioCalls: 32_000, videoCalls: 16_000 },
      warnings: [],
    });
  });

  test('has the counts of a relay, and the reason why no stream can be opened', async () => {
    const trouble = { code: 'SF_MEDIA_ADDRESS', message: 'gone' } as const;
    const ports = { plan: PLAN, trouble, refresh: async () => {} };
    const [own] = (await (await status({ counts: () => COUNTS, ports })).status.report()).own;
    assert.deepEqual([own?.counts, own?.trouble], [COUNTS, trouble]);
  });

  test('of a member without media has the claims of the others', async () => {
    const ports = { plan: undefined, trouble: undefined, refresh: async () => {} };
    const { own, claims, capacity } = await (await status({ ports })).status.report();
    assert.deepEqual([own, claims?.length, capacity], [[], 1, null]);
  });

  test('is given without claims while the store does not answer', async () => {
    const list = () => Promise.reject(new SipfarmError('SF_STORE_UNREACHABLE', 'silent'));
    const { own, claims, capacity, warnings } = await (await status({ store: { list } })).status.report();
    assert.deepEqual([own.length, claims, capacity], [1, null, null]);
    assert.match(warnings[0] ?? '', /store does not answer/);
  });

  test('follows a refresh of the addresses', async () => {
    const { status: one, refreshed } = await status();
    assert.equal((await one.refresh()).own.length, 1);
    assert.deepEqual(refreshed, ['refresh']);
  });

  test('of a host has the ports of all its workers, and each warning once', async () => {
    const { own, claims, capacity } = await (await status()).status.report();
    const silent = { own, claims: null, capacity: null, warnings: ['silent', 'both'] };
    assert.deepEqual(mergeReports([silent, { own, claims, capacity, warnings: ['both'] }]), {
      own: [...own, ...own],
      claims,
      capacity,
      warnings: ['silent', 'both'],
    });
  });
});

test('one public address carries 64,000 ports for the whole farm; with own addresses each member adds its range', () => {
  const single = [claim(1, 10_000, 19_999), claim(2, 20_000, 29_999)];
  assert.deepEqual(capacityOf(PLAN, single), {
    ...{ ports: 64_000, claimed: 20_000, audioCalls: 32_000, videoCalls: 16_000 },
  });
  const multi = single.map((one) => ({ ...one, plan: 'multi-ip' as const }));
  assert.deepEqual(capacityOf({ ...PLAN, kind: 'multi-ip' }, [...multi, claim(3, 30_000, 39_999)]), {
    ...{ ports: 20_000, claimed: 20_000, audioCalls: 10_000, videoCalls: 5000 },
  });
});

test('one address for both sides carries half of the calls', () => {
  const { audioCalls, videoCalls } = capacityOf({ ...PLAN, inside: PLAN.bind }, []);
  assert.deepEqual([audioCalls, videoCalls], [16_000, 8000]);
});

describe('a warning', () => {
  const members = (count: number): string[] => Array.from({ length: count }, (_, k) => `fe${k + 1}`);
  const five = Array.from({ length: 5 }, (_, k) => claim(k + 1, 10_000 * (k + 1), 10_000 * (k + 1) + 9999));
  const multi = (k: number, advertised: string, first = 10_000): PortClaim =>
    claim(k, first, first + 9999, { plan: 'multi-ip', advertised });

  for (const [title, own, claims, count, expected] of [
    ['is not given while all members have their range', PLAN, five, 5, []],
    ['is given for a member that does not fit', PLAN, five, 6, [/^fe6 have claimed no .* 0 ranges of 10000 .* 64000/]],
    ['counts the ranges that are free', { ...PLAN, last: 10_999 }, five, 18, []],
    [
      'names each member without a range',
      { ...PLAN, last: 13_999 },
      five,
      9,
      [/^fe6, fe7, fe8, fe9 .* 3 ranges of 4000/],
    ],
    ['does not concern other plans', { ...PLAN, kind: 'direct' }, [], 9, []],
    [
      'names members with another plan',
      PLAN,
      [claim(1, 2, 3), multi(2, '203.0.113.12')],
      2,
      [/at fe1; multi-ip at fe2/],
    ],
    [
      'names two members with one public address',
      { ...PLAN, kind: 'multi-ip' },
      [multi(1, 'x'), multi(2, 'x')],
      2,
      [/fe1 and fe2 both show x/],
    ],
    ['accepts workers of a host', { ...PLAN, kind: 'multi-ip' }, [multi(1, 'x'), multi(2, 'x', 20_000)], 2, []],
  ] as const)
    test(title, () => {
      const found = portWarnings(own, claims, members(count));
      assert.equal(found.length, expected.length, found.join());
      for (const [index, one] of expected.entries()) assert.match(found[index]!, one);
    });
});
