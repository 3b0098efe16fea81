import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../../src/base/clock.ts';
import type { Network } from '../../../src/base/network.ts';
import { nodeNetwork } from '../../../src/base/network.ts';
import { collectFacts, type HostAccess, parseSysctlFile, snmpCounter } from '../../../src/doctor/collect.ts';
import { diagnose } from '../../../src/doctor/doctor.ts';
import { leastOf, sumOf } from '../../../src/doctor/metrics-text.ts';
import { probePath } from '../../../src/doctor/path-probe.ts';
import { MemoryFarm } from '../../../src/store/memory-store.ts';
import { config, record } from './facts.ts';

/**
 * Returns a network that binds every address. Packets to the peer arrive up to `passes` octets (IPv4), and TCP is that
 * of the host.
 */
function narrow(passes: number): Network {
  return {
    ...nodeNetwork,
    bindUdp: async (local) => ({ local, send: () => {}, close: async () => {} }),
    connectUdp: async (_, onRefused) => ({
      probe: (bytes) => {
        if (bytes.length + 28 <= passes) queueMicrotask(onRefused);
      },
      close: async () => {},
    }),
  };
}

/** A clock on which every wait ends at once, after all ready callbacks have run. */
const hurried = { ...systemClock, after: (_: number, run: () => void) => systemClock.after(1, run) };

async function portsOf(t: { after(run: () => Promise<void>): void }): Promise<{ open: number; closed: number }> {
  const local = { address: '127.0.0.1', port: 0 };
  const [open, closed] = await Promise.all([
    nodeNetwork.listenTcp(local, () => {}),
    nodeNetwork.listenTcp(local, () => {}),
  ]);
  t.after(() => open.close());
  await closed.close();
  return { open: open.local.port, closed: closed.local.port };
}

test('the path probe finds the largest usual size that arrives', async (t) => {
  const { open } = await portsOf(t);
  const relay = { address: '127.0.0.1', port: open };
  for (const [passes, found] of [
    [9000, 1500],
    [1500, 1500],
    [1499, 1492],
    [1200, 1200],
    [576, 576],
    [575, undefined],
    [50, undefined],
  ] as const) {
    const path = await probePath({ network: narrow(passes), clock: hurried }, relay, 1500);
    assert.equal(path.passes, found, `with a path of ${passes}`);
  }
});

test('the path probe distinguishes an open relay port from one that refuses', async (t) => {
  const { open, closed } = await portsOf(t);
  const deps = { network: nodeNetwork, clock: systemClock };
  assert.deepEqual(await probePath(deps, { address: '127.0.0.1', port: open }, 1500), { tcp: 'open', passes: 1500 });
  assert.equal((await probePath(deps, { address: '127.0.0.1', port: closed }, 1500)).tcp, 'refused');
});

test('settings are read from the files of sysctl.d, with dots or slashes and without comments', () => {
  const text =
    '# net.a = 1\n; net.b = 1\nnet.ipv4.conf.all.arp_ignore=1\n -net/ipv4/conf/eth0.5/rp_filter = 2 \nnet.ipv4.conf.eth0/5.x = 3\nnonsense';
  assert.deepEqual(parseSysctlFile(text), [
    ['net/ipv4/conf/all/arp_ignore', '1'],
    ['net/ipv4/conf/eth0.5/rp_filter', '2'],
    ['net/ipv4/conf/eth0.5/x', '3'],
  ]);
});

test('counters of the kernel are found by the name of their column', () => {
  const text = 'Udp: InDatagrams RcvbufErrors\nUdp: 5 7\nUdpLite: InDatagrams RcvbufErrors\nUdpLite: 1 1\n';
  assert.equal(snmpCounter(text, 'Udp', 'RcvbufErrors'), 7);
  assert.equal(snmpCounter(text, 'Udp', 'Missing'), 0);
  assert.equal(snmpCounter('', 'Udp', 'RcvbufErrors'), 0);
});

