// The parts of a node by its configuration: what each role has, and that they are connected before anything is opened.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { pino } from 'pino';
import type { DatagramSocket } from '../../../src/base/network.ts';
import { recordKey } from '../../../src/calls/records/call-record.ts';
import type { Config } from '../../../src/config/schema.ts';
import { assemble, type NodeHooks, type NodeOptions, type NodeParts } from '../../../src/node/assemble.ts';
import { Settings } from '../../../src/node/settings.ts';
import { nextView, type View } from '../../../src/ownership/view.ts';
import { FakeFarm } from '../../fake/farm.ts';
import { Message, request } from '../../fake/sip.ts';
import { clientLeg } from '../calls/records/journal-rig.ts';
import { EDGE, NodeRig, nodeConfig } from './node-rig.ts';

const EDGE_UDP = 0;
const OWN_SEAT = { id: 'fe1', number: 1, incarnation: 1, weight: 100, state: 'active' } as const;

let rig: NodeRig;
let view: View | undefined;
/** Names of the events that the parts have reported. */
let called: string[];

beforeEach(() => {
  rig = new NodeRig();
  [view, called] = [undefined, []];
});

function build(config = nodeConfig(), more: Partial<NodeOptions> = {}): NodeParts {
  const note = (name: string) => (): void => void called.push(name);
  const { relay, member } = config;
  const hooks: NodeHooks = {
    settings: new Settings({ config, log: pino({ level: 'silent' }), onApply: note('apply') }),
    state: () => 'active',
    view: () => view,
    records: () => [],
    orders: () => new Map(),
    publishState: async () => note('publishState')(),
    witnesses: () => 'too few',
    record: () => ({
      ...{ role: config.role, weight: 100, relay: `${relay.bind.address}:5064`, listeners: [] },
      ...{ versions: { sipfarm: 'test', min: 1, max: 1 }, startedAt: `start of ${member}` },
    }),
    onView: (next) => {
      view = next;
      called.push('view');
    },
    onMembers: note('members'),
    onOrders: note('orders'),
    onIsolated: note('isolated'),
    onRejoined: note('rejoined'),
    onSeatLost: note('seatLost'),
  };
  return assemble(rig.options(config, more), hooks);
}

const RELAY_NODE = { role: 'relay', listeners: [], store: { kind: 'etcd', hosts: ['http://10.0.0.254:2379'] } };
const UPSTREAM = { kind: 'upstream', server: 'sip:10.0.0.1:5070', bind: '10.0.0.1:5062', health: { method: 'none' } };

describe('a node of role', () => {
  const ROLES = [
    { role: 'member', more: {}, recorded: true, exits: false },
    { role: 'disabled', more: { role: 'disabled', service: UPSTREAM }, recorded: false, exits: false },
    { role: 'relay', more: { ...RELAY_NODE, service: UPSTREAM }, recorded: false, exits: true },
  ];
  for (const { role, more, recorded, exits } of ROLES)
    test(`${role} ${recorded ? 'records its calls and adopts others' : 'has no call records'}${
      exits ? ', and sends through members' : ''
    }; nothing is opened or called yet`, () => {
      const parts = build(nodeConfig(more));
      const { callRecovery, takeoverWiring, exitChoice } = parts;
      assert.deepEqual(
        [callRecovery, takeoverWiring, exitChoice].map((part) => part !== undefined),
        [recorded, recorded, exits],
      );
      assert.deepEqual([rig.effects, rig.clock.timers, called], [[], 0, []]);
    });
});

describe('the admin server', () => {
  const listening = (config: Config): NodeParts => {
    const { admin: _none, ...options } = rig.options(config);
    return assemble(options, { settings: new Settings({ ...options, onApply: () => {} }) } as NodeHooks);
  };
  test('is there by default and when it is only asked, and is left out on request', () => {
    assert.deepEqual(
      [listening(nodeConfig()), build(undefined, { admin: 'asked' }), build(undefined, { admin: 'none' })].map(
        ({ admin }) => admin !== undefined,
      ),
      [true, true, false],
    );
  });
});

test('a packet of the balancer passes all parts, and the answer has the readiness of the node', async () => {
  const sent: Message[] = [];
  const socket: DatagramSocket = {
    local: EDGE,
    send: (bytes) => void sent.push(new Message(Buffer.from(bytes).toString('latin1'))),
    close: async () => {},
  };
  const { transport, routing } = build(undefined, {
    sockets: new Map([['edge', socket]]),
    handedIn: new Set(['edge-tcp']),
  });
  await transport.start();
  const probe = (branch: string): number | undefined => {
    const via = `SIP/2.0/UDP 198.51.100.254:5060;branch=z9hG4bK${branch}`;
    const text = request({ method: 'OPTIONS', uri: 'sip:198.51.100.1', via, callId: branch });
    transport.inject(EDGE_UDP, Buffer.from(text, 'latin1'), '198.51.100.254', 5060);
    return sent.at(-1)?.status;
  };
  assert.equal(probe('without-seat'), 503);
  routing.become({ number: 1, incarnation: 1 });
  view = nextView(undefined, [OWN_SEAT], '00'.repeat(16));
  routing.takeView(view, () => {});
  assert.equal(probe('with-seat'), 200);
  await transport.stop();
});

test('membership reports to the node, and the other parts read its number and its isolation', async () => {
  const { membership, routing, fence, api, callRecovery } = build();
  routing.become(await rig.drive(membership.join()));
  await rig.pass(1000);
  assert.deepEqual([called.includes('members'), called.includes('view'), view?.seats.length], [true, true, 1]);
  assert.deepEqual([api.farm().number, fence.up, membership.isolated], [1, false, false]);
  rig.memory.down();
  await rig.pass(15_000, 100);
  assert.deepEqual([called.includes('isolated'), membership.isolated], [true, true]);
  rig.memory.up();
  await rig.drive(membership.leave());
  await callRecovery?.stop();
});

test('call records wait until the member has joined', async () => {
  const { membership, routing, callRecovery } = build();
  callRecovery!.journal.began(7, 'INVITE', 'call-7', clientLeg('call-7'));
  await rig.pass(1000);
  assert.equal(rig.effects.length, 0);
  routing.become(await rig.drive(membership.join()));
  callRecovery!.joined();
  await rig.pass(1000);
  assert.ok(rig.effects.includes(`write ${recordKey(1, 'trying', 7)}`));
  await callRecovery!.stop();
  await rig.drive(membership.leave());
});

test('a member whose watch of the store is late reads a newer view when another member reports it', async () => {
  const farm = await FakeFarm.start({ members: 2 });
  const late = farm.member(2);
  late.store.changed = () => {};
  await farm.enter(3);
  await farm.until(() => late.seats === 'fe1 fe2 fe3', 'the late member has the view');
  await farm.stop();
});

test('the metrics read the parts', async () => {
  const { calls, routing } = build();
  const { sources } = rig.metrics;
  assert.deepEqual(
    [sources.ownedCalls(), sources.viewEpoch(), sources.storeUp(), sources.tcpConnections(), sources.peersReachable()],
    [0, 0, true, 0, 0],
  );
  calls.restore(7, false, true, 0, rig.clock.now(), 1);
  routing.takeView(nextView(undefined, [OWN_SEAT], '00'.repeat(16)), () => {});
  rig.store.cut();
  assert.deepEqual([sources.ownedCalls(), sources.viewEpoch(), sources.storeUp()], [1, 1, false]);
});
