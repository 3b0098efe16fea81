// Targets of a request by RFC 3263, through the resolver of Node.js and a DNS server of the test.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import {
  type DnsResolver,
  Locator,
  type LocatorOptions,
  nodeResolver,
  type Target,
} from '../../../src/locate/locate.ts';
import { orderTargets, type Ranking } from '../../../src/locate/srv-order.ts';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeDns, type Naptr, type Srv } from '../../fake/dns.ts';

let dns: FakeDns;
let clock: FakeClock;
let lookups: CellFamily<'result'>;

beforeEach(async () => {
  dns = await FakeDns.start();
  clock = new FakeClock();
  lookups = new CellFamily({ name: 'dns_lookups_total', help: '', labels: ['result'] });
});
afterEach(() => dns.close());

function locator(options: Partial<LocatorOptions> = {}): Locator {
  return new Locator({
    resolver: nodeResolver([dns.server]),
    clock,
    transports: ['udp', 'tcp'],
    families: [4, 6],
    lookups,
    ...options,
  });
}

function counted(): Record<string, number> {
  return Object.fromEntries([...lookups.entries()].map(({ labels, value }) => [labels.result, value]));
}

function texts(targets: readonly Target[] | 'busy' | undefined): unknown {
  return Array.isArray(targets)
    ? targets.map(({ transport, address, port }) => `${transport} ${address} ${port}`)
    : targets;
}

const srv = (target: string, priority = 0, weight = 0, port = 5060): Srv => ({ target, priority, weight, port });
const naptr = (services: string, replacement: string, order = 10, preference = 10): Naptr => ({
  order,
  preference,
  flags: 's',
  services,
  regexp: '',
  replacement,
});

describe('a literal', () => {
  for (const [host, port, transport, expected] of [
    ['192.0.2.1', 0, undefined, 'udp 192.0.2.1 5060'],
    ['192.0.2.1', 5070, 'TCP', 'tcp 192.0.2.1 5070'],
    ['[2001:db8::1]', 0, 'udp', 'udp 2001:db8::1 5060'],
    ['2001:db8::1', 5080, undefined, 'udp 2001:db8::1 5080'],
  ] as const)
    test(`is returned at once: ${host} ${port} ${transport}`, () => {
      assert.deepEqual(texts(locator().locateNow(host, port, transport, 0)), [expected]);
      assert.deepEqual(dns.questions, []);
    });

  test('has no target with a transport or a family that the node does not have', () => {
    assert.deepEqual(locator({ families: [4] }).locateNow('2001:db8::1', 0, undefined, 0), []);
    assert.deepEqual(locator({ transports: ['udp'] }).locateNow('192.0.2.1', 0, 'tcp', 0), []);
    assert.deepEqual(locator().locateNow('192.0.2.1', 0, 'tls', 0), []);
  });

  test('has a TCP target when the node has only TCP', () => {
    assert.deepEqual(texts(locator({ transports: ['tcp'] }).locateNow('192.0.2.1', 0, undefined, 0)), [
      'tcp 192.0.2.1 5060',
    ]);
  });
});

describe('a name with a port', () => {
  test('is resolved by addresses only, the preferred family first', async () => {
    dns.set('A', 'host.test', ['192.0.2.1']);
    dns.set('AAAA', 'host.test', ['2001:db8::1']);
    assert.deepEqual(texts(await locator({ families: [6, 4] }).locate('Host.TEST', 5070, undefined, 0)), [
      'udp 2001:db8::1 5070',
      'udp 192.0.2.1 5070',
    ]);
    assert.deepEqual([...dns.questions].sort(), ['A host.test', 'AAAA host.test']);
  });

  test('is not resolved in a family for which the node has no socket', async () => {
    dns.set('A', 'host.test', ['192.0.2.1']);
    dns.set('AAAA', 'host.test', ['2001:db8::1']);
    assert.deepEqual(texts(await locator({ families: [4] }).locate('host.test', 5070, 'tcp', 0)), [
      'tcp 192.0.2.1 5070',
    ]);
    assert.deepEqual(dns.questions, ['A host.test']);
  });
});

