// One node alone, from its start to its stop: the order of its effects, its states, its drain, and its settings.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { pino } from 'pino';
import type { Endpoint } from '../../../src/base/endpoint.ts';
import type { Config } from '../../../src/config/schema.ts';
import { Secret } from '../../../src/config/secret.ts';
import { type MemberRecord, parseMemberRecord } from '../../../src/membership/member-record.ts';
import type { NodeOptions } from '../../../src/node/assemble.ts';
import { FarmNode } from '../../../src/node/farm-node.ts';
import type { View } from '../../../src/ownership/view.ts';
import { Message, request, uriOf } from '../../fake/sip.ts';
import { EDGE, NodeRig, nodeConfig, SECRET } from './node-rig.ts';

const PHONE: Endpoint = { address: '192.0.2.7', port: 5060 };
/** Longest time in which a member alone has its seat again: its lease, the pause before the claim, and the view. */
const REJOINED_MS = 20_000;

let rig: NodeRig;
let nodes: FarmNode[];

beforeEach(() => {
  rig = new NodeRig();
  nodes = [];
});
afterEach(async () => {
  for (const node of nodes) await rig.drive(node.stop());
  assert.deepEqual([rig.ports, rig.clock.timers], [[], 0], 'no port and no timer is left');
});

function make(config?: Config, more?: Partial<NodeOptions>): FarmNode {
  const node = new FarmNode(rig.options(config, more));
  nodes.push(node);
  return node;
}
async function started(...of: Parameters<typeof make>): Promise<FarmNode> {
  const node = make(...of);
  await rig.drive(node.start());
  return node;
}
const view = (): View => rig.memory.read('view')!.value as View;
const record = (): MemberRecord | undefined => parseMemberRecord('fe1', rig.memory.read('members/fe1')?.value);
const stored = (): string[] => rig.memory.readAll('').map(({ key }) => key);
/** Takes the seat away, as another member does that has waited for this one in vain. */
const evict = (): void =>
  void rig.memory.apply([{ key: 'view', value: { ...view(), epoch: view().epoch + 1, seats: [] } }]);

/** A phone with one call. */
async function phone() {
  const got: Message[] = [];
  const socket = await rig.network.bindUdp(PHONE, {
    onDatagram: (bytes) => void got.push(new Message(bytes.toString('latin1'))),
    onSendError: () => {},
  });
  const send = async (method: string, cseq: number, answer?: Message): Promise<Message | undefined> => {
    const before = got.length;
    const text = request({
      ...{ method, cseq, callId: 'call' },
      uri: answer ? uriOf(answer.one('Contact')) : 'sip:bob@example.org',
      via: `SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK${method}${cseq}`,
      headers: [
        'Contact: <sip:alice@192.0.2.7>',
        ...(answer ? answer.all('Record-Route').map((value) => `Route: ${value}`) : []),
      ],
      ...(answer && { toTag: answer.toTag }),
    });
    socket.send(Buffer.from(text, 'latin1'), EDGE.address, EDGE.port);
    await rig.pass(20);
    return got.slice(before).findLast(({ status }) => status >= 200);
  };
  const call = async (): Promise<Message> => {
    const answer = await send('INVITE', 1);
    assert.equal(answer?.status, 200);
    await send('ACK', 1, answer);
    return answer;
  };
  return { got, send, call };
}

describe('the constructor', () => {
  test('opens nothing, sets no timer and writes nothing', () => {
    const node = make();
    assert.deepEqual([rig.effects, rig.clock.timers, node.state, node.adminAt], [[], 0, 'joining', undefined]);
  });

  test('refuses a key that is none, and an admin server at a public address without a token', () => {
    const keys = { ...nodeConfig(), keys: [new Secret('nonsense')] };
    assert.throws(() => make(keys), { code: 'SF_KEY_INVALID' });
    const admin = { ...nodeConfig(), admin: { bind: { address: '192.0.2.1', port: 9060 } } };
    assert.throws(() => make(admin, { admin: 'asked' }), { code: 'SF_ADMIN_TOKEN_REQUIRED' });
  });
});

