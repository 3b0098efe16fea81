// The address plan: bind, advertised address and ports of each plan, the faults with their remedy, and what changes in
// a running member.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type MediaConfig, mediaSection } from '../../../src/config/media-section.ts';
import { changedPlan, isFault, type MediaPlan, type PlanSettings, planMedia } from '../../../src/media/plan.ts';

const BIND = '10.0.0.11';
const G0 = '203.0.113.10';
const G1 = '203.0.113.11';
const LOCAL = new Set([BIND, 'fd00::11', '10.1.0.11']);
const ALONE = { index: 0, count: 1 };

const section = (changes: Partial<MediaConfig> = {}): MediaConfig => ({
  ...mediaSection.parse({ bind: BIND }),
  inside: '127.0.0.1',
  ...changes,
});
const plan = (
  changes: Partial<MediaConfig>,
  ownWan?: string,
  worker: PlanSettings['worker'] = ALONE,
): ReturnType<typeof planMedia> =>
  planMedia({ media: section({ ...changes, ...(ownWan && { wan: ownWan }) }), ownWan, worker }, LOCAL);

describe('a plan gives the addresses and the ports', () => {
  const given = { kind: 'direct', bind: BIND, advertised: BIND, inside: '127.0.0.1', first: 10_000, last: 19_999 };
  for (const [title, changes, ownWan, expected] of [
    ['direct: SDP shows bind', { plan: 'direct' }, undefined, {}],
    ['direct: bind may be repeated as wan', { plan: 'direct' }, BIND, {}],
    ['direct: a cluster-wide wan is for other members', { plan: 'direct', wan: G0 }, undefined, {}],
    ['multi-ip: SDP shows the wan of the file', { plan: 'multi-ip' }, G1, { kind: 'multi-ip', advertised: G1 }],
    [
      'single-ip: SDP shows the cluster-wide wan',
      { plan: 'single-ip', wan: G0 },
      undefined,
      { kind: 'single-ip', advertised: G0 },
    ],
    ['an alias: bind is the public address itself', { plan: 'multi-ip' }, BIND, { kind: 'multi-ip' }],
    [
      'IPv6',
      { bind: 'fd00::11', plan: 'multi-ip' },
      '2001:db8::11',
      { kind: 'multi-ip', bind: 'fd00::11', advertised: '2001:db8::11' },
    ],
    ['one address for both sides', { inside: BIND }, undefined, { inside: BIND }],
    [
      'an odd first port and an even last one are left out',
      { ports: { first: 10_001, last: 10_010 } },
      undefined,
      { first: 10_002, last: 10_009 },
    ],
  ] as const)
    test(title, () => assert.deepEqual(plan(changes, ownWan), { ...given, ...expected }));

  test('workers have equal parts of the range of their host', () => {
    const parts = [0, 1, 2].map((index) => plan({}, undefined, { index, count: 3 }) as MediaPlan);
    assert.deepEqual(
      parts.map(({ first, last }) => [first, last]),
      [
        [10_000, 13_331],
        [13_332, 16_663],
        [16_664, 19_995],
      ],
    );
  });
});

describe('a plan that cannot be carried out is refused:', () => {
  for (const [title, changes, ownWan, code, message] of [
    ['direct with another wan', { plan: 'direct' }, G1, 'SF_MEDIA_PLAN', /plan is direct.*leave media\.wan out/],
    ['multi-ip without a wan', { plan: 'multi-ip' }, undefined, 'SF_MEDIA_PLAN', /write it into the file/],
    ['multi-ip with a cluster-wide wan alone', { plan: 'multi-ip', wan: G0 }, undefined, 'SF_MEDIA_PLAN', /of its own/],
    [
      'single-ip with a wan in the file',
      { plan: 'single-ip' },
      G1,
      'SF_MEDIA_PLAN',
      /for the whole farm; leave it out/,
    ],
    ['single-ip without a wan', { plan: 'single-ip' }, undefined, 'SF_MEDIA_PLAN', /set it by sipfarm config put/],
    ['two families', { plan: 'single-ip', wan: '2001:db8::1' }, undefined, 'SF_MEDIA_PLAN', /two address families/],
    ['a bind of another host', { bind: '10.0.0.12' }, undefined, 'SF_MEDIA_ADDRESS', /media\.bind 10\.0\.0\.12 is no/],
    ['an inside of another host', { inside: '10.0.0.12' }, undefined, 'SF_MEDIA_ADDRESS', /media\.inside 10\.0\.0\.12/],
  ] as const)
    test(title, () => {
      const found = plan(changes, ownWan);
      assert.ok(isFault(found), JSON.stringify(found));
      assert.equal(found.code, code);
      assert.match(found.message, message);
    });

  test('a range without two ports for each worker', () => {
    const found = plan({ ports: { first: 10_000, last: 10_003 } }, undefined, { index: 0, count: 3 });
    assert.match(isFault(found) ? found.message : '', /no two ports for each of 3 workers/);
  });
});

describe('in a running member', () => {
  const inForce = plan({ plan: 'multi-ip' }, G1) as MediaPlan;

  test('the advertised address changes at once', () => {
    const next = { ...inForce, advertised: G0 };
    assert.deepEqual(changedPlan(inForce, next), { plan: next, restart: [] });
  });

  test('all that has open sockets stays, and is reported for a restart', () => {
    const next: MediaPlan = {
      kind: 'direct',
      bind: '10.1.0.11',
      advertised: '10.1.0.11',
      inside: BIND,
      first: 2,
      last: 3,
    };
    assert.deepEqual(changedPlan(inForce, next), {
      plan: inForce,
      restart: ['media.plan', 'media.bind', 'media.inside', 'media.ports'],
    });
  });
});
