// The connection between two members over real sockets: order, size, proof of the key, and reconnection.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, test } from 'node:test';
import tls from 'node:tls';
import { type ByteStream, type Network, nodeNetwork } from '../../../src/base/network.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { pskIdentity, TLS_OPTIONS } from '../../../src/relay/stream-link.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { until } from '../../fake/until.ts';
import { farm, introduce, KEYS, LOOPBACK, Member, type MemberOptions } from './relay-farm.ts';

let members: Member[] = [];
let sockets: net.Socket[] = [];

function member(number: number, options: MemberOptions = {}): Member {
  const made = new Member(number, options);
  members.push(made);
  return made;
}

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await Promise.all(members.map(({ link }) => link.stop()));
  members = [];
  sockets = [];
});

/** Returns the sockets of this host. `streams` collects the connections of one member, newest last. */
function watched(streams: ByteStream[]): Network {
  return {
    ...nodeNetwork,
    connectTcp(remote, from) {
      const stream = nodeNetwork.connectTcp(remote, from);
      streams.push(stream);
      return stream;
    },
  };
}

const overTcp = { connection: 5, listener: 1 };

describe('a message for a connection', () => {
  test("arrives with its connection, in both directions, even if sent before the members' connection", async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    assert.ok(a.link.relay(2, a.packet('from a', overTcp)));
    assert.ok(b.link.relay(1, b.packet('from b', overTcp)));
    await Promise.all([a.taken(1), b.taken(1)]);
    assert.deepEqual([a.packets[0]?.text, b.packets[0]?.text], ['from b', 'from a']);
    assert.deepEqual([b.packets[0]?.packet.connection, b.packets[0]?.packet.listener], [5, 1]);
  });

  test('keeps its order among long and short ones', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    const texts = Array.from({ length: 300 }, (_, i) => `${i}:`.padEnd(i % 7 === 0 ? 40_000 : 20 + i, 'x'));
    for (const [i, text] of texts.entries()) {
      assert.ok(a.link.relay(2, a.packet(text, overTcp)), `${i}`);
      if (i % 10 === 9) await b.taken(i + 1);
    }
    assert.deepEqual(
      b.packets.map(({ text }) => text),
      texts,
    );
  });

  test('and an egress message use the same connection', async () => {
    const [a, b] = [member(1), member(2)];
    await farm(a, b);
    const flow = { member: 1, incarnation: 1, listener: 1, connection: 77, address: '', port: 0 };
    const bytes = Buffer.from('BYE');
    assert.ok(b.link.egress(flow, bytes, 0, 3));
    await a.taken(1);
    assert.deepEqual(a.egresses[0], { flow: { ...flow, address: '0.0.0.0' }, text: 'BYE' });
  });
});

test('three members exchange a datagram and 40 KiB each with each other, over IPv4 and IPv6', async () => {
  for (const address of [LOOPBACK, '::1']) {
    const all = [member(1, { address }), member(2, { address }), member(3, { address })];
    await farm(...all);
    for (const from of all)
      for (const to of all) {
        if (from === to) continue;
        assert.ok(from.link.relay(to.number, from.packet('small')));
        assert.ok(from.link.relay(to.number, from.packet('x'.repeat(40_960), overTcp)));
      }
    for (const each of all) {
      await each.taken(4);
      assert.deepEqual(each.packets.map(({ text }) => text.length).sort(), [40_960, 40_960, 5, 5]);
    }
  }
});

test('a datagram above the path MTU uses the connection once it is open', async () => {
  let datagrams = 0;
  const counting: Network = {
    ...nodeNetwork,
    async bindUdp(local, handlers) {
      const socket = await nodeNetwork.bindUdp(local, handlers);
      return {
        ...socket,
        send(bytes, address, port) {
          if (bytes.length > 1000) datagrams++;
          socket.send(bytes, address, port);
        },
      };
    },
  };
  const [a, b] = [member(1, { network: counting }), member(2)];
  await farm(a, b);
  a.link.relay(2, a.packet('open', overTcp));
  await b.taken(1);
  a.link.relay(2, a.packet('x'.repeat(3000)));
  await b.taken(2);
  assert.equal(datagrams, 0);
  assert.equal(b.packets[1]?.packet.connection, 0, 'and stays a datagram to its owner');
});

