// TCP connections of a member: their messages, and all limits.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ByteStream } from '../../../src/base/network.ts';
import type { TransportLimits } from '../../../src/transport/limits.ts';
import type { FakeStream } from '../../fake/network.ts';
import { type Bench, makeBench, message, tcp, VIP } from './bench.ts';

const SERVER = { address: VIP, port: 5060 };

async function started(limits: Partial<TransportLimits> = {}): Promise<Bench> {
  const bench = makeBench([tcp('edge')], limits);
  await bench.transport.start();
  return bench;
}

interface Client {
  readonly stream: FakeStream;
  /** Returns all octets that it has received. */
  text(): string;
  ended(): boolean;
}

function dial(bench: Bench, address = '192.0.2.9'): Client {
  const stream = bench.network.connectTcp(SERVER, { address });
  let text = '';
  let ended = false;
  stream.on('error', () => {});
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  stream.on('close', () => {
    ended = true;
  });
  return { stream, text: () => text, ended: () => ended };
}

async function dialled(bench: Bench, address?: string): Promise<Client> {
  const client = dial(bench, address);
  await bench.network.settle();
  return client;
}

async function write(bench: Bench, client: Client, text: string): Promise<void> {
  client.stream.write(Buffer.from(text, 'latin1'));
  await bench.network.settle();
}

/** Checks at the end of each test that no resource and no timer is left. */
async function finished(bench: Bench): Promise<void> {
  await bench.transport.stop();
  await bench.network.settle();
  assert.equal(bench.transport.connections(), 0);
  assert.equal(bench.transport.bufferedBytes(), 0);
  assert.equal(bench.clock.timers, 0);
}

