// The last step: member, socket or connection by which a message leaves, and the loss of a flow.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { Egress } from '../../../src/egress/egress.ts';
import { RemoteListeners } from '../../../src/egress/remote-listeners.ts';
import type { Flow } from '../../../src/packet/flow.ts';
import { EDGE, EDGE6, NAT, TCP, type WayFarm, wayFarm } from '../ingress/way-farm.ts';
import { request, seat } from '../ownership/lookups.ts';

const REMOTE = { address: '192.0.2.7', port: 5070 };
const MESSAGE = request('MESSAGE');
const TEXT = MESSAGE.toString('latin1');

/** Sends at member `at`. Returns whether it was sent, and the endpoints of the datagrams that left the farm. */
async function send(farm: WayFarm, at: number, flow: Flow): Promise<readonly [boolean, ...string[]]> {
  const before = farm.out.length;
  const went = farm.member(at).egress.send(flow, MESSAGE);
  await farm.network.settle();
  const left = farm.out.slice(before);
  for (const { text } of left) assert.equal(text, TEXT);
  return [went, ...left.map(({ from, to }) => `${from} > ${to}`)];
}

describe('a datagram flow', () => {
  test('leaves by its own listener when it is of this member', async (t) => {
    const farm = await wayFarm(t);
    const one = farm.member(1);
    assert.deepEqual(await send(farm, 1, one.flow(EDGE, REMOTE)), [true, '10.0.0.1:5060 > 192.0.2.7:5070']);
    assert.deepEqual(await send(farm, 1, one.flow(NAT, REMOTE)), [true, '10.0.0.1:5080 > 192.0.2.7:5070']);
    const remote = { address: '2001:db8:c::7', port: 5066 };
    assert.deepEqual(await send(farm, 1, one.flow(EDGE6, remote)), [true, '[2001:db8::1]:5060 > [2001:db8:c::7]:5066']);
  });

  test('leaves here for another member when any member may send from the shared address', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const flow = farm.member(2).flow(EDGE, REMOTE);
    assert.deepEqual(await send(farm, 1, flow), [true, '10.0.0.1:5060 > 192.0.2.7:5070']);
  });

  test('leaves at its member when only that member may send', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const flow = farm.member(2).flow(NAT, REMOTE);
    assert.deepEqual(await send(farm, 1, flow), [true, '10.0.0.2:5080 > 192.0.2.7:5070']);
  });

  test('stays valid when its member restarts, because it is only an address', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    for (const number of [1, 2]) {
      const flow = { ...farm.member(number).flow(NAT, REMOTE), incarnation: 3 };
      assert.deepEqual(await send(farm, 1, flow), [true, `10.0.0.${number}:5080 > 192.0.2.7:5070`]);
    }
  });

  test('leaves here for a departed member, because an answer from here is better than none', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const flow = farm.member(2).flow(NAT, REMOTE);
    farm.seats([seat(1, { incarnation: 11 })]);
    assert.deepEqual(await send(farm, 1, flow), [true, '10.0.0.1:5080 > 192.0.2.7:5070']);
  });

  test('leaves at a draining member', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    farm.seats([seat(1, { incarnation: 11 }), seat(2, { incarnation: 12, state: 'draining' })]);
    const flow = farm.member(2).flow(NAT, REMOTE);
    assert.deepEqual(await send(farm, 1, flow), [true, '10.0.0.2:5080 > 192.0.2.7:5070']);
  });

  test('leaves here for a seated member without a relay record', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    farm.member(1).link.setSeats([]);
    farm.member(1).link.setPeers([]);
    const flow = farm.member(2).flow(NAT, REMOTE);
    assert.deepEqual(await send(farm, 1, flow), [true, '10.0.0.1:5080 > 192.0.2.7:5070']);
  });

  test('is lost when this member does not have its listener', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const codes = new Set(farm.member(1).transport.listeners.map(({ code }) => code));
    const unknown = [0, 1, 2, 3, 4].find((code) => !codes.has(code))!;
    for (const listener of [unknown, 255])
      for (const number of [1, 2])
        assert.deepEqual(await send(farm, 1, { ...farm.member(number).flow(EDGE, REMOTE), listener }), [false]);
  });
});