describe('a name without a port', () => {
  test('is resolved by NAPTR in its order, and then by SRV', async () => {
    dns.set('NAPTR', 'example.test', [
      naptr('SIP+D2U', '_sip._udp.example.test', 20),
      naptr('SIPS+D2T', '_sips._tcp.example.test', 5),
      naptr('SIP+D2T', '_sip._tcp.other.test', 10),
    ]);
    dns.set('SRV', '_sip._tcp.other.test', [srv('a.test', 0, 0, 5061)]);
    dns.set('SRV', '_sip._udp.example.test', [srv('b.test')]);
    dns.set('A', 'a.test', ['192.0.2.1']);
    dns.set('A', 'b.test', ['192.0.2.2']);
    assert.deepEqual(texts(await locator().locate('example.test', 0, undefined, 0)), [
      'tcp 192.0.2.1 5061',
      'udp 192.0.2.2 5060',
    ]);
    assert.ok(!dns.questions.includes('SRV _sips._tcp.example.test'));
  });

  test('uses only NAPTR records with transports of the node', async () => {
    dns.set('NAPTR', 'example.test', [
      naptr('SIP+D2T', '_sip._tcp.example.test', 1),
      naptr('SIP+D2U', '_sip._udp.example.test', 2),
    ]);
    dns.set('SRV', '_sip._tcp.example.test', [srv('a.test')]);
    dns.set('SRV', '_sip._udp.example.test', [srv('a.test')]);
    dns.set('A', 'a.test', ['192.0.2.1']);
    assert.deepEqual(texts(await locator({ transports: ['udp'] }).locate('example.test', 0, undefined, 0)), [
      'udp 192.0.2.1 5060',
    ]);
  });

  test('is resolved by SRV of each transport when it has no NAPTR', async () => {
    dns.set('SRV', '_sip._tcp.example.test', [srv('a.test', 0, 0, 5062)]);
    dns.set('A', 'a.test', ['192.0.2.1']);
    assert.deepEqual(texts(await locator().locate('example.test', 0, undefined, 0)), ['tcp 192.0.2.1 5062']);
  });

  test('is resolved by the SRV of its transport without a NAPTR query when it has a transport', async () => {
    dns.set('SRV', '_sip._tcp.example.test', [srv('a.test', 0, 0, 5062)]);
    dns.set('SRV', '_sip._udp.example.test', [srv('a.test', 0, 0, 5063)]);
    dns.set('A', 'a.test', ['192.0.2.1']);
    assert.deepEqual(texts(await locator().locate('example.test', 0, 'tcp', 0)), ['tcp 192.0.2.1 5062']);
    assert.ok(!dns.questions.some((question) => question.startsWith('NAPTR')));
  });

  test('has its addresses by UDP at port 5060 when it has neither NAPTR nor SRV', async () => {
    dns.set('A', 'example.test', ['192.0.2.1']);
    assert.deepEqual(texts(await locator().locate('example.test', 0, undefined, 0)), ['udp 192.0.2.1 5060']);
    assert.deepEqual(texts(await locator().locate('example.test', 0, 'tcp', 0)), ['tcp 192.0.2.1 5060']);
  });

  test('has its SRV targets ordered by priority', async () => {
    dns.set('SRV', '_sip._udp.example.test', [srv('c.test', 30), srv('a.test', 10), srv('b.test', 20)]);
    for (const [i, host] of ['a.test', 'b.test', 'c.test'].entries()) dns.set('A', host, [`192.0.2.${i + 1}`]);
    assert.deepEqual(texts(await locator().locate('example.test', 0, 'udp', 0)), [
      'udp 192.0.2.1 5060',
      'udp 192.0.2.2 5060',
      'udp 192.0.2.3 5060',
    ]);
  });

  test('has no target when its SRV is "not offered", even if it has addresses', async () => {
    dns.set('SRV', '_sip._udp.example.test', [srv('.')]);
    dns.set('A', 'example.test', ['192.0.2.1']);
    assert.deepEqual(await locator().locate('example.test', 0, 'udp', 0), []);
  });

  test('ignores NAPTR records with other flags and SRV records with port 0', async () => {
    dns.set('NAPTR', 'example.test', [
      { ...naptr('SIP+D2U', '_sip._udp.a.test', 1), flags: 'a' },
      naptr('SIP+D2U', '_sip._udp.b.test', 2),
    ]);
    for (const service of ['_sip._udp.a.test', '_sip._udp.b.test'])
      dns.set('SRV', service, [
        srv('host.test', 0, 0, 0),
        srv('host.test', 0, 0, service.includes('b.test') ? 5061 : 5062),
      ]);
    dns.set('A', 'host.test', ['192.0.2.1']);
    assert.deepEqual(texts(await locator().locate('example.test', 0, undefined, 0)), ['udp 192.0.2.1 5061']);
  });

  test('is resolved behind a server that supports neither NAPTR nor SRV', async () => {
    for (const question of ['_sip._udp.example.test', '_sip._tcp.example.test']) dns.fail('SRV', question, 'notimp');
    dns.fail('NAPTR', 'example.test', 'servfail');
    dns.set('A', 'example.test', ['192.0.2.1']);
    assert.deepEqual(texts(await locator().locate('example.test', 0, undefined, 0)), ['udp 192.0.2.1 5060']);
  });

  test('is not treated as a host when its SRV query fails', async () => {
    dns.fail('SRV', '_sip._udp.example.test', 'refused');
    dns.set('A', 'example.test', ['192.0.2.1']);
    assert.deepEqual(await locator().locate('example.test', 0, 'udp', 0), []);
    assert.deepEqual(counted(), { failed: 1 });
  });
});

