// The media ports of a whole node: its claim between join and seat, cluster-wide addresses, reload, and a lost lease.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { workerConfig } from '../../../src/config/workers.ts';
import type { UserRelayOptions } from '../../../src/media/user-relay/user-relay.ts';
import { FarmNode } from '../../../src/node/farm-node.ts';
import { planSettings, type StartRelay } from '../../../src/node/media-part.ts';
import { FakeRelay } from '../../fake/media-relay.ts';
import { FakeNft } from '../../fake/nft.ts';
import { NodeRig, nodeConfig } from './node-rig.ts';

const SERVICE = { kind: 'upstream', server: 'sip:10.0.0.1:5070', bind: '10.0.0.1:5062', health: { method: 'none' } };
const MULTI = { plan: 'multi-ip', bind: '10.0.0.1', wan: '203.0.113.11' };
const SINGLE = { plan: 'single-ip', bind: '10.0.0.1' };
const configOf = (media: object, more: object = {}) =>
  nodeConfig({ service: SERVICE, media, log: { level: 'silent' }, ...more });

let rig: NodeRig;
let node: FarmNode;
let local: Set<string>;
/** Relays that the node has started, with their options. */
let relays: { readonly relay: FakeRelay; readonly options: UserRelayOptions; stopped: boolean }[];

const startRelay: StartRelay = async (options) => {
  const relay = new FakeRelay();
  const entry = { relay, options, stopped: false };
  relay.stop = async () => {
    entry.stopped = true;
  };
  relays.push(entry);
  return relay;
};

beforeEach(() => {
  rig = new NodeRig();
  relays = [];
  local = new Set(['10.0.0.1']);
});
afterEach(async () => {
  await rig.drive(node.stop());
  assert.deepEqual([rig.ports, rig.clock.timers], [[], 0], 'no port and no timer is left');
  assert.ok(relays.every(({ stopped }, i) => stopped || i < relays.length - 1));
});

function start(media: object): Promise<void> {
  node = new FarmNode(rig.options(configOf(media), { localAddresses: () => local, startRelay }));
  return rig.drive(node.start());
}
const put = (key: string, value: unknown): void => void rig.memory.apply([{ key, value }]);
const claim = (): unknown => rig.memory.read('ports/fe1')?.value;
const claimOf = (plan: string, advertised: string) => ({
  ...{ v: 1, host: 'fe1', plan, bind: '10.0.0.1', advertised, first: 10_000, last: 19_999 },
});

describe('a start', () => {
  test('claims the ports after the member has joined, and before it has a seat', async () => {
    await start(MULTI);
    assert.deepEqual(claim(), claimOf('multi-ip', '203.0.113.11'));
    const [join, ports, seat] = ['write members/fe1', 'write ports/fe1', 'write view'].map((effect) =>
      rig.effects.indexOf(effect),
    );
    assert.ok(join! < ports! && ports! > 0 && seat! > 0, rig.effects.join());
    const { own } = await node.api.ports.report();
    assert.deepEqual([own[0]?.advertised, own[0]?.inside, own[0]?.trouble], ['203.0.113.11', '10.0.0.1', null]);
  });

  test('takes the one public address of the farm from the cluster-wide settings', async () => {
    put('config', { media: { wan: '203.0.113.10' } });
    await start(SINGLE);
    assert.deepEqual(claim(), claimOf('single-ip', '203.0.113.10'));
  });

  test('waits for the cluster-wide settings', async () => {
    put('config', { media: { wan: '203.0.113.10' } });
    const watch = rig.store.watch.bind(rig.store);
    rig.store.watch = (prefix, onChange, onStale) => {
      if (prefix !== 'config') return watch(prefix, onChange, onStale);
      return watch(prefix, (entries) => void rig.clock.after(5000, () => onChange(entries)), onStale);
    };
    await start(SINGLE);
    assert.deepEqual(claim(), claimOf('single-ip', '203.0.113.10'));
  });

  test('can be ended while it waits for them', async () => {
    rig.store.watch = () => ({ close: () => {} });
    node = new FarmNode(rig.options(configOf(MULTI), { localAddresses: () => local, startRelay }));
    const starting = node.start();
    await rig.pass(1000);
    await rig.drive(node.stop());
    await rig.drive(starting);
    assert.equal(claim(), undefined);
  });

  test('is refused without that address, and for ports of another member; the member then leaves the farm', async () => {
    await assert.rejects(start(SINGLE), { code: 'SF_MEDIA_PLAN' });
    put('config', { media: { wan: '203.0.113.10' } });
    put('ports/fe2', { ...claimOf('single-ip', '203.0.113.10'), host: 'fe2' });
    await assert.rejects(start(SINGLE), { code: 'SF_MEDIA_PORTS', message: /of fe2.*20000-29999 is free/ });
    assert.deepEqual([claim(), rig.memory.read('members/fe1')], [undefined, undefined]);
  });

  test('is refused for a plan that the cluster-wide settings make wrong', async () => {
    put('config', { media: { plan: 'single-ip', wan: '203.0.113.10' } });
    await assert.rejects(start({ bind: '10.0.0.1', wan: '203.0.113.11' }), {
      code: 'SF_MEDIA_PLAN',
      message: /media\.wan is set in the file of this member/,
    });
  });

  test('of a node without the section claims nothing', async () => {
    node = new FarmNode(rig.options());
    await rig.drive(node.start());
    assert.deepEqual(rig.memory.readAll('ports'), []);
    assert.deepEqual((await node.api.ports.refresh()).own, []);
  });
});

