// The balancer plan from the members' records, or a refusal that names the remedy.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ListenerSummary, MemberSummary } from '../../../src/admin/status.ts';
import { parseNeighbours } from '../../../src/balancer/neighbours.ts';
import {
  buckets,
  type PlannedMember,
  type PlanOptions,
  planBalancer,
  smallWeights,
} from '../../../src/balancer/plan.ts';

const VIP = '198.51.100.1';
const udp = (bind: string, advertise = `${VIP}:5060`): ListenerSummary => ({
  name: 'edge',
  transport: 'udp',
  bind,
  advertise,
});
const tcp = (bind: string, advertise = `${VIP}:5060`): ListenerSummary => ({
  name: 'edge-tcp',
  transport: 'tcp',
  bind,
  advertise,
});

function member(k: number, given: Partial<MemberSummary> = {}): MemberSummary {
  const own = `10.0.0.1${k}`;
  return {
    id: `fe${k}`,
    number: k,
    incarnation: 1,
    state: 'active',
    role: 'member',
    weight: 100,
    share: 0.25,
    relay: `${own}:5064`,
    listeners: [udp(`${own}:5060`), tcp(`${own}:5060`)],
    reachable: true,
    version: '0.1.0',
    self: k === 1,
    ...given,
  };
}

const FARM = [1, 2, 3].map((k) => member(k));
const plan = (members: readonly MemberSummary[], options: Partial<PlanOptions> = {}) =>
  planBalancer('lab', members, { directReturn: false, ...options });
const refused = (message: RegExp) => (error: unknown) => {
  const { code, message: text } = error as { readonly code?: string; readonly message: string };
  assert.equal(code, 'SF_BALANCER_PLAN');
  assert.match(text, message);
  return true;
};

test('the same members give the same plan in any order', () => {
  const ids = (members: readonly MemberSummary[]): string[] => plan(members).plan.members.map(({ id }) => id);
  assert.deepEqual(ids([member(3), member(10), member(1)]), ['fe1', 'fe3', 'fe10']);
});

test('the VIP, its ports and the members come from the advertised addresses', () => {
  const { plan: made, warnings } = plan(FARM);
  assert.deepEqual(warnings, []);
  assert.deepEqual(made, {
    farm: 'lab',
    vip: VIP,
    services: [
      { transport: 'udp', port: 5060, targetPort: 5060 },
      { transport: 'tcp', port: 5060, targetPort: 5060 },
    ],
    members: [1, 2, 3].map((k) => ({ id: `fe${k}`, address: `10.0.0.1${k}`, weight: 100, mac: null })),
    check: { kind: 'sip', port: 5060 },
    device: 'eth0',
    outDevice: 'eth0',
    balancerMac: null,
  });
});

test('members that drain, have weight 0 or no listeners, and nodes outside the farm are left out with a note', () => {
  const outsideFarm = [
    member(5, { role: 'disabled', weight: 0 }),
    member(6, { role: 'relay', weight: 0, listeners: [] }),
  ];
  const out = [
    member(2, { state: 'draining' }),
    member(3, { weight: 0 }),
    member(4, { listeners: [] }),
    ...outsideFarm,
  ];
  const { plan: made, warnings } = plan([member(1), ...out]);
  assert.deepEqual(
    made.members.map(({ id }) => id),
    ['fe1'],
  );
  assert.deepEqual(
    warnings.map((text) => text.slice(0, 15)),
    [2, 3, 4, 5, 6].map((k) => `fe${k} is left out`),
  );
  assert.throws(() => plan(out), refused(/no member takes packets/));
  assert.throws(() => plan([]), refused(/no member takes packets/));
});

test('the VIP must be given when the members advertise no common address', () => {
  const alone = [1, 2].map((k) => member(k, { listeners: [udp(`10.0.0.1${k}:5060`, `10.0.0.1${k}:5060`)] }));
  assert.throws(() => plan(alone), refused(/--vip/));
  const { plan: made, warnings } = plan(alone, { vip: VIP });
  assert.deepEqual(made.services, [{ transport: 'udp', port: 5060, targetPort: 5060 }]);
  assert.match(warnings[0] ?? '', /no member advertises 198\.51\.100\.1/);
});

test('one of several common addresses must be chosen, and only its family is in the plan', () => {
  const both = [1, 2].map((k) =>
    member(k, { listeners: [udp(`10.0.0.1${k}:5060`), udp(`[2001:db8::1${k}]:5060`, '[2001:db8::1]:5060')] }),
  );
  assert.throws(() => plan(both), refused(/198\.51\.100\.1 and 2001:db8::1/));
  const { plan: made } = plan(both, { vip: '2001:db8::1' });
  assert.deepEqual(
    made.members.map(({ address }) => address),
    ['2001:db8::11', '2001:db8::12'],
  );
  assert.equal(made.services.length, 1);
});