describe('a cached answer', () => {
  test('is returned at once until its time to live is over', async () => {
    dns.set('A', 'host.test', ['192.0.2.1'], 30);
    const subject = locator({ families: [4] });
    assert.equal(subject.locateNow('host.test', 5070, undefined, 0), undefined);
    await subject.locate('host.test', 5070, undefined, 0);
    assert.deepEqual(texts(subject.locateNow('HOST.test', 5070, undefined, 0)), ['udp 192.0.2.1 5070']);
    clock.advance(29_999);
    assert.notEqual(subject.locateNow('host.test', 5070, undefined, 0), undefined);
    clock.advance(1);
    assert.equal(subject.locateNow('host.test', 5070, undefined, 0), undefined);
  });

  for (const [ttl, kept] of [
    [0, 1000],
    [1_000_000, 3_600_000],
  ] as const)
    test(`with a time to live of ${ttl} s is kept for ${kept / 1000} s`, async () => {
      dns.set('A', 'host.test', ['192.0.2.1'], ttl);
      const subject = locator({ families: [4] });
      await subject.locate('host.test', 5070, undefined, 0);
      clock.advance(kept - 1);
      assert.notEqual(subject.locateNow('host.test', 5070, undefined, 0), undefined);
      clock.advance(1);
      assert.equal(subject.locateNow('host.test', 5070, undefined, 0), undefined);
    });

  test('from SRV is kept for a minute, because Node.js returns no time to live for SRV', async () => {
    dns.set('SRV', '_sip._udp.example.test', [srv('host.test')], 5);
    dns.set('A', 'host.test', ['192.0.2.1'], 3000);
    const subject = locator({ families: [4] });
    await subject.locate('example.test', 0, 'udp', 0);
    clock.advance(59_999);
    assert.notEqual(subject.locateNow('example.test', 0, 'udp', 0), undefined);
    clock.advance(1);
    assert.equal(subject.locateNow('example.test', 0, 'udp', 0), undefined);
  });

  test('that is only partial is queried again after five seconds', async () => {
    dns.set('A', 'host.test', ['192.0.2.1'], 3000);
    dns.fail('AAAA', 'host.test', 'refused');
    const subject = locator();
    assert.deepEqual(texts(await subject.locate('host.test', 5070, undefined, 0)), ['udp 192.0.2.1 5070']);
    clock.advance(5000);
    assert.equal(subject.locateNow('host.test', 5070, undefined, 0), undefined);
  });

  test('that the name does not exist is kept for five seconds', async () => {
    const subject = locator();
    assert.deepEqual(await subject.locate('none.test', 5070, undefined, 0), []);
    const asked = dns.questions.length;
    clock.advance(4999);
    assert.deepEqual(await subject.locate('none.test', 5070, undefined, 0), []);
    assert.equal(dns.questions.length, asked);
    dns.set('A', 'none.test', ['192.0.2.1']);
    clock.advance(1);
    assert.deepEqual(texts(await subject.locate('none.test', 5070, undefined, 0)), ['udp 192.0.2.1 5070']);
    assert.deepEqual(counted(), { nothing: 1, found: 1 });
  });

  test('is used while DNS fails, and dropped when DNS reports that the name does not exist', async () => {
    dns.set('A', 'host.test', ['192.0.2.1'], 30);
    const subject = locator({ families: [4] });
    await subject.locate('host.test', 5070, undefined, 0);
    clock.advance(30_000);
    dns.fail('A', 'host.test', 'refused');
    assert.deepEqual(texts(await subject.locate('host.test', 5070, undefined, 0)), ['udp 192.0.2.1 5070']);
    clock.advance(5000);
    dns.fail('A', 'host.test', 'nxdomain');
    assert.deepEqual(await subject.locate('host.test', 5070, undefined, 0), []);
  });

  test('is used for at most an hour after its time while DNS fails', async () => {
    dns.set('A', 'host.test', ['192.0.2.1'], 30);
    const subject = locator({ families: [4] });
    await subject.locate('host.test', 5070, undefined, 0);
    dns.fail('A', 'host.test', 'refused');
    clock.advance(30_000 + 3_600_000);
    assert.deepEqual(await subject.locate('host.test', 5070, undefined, 0), []);
  });

  test('is dropped when too many newer names come', async () => {
    for (const host of ['a.test', 'b.test', 'c.test']) dns.set('A', host, ['192.0.2.1']);
    const subject = locator({ maxNames: 2 });
    for (const host of ['a.test', 'b.test', 'c.test']) await subject.locate(host, 5070, undefined, 0);
    const known = ['a.test', 'b.test', 'c.test'].map((host) => subject.locateNow(host, 5070, undefined, 0)?.length);
    assert.deepEqual(known, [undefined, 1, 1]);
  });
});