test('metrics are summed over the series with all given labels, or their minimum is taken', () => {
  const text = 'a{x="1",y="2"} 3\na{x="1"} 4\na 5\nab 9\n';
  assert.equal(sumOf(text, 'a'), 12);
  assert.equal(sumOf(text, 'a', { x: '1' }), 7);
  assert.equal(sumOf(text, 'c'), undefined);
  assert.equal(leastOf(text, 'a'), 3);
  assert.equal(leastOf(text, 'c'), undefined);
});

function around(given: Partial<HostAccess> = {}): HostAccess {
  return {
    network: narrow(1500),
    clock: hurried,
    store: undefined,
    readFile: () => undefined,
    listFiles: () => [],
    run: async () => undefined,
    ask: async () => undefined,
    fetchPage: async () => undefined,
    ...given,
  };
}

test('the doctor without any source of facts does not fail and finds only certain faults', async () => {
  const facts = await collectFacts(config(), around(), 'x.yaml');
  const found = diagnose(config(), [], facts).map(({ code }) => code);
  assert.deepEqual(found, ['DR_VIP_MISSING', 'DR_NOT_RUNNING']);
});

test('answers that are no JSON, or JSON of another shape, are ignored', async () => {
  for (const text of ['<html>', '[]', '7', 'null', '{"ready":1,"reasons":7,"peers":[{}]}']) {
    const facts = await collectFacts(config(), around({ ask: async () => text }), 'x.yaml');
    assert.equal(facts.member, undefined, text);
  }
  const strange = '{"ready":false,"reasons":7,"peers":[{},7,null,{"id":"fe2","relay":"10.0.0.12:5064","misses":[7]}]}';
  const { member } = await collectFacts(config(), around({ ask: async () => strange }), 'x.yaml');
  assert.deepEqual([member?.ready, member?.reasons, member?.peers], [false, [], []]);
});

test('the store is measured without a write, and the records of members are read', async (t) => {
  const farm = new MemoryFarm(systemClock);
  const store = farm.open();
  t.after(() => store.close());
  await store.commit([
    { key: 'members/fe2', value: record(2, { relay: '127.0.0.1:1' }) },
    { key: 'members/bad', value: { v: 7 } },
  ]);
  const asked: string[] = [];
  const fetchPage = async (url: string) => {
    asked.push(url);
    return { text: 'etcd_server_quota_backend_bytes 100\netcd_mvcc_db_total_size_in_bytes 90\n', date: null };
  };
  const facts = await collectFacts(config('https:', 'http:'), around({ store, fetchPage }), 'x.yaml');
  assert.deepEqual(
    facts.records.map(({ id }) => id),
    ['fe2'],
  );
  assert.equal(facts.store?.trouble, undefined);
  assert.equal(facts.store?.hosts[0]?.full, 0.9);
  assert.deepEqual(asked, ['http://10.0.0.31:2379/metrics']);
  assert.deepEqual(await store.list('doctor/'), []);
  assert.equal(facts.paths.get('127.0.0.1:1')?.passes, 1500);
});

test('every bound address is tried at a free port, closed again, and searched in the routes', async () => {
  const log: string[] = [];
  const network: Network = {
    ...narrow(1500),
    bindUdp: async (local) => {
      if (local.address !== '127.0.0.1') throw Object.assign(new Error('no'), { code: 'EADDRNOTAVAIL' });
      log.push(`bind ${local.address}:${local.port}`);
      return { local, send: () => {}, close: async () => void log.push('close') };
    },
  };
  const run = async (command: string, args: readonly string[]): Promise<string | undefined> => {
    if (command !== 'ip' || args[2] !== 'get') return undefined;
    return args[3] === '127.0.0.1' ? '[{"type":"local","dev":"lo"}]' : '[{"dst":"10.0.0.11","dev":"eth0"}]';
  };
  const { bound } = await collectFacts(config(), around({ network, run }), 'x.yaml');
  assert.deepEqual(log, ['bind 127.0.0.1:0', 'close']);
  assert.deepEqual(Object.fromEntries(bound), {
    '198.51.100.1': { refused: 'EADDRNOTAVAIL', local: false },
    '10.0.0.11': { refused: 'EADDRNOTAVAIL', local: false },
    '127.0.0.1': { refused: undefined, local: true },
  });
});