describe('a connection', () => {
  test('delivers its messages in order, with source, local address and one id', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    await write(bench, alice, message('one') + message('two', 'body').slice(0, 50));
    await write(bench, alice, message('two', 'body').slice(50) + message('three'));
    assert.deepEqual(
      bench.packets.map((packet) => packet.text),
      [message('one'), message('two', 'body'), message('three')],
    );
    const [first] = bench.packets;
    assert.deepEqual([first?.from, first?.to], [`192.0.2.9 ${alice.stream.localPort}`, `${VIP} 5060`]);
    assert.deepEqual([first?.listener, first?.member], [0, 7]);
    assert.ok(first!.connection > 0);
    assert.equal(new Set(bench.packets.map((packet) => packet.connection)).size, 1);
    assert.equal(bench.received('edge', 'sip'), 3);
    await finished(bench);
  });

  test('sends answers, whose buffer may be reused at once', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    const scratch = Buffer.from('answer');
    bench.onPacket = (packet) => {
      assert.ok(bench.transport.sendStream(packet.connection, scratch));
      scratch.fill('x');
    };
    await write(bench, alice, message());
    assert.equal(alice.text(), 'answer');
    await finished(bench);
  });

  test('has an id that no other transport of the process uses', async () => {
    const one = await started();
    const two = await started();
    for (const bench of [one, two]) await write(bench, await dialled(bench), message());
    assert.notEqual(one.packets[0]?.connection, two.packets[0]?.connection);
    await finished(one);
    await finished(two);
  });

  test('gets one pong for all pings in a chunk, and none for a single CRLF', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    await write(bench, alice, '\r\n\r\n');
    assert.equal(alice.text(), '\r\n');
    await write(bench, alice, '\r\n\r\n'.repeat(1_000));
    assert.equal(alice.text(), '\r\n\r\n');
    await write(bench, alice, '\r\n');
    assert.equal(alice.text(), '\r\n\r\n');
    assert.equal(bench.received('edge', 'keepalive'), 1_001);
    await finished(bench);
  });

  test('stays open by NULs between messages, which are not answered', async () => {
    const bench = await started({ silentMs: 10_000, idleMs: 30_000 });
    const alice = await dialled(bench);
    for (const keepalive of ['\0', '\r\n\0', '\0\0\0\0', message('one'), '\0'])
      await write(bench, alice, keepalive).then(() => bench.clock.advance(9_000));
    await write(bench, alice, message('two'));
    assert.equal(bench.packets.length, 2);
    assert.deepEqual([alice.text(), alice.ended(), bench.closed], ['', false, []]);
    assert.equal(bench.received('edge', 'keepalive'), 7);
    await finished(bench);
  });

  test('is reported as closed once when the other side closes it, and sends nothing more', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    await write(bench, alice, message('done', '', 'ACK'));
    const connection = bench.packets[0]!.connection;
    alice.stream.end();
    await bench.network.settle();
    assert.deepEqual(bench.closed, [{ connection, reason: 'peer' }]);
    assert.equal(bench.transport.sendStream(connection, Buffer.from('late')), false);
    assert.equal(bench.transport.connections(), 0);
    assert.equal(bench.closedBy('peer'), 1);
    await finished(bench);
    assert.equal(bench.closed.length, 1);
  });

  test('with a framing fault still gets its answer, and is then closed', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    bench.onFault = (packet) => assert.ok(bench.transport.sendStream(packet.connection, Buffer.from('400')));
    const broken = message().replace('Content-Length: 0', 'Content-Length: +5');
    await write(bench, alice, `${broken}hello${message('smuggled')}`);
    assert.deepEqual(
      bench.faults.map(({ fault, packet }) => [fault, packet.text]),
      [['bad-length', broken]],
    );
    assert.equal(bench.packets.length, 0);
    assert.equal(alice.text(), '400');
    assert.ok(alice.ended());
    assert.deepEqual([bench.closedBy('framing'), bench.received('edge', 'garbage')], [1, 1]);
    assert.equal(bench.transport.connections(), 0);
    await finished(bench);
  });

  test('with a framing fault is destroyed when its client does not read the answer', async () => {
    const bench = await started({ lingerMs: 2_000 });
    const stream = bench.network.connectTcp(SERVER, { address: '192.0.2.9' });
    stream.on('error', () => {});
    bench.onFault = (packet) => {
      bench.transport.sendStream(packet.connection, Buffer.alloc(400_000));
    };
    stream.write('\x01');
    await bench.network.settle();
    assert.equal(bench.transport.connections(), 1);
    assert.deepEqual(
      bench.closed.map(({ reason }) => reason),
      ['framing'],
    );
    bench.clock.advance(1_000);
    assert.equal(bench.transport.connections(), 1);
    bench.clock.advance(1_000);
    assert.equal(bench.transport.connections(), 0);
    assert.equal(bench.closed.length, 1);
    assert.equal(bench.closedBy('framing'), 1);
    await finished(bench);
  });

  test('can be handed in from outside, and is refused by a listener that is not TCP', async () => {
    const bench = makeBench([{ ...tcp('edge'), listen: false }]);
    await bench.transport.start();
    let accepted: ByteStream | undefined;
    await bench.network.listenTcp(SERVER, (stream) => {
      accepted = stream;
    });
    const alice = await dialled(bench);
    bench.transport.accept(0, accepted!);
    await write(bench, alice, message());
    assert.equal(bench.packets.length, 1);
    const bob = await dialled(bench);
    bench.transport.accept(4, accepted!);
    await bench.network.settle();
    assert.ok(bob.ended());
    await finished(bench);
  });
});