describe('a running node', () => {
  test('reads the local addresses again when its file is read again', async () => {
    await start(MULTI);
    local.clear();
    node.reload(configOf(MULTI));
    await rig.pass(10);
    assert.equal((await node.api.ports.report()).own[0]?.trouble?.code, 'SF_MEDIA_ADDRESS');
  });

  test('shows a changed address of its file, and reports what needs a restart at each reload', async () => {
    await start(MULTI);
    const changed = configOf({ ...MULTI, wan: '203.0.113.12', dscp: 0 });
    assert.deepEqual(node.reload(changed), { live: ['media.wan'], restart: ['media.dscp'] });
    await rig.pass(10);
    assert.deepEqual(claim(), claimOf('multi-ip', '203.0.113.12'));
    assert.deepEqual(node.reload(changed), { live: [], restart: ['media.dscp'] });
  });

  test('follows a changed cluster-wide address', async () => {
    put('config', { media: { wan: '203.0.113.10' } });
    await start(SINGLE);
    put('config', { media: { wan: '203.0.113.20' } });
    await rig.pass(10);
    assert.deepEqual(claim(), claimOf('single-ip', '203.0.113.20'));
  });

  test('claims its ports again with the next lease, when the store has lost the old one', async () => {
    await start(MULTI);
    rig.memory.down();
    await rig.pass(20_000, 100);
    rig.memory.apply([
      { key: 'members/fe1', value: undefined },
      { key: 'ports/fe1', value: undefined },
    ]);
    rig.memory.up();
    await rig.pass(20_000, 100);
    assert.equal(node.state, 'active');
    assert.deepEqual(claim(), claimOf('multi-ip', '203.0.113.11'));
  });

  test('gives its ports up when it leaves', async () => {
    await start(MULTI);
    await rig.drive(node.stop());
    assert.equal(claim(), undefined);
  });
});

test('each worker has its part of the range, and the name of its host', async () => {
  const config = configOf(MULTI, { workers: 2, store: { kind: 'etcd', hosts: ['http://10.0.0.254:2379'] } });
  const { worker } = planSettings(workerConfig(config, 1))!;
  assert.deepEqual(worker, { index: 1, count: 2 });
  node = new FarmNode(rig.options(workerConfig(config, 1), { localAddresses: () => local, startRelay }));
  await rig.drive(node.start());
  assert.deepEqual(rig.memory.read('ports/fe1.1')?.value, {
    ...claimOf('multi-ip', '203.0.113.11'),
    ...{ first: 15_000, last: 19_999 },
  });
});

