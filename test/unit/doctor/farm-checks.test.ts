// This member in its farm: the relay link, keys, the store, the running member.
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import type { Config } from '../../../src/config/schema.ts';
import type { HostFacts, PathFacts, SeenPeer } from '../../../src/doctor/facts.ts';
import { checkFarm } from '../../../src/doctor/farm-checks.ts';
import { commandOf, type Finding } from '../../../src/doctor/finding.ts';
import { commandsIn, config, facts, OWN_KEY, record, shown, sysctls } from './facts.ts';

const check = (given: Partial<HostFacts>, of: Config = config()): readonly Finding[] => checkFarm(of, facts(given));
const fixesOf = (found: readonly Finding[]): string[] => found.flatMap(({ fixes }) => fixes.map(commandOf));

const PEER: SeenPeer = { id: 'fe2', relay: '10.0.0.12:5064', seated: true, reachable: true, misses: [] };
const seen = (given: Partial<SeenPeer>) => ({ member: { ...facts().member!, peers: [{ ...PEER, ...given }] } });
const path = (given: Partial<PathFacts>): Partial<HostFacts> => ({
  paths: new Map([['10.0.0.12:5064', { tcp: 'open', passes: 1500, ...given }]]),
});
const NEW = 'fedcba9876543210';
const FE2 = 'fe2 (10.0.0.12:5064)';

test('a farm with a correct setup has no finding', () => assert.deepEqual(check({}), []));