test('--port selects the listeners with that port, or moves all to it when there are none', () => {
  const two = [udp('10.0.0.11:5060'), udp('10.0.0.11:5070', `${VIP}:5070`)];
  const picked = plan([member(1, { listeners: two })], { port: 5070 }).plan.services;
  assert.deepEqual(picked, [{ transport: 'udp', port: 5070, targetPort: 5070 }]);
  const moved = plan(FARM, { port: 5080 }).plan.services;
  assert.deepEqual(
    moved.map(({ port, targetPort }) => [port, targetPort]),
    [
      [5080, 5060],
      [5080, 5060],
    ],
  );
  assert.throws(() => plan([member(1, { listeners: two })], { port: 5080 }), refused(/pick with --port/));
});

const tls = (bind: string, told = 'sip.example.com:5061;transport=tls'): ListenerSummary => ({
  ...{ name: 'edge-tls', transport: 'tcp', bind, advertise: bind, told },
});

test('a listener that advertises a name is at the VIP of the others or at the given one', () => {
  const named = (own: string): ListenerSummary => ({ ...udp(own, own), told: 'trunk.example.com:5066' });
  const farm = (more: (own: string) => ListenerSummary[]) =>
    [1, 2].map((k) => member(k, { listeners: [named(`10.0.0.1${k}:5060`), ...more(`10.0.0.1${k}`)] }));
  const at = { transport: 'udp', port: 5066, targetPort: 5060 };
  const found = plan(farm((own) => [tcp(`${own}:5060`)]));
  assert.deepEqual([found.plan.vip, found.plan.services], [VIP, [at, { ...at, transport: 'tcp', port: 5060 }]]);
  assert.throws(() => plan(farm(() => [])), refused(/VIP is unknown: give it with --vip/));
  const given = plan(
    farm(() => []),
    { vip: VIP },
  );
  assert.deepEqual([given.plan.services, given.warnings], [[at], []]);
});

test('a listener with TLS is in the plan of a balancer that ends TLS, and left out of others with a note', () => {
  const secured = [1, 2].map((k) => member(k, { listeners: [...FARM[k - 1]!.listeners, tls(`10.0.0.1${k}:5062`)] }));
  const plain = [
    { transport: 'udp', port: 5060, targetPort: 5060 },
    { transport: 'tcp', port: 5060, targetPort: 5060 },
  ];
  const ends = plan(secured, { endsTls: true });
  assert.deepEqual(ends.plan.services, [...plain, { transport: 'tcp', port: 5061, targetPort: 5062, tls: true }]);
  assert.deepEqual(ends.warnings, []);
  const other = plan(secured);
  assert.deepEqual(other.plan.services, plain);
  assert.match(other.warnings.join(), /^TLS 5061 is left out/);
  const mixed = [secured[0]!, member(2, { listeners: [...FARM[1]!.listeners, tcp('10.0.0.12:5062', `${VIP}:5061`)] })];
  assert.throws(() => plan(mixed, { endsTls: true }), refused(/only 1 of 2 members listen for tls 5061/));
});

test('a service that one member does not have is refused, because its packets would be lost there', () => {
  assert.throws(
    () => plan([member(1), member(2, { listeners: [udp('10.0.0.12:5060')] })]),
    refused(/only 1 of 2.*tcp 5060/),
  );
});

test("the member's own address under direct server return comes from the relay link and is never the VIP", () => {
  const dsr = [1, 2].map((k) => member(k, { listeners: [udp(`${VIP}:5060`), tcp(`${VIP}:5060`)] }));
  const { plan: made, warnings } = plan(dsr, { directReturn: true });
  assert.deepEqual(
    made.members.map(({ address }) => address),
    ['10.0.0.11', '10.0.0.12'],
  );
  assert.deepEqual([made.check, warnings], [null, []]);
  assert.throws(
    () => plan([member(1, { relay: '', listeners: [udp(`${VIP}:5060`)] })], { directReturn: true }),
    refused(/--address fe1=/),
  );
  const given = plan([member(1, { relay: '', listeners: [udp(`${VIP}:5060`)] })], {
    directReturn: true,
    addresses: new Map([['fe1', '10.0.0.99']]),
  });
  assert.equal(given.plan.members[0]?.address, '10.0.0.99');
});

test('a listener at an address to which this balancer does not send is named', () => {
  assert.match(plan(FARM, { directReturn: true }).warnings[0] ?? '', /no listener of fe1, fe2, fe3 is bound to 198/);
  const dsr = [member(1, { listeners: [udp(`${VIP}:5060`)] })];
  assert.match(plan(dsr).warnings[0] ?? '', /no listener of fe1 is bound to an own address/);
});