test('a cut connection is opened again, and messages sent meanwhile are not lost', async () => {
  const streams: ByteStream[] = [];
  const [a, b] = [member(1, { network: watched(streams) }), member(2)];
  await farm(a, b);
  a.link.relay(2, a.packet('one', overTcp));
  await b.taken(1);
  const before = streams.length;
  const cut = streams.at(-1);
  assert.ok(cut);
  const closed = once(cut, 'close');
  cut.destroy();
  await closed;
  a.link.relay(2, a.packet('two', overTcp));
  await b.taken(2);
  assert.equal(streams.length, before + 1);
  assert.equal(b.packets[1]?.text, 'two');
  // The accepting end has noticed it, too, and answers by the new connection.
  b.link.relay(1, b.packet('three', overTcp));
  await a.taken(1);
});

test('only the member with the lower number opens the connection', async () => {
  const [low, high]: ByteStream[][] = [[], []];
  const [a, b] = [member(1, { network: watched(low ?? []) }), member(2, { network: watched(high ?? []) })];
  await farm(a, b);
  b.link.relay(1, b.packet('x', overTcp));
  await a.taken(1);
  assert.deepEqual([low?.length, high?.length], [1, 0]);
});

test('members connect with either key during a rotation', async () => {
  const [older, newer] = ['01'.repeat(32), '02'.repeat(32)];
  const [a, b] = [member(1, { keys: keyring([older, newer]) }), member(2, { keys: keyring([newer, older]) })];
  await farm(a, b);
  a.link.relay(2, a.packet('x', overTcp));
  await b.taken(1);
});

test('a member with another farm key is refused, and so are its frames', async () => {
  const [a, b] = [member(1, { keys: keyring(['03'.repeat(32)]) }), member(2)];
  await farm(a, b);
  a.link.relay(2, a.packet('x', overTcp));
  await until(() => b.refused('handshake') > 0);
  assert.equal(b.packets.length, 0);
});

test('a member without a record is refused until it has one', async () => {
  const [a, b] = [member(1), member(2)];
  await a.start();
  await b.start();
  a.link.setPeers([a.record, b.record]);
  a.link.relay(2, a.packet('x', overTcp));
  await until(() => b.refused('handshake') > 0);
  introduce([a, b]);
  await b.taken(1);
});

test('messages for an absent peer wait up to a limit, and the rest is refused and counted', async () => {
  const [a] = [member(1)];
  await farm(a);
  a.link.setPeers([{ number: 9, incarnation: 1, id: 'm9', relay: { address: '127.0.0.1', port: 9 } }]);
  let taken = 0;
  for (let i = 0; i < 100; i++) if (a.link.relay(9, a.packet('x'.repeat(40_000), overTcp))) taken++;
  assert.equal(taken, 26, 'as many as fit into 1 MiB');
  assert.equal(a.refused('queue-full'), 74);
});

test('messages for a departed peer are decided again: packets as packets, egress messages as such', {
  timeout: 10_000,
}, async () => {
  const [a] = [member(1)];
  await farm(a);
  a.link.setPeers([{ number: 9, incarnation: 1, id: 'm9', relay: { address: '127.0.0.1', port: 9 } }]);
  const flow = { member: 9, incarnation: 1, listener: 1, connection: 77, address: '', port: 0 };
  assert.ok(a.link.relay(9, a.packet('INVITE', overTcp)));
  assert.ok(a.link.egress(flow, Buffer.from('BYE'), 0, 3));
  a.link.setPeers([]);
  await a.taken(2);
  assert.equal(a.packets[0]?.text, 'INVITE');
  assert.deepEqual(a.egresses[0], { flow: { ...flow, address: '0.0.0.0' }, text: 'BYE' });
});