describe('a client that has shut its sending half', () => {
  /** Sends `methods`, then closes the sending half. Returns its connection and a function that sends to it. */
  async function halfClosed(methods: readonly string[], limits: Partial<TransportLimits> = {}, rest = '') {
    const bench = await started(limits);
    const alice = await dialled(bench);
    await write(bench, alice, methods.map((method) => message(method, '', method)).join('') + rest);
    const { connection } = bench.packets[0]!;
    alice.stream.end();
    await bench.network.settle();
    const send = async (text: string): Promise<boolean> => {
      const sent = bench.transport.sendStream(connection, Buffer.from(text));
      await bench.network.settle();
      return sent;
    };
    return { bench, alice, connection, send };
  }

  test('gets the answers to all its requests, then the end, and is reported as closed once', async () => {
    const { bench, alice, connection, send } = await halfClosed(['OPTIONS', 'REGISTER', 'ACK']);
    assert.deepEqual([alice.ended(), bench.closed], [false, []]);
    assert.ok(await send('SIP/2.0 100 one '));
    assert.ok(await send('SIP/2.0 200 two '));
    assert.equal(alice.ended(), false);
    assert.ok(await send('SIP/2.0 401 three'));
    assert.equal(alice.text(), 'SIP/2.0 100 one SIP/2.0 200 two SIP/2.0 401 three');
    assert.ok(alice.ended());
    assert.deepEqual(bench.closed, [{ connection, reason: 'half-closed' }]);
    assert.equal(bench.closedBy('half-closed'), 1);
    await finished(bench);
  });

  test('gets no request, because it could not answer', async () => {
    const { bench, alice, connection, send } = await halfClosed(['OPTIONS']);
    assert.equal(bench.transport.holdsStream(connection), false);
    assert.equal(await send(message('back', '', 'BYE')), false);
    assert.equal(alice.text(), '');
    await finished(bench);
  });

  test('is closed at once when it waits for no answer', async () => {
    const { bench, alice } = await halfClosed(['ACK']);
    assert.ok(alice.ended());
    assert.equal(bench.closedBy('peer'), 1);
    await finished(bench);
  });

  test('is closed at once when it has all its answers', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    bench.onPacket = ({ connection }) => bench.transport.sendStream(connection, Buffer.from('SIP/2.0 200 '));
    await write(bench, alice, message('one', '', 'INVITE') + message('two', '', 'OPTIONS'));
    alice.stream.end();
    await bench.network.settle();
    assert.ok(alice.ended());
    assert.equal(bench.closedBy('peer'), 1);
    await finished(bench);
  });

  test('is closed after 64*T1, and after timer C when it has sent an INVITE', async () => {
    for (const [methods, seconds] of [
      [['OPTIONS', 'REGISTER'], 32],
      [['INVITE'], 212],
      [['INVITE', 'OPTIONS'], 212],
    ] as const) {
      const { bench, alice } = await halfClosed(methods);
      bench.clock.advance(seconds * 1_000 - 1_000);
      await bench.network.settle();
      assert.equal(alice.ended(), false, `${methods}`);
      bench.clock.advance(1_000);
      await bench.network.settle();
      assert.ok(alice.ended(), `${methods}`);
      assert.equal(bench.closedBy('half-closed'), 1);
      await finished(bench);
    }
  });

  test('gets the 200 of each branch of its INVITE, and is closed 64*T1 after the last one', async () => {
    const { bench, alice, send } = await halfClosed(['INVITE']);
    for (const answer of ['SIP/2.0 200 a', 'SIP/2.0 200 b', 'SIP/2.0 200 c']) assert.ok(await send(answer));
    bench.clock.advance(31_000);
    assert.ok(await send('SIP/2.0 200 d'));
    bench.clock.advance(31_000);
    await bench.network.settle();
    assert.equal(alice.ended(), false);
    bench.clock.advance(1_000);
    await bench.network.settle();
    assert.ok(alice.ended());
    await finished(bench);
  });

  test('is closed at once when its last request is 64*T1 old', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    await write(bench, alice, message('one', '', 'OPTIONS'));
    bench.clock.advance(32_000);
    alice.stream.end();
    await bench.network.settle();
    assert.ok(alice.ended());
    assert.equal(bench.closedBy('peer'), 1);
    await finished(bench);
  });

  test('in the middle of a message is freed of that part, and still gets its answers', async () => {
    const { bench, alice, send } = await halfClosed(['OPTIONS'], {}, message('half').slice(0, 80));
    assert.equal(bench.transport.bufferedBytes(), 0);
    bench.clock.advance(11_000);
    assert.ok(await send('SIP/2.0 200 '));
    assert.equal(alice.text(), 'SIP/2.0 200 ');
    await finished(bench);
  });

  test('counts for the limits until it is closed', async () => {
    const bench = await started({ connectionsPerSource: 10 });
    const halves: Client[] = [];
    for (let i = 0; i < 10; i++) {
      const client = await dialled(bench);
      await write(bench, client, message(`${i}`, '', 'OPTIONS'));
      client.stream.end();
      halves.push(client);
    }
    await bench.network.settle();
    assert.equal(bench.transport.connections(), 10);
    assert.ok((await dialled(bench)).ended());
    assert.equal(bench.closedBy('source-limit'), 1);
    bench.clock.advance(32_000);
    await bench.network.settle();
    assert.equal(bench.transport.connections(), 0);
    assert.equal((await dialled(bench)).ended(), false);
    await finished(bench);
  });

  test('that does not read its answer is destroyed after the linger time', async () => {
    const bench = await started({ lingerMs: 2_000 });
    const stream = bench.network.connectTcp(SERVER, { address: '192.0.2.9' });
    stream.on('error', () => {});
    stream.write(message('one', '', 'OPTIONS'));
    await bench.network.settle();
    stream.end();
    await bench.network.settle();
    const { connection } = bench.packets[0]!;
    assert.ok(bench.transport.sendStream(connection, Buffer.from(`SIP/2.0 200 ${'x'.repeat(400_000)}`)));
    await bench.network.settle();
    assert.equal(bench.transport.connections(), 1);
    bench.clock.advance(3_000);
    assert.equal(bench.transport.connections(), 0);
    await finished(bench);
  });
});