describe('a start', () => {
  test('binds every address before it writes, and listens to clients after it has its seat', async () => {
    const node = await started();
    assert.deepEqual(rig.effects, [
      'bind udp 10.0.0.1:5064',
      'bind tcp 10.0.0.1:5064',
      'bind udp 198.51.100.1:5060',
      'bind tcp 198.51.100.1:5060',
      'close tcp 198.51.100.1:5060',
      'write numbers/1',
      'write members/fe1',
      'write view',
      'bind tcp 198.51.100.1:5060',
    ]);
    assert.deepEqual([node.state, node.api.ready().ready], ['active', true]);
  });

  test('publishes role, weight, addresses, version and the names of the keys', async () => {
    await started(nodeConfig({ weight: 70 }));
    const { role, state, weight, relay, listeners, versions, keys, startedAt } = record()!;
    assert.deepEqual([role, state, weight, relay], ['member', 'active', 70, '10.0.0.1:5064']);
    assert.deepEqual(
      listeners.map(({ name, bind }) => `${name} ${bind}`),
      ['edge 198.51.100.1:5060', 'edge-tcp 198.51.100.1:5060'],
    );
    assert.deepEqual([versions.sipfarm, keys?.length, startedAt], ['test', 1, '2026-01-01T00:00:01.000Z']);
    assert.ok(!JSON.stringify(record()).includes(SECRET));
  });

  const TAKEN = [
    { title: 'the relay port', transport: 'udp', at: { address: '10.0.0.1', port: 5064 } },
    { title: 'a UDP listener', transport: 'udp', at: EDGE },
    { title: 'a TCP listener', transport: 'tcp', at: EDGE },
  ];
  for (const { title, transport, at } of TAKEN)
    test(`that cannot bind ${title} rejects, writes nothing and closes what it has opened`, async () => {
      const other =
        transport === 'udp'
          ? await rig.network.bindUdp(at, { onDatagram: () => {}, onSendError: () => {} })
          : await rig.network.listenTcp(at, () => {});
      const node = make();
      await assert.rejects(rig.drive(node.start()), { code: 'SF_BIND_FAILED' });
      assert.deepEqual([stored(), rig.ports, rig.clock.timers], [[], [], 0]);
      await other.close();
      const next = await started();
      assert.equal(next.state, 'active');
    });

  test('whose TCP address is lost while it joins rejects, and leaves the farm', async () => {
    const node = make();
    rig.memory.down();
    const start = node.start();
    await rig.pass(1000);
    const other = await rig.network.listenTcp(EDGE, () => {});
    rig.memory.up();
    await assert.rejects(rig.drive(start), { code: 'SF_BIND_FAILED' });
    assert.deepEqual([record(), view().seats, rig.ports], [undefined, [], []]);
    await other.close();
  });

  const WAITING = [
    { title: 'the store', code: 'SF_STORE_UNREACHABLE', hold: () => rig.memory.down() },
    {
      title: 'its seat',
      code: undefined,
      hold: () => {
        const watch = rig.store.watch.bind(rig.store);
        rig.store.watch = (prefix, onChange, onStale) =>
          watch(prefix, (entries) => prefix === 'view' || onChange(entries), onStale);
      },
    },
  ];
  for (const { title, code, hold } of WAITING)
    test(`that is stopped while it waits for ${title} opens no listener and leaves nothing in the farm`, async () => {
      hold();
      const node = make();
      const start = node.start().then(
        () => undefined,
        (error: { code?: string }) => error.code,
      );
      await rig.pass(3000);
      assert.equal(node.state, 'joining');
      await rig.drive(node.stop());
      rig.memory.up();
      assert.equal(await rig.drive(start), code);
      assert.deepEqual([node.state, record(), rig.ports], ['stopping', undefined, []]);
      assert.equal(rig.effects.filter((effect) => effect === 'bind tcp 198.51.100.1:5060').length, 1, 'the trial');
    });
});

describe('a stop', () => {
  test('closes the listeners first, then gives up the seat, then closes the relay link', async () => {
    const node = await started();
    rig.effects.length = 0;
    await rig.drive(node.stop());
    assert.deepEqual(rig.effects, [
      'close tcp 198.51.100.1:5060',
      'close udp 198.51.100.1:5060',
      'delete members/fe1',
      'write view',
      'close tcp 10.0.0.1:5064',
      'close udp 10.0.0.1:5064',
    ]);
    assert.deepEqual([node.state, stored(), view().seats], ['stopping', ['numbers/1', 'view'], []]);
  });

  test('ends the reading of cluster-wide settings', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
    const node = await started(nodeConfig({ log: { level: 'info' } }), { log });
    const change = (deadlineSeconds: number): void =>
      void rig.memory.apply([{ key: 'config', value: { drain: { deadlineSeconds } } }]);
    const applied = (): boolean => lines.splice(0).includes('cluster-wide settings applied');
    await rig.pass(10);
    applied();
    change(30);
    await rig.pass(10);
    assert.equal(applied(), true);
    await rig.drive(node.stop());
    change(40);
    await rig.pass(10);
    assert.equal(applied(), false);
  });

  test('goes on behind a part that fails, and without the store', async () => {
    const node = await started();
    const stop = node.transport.stop.bind(node.transport);
    node.transport.stop = () => Promise.reject(new Error('broken'));
    rig.memory.down();
    await rig.drive(node.stop());
    assert.deepEqual(rig.ports, ['tcp 198.51.100.1:5060', 'udp 198.51.100.1:5060']);
    node.transport.stop = stop;
    await rig.pass(REJOINED_MS, 100);
  });
});