test('unproven connections are limited, closed in time, and keep no peer out', async () => {
  const [a, b] = [member(1), member(2)];
  await b.start();
  await a.start();
  for (let i = 0; i < 80; i++) {
    const socket = net.connect({ host: b.endpoint.address, port: b.endpoint.port, localAddress: '127.0.0.2' });
    socket.on('error', () => {});
    sockets.push(socket);
  }
  await until(() => b.refused('connections') === 80 - 32);
  introduce([a, b]);
  a.link.relay(2, a.packet('x', overTcp));
  await b.taken(1);
  for (const socket of sockets) socket.destroy();
  await until(() => b.refused('handshake') >= 32);
});

test("a member that got its number after its peers' records connects then", async () => {
  const [a, b] = [member(1), member(2)];
  a.self.number = 0;
  await farm(a, b);
  a.self.number = 1;
  introduce([a, b]);
  b.link.relay(1, b.packet('x', overTcp));
  await a.taken(1);
});

test('a peer that moves is connected again', async () => {
  const [a, b, moved] = [member(1), member(2), member(2, { incarnation: 2 })];
  await farm(a, b);
  a.link.relay(2, a.packet('x', overTcp));
  await b.taken(1);
  await b.link.stop();
  await moved.start();
  introduce([a, moved]);
  a.link.relay(2, a.packet('y', overTcp));
  await moved.taken(1);
});

test('the whole link works over streams that are not sockets', async () => {
  const clock = new FakeClock();
  const network = new FakeNetwork({ clock });
  const [a, b] = [
    member(1, { network, clock, address: '10.0.0.1' }),
    member(2, { network, clock, address: '10.0.0.2' }),
  ];
  await farm(a, b);
  a.link.relay(2, a.packet('x'.repeat(40_960), overTcp));
  b.link.relay(1, b.packet('y', overTcp));
  await Promise.all([a.taken(1), b.taken(1)]);
  assert.equal(b.packets[0]?.text.length, 40_960);
});

test('a frame that has waited longer than any transaction lasts is dropped and counted', async () => {
  const clock = new FakeClock();
  const [a, b] = [member(1, { clock }), member(2)];
  await a.start();
  a.link.setPeers([{ ...b.record, relay: { address: '127.0.0.1', port: 9 } }]);
  a.link.relay(2, a.packet('old', overTcp));
  clock.advance(33_000);
  a.link.relay(2, a.packet('young', overTcp));
  await b.start();
  introduce([a, b]);
  const turning = setInterval(() => clock.advance(100), 5);
  await b.taken(1);
  clearInterval(turning);
  assert.equal(b.packets[0]?.text, 'young');
  assert.equal(a.refused('queue-old'), 1);
});

test('a silent connection is closed after five seconds', async () => {
  const clock = new FakeClock();
  const b = member(2, { clock });
  await b.start();
  const socket = net.connect({ host: b.endpoint.address, port: b.endpoint.port });
  sockets.push(socket);
  socket.on('error', () => {});
  socket.resume();
  await until(() => clock.timers > 1);
  clock.advance(4999);
  assert.equal(b.refused('handshake'), 0);
  clock.advance(1);
  await once(socket, 'close');
  await until(() => b.refused('handshake') === 1);
});

test('connections from the address of a peer are limited, too', async () => {
  const [a, b] = [member(1), member(2)];
  await a.start();
  await b.start();
  b.link.setPeers([{ ...a.record, relay: { address: '127.0.0.1', port: 9 } }]);
  for (let i = 0; i < 70; i++) {
    const socket = net.connect({ host: b.endpoint.address, port: b.endpoint.port });
    socket.on('error', () => {});
    sockets.push(socket);
  }
  await until(() => b.refused('connections') === 70 - 64);
});

test("the place of a closed stranger's connection is free again", async () => {
  const b = member(2);
  await b.start();
  for (let i = 1; i <= 40; i++) {
    const socket = net.connect({ host: b.endpoint.address, port: b.endpoint.port });
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.destroy();
    await until(() => b.refused('handshake') === i);
  }
  assert.equal(b.refused('connections'), 0);
});