test('an error of another kind gives no result for the address, and so do unreadable routes', async () => {
  const bindUdp = async () => Promise.reject(Object.assign(new Error('no'), { code: 'EMFILE' }));
  const { bound } = await collectFacts(config(), around({ network: { ...narrow(1500), bindUdp } }), 'x.yaml');
  assert.deepEqual(bound.get('10.0.0.11'), { refused: undefined, local: undefined });
});

test('forged frames are counted from the start of the doctor on', async () => {
  let frames = 40;
  const ask = async (path: string): Promise<string> => {
    if (path === '/readyz') return '{"ready":true,"reasons":[]}';
    frames += 2;
    return `sipfarm_relay_refused_total{reason="mac"} ${frames}\nprocess_max_fds 1024\n`;
  };
  const facts = await collectFacts(config(), around({ ask }), 'x.yaml');
  assert.equal(facts.member?.forgedFrames, 2);
  assert.deepEqual(facts.openFiles, { limit: 1024, of: 'the running member' });
});

test('only the UDP clients of a listener count in the connection tracker', async () => {
  const entry = (protocol: string, port: number): string =>
    `ipv4     2 ${protocol} 29 src=203.0.113.10 dst=198.51.100.1 sport=5060 dport=${port} src=198.51.100.1 dst=203.0.113.10 sport=${port} dport=5060 mark=0 use=1`;
  const table = [entry('udp      17', 5060), entry('udp      17', 53), entry('tcp      6', 5060), ''].join('\n');
  const readFile = (path: string): string | undefined => (path === '/proc/net/nf_conntrack' ? table : undefined);
  assert.equal((await collectFacts(config(), around({ readFile }), 'x.yaml')).tracked, 1);
  assert.equal((await collectFacts(config(), around(), 'x.yaml')).tracked, undefined);
});

test('a raw socket is tried only with relay.mode transparent, and closed', async () => {
  const transparent = config('10.0.0.11:5064 }', '10.0.0.11:5064, mode: transparent }');
  const log: string[] = [];
  const openRaw = (ipv6: boolean) => {
    log.push(`open ${ipv6 ? 6 : 4}`);
    return { send: () => false, close: () => void log.push('close') };
  };
  const run = async (command: string): Promise<string | undefined> =>
    command === 'systemctl' ? 'LoadState=loaded\nAmbientCapabilities=cap_net_raw\n' : undefined;
  const able = around({ network: { ...narrow(1500), openRaw }, run });
  assert.equal((await collectFacts(config(), able, 'x.yaml')).raw, undefined);
  const { raw } = await collectFacts(transparent, able, 'x.yaml');
  assert.deepEqual(raw, { trouble: undefined, lacks: undefined, unitRights: 'cap_net_raw' });
  assert.deepEqual(log, ['open 4', 'close']);
});

test('a refused raw socket differs from a module that does not load; rights are unknown without a unit', async () => {
  const transparent = config('10.0.0.11:5064 }', '10.0.0.11:5064, mode: transparent }');
  for (const [trouble, lacks] of [
    ['no raw socket: Operation not permitted', 'right'],
    ['the module raw-socket does not load in Node.js 24', 'module'],
  ] as const) {
    const openRaw = () => {
      throw new Error(trouble);
    };
    const run = async () => 'LoadState=not-found\nAmbientCapabilities=\n';
    const { raw } = await collectFacts(transparent, around({ network: { ...narrow(1500), openRaw }, run }), 'x.yaml');
    assert.deepEqual(raw, { trouble, lacks, unitRights: undefined });
  }
});