test('direct server return refuses another port at the members', () => {
  assert.throws(() => plan(FARM, { directReturn: true, port: 5080 }), refused(/changes no port/));
});

test('a given MAC address replaces that of the neighbour table', () => {
  const neighbours = new Map([
    ['10.0.0.11', '00:00:5e:00:53:aa'],
    ['10.0.0.12', '00:00:5e:00:53:12'],
  ]);
  const macs = new Map([['fe1', '00:00:5e:00:53:11']]);
  assert.deepEqual(
    plan(FARM, { neighbours, macs }).plan.members.map(({ mac }) => mac),
    ['00:00:5e:00:53:11', '00:00:5e:00:53:12', null],
  );
});

test('a name that no member can have is kept out of the file', () => {
  assert.throws(() => plan([member(1, { id: 'fe1"; drop' })]), refused(/name of a member is not valid/));
});

test('the neighbour table is read from the output of ip, and only addresses are accepted', () => {
  const neigh = JSON.stringify([
    { dst: '10.0.0.12', dev: 'eth0', lladdr: '00:00:5e:00:53:12', state: ['REACHABLE'] },
    { dst: '10.0.0.13', dev: 'eth0', state: ['FAILED'] },
    { dst: 'x', lladdr: '00:00:5e:00:53:13' },
    { dst: '10.0.0.14', lladdr: 'zz' },
    null,
  ]);
  const addr = JSON.stringify([
    { link_type: 'loopback', address: '00:00:00:00:00:00', addr_info: [{ local: '127.0.0.1' }] },
    { link_type: 'ether', address: '00:00:5e:00:53:11', addr_info: [{ local: '10.0.0.11' }, null] },
  ]);
  assert.deepEqual(
    [...parseNeighbours(neigh, addr)],
    [
      ['10.0.0.12', '00:00:5e:00:53:12'],
      ['10.0.0.11', '00:00:5e:00:53:11'],
    ],
  );
  assert.equal(parseNeighbours('', '{}').size, 0);
});

const weighted = (weights: readonly number[]): PlannedMember[] =>
  weights.map((weight, i) => ({ id: `fe${i}`, address: `10.0.0.${i}`, weight, mac: null }));

test('small weights keep their order, and none becomes zero', () => {
  assert.deepEqual(smallWeights(weighted([100, 100, 50]), 100), [2, 2, 1]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 50 }), (weights) => {
      const small = smallWeights(weighted(weights), 100);
      for (const [i, value] of small.entries()) {
        assert.ok(Number.isInteger(value) && value >= 1 && value <= 100, `${value}`);
        for (const [j, other] of small.entries()) if (weights[i]! > weights[j]!) assert.ok(value >= other);
      }
    }),
  );
});

test('a leaving member moves only its own buckets', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 2, maxLength: 12 }),
      fc.nat(),
      (weights, leaver) => {
        const members = weighted(weights);
        const gone = members[leaver % members.length]!;
        const before = buckets(members, 64);
        const after = buckets(
          members.filter((one) => one !== gone),
          64,
        );
        for (const [i, one] of before.entries()) if (one !== gone) assert.equal(after[i], one);
      },
    ),
  );
});

test('buckets are distributed by weight', () => {
  const shares = buckets(weighted([300, 100]), 10_000).filter(({ id }) => id === 'fe0').length / 10_000;
  assert.ok(shares > 0.73 && shares < 0.77, `${shares}`);
});

test("the workers of one host are one target with the sum of their weights, at the host's address and the VIP", () => {
  const workers = (k: number, count: number, bind: string): MemberSummary[] =>
    Array.from({ length: count }, (_, index) =>
      member(k, {
        id: `fe${k}.${index}`,
        number: 10 * k + index,
        relay: `10.0.0.1${k}:${5064 + index}`,
        listeners: [udp(`${bind}:5060`), tcp(`${bind}:5060`)],
      }),
    );
  for (const [own, directReturn] of [
    [true, false],
    [false, true],
  ] as const) {
    const at = (k: number): string => (own ? `10.0.0.1${k}` : VIP);
    const { plan: made } = plan(
      [
        ...workers(1, 4, at(1)),
        ...workers(2, 2, at(2)),
        member(3, { listeners: [udp(`${at(3)}:5060`), tcp(`${at(3)}:5060`)] }),
      ],
      { directReturn },
    );
    assert.deepEqual(
      made.members.map(({ id, address, weight }) => [id, address, weight]),
      [
        ['fe1', '10.0.0.11', 400],
        ['fe2', '10.0.0.12', 200],
        ['fe3', '10.0.0.13', 100],
      ],
    );
  }
  const many = plan([...workers(1, 64, '10.0.0.11'), member(2)]).plan.members;
  assert.deepEqual(
    many.map(({ weight }) => weight),
    [1000, 16],
  );
});