describe('an outgoing connection', () => {
  async function withServer(limits: Partial<TransportLimits> = {}) {
    const bench = await started(limits);
    const accepted: { readonly stream: ByteStream; text: string }[] = [];
    await bench.network.listenTcp({ address: '192.0.2.50', port: 5060 }, (stream) => {
      const peer = { stream, text: '' };
      accepted.push(peer);
      stream.on('error', () => {});
      stream.on('data', (chunk: Buffer) => {
        peer.text += chunk.toString('latin1');
      });
    });
    return { bench, accepted, remote: { address: '192.0.2.50', port: 5060 } };
  }

  test("accepts messages before it is open, uses the listener's address, and is used again", async () => {
    const { bench, accepted, remote } = await withServer();
    const connection = bench.transport.connectStream(0, remote);
    assert.ok(bench.transport.sendStream(connection, Buffer.from('one ')));
    assert.equal(bench.transport.connectStream(0, remote), connection);
    assert.ok(bench.transport.sendStream(connection, Buffer.from('two')));
    await bench.network.settle();
    assert.equal(bench.transport.connectStream(0, remote), connection);
    assert.equal(accepted.length, 1);
    assert.equal(accepted[0]?.text, 'one two');
    assert.equal(accepted[0]?.stream.remoteAddress, VIP);
    accepted[0]?.stream.write(message('back'));
    await bench.network.settle();
    assert.deepEqual([bench.packets[0]?.from, bench.packets[0]?.connection], ['192.0.2.50 5060', connection]);
    await finished(bench);
  });

  test('that is closed before it is open sends its waiting messages first', async () => {
    const { bench, accepted, remote } = await withServer();
    const connection = bench.transport.connectStream(0, remote);
    assert.ok(bench.transport.sendStream(connection, Buffer.from('waits')));
    bench.transport.redirectClients();
    await bench.network.settle();
    assert.equal(accepted[0]?.text, 'waits');
    assert.deepEqual(bench.closed, [{ connection, reason: 'moved-on' }]);
    assert.deepEqual(bench.unsent, []);
    assert.equal(bench.transport.connections(), 0);
    await finished(bench);
  });

  test('is opened even if the remote has connected here, because that connection expects no requests', async () => {
    const bench = await started();
    const alice = await dialled(bench);
    await write(bench, alice, message());
    const remote = { address: '192.0.2.9', port: alice.stream.localPort };
    assert.notEqual(bench.transport.connectStream(0, remote), bench.packets[0]?.connection);
    await finished(bench);
  });

  test('is opened again after the old one has closed', async () => {
    const { bench, accepted, remote } = await withServer();
    const first = bench.transport.connectStream(0, remote);
    await bench.network.settle();
    accepted[0]?.stream.destroy();
    await bench.network.settle();
    const second = bench.transport.connectStream(0, remote);
    assert.notEqual(second, first);
    assert.deepEqual(bench.closed, [{ connection: first, reason: 'peer' }]);
    await finished(bench);
  });

  test('that is refused is reported as failed, and its waiting messages are returned', async () => {
    const bench = await started();
    const connection = bench.transport.connectStream(0, { address: '192.0.2.51', port: 5060 });
    assert.ok(bench.transport.sendStream(connection, Buffer.from('lost')));
    await bench.network.settle();
    assert.deepEqual(bench.closed, [{ connection, reason: 'connect-failed' }]);
    assert.equal(bench.transport.sendStream(connection, Buffer.from('more')), false);
    assert.deepEqual(bench.unsent, ['lost']);
    await finished(bench);
  });

  test('that does not open in time is reported as failed', async () => {
    const bench = await started({ connectMs: 5_000 });
    bench.network.reaches = () => false;
    const connection = bench.transport.connectStream(0, { address: '192.0.2.51', port: 5060 });
    await bench.clock.pass(4_900, 100);
    assert.equal(bench.closed.length, 0);
    await bench.clock.pass(200, 100);
    assert.deepEqual(bench.closed, [{ connection, reason: 'connect-failed' }]);
    await finished(bench);
  });

  test('has a bounded queue until it is open', async () => {
    const bench = await started({ sendQueueBytes: 10_000 });
    bench.network.reaches = () => false;
    const connection = bench.transport.connectStream(0, { address: '192.0.2.51', port: 5060 });
    let taken = 0;
    while (bench.transport.sendStream(connection, Buffer.alloc(1_000))) taken++;
    assert.equal(taken, 10);
    assert.deepEqual(bench.closed, [{ connection, reason: 'send-queue' }]);
    await finished(bench);
  });

  test('is refused to a name, to port 0, to the other family and above the limit', async () => {
    const bench = await started({ connections: 1 });
    for (const [address, port] of [
      ['example.com', 5060],
      ['192.0.2.50', 0],
      ['192.0.2.50', 70_000],
      ['2001:db8::5', 5060],
    ] as const) {
      assert.equal(bench.transport.connectStream(0, { address, port }), 0);
    }
    await dialled(bench);
    assert.equal(bench.transport.connectStream(0, { address: '192.0.2.50', port: 5060 }), 0);
    assert.equal(bench.closedBy('connection-limit'), 1);
    await finished(bench);
  });
});