describe('the relay of a running node', () => {
  test('has the addresses, ports and settings of the plan, cluster-wide ones included', async () => {
    put('config', { media: { restSeconds: 3 } });
    await start({ ...MULTI, inside: '127.0.0.1', ports: '10000-10063', dscp: 10 });
    const { sides, dscp, restMs, reservedPairs } = relays[0]!.options;
    assert.deepEqual(sides, [
      { address: '10.0.0.1', first: 10_000, last: 10_063, advertised: '203.0.113.11' },
      { address: '127.0.0.1', first: 10_000, last: 10_063 },
    ]);
    assert.deepEqual([dscp, restMs, reservedPairs], [10, 3000, 1]);
  });

  test('may send no media to the ports of the node', async () => {
    await start(MULTI);
    const own = relays[0]!.options.own.map(({ address, port }) => `${address}:${port}`);
    for (const each of ['10.0.0.1:5062', '10.0.0.1:5064']) assert.ok(own.includes(each), each);
  });

  test('is started again a second after its thread has ended', async () => {
    await start(MULTI);
    relays[0]!.options.onFailure(new Error('a fault'));
    assert.equal((await node.api.ports.report()).own[0]?.counts, null);
    await rig.pass(1000);
    assert.equal(relays.length, 2);
    assert.notEqual((await node.api.ports.report()).own[0]?.counts, null);
  });

  test('is not started again once the node stops', async () => {
    await start(MULTI);
    await rig.drive(node.stop());
    relays[0]!.options.onFailure(new Error('a fault'));
    await rig.pass(5000);
    assert.equal(relays.length, 1);
  });

  test('is stopped when it has started after the stop of the node', async () => {
    const started = Promise.withResolvers<void>();
    const slow: StartRelay = async (options) => {
      await started.promise;
      return startRelay(options);
    };
    node = new FarmNode(rig.options(configOf(MULTI), { localAddresses: () => local, startRelay: slow }));
    const starting = node.start();
    await rig.pass(1000);
    await rig.drive(node.stop());
    started.resolve();
    await rig.drive(starting);
    assert.deepEqual(
      relays.map(({ stopped }) => stopped),
      [true],
    );
  });

  test('ends the start of the node when it cannot start', async () => {
    const refusing = { localAddresses: () => local, startRelay: () => Promise.reject(new Error('no koffi')) };
    node = new FarmNode(rig.options(configOf(MULTI), refusing));
    await assert.rejects(rig.drive(node.start()), /no koffi/);
  });
});

describe('the media of a node in the kernel', () => {
  const REMOVAL = 'add table inet sipfarm_media_fe1\ndelete table inet sipfarm_media_fe1\n';
  let nft: FakeNft;
  let lack: string;
  beforeEach(() => {
    nft = new FakeNft(rig.clock);
    lack = '';
  });
  const texts = (): string[] => nft.runs.map(({ text }) => text);

  function startWith(media: object): Promise<void> {
    const kernel = { host: { isLocal: () => false, lacks: () => lack }, openNft: nft.open };
    node = new FarmNode(
      rig.options(configOf({ ...MULTI, ...media }), { localAddresses: () => local, startRelay, kernel }),
    );
    return rig.drive(node.start());
  }

  test('has a table from the start to the stop, made before the relay has started', async () => {
    const seen: number[] = [];
    const { open } = nft;
    nft.open = () => {
      seen.push(relays.length);
      return open();
    };
    await startWith({ dscp: 10, ports: '10000-10063' });
    assert.deepEqual(seen, [0, 0]);
    assert.ok(relays[0]!.options.offload);
    assert.ok(texts()[0]!.startsWith(REMOVAL) && /size 256;.*dscp set 10 /s.test(texts()[0]!), texts()[0]);
    await rig.drive(node.stop());
    assert.deepEqual(texts().slice(1), [REMOVAL]);
  });

  test('stays in user space with auto where nft fails, or the host does not forward', async () => {
    nft.fault = 'Operation not permitted';
    await startWith({});
    assert.deepEqual([relays.length, relays[0]!.options.offload], [1, undefined]);
    await rig.drive(node.stop());
    nft.fault = '';
    lack = 'net/ipv4/conf/eth0/forwarding is not 1';
    await startWith({});
    assert.equal(relays[1]!.options.offload, undefined);
    assert.equal(texts().at(-1), REMOVAL, 'the table of a crash');
  });

  test('ends the start with on', async () => {
    lack = 'net/ipv4/conf/eth0/forwarding is not 1';
    const refused = { code: 'SF_MEDIA_OFFLOAD', message: /eth0\/forwarding is not 1/ };
    await assert.rejects(startWith({ offload: 'on' }), refused);
    assert.equal(relays.length, 0);
  });

  test('has no table with off, also none of a crash', async () => {
    await startWith({ offload: 'off' });
    assert.deepEqual([texts(), relays[0]!.options.offload], [[REMOVAL], undefined]);
  });
});