/** Returns a resolver whose answers the test gives. */
function handResolver(): { resolver: DnsResolver; asked: string[]; answer: (address: string) => void } {
  const waiting: ((address: string) => void)[] = [];
  const asked: string[] = [];
  const none = (): Promise<never[]> => Promise.resolve([]);
  return {
    asked,
    answer: (address) => waiting.shift()?.(address),
    resolver: {
      resolve4: (name) => {
        asked.push(name);
        return new Promise((resolve) => waiting.push((address) => resolve([{ address, ttl: 60 }])));
      },
      resolve6: none,
      resolveSrv: none,
      resolveNaptr: none,
    },
  };
}

describe('running lookups', () => {
  test('are shared by all requests for the same name', async () => {
    const { resolver, asked, answer } = handResolver();
    const subject = locator({ resolver });
    const all = [1, 2, 3].map((choice) => subject.locate('host.test', 5070, undefined, choice));
    assert.deepEqual(asked, ['host.test']);
    answer('192.0.2.1');
    for (const targets of await Promise.all(all)) assert.deepEqual(texts(targets), ['udp 192.0.2.1 5070']);
  });

  test('are limited in number: one more is refused as busy, until one ends', async () => {
    const { resolver, answer } = handResolver();
    const subject = locator({ resolver, maxLookups: 2 });
    const first = subject.locate('a.test', 5070, undefined, 0);
    const second = subject.locate('b.test', 5070, undefined, 0);
    assert.equal(await subject.locate('c.test', 5070, undefined, 0), 'busy');
    assert.deepEqual(counted(), { busy: 1 });
    answer('192.0.2.1');
    await first;
    const third = subject.locate('c.test', 5070, undefined, 0);
    answer('192.0.2.2');
    answer('192.0.2.3');
    assert.deepEqual(texts(await second), ['udp 192.0.2.2 5070']);
    assert.deepEqual(texts(await third), ['udp 192.0.2.3 5070']);
  });

  test('end for the caller at the timeout, and the late answer is used for later requests', async () => {
    const { resolver, answer } = handResolver();
    const subject = locator({ resolver, timeoutMs: 4000 });
    const asked = subject.locate('host.test', 5070, undefined, 0);
    clock.advance(4000);
    assert.deepEqual(await asked, []);
    assert.deepEqual(subject.locateNow('host.test', 5070, undefined, 0), []);
    answer('192.0.2.1');
    clock.advance(5000);
    assert.deepEqual(texts(await subject.locate('host.test', 5070, undefined, 0)), ['udp 192.0.2.1 5070']);
  });

  test('are not started for an invalid host name', async () => {
    const subject = locator();
    for (const host of ['', 'a b', 'a..b', '-a.test', 'a/b', `${'a'.repeat(64)}.test`, `${'a.'.repeat(150)}test`])
      assert.deepEqual(await subject.locate(host, 5070, undefined, 0), [], host);
    assert.deepEqual(dns.questions, []);
  });

  test('count as failed when the resolver throws', async () => {
    const resolver: DnsResolver = { ...handResolver().resolver, resolve4: () => assert.fail('thrown, not rejected') };
    assert.deepEqual(await locator({ resolver }).locate('host.test', 5070, undefined, 0), []);
    assert.deepEqual(counted(), { failed: 1 });
  });
});