describe('the number of connections', () => {
  test('is limited for one source, and opens again at nine tenths', async () => {
    const bench = await started({ connectionsPerSource: 10 });
    const clients: Client[] = [];
    for (let i = 0; i < 12; i++) clients.push(await dialled(bench));
    assert.equal(bench.transport.connections(), 10);
    assert.equal(bench.closedBy('source-limit'), 2);
    assert.ok(clients[11]?.ended());
    // Other sources are not affected.
    await dialled(bench, '192.0.2.10');
    assert.equal(bench.transport.connections(), 11);
    clients[0]?.stream.destroy();
    await bench.network.settle();
    await dialled(bench);
    assert.equal(bench.transport.connections(), 11);
    await finished(bench);
  });

  test('stays limited for one source until it has fallen to nine tenths', async () => {
    const bench = await started({ connectionsPerSource: 20 });
    const clients: Client[] = [];
    for (let i = 0; i < 20; i++) clients.push(await dialled(bench));
    clients[0]?.stream.destroy();
    await bench.network.settle();
    assert.equal(bench.transport.connections(), 19);
    assert.ok((await dialled(bench)).ended());
    clients[1]?.stream.destroy();
    await bench.network.settle();
    assert.equal((await dialled(bench)).ended(), false);
    assert.equal(bench.closedBy('source-limit'), 1);
    await finished(bench);
  });

  test('counts an IPv6 source by /64', async () => {
    const bench = makeBench([tcp('six', '2001:db8::1')], { connectionsPerSource: 2 });
    await bench.transport.start();
    const from = async (address: string): Promise<boolean> => {
      const stream = bench.network.connectTcp({ address: '2001:db8::1', port: 5060 }, { address });
      stream.on('error', () => {}).resume();
      await bench.network.settle();
      return !stream.destroyed;
    };
    assert.deepEqual(
      [await from('2001:db8:0:1::a'), await from('2001:db8:0:1:ffff::b'), await from('2001:db8:0:1::c')],
      [true, true, false],
    );
    assert.equal(await from('2001:db8:0:2::a'), true);
    await finished(bench);
  });

  test('follows a changed limit while it is full', async () => {
    const bench = await started({ connections: 5 });
    for (let i = 0; i < 6; i++) await dialled(bench);
    assert.equal(bench.transport.connections(), 5);
    bench.limits.connections = 20;
    await dialled(bench);
    assert.equal(bench.transport.connections(), 6);
    bench.limits.connections = 6;
    await dialled(bench);
    assert.equal(bench.transport.connections(), 6);
    await finished(bench);
  });

  test('is limited for all sources in the same way', async () => {
    const bench = await started({ connections: 20 });
    const clients: Client[] = [];
    for (let i = 0; i < 22; i++) clients.push(await dialled(bench, `192.0.2.${i}`));
    assert.equal(bench.closedBy('connection-limit'), 2);
    clients[0]?.stream.destroy();
    await bench.network.settle();
    assert.equal(bench.transport.connections(), 19);
    assert.ok((await dialled(bench)).ended());
    clients[1]?.stream.destroy();
    await bench.network.settle();
    assert.equal((await dialled(bench)).ended(), false);
    await finished(bench);
  });
});