describe('the MTU of the relay link', () => {
  const ofMtu = (mtu: number): Config => config('10.0.0.11:5064 }', `10.0.0.11:5064, mtu: ${mtu} }`);
  const route = (mtu: number) => ({ routes: new Map([['10.0.0.12', { device: 'wg0', mtu }]]) });
  const probing = { sysctl: sysctls({}, { 'net/ipv4/tcp_mtu_probing': '1' }) };
  const FOUND = [`fault DR_RELAY_MTU ${FE2}`];

  for (const [title, given, mtu, expected] of [
    ['is right when the route carries it', route(1420), 1420, []],
    ['is too large for the route', route(1420), 1421, FOUND],
    ['is right when the path carries it', { ...path({ passes: 1400 }), ...probing }, 1400, []],
    ['is too large for the path', { ...path({ passes: 1399 }), ...probing }, 1400, FOUND],
    ['is right, but TCP sends longer packets that the path loses', path({ passes: 1400 }), 1400, FOUND],
    ['is right, but TCP fills the jumbo frames of the route', route(9000), 1500, FOUND],
    ['is right for a route above the longest probe packet', { ...route(65_536), ...path({ passes: 9000 }) }, 1500, []],
    ['is not judged when no probe packet arrives', path({ passes: undefined }), 1500, []],
    ['is not judged without a route and a path', { routes: new Map(), paths: new Map() }, 1500, []],
  ] as const)
    it(title, () => assert.deepEqual(shown(check(given, ofMtu(mtu))), expected));

  it('is lowered on every member to what arrives, and TCP finds its own size', () => {
    const [found] = check(path({ passes: 1400 }));
    assert.match(found?.mend.join('\n') ?? '', /relay: \{ mtu: 1400 \}/);
    assert.deepEqual(fixesOf([found!]), ['sysctl -w net.ipv4.tcp_mtu_probing=1']);
  });

  it('stays as it is when only TCP loses packets, or when the path carries less than any MTU', () => {
    for (const [given, mtu] of [
      [path({ passes: 1400 }), 1400],
      [path({ passes: 500 }), 1500],
    ] as const)
      assert.doesNotMatch(check(given, ofMtu(mtu))[0]?.mend.join('\n') ?? assert.fail(), /relay: \{ mtu/);
  });

  it('needs no change of the kernel when only the route is narrow', () => {
    const found = check(route(1420));
    assert.deepEqual([shown(found), fixesOf(found)], [FOUND, []]);
  });
});

describe('a peer', () => {
  const RULE = "nft insert rule inet filter input meta l4proto '{ tcp, udp }' th dport 5064 accept";
  const LOST = [`fault DR_RELAY_UNREACHABLE ${FE2}`];

  for (const [title, given, expected] of [
    ['refuses TCP', path({ tcp: 'refused' }), LOST],
    ['does not answer TCP', path({ tcp: 'silent' }), LOST],
    ['answers no probe', seen({ reachable: false }), LOST],
    ['answers neither, which is one fault', { ...path({ tcp: 'silent' }), ...seen({ reachable: false }) }, LOST],
    ['answers no probe and misses this member', seen({ reachable: false, misses: ['fe1'] }), LOST],
    ['misses this member, which reaches it', seen({ misses: ['fe1'] }), ['fault DR_PEERS_APART fe2, fe1']],
    ['misses a third member', seen({ misses: ['fe3'] }), ['warning DR_PEERS_APART fe2, fe3']],
    ['misses two', seen({ misses: ['fe3', 'fe4'] }), ['fe3', 'fe4'].map((id) => `warning DR_PEERS_APART fe2, ${id}`)],
    ['is not seen by the running member', { member: { ...facts().member!, peers: [] } }, []],
    ['is reachable, and nothing else is known', { paths: new Map() }, []],
  ] as const)
    it(title, () => assert.deepEqual(shown(check(given)), expected));

  it('is named with its role when it is no member', () => {
    const records = [record(1), record(2, { role: 'relay' })];
    const [found] = check({ records, ...path({ tcp: 'silent' }) });
    assert.equal(found?.about, 'fe2 (10.0.0.12:5064, role relay)');
  });

  it('is let in at this member first when TCP gets through, and at the peer only when it does not', () => {
    const rules = (given: Partial<HostFacts>): string[] =>
      check(given)[0]!.mend.filter((line) => line.includes('nft insert'));
    assert.deepEqual(rules(seen({ reachable: false })), [RULE, `# on fe2: ${RULE}`]);
    assert.deepEqual(rules(path({ tcp: 'silent' })), [`# on fe2: ${RULE}`]);
    assert.deepEqual(rules(seen({ misses: ['fe1'] })), [RULE]);
  });

  it('is let in at its own port', () => {
    const records = [record(1), record(2, { relay: '10.0.0.12:6000' })];
    const paths = new Map([['10.0.0.12:6000', { tcp: 'silent', passes: 1500 } as const]]);
    assert.match(check({ records, paths })[0]?.mend.join('\n') ?? '', /# on fe2: nft .* th dport 6000 accept/);
  });

  it('may not publish the address of another', () => {
    const records = [record(1), record(2, { relay: '10.0.0.11:5064' }), record(3)];
    const found = check({ records, paths: new Map() });
    assert.deepEqual(shown(found), ['fault DR_RELAY_DUPLICATE 10.0.0.11:5064']);
    assert.match(found[0]?.mend[0] ?? '', /^# on fe2,/);
  });
});

describe('the farm keys', () => {
  const keys = (...own: (readonly string[])[]) => ({ records: own.map((these, k) => record(k + 1, { keys: these })) });
  for (const [title, given, expected] of [
    ['are the same', { ...keys([OWN_KEY], [OWN_KEY]) }, []],
    ['differ', { ...keys([OWN_KEY], [NEW]) }, ['fault DR_KEY_MISMATCH fe2']],
    [
      'of the peer lack the key of this member',
      { ...keys([NEW], [OWN_KEY]), keys: [NEW] },
      ['fault DR_KEY_MISMATCH fe2'],
    ],
    [
      'of this member lack the key with which the peer signs',
      { ...keys([OWN_KEY], [NEW, OWN_KEY]) },
      ['fault DR_KEY_MISMATCH fe2'],
    ],
    [
      'are in rotation: all have both, and some sign with the new one',
      { ...keys([OWN_KEY, NEW], [NEW, OWN_KEY]), keys: [OWN_KEY, NEW] },
      [],
    ],
    [
      'are in the file, and the running member has not read it',
      { keys: [OWN_KEY, NEW] },
      ['warning DR_KEY_NOT_LOADED fe1'],
    ],
    [
      'are in the file, and no member runs',
      { keys: [OWN_KEY, NEW], member: undefined },
      ['hint DR_NOT_RUNNING this member'],
    ],
  ] as const)
    it(title, () => assert.deepEqual(shown(check(given)), expected));

  it('are not checked for a member that does not publish them', () => {
    const { keys: _, ...old } = record(2);
    assert.deepEqual(check({ records: [record(1), old] }), []);
  });

  it('are the fault, not the packet filter, when a peer with another key answers no probe', () => {
    const given = { ...keys([OWN_KEY], [NEW]), ...seen({ seated: false, reachable: false, misses: ['fe1'] }) };
    assert.deepEqual(shown(check(given)), ['fault DR_KEY_MISMATCH fe2']);
  });

  it('do not hide that the peer does not answer TCP', () => {
    const given = { ...keys([OWN_KEY], [NEW]), ...path({ tcp: 'refused' }) };
    assert.deepEqual(shown(check(given)), ['fault DR_KEY_MISMATCH fe2', `fault DR_RELAY_UNREACHABLE ${FE2}`]);
  });

  for (const [forgedFrames, forgedTokens] of [
    [5, 0],
    [0, 5],
  ] as const)
    it(`give a finding for ${forgedFrames} frames and ${forgedTokens} tokens that fail their check now`, () => {
      const found = check({ member: { ...facts().member!, forgedFrames, forgedTokens } });
      assert.deepEqual(
        found.map(({ code, severity }) => `${severity} ${code}`),
        ['warning DR_FORGED'],
      );
    });
});

describe('etcd', () => {
  const HOSTS = 'https://10.0.0.31:2379';
  const store = (given: object) => ({ store: { ...facts().store!, ...given } });
  const host = (given: object) => store({ hosts: [{ host: 'h', clockAheadMs: 0, full: 0.1, history: 10, ...given }] });
  const unknown = { clockAheadMs: undefined, full: undefined, history: undefined };
  for (const [title, given, expected] of [
    ['does not answer', store({ trouble: 'refused' }), [`fault DR_STORE_UNREACHABLE ${HOSTS}`]],
    ['answers half of the reads in 100 ms', store({ medianMs: 100 }), []],
    ['is slower', store({ medianMs: 101 }), [`warning DR_STORE_SLOW ${HOSTS}`]],
    ['refuses large transactions', store({ takesLarge: false }), [`fault DR_STORE_TXN_OPS ${HOSTS}`]],
    ['has space, a short history and the same clock', host({ full: 0.8, history: 1_000_000, clockAheadMs: 5000 }), []],
    ['has little space left', host({ full: 0.81 }), ['warning DR_STORE_SPACE h']],
    ['has a long history', host({ history: 1_000_001 }), ['warning DR_STORE_HISTORY h']],
    ['is ahead of this host', host({ clockAheadMs: 5001 }), ['warning DR_CLOCK h']],
    ['is behind this host', host({ clockAheadMs: -5001 }), ['warning DR_CLOCK h']],
    ['has unreadable metrics', host(unknown), []],
    ['is not used', { store: undefined }, []],
  ] as const)
    it(title, () => assert.deepEqual(shown(check(given)), expected));

  it('gives no other finding of its reads while it does not answer', () => {
    const given = store({ trouble: 'refused', medianMs: 500, takesLarge: false });
    assert.deepEqual(shown(check(given)), [`fault DR_STORE_UNREACHABLE ${HOSTS}`]);
  });

  it('gets a lease three times as long when it is slow, up to the longest', () => {
    const lease = (seconds: number): string => {
      const of = config('hosts: [', `leaseSeconds: ${seconds}, hosts: [`);
      return /leaseSeconds: (\d+)/.exec(check(store({ medianMs: 101 }), of)[0]!.mend.join('\n'))?.[1] ?? '';
    };
    assert.deepEqual([lease(5), lease(200)], ['15', '300']);
  });

  for (const [host, hint] of [
    ['http://10.0.0.31:2379', true],
    ['https://10.0.0.31:2379', false],
    ['http://127.0.0.1:2379', false],
    ['"http://[::1]:2379"', false],
    ['http://localhost:2379', false],
  ] as const)
    it(`${hint ? 'should' : 'need not'} have TLS at ${host}`, () => {
      const codes = check({}, config('https://10.0.0.31:2379', host)).map(({ code }) => code);
      assert.deepEqual(codes, hint ? ['DR_STORE_PLAIN'] : []);
    });
});

test('a member that does not run gives a hint, and one that is not ready a warning with its own reasons', () => {
  assert.deepEqual(shown(check({ member: undefined })), ['hint DR_NOT_RUNNING this member']);
  const found = check({ member: { ...facts().member!, ready: false, reasons: ['the server is down', 'no view'] } });
  assert.deepEqual(shown(found), ['warning DR_NOT_READY this member']);
  for (const reason of ['the server is down', 'no view']) assert.ok(found[0]?.reason.includes(reason), reason);
});

describe('the workers of this host', () => {
  const host = { ...config(), workers: 2 };
  const workers = [0, 1].map((index) => ({ ...record(1), id: `fe1.${index}`, relay: `10.0.0.11:${5064 + index}` }));
  const given = { records: [...workers, record(2)] };

  it('are not its peers', () => {
    const paths = new Map([...facts().paths, ['10.0.0.11:5065', { tcp: 'silent', passes: undefined } as const]]);
    assert.deepEqual(check({ ...given, paths }, host), []);
  });

  it('are let in at all their ports when a peer misses one of them', () => {
    const found = check({ ...given, ...seen({ misses: ['fe1.1'] }) }, host);
    assert.deepEqual(shown(found), ['fault DR_PEERS_APART fe2, fe1.1']);
    assert.match(commandsIn(found[0])[0] ?? '', /th dport 5064-5065 accept$/);
  });

  it('have the keys that one of them has published', () => {
    const old = workers.map((one) => ({ ...one, keys: ['00'.repeat(8)] }));
    assert.deepEqual(shown(check({ records: [...old, record(2)] }, host)), ['warning DR_KEY_NOT_LOADED fe1']);
  });
});