test('the newest connection of a member replaces the earlier one', async () => {
  const streams: ByteStream[] = [];
  const [a, b] = [member(1, { network: watched(streams) }), member(2)];
  await farm(a, b);
  a.link.relay(2, a.packet('x', overTcp));
  await b.taken(1);
  const [first] = streams;
  assert.ok(first);
  const replaced = once(first, 'close');
  const twin = member(1);
  await twin.start();
  twin.link.setPeers([b.record]);
  await replaced;
});

test('the space for waiting messages is free again after each outage', async () => {
  const streams: ByteStream[] = [];
  const [a, b] = [member(1, { network: watched(streams) }), member(2)];
  await farm(a, b);
  for (let round = 1; round <= 3; round++) {
    for (let i = 0; i < 20; i++) assert.ok(a.link.relay(2, a.packet('x'.repeat(40_000), overTcp)), `${round}/${i}`);
    await b.taken(20 * round);
    const last = streams.at(-1);
    assert.ok(last);
    const closed = once(last, 'close');
    last.destroy();
    await closed;
  }
});

test('the messages that wait in a stalled connection are limited', async () => {
  const clock = new FakeClock();
  const network = new FakeNetwork({ clock });
  const [a, b] = [
    member(1, { network, clock, address: '10.0.0.1' }),
    member(2, { network, clock, address: '10.0.0.2' }),
  ];
  await farm(a, b);
  a.link.relay(2, a.packet('x', overTcp));
  await b.taken(1);
  network.reaches = () => false;
  let taken = 0;
  for (let i = 0; i < 100; i++) if (a.link.relay(2, a.packet('x'.repeat(40_000), overTcp))) taken++;
  assert.ok(taken >= 20 && taken <= 30, `${taken}`);
  assert.equal(a.refused('queue-full'), 100 - taken);
});

describe('a connection with a farm key', () => {
  function dial(b: Member, number: number): tls.TLSSocket {
    const { primary } = KEYS;
    const secure = tls.connect({
      ...TLS_OPTIONS,
      host: b.endpoint.address,
      port: b.endpoint.port,
      pskCallback: () => ({ psk: primary.psk, identity: pskIdentity(primary, number) }),
      checkServerIdentity: () => undefined,
    });
    sockets.push(secure);
    secure.on('error', () => {});
    secure.resume();
    return secure;
  }

  test('is closed when it claims a number above this one, because the lower number opens connections', async () => {
    const [b, c] = [member(2), member(3)];
    await farm(b, c);
    dial(b, 3);
    await until(() => b.refused('handshake') === 1);
  });

  test('is closed when it sends an impossible length', async () => {
    const [a, b] = [member(1), member(2)];
    await b.start();
    b.link.setPeers([{ ...a.record, relay: { address: '127.0.0.1', port: 9 } }]);
    const secure = dial(b, 1);
    secure.write(Buffer.alloc(4, 0xff));
    await once(secure, 'close');
    assert.equal(b.refused('framing'), 1);
  });

  test('stays when it sends a forged frame, which is counted', async () => {
    const [a, b] = [member(1), member(2)];
    await b.start();
    b.link.setPeers([{ ...a.record, relay: { address: '127.0.0.1', port: 9 } }]);
    const secure = dial(b, 1);
    const frame = Buffer.alloc(4 + 100);
    frame.writeUInt32BE(100);
    secure.write(frame);
    secure.write(frame);
    await until(() => b.refused('not-a-frame') === 2);
  });
});

test('a stranger with another protocol is disconnected', async () => {
  const b = member(2);
  await b.start();
  const socket = net.connect({ host: b.endpoint.address, port: b.endpoint.port });
  sockets.push(socket);
  socket.on('error', () => {});
  socket.write('INVITE sip:b SIP/2.0\r\n\r\n');
  socket.resume();
  await once(socket, 'close');
  await until(() => b.refused('handshake') === 1);
});