describe('the time limit', () => {
  test('for a partial message runs from its first octet, whatever octets follow slowly', async () => {
    const bench = await started({ halfMessageMs: 10_000 });
    const alice = await dialled(bench);
    const text = message();
    for (let second = 0; second < 10; second++) {
      await write(bench, alice, text[second]!);
      assert.equal(alice.ended(), false);
      await bench.clock.pass(1_000, 1_000);
    }
    await bench.network.settle();
    assert.ok(alice.ended());
    assert.equal(bench.closedBy('half-message'), 1);
    await finished(bench);
  });

  test('for a partial message starts again with each message', async () => {
    const bench = await started({ halfMessageMs: 10_000 });
    const alice = await dialled(bench);
    await write(bench, alice, message('one').slice(0, 20));
    await bench.clock.pass(9_000, 1_000);
    await write(bench, alice, message('one').slice(20) + message('two').slice(0, 20));
    await bench.clock.pass(9_000, 1_000);
    assert.equal(alice.ended(), false);
    await write(bench, alice, message('two').slice(20));
    await bench.clock.pass(60_000, 1_000);
    assert.equal(alice.ended(), false);
    assert.equal(bench.packets.length, 2);
    await finished(bench);
  });

  test('closes a connection that never sends anything', async () => {
    const bench = await started({ silentMs: 30_000 });
    const silent = await dialled(bench);
    const alive = await dialled(bench);
    await write(bench, alive, '\r\n\r\n');
    await bench.clock.pass(30_000, 1_000);
    await bench.network.settle();
    assert.deepEqual([silent.ended(), alive.ended()], [true, false]);
    assert.equal(bench.closedBy('silent'), 1);
    await finished(bench);
  });

  test('closes an idle connection; traffic in either direction keeps it open', async () => {
    const bench = await started({ idleMs: 100_000 });
    const idle = await dialled(bench);
    const asking = await dialled(bench);
    const asked = await dialled(bench);
    for (const client of [idle, asking, asked]) await write(bench, client, message());
    const connection = bench.packets[2]!.connection;
    await bench.clock.pass(60_000, 10_000);
    await write(bench, asking, '\r\n\r\n');
    bench.transport.sendStream(connection, Buffer.from('NOTIFY'));
    await bench.clock.pass(50_000, 10_000);
    await bench.network.settle();
    assert.deepEqual([idle.ended(), asking.ended(), asked.ended()], [true, false, false]);
    assert.equal(bench.closedBy('idle'), 1);
    await finished(bench);
  });
});