describe('the order among equal targets', () => {
  const server = (last: number, weight: number): Ranking[number][number] => ({
    weight,
    families: [[{ transport: 'udp', address: `192.0.2.${last}`, port: 5060 }]],
  });
  const shares = (ranking: Ranking, draws: number): Map<string, number> => {
    const firsts = new Map<string, number>();
    for (let choice = 0; choice < draws; choice++) {
      const { address } = orderTargets(ranking, choice)[0]!;
      firsts.set(address, (firsts.get(address) ?? 0) + 1);
    }
    return firsts;
  };

  test('follows the weights', () => {
    const firsts = shares([[server(1, 60), server(2, 30), server(3, 10)]], 20_000);
    for (const [address, expected] of [
      ['192.0.2.1', 0.6],
      ['192.0.2.2', 0.3],
      ['192.0.2.3', 0.1],
    ] as const)
      assert.ok(Math.abs(firsts.get(address)! / 20_000 - expected) < 0.02, `${address}: ${firsts.get(address)}`);
  });

  test('gives weight 0 a small chance beside others, and an even one among themselves', () => {
    const beside = shares([[server(1, 99), server(2, 0)]], 20_000).get('192.0.2.2')!;
    assert.ok(beside > 50 && beside < 600, `${beside}`);
    for (const [address, count] of shares([[server(1, 0), server(2, 0)]], 20_000))
      assert.ok(Math.abs(count - 10_000) < 500, `${address}: ${count}`);
  });

  test('spreads the addresses of one host evenly', () => {
    const targets = [1, 2, 3, 4].map((last): Target => ({ transport: 'udp', address: `192.0.2.${last}`, port: 5060 }));
    for (const [address, count] of shares([[{ weight: 0, families: [targets] }]], 20_000))
      assert.ok(Math.abs(count - 5000) < 400, `${address}: ${count}`);
  });

  test('is the same for the same choice, keeps ranks, and has each target once', () => {
    const ranking = fc
      .array(fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 1, maxLength: 5 }), { maxLength: 4 })
      .map((groups) => groups.map((weights, g) => weights.map((weight, i) => server(10 * g + i, weight))));
    fc.assert(
      fc.property(ranking, fc.maxSafeInteger(), (groups, choice) => {
        const order = orderTargets(groups, choice);
        assert.deepEqual(orderTargets(groups, choice), order);
        assert.equal(new Set(order).size, groups.flat().length);
        const ranks = order.map(({ address }) => Math.floor(Number(address.slice(8)) / 10));
        assert.deepEqual(
          ranks,
          [...ranks].sort((a, b) => a - b),
        );
      }),
    );
  });

  test('follows the choice for a name, also from the cache', async () => {
    dns.set('SRV', '_sip._udp.example.test', [srv('a.test', 0, 50), srv('b.test', 0, 50)]);
    dns.set('A', 'a.test', ['192.0.2.1']);
    dns.set('A', 'b.test', ['192.0.2.2']);
    const subject = locator();
    const asked = await subject.locate('example.test', 0, 'udp', 99);
    assert.deepEqual(subject.locateNow('example.test', 0, 'udp', 99), asked);
    const firsts = Array.from({ length: 50 }, (_, choice) => {
      const targets = subject.locateNow('example.test', 0, 'udp', choice);
      assert.equal(targets?.length, 2);
      return targets[0]?.address;
    });
    assert.deepEqual([...new Set(firsts)].sort(), ['192.0.2.1', '192.0.2.2']);
  });
});