describe('a connection', () => {
  /** Connects a client to member `at` and returns its flow there. */
  async function connected(farm: WayFarm, at: number) {
    const client = farm.connect(at);
    client.stream.write(request('OPTIONS', {}, `sip:10.0.0.${at}`));
    let connection = 0;
    const { way } = farm.member(at);
    const enter = way.enter.bind(way);
    way.enter = (packet) => {
      connection = packet.connection;
      enter(packet);
    };
    await farm.network.settle();
    const answered = client.text().length;
    return {
      ...client,
      flow: farm.member(at).flow(TCP, REMOTE, connection),
      sent: () => client.text().slice(answered),
    };
  }

  test('at this member carries the message, and no datagram leaves', async (t) => {
    const farm = await wayFarm(t);
    const { flow, sent } = await connected(farm, 1);
    assert.deepEqual(await send(farm, 1, flow), [true]);
    assert.equal(sent(), TEXT);
  });

  test('at another member carries the message there', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const { flow, sent } = await connected(farm, 2);
    assert.deepEqual(await send(farm, 1, flow), [true]);
    await farm.until(() => sent() === TEXT);
  });

  test('is lost when it has closed', async (t) => {
    const farm = await wayFarm(t);
    const { flow, stream } = await connected(farm, 1);
    stream.end();
    await farm.network.settle();
    assert.deepEqual(await send(farm, 1, flow), [false]);
  });

  test('is lost with its incarnation, even if a connection with that number is open', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const here = await connected(farm, 1);
    assert.deepEqual(await send(farm, 1, { ...here.flow, incarnation: 10 }), [false]);
    assert.equal(here.sent(), '');
    const there = await connected(farm, 2);
    await send(farm, 1, { ...there.flow, incarnation: 11 });
    assert.equal(there.sent(), '', 'the member that holds it has the last word');
  });

  test('stays valid when its member rejoins in the same process', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const there = await connected(farm, 2);
    farm.member(2).incarnations.add(7);
    assert.deepEqual(await send(farm, 1, { ...there.flow, incarnation: 7 }), [true]);
    assert.notEqual(there.sent(), '');
  });

  test('at a departed member is lost with it', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const { flow, sent } = await connected(farm, 2);
    farm.seats([seat(1, { incarnation: 11 })]);
    assert.deepEqual(await send(farm, 1, flow), [false]);
    assert.equal(sent(), '');
  });

  test('at a member without a relay record is lost', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const { flow } = await connected(farm, 2);
    farm.member(1).link.setSeats([]);
    farm.member(1).link.setPeers([]);
    assert.deepEqual(await send(farm, 1, flow), [false]);
  });
});

describe('a flow without a connection at a TCP listener', () => {
  /** Accepts connections at the remote party and returns their list. */
  async function serve(farm: WayFarm): Promise<string[]> {
    const got: string[] = [];
    await farm.network.listenTcp(REMOTE, (stream) => {
      got.push('');
      const index = got.length - 1;
      stream.on('data', (bytes: Buffer) => {
        got[index] += bytes.toString('latin1');
      });
    });
    return got;
  }

  test('makes its own member open a connection, which the next message uses, too', async (t) => {
    const farm = await wayFarm(t);
    const got = await serve(farm);
    for (let i = 0; i < 2; i++) assert.deepEqual(await send(farm, 1, farm.member(1).flow(TCP, REMOTE)), [true]);
    assert.deepEqual(got, [TEXT + TEXT]);
  });

  test('makes no other member open a connection, because its address belongs to its member', async (t) => {
    const farm = await wayFarm(t, { members: 2 });
    const got = await serve(farm);
    assert.deepEqual(await send(farm, 1, farm.member(2).flow(TCP, REMOTE)), [false]);
    assert.deepEqual(got, []);
  });
});

describe('a flow that only its own node can use', () => {
  async function outsideFarm(t: TestContext) {
    const farm = await wayFarm(t, { members: 2 });
    const { transport, link } = farm.member(1);
    const remoteListeners = new RemoteListeners({ own: transport.listeners, role: 'relay' });
    const at = '198.51.100.1:5060';
    const listeners = [{ name: 'edge', transport: 'udp', bind: at, advertise: at }];
    remoteListeners.setRecords([{ number: 2, role: 'member', listeners }], 1);
    const egress = new Egress(transport, link, farm.member(1), remoteListeners);
    return { farm, went: () => egress.send(farm.member(2).flow(EDGE, REMOTE), MESSAGE) };
  }

  test('leaves there, even if this node has a listener of that name', async (t) => {
    const { farm, went } = await outsideFarm(t);
    assert.ok(went());
    await farm.network.settle();
    assert.deepEqual(
      farm.out.map(({ from }) => from),
      ['10.0.0.2:5060'],
    );
  });

  test('is lost with the seat of its node, even if the node still has a relay record', async (t) => {
    const { farm, went } = await outsideFarm(t);
    const one = farm.member(1);
    one.tables = { ...one.tables, seats: new Map([[1, seat(1)]]) };
    assert.ok(!went());
    await farm.network.settle();
    assert.deepEqual(farm.out, []);
  });
});

test('the listener of a flow is found by its code', async (t) => {
  const farm = await wayFarm(t);
  const { egress, transport } = farm.member(1);
  for (const index of [EDGE, NAT, EDGE6, TCP])
    assert.equal(egress.listenerOf(farm.member(1).flow(index, REMOTE)), index);
  const codes = transport.listeners.map(({ code }) => code);
  const unknown = [0, 1, 2, 3, 4].find((code) => !codes.includes(code))!;
  assert.equal(egress.listenerOf({ ...farm.member(1).flow(EDGE, REMOTE), listener: unknown }), -1);
  assert.equal(egress.listenerOf({ ...farm.member(1).flow(EDGE, REMOTE), listener: 255 }), -1);
});