describe('the memory', () => {
  test('for 10,000 partial messages is limited and counted, and the sweep closes all of them', async () => {
    const limits = { connections: 20_000, connectionsPerSource: 20_000, bufferedBytes: 4 * 1024 * 1024 };
    const bench = await started(limits);
    const half = message('half', 'x'.repeat(2_000)).slice(0, 900);
    let largest = 0;
    for (let i = 0; i < 10_000; i++) {
      dial(bench).stream.write(half);
      if (i % 500 === 499) {
        await bench.network.settle();
        largest = Math.max(largest, bench.transport.bufferedBytes());
      }
    }
    await bench.network.settle();
    assert.ok(largest > 0 && largest <= limits.bufferedBytes, `${largest} octets`);
    const shed = bench.closedBy('buffered-bytes');
    assert.ok(shed > 0);
    assert.equal(bench.transport.connections(), 10_000 - shed);
    bench.clock.advance(11_000);
    assert.equal(bench.transport.connections(), 0);
    assert.equal(bench.transport.bufferedBytes(), 0);
    assert.equal(bench.closedBy('half-message'), 10_000 - shed);
    assert.equal(bench.packets.length, 0);
    await bench.network.settle();
    await finished(bench);
  });

  test('for one large partial message costs that connection and no other', async () => {
    const bench = await started({ bufferedBytes: 40_000 });
    const small = await dialled(bench);
    await write(bench, small, message('small').slice(0, 100));
    const large = await dialled(bench);
    const text = message('large', 'x'.repeat(60_000));
    for (let at = 0; at < 50_000; at += 5_000) await write(bench, large, text.slice(at, at + 5_000));
    assert.deepEqual([small.ended(), large.ended()], [false, true]);
    assert.equal(bench.closedBy('buffered-bytes'), 1);
    await write(bench, small, message('small').slice(100));
    assert.equal(bench.packets.length, 1);
    assert.equal(bench.transport.bufferedBytes(), 0);
    await finished(bench);
  });

  test('for a closing connection is not counted, and that connection is not closed twice', async () => {
    const bench = await started({ bufferedBytes: 8_000 });
    const broken = bench.network.connectTcp(SERVER, { address: '192.0.2.9' });
    broken.on('error', () => {});
    bench.onFault = (packet) => {
      bench.transport.sendStream(packet.connection, Buffer.alloc(300_000));
    };
    const text = message('broken').replace('Content-Length: 0', `Subject: ${'x'.repeat(4_000)}\r\nContent-Length: +`);
    for (const at of [0, 4_000]) {
      broken.write(text.slice(at, at + 4_000));
      await bench.network.settle();
    }
    assert.deepEqual([bench.closedBy('framing'), bench.transport.bufferedBytes()], [1, 0]);
    // Each is smaller than the share of the closing one, which would otherwise be closed first.
    for (let i = 0; i < 3; i++) {
      await write(bench, await dialled(bench), message('other', 'x'.repeat(20_000)).slice(0, 3_000));
    }
    assert.equal(bench.transport.connections(), 3);
    assert.equal(bench.closedBy('buffered-bytes'), 1);
    await finished(bench);
  });

  test('for a slow reader is limited by closing its connection', async () => {
    const bench = await started({ sendQueueBytes: 100_000 });
    const stream = bench.network.connectTcp(SERVER, { address: '192.0.2.9' });
    stream.on('error', () => {});
    stream.write(message());
    await bench.network.settle();
    const connection = bench.packets[0]!.connection;
    let sent = 0;
    while (sent < 1_000 && bench.transport.sendStream(connection, Buffer.alloc(1_000))) {
      sent++;
      if (sent % 50 === 0) await bench.network.settle();
    }
    assert.ok(sent >= 100 && sent < 1_000, `${sent}`);
    assert.deepEqual(bench.closed, [{ connection, reason: 'send-queue' }]);
    assert.equal(bench.transport.connections(), 0);
    await finished(bench);
  });

  test('for all slow readers together is limited by closing the longest queue first', async () => {
    const bench = await started({ sendQueueBytes: 1_000_000, sendQueueTotalBytes: 300_000 });
    const connections: number[] = [];
    for (const octets of [50_000, 400_000]) {
      const stream = bench.network.connectTcp(SERVER, { address: '192.0.2.9' });
      stream.on('error', () => {});
      stream.write(message());
      await bench.network.settle();
      const { connection } = bench.packets.at(-1)!;
      connections.push(connection);
      bench.transport.sendStream(connection, Buffer.alloc(octets));
    }
    bench.clock.advance(1_000);
    assert.deepEqual(bench.closed, [{ connection: connections[1], reason: 'send-queue' }]);
    await finished(bench);
  });
});

test('a connection that is closed while its message is handled loses no message of other connections', async () => {
  const bench = await started({ sendQueueBytes: 10 });
  const alice = await dialled(bench);
  const bob = await dialled(bench);
  bench.onPacket = (packet) => {
    if (bench.packets.length > 1) return;
    // The second send exceeds the limit and destroys the connection that is being read.
    bench.transport.sendStream(packet.connection, Buffer.alloc(20));
    bench.transport.sendStream(packet.connection, Buffer.alloc(20));
  };
  await write(bench, alice, message('one') + message('two') + message('three').slice(0, 30));
  assert.equal(bench.packets.length, 1);
  assert.equal(bench.transport.bufferedBytes(), 0);
  await write(bench, bob, message('four'));
  assert.equal(bench.packets.length, 2);
  await finished(bench);
});

test('a stop reports each connection once', async () => {
  const bench = await started();
  for (let i = 0; i < 3; i++) await dialled(bench);
  await finished(bench);
  assert.deepEqual(
    bench.closed.map(({ reason }) => reason),
    ['stop', 'stop', 'stop'],
  );
  assert.equal(bench.closedBy('stop'), 3);
});