describe('a drain', () => {
  test('is published, keeps the calls, and ends when the last one is over and quiet', async () => {
    const node = await started();
    const caller = await phone();
    const answer = await caller.call();
    assert.equal(node.ownedCalls, 1);
    let drained: boolean | undefined;
    const drain = node.drain().then((quiet) => {
      drained = quiet;
    });
    await rig.pass(10_000, 100);
    assert.deepEqual([node.state, record()?.state, node.ownedCalls, drained], ['draining', 'draining', 1, undefined]);
    assert.equal((await caller.send('BYE', 2, answer))?.status, 200);
    await rig.pass(2000, 100);
    assert.equal(drained, undefined, 'a retransmission may come');
    await rig.pass(4000, 100);
    assert.equal(drained, true);
    await drain;
  });

  test('ends at the deadline with calls left; the cluster-wide deadline is in force', async () => {
    rig.memory.apply([{ key: 'config', value: { drain: { deadlineSeconds: 30 } } }]);
    const node = await started();
    await (await phone()).call();
    let drained: boolean | undefined;
    const drain = node.drain().then((quiet) => {
      drained = quiet;
    });
    await rig.pass(29_000, 100);
    assert.equal(drained, undefined);
    await rig.pass(1500, 100);
    assert.equal(drained, false);
    await drain;
  });

  test('goes on without the store', async () => {
    const node = await started();
    rig.memory.down();
    assert.equal(await rig.drive(node.drain()), true);
    rig.memory.up();
  });
});

describe('a member that loses its seat', () => {
  test('gives up its calls, joins anew with the next incarnation, and is active again', async () => {
    const node = await started();
    await (await phone()).call();
    evict();
    await rig.pass(10);
    assert.deepEqual([node.state, node.ownedCalls], ['isolated', 0]);
    await rig.pass(REJOINED_MS, 50);
    assert.deepEqual([node.state, view().seats[0]?.incarnation, node.api.ready().ready], ['active', 2, true]);
  });

  test('during a drain goes on draining', async () => {
    const node = await started();
    await (await phone()).call();
    const drain = node.drain();
    await rig.pass(100);
    evict();
    await rig.pass(10);
    assert.equal(node.state, 'draining');
    assert.equal(await rig.drive(drain), true, 'it has no call left');
    await rig.pass(REJOINED_MS, 50);
    assert.deepEqual([node.state, record()?.incarnation, record()?.state], ['draining', 2, 'draining']);
  });
});

test('a member that loses the store keeps its calls and its incarnation, and is active again afterwards', async () => {
  const node = await started();
  await (await phone()).call();
  rig.memory.down();
  await rig.pass(15_000, 50);
  assert.deepEqual([node.state, node.ownedCalls], ['isolated', 1]);
  rig.memory.up();
  await rig.pass(REJOINED_MS, 50);
  assert.deepEqual([node.state, node.ownedCalls, node.api.ready().ready], ['active', 1, true]);
});

describe('a reload', () => {
  test('publishes a new weight, which the view takes', async () => {
    const node = await started();
    assert.deepEqual(node.reload(nodeConfig({ weight: 30 })), { live: ['weight'], restart: [] });
    await rig.pass(2000, 50);
    assert.deepEqual([record()?.weight, view().seats[0]?.weight], [30, 30]);
  });

  test('publishes the names of new keys', async () => {
    const node = await started();
    const [before] = record()!.keys!;
    assert.deepEqual(node.reload(nodeConfig({ keys: ['cd'.repeat(32), SECRET] })), { live: ['keys'], restart: [] });
    await rig.pass(100);
    assert.deepEqual([record()?.keys?.length, record()?.keys?.[1]], [2, before]);
  });

  test('returns what needs a restart, leaves it as it is, and returns it again', async () => {
    const node = await started();
    rig.effects.length = 0;
    const next = nodeConfig({ relay: { bind: '10.0.0.1:6064' } });
    for (let time = 1; time <= 2; time++) assert.deepEqual(node.reload(next), { live: [], restart: ['relay.bind'] });
    await rig.pass(1000, 50);
    assert.equal(record()?.relay, '10.0.0.1:5064');
    assert.deepEqual(rig.effects, [], 'nothing is written or opened');
  });
});

describe('a question to the admin server', () => {
  test('is answered without HTTP', async () => {
    const node = make(undefined, { admin: 'asked' });
    const ready = async (): Promise<number> => (await node.ask({ method: 'GET', url: '/readyz' })).status;
    assert.equal(await ready(), 503);
    await rig.drive(node.start());
    assert.deepEqual([await ready(), node.adminAt], [200, undefined]);
  });

  test('is refused by a node without one', async () => {
    await assert.rejects(make().ask({ method: 'GET', url: '/readyz' }), { code: 'SF_INTERNAL' });
  });
});
