// The connections of a member: found by id and by remote endpoint, limited in number, time and octets.
import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import type { Endpoint } from '../../../src/base/endpoint.ts';
import { NO_GUARD } from '../../../src/base/guard.ts';
import type { ByteStream } from '../../../src/base/network.ts';
import { type Cell, CellFamily, cellsBy } from '../../../src/metrics/counters.ts';
import { CLASS_NAMES, PacketClass } from '../../../src/transport/classify.ts';
import { CLOSE_REASONS, type CloseReason } from '../../../src/transport/close-reason.ts';
import { ConnectionTable } from '../../../src/transport/connection-table.ts';
import { DEFAULT_LIMITS, type TransportLimits } from '../../../src/transport/limits.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork, type FakeStream } from '../../fake/network.ts';
import { message, type Seen, see, VIP } from './bench.ts';

const SERVER = { address: VIP, port: 5060 };

/** A started table behind one TCP port, with a record of its calls. */
class Rig {
  readonly clock = new FakeClock();
  readonly network = new FakeNetwork({ clock: this.clock });
  readonly table: ConnectionTable;
  /** Writable during a test. */
  readonly limits: { -readonly [Field in keyof TransportLimits]: TransportLimits[Field] };
  readonly packets: Seen[] = [];
  readonly faults: { readonly fault: string; readonly packet: Seen }[] = [];
  readonly closed: { readonly connection: number; readonly reason: string }[] = [];
  readonly unsent: string[] = [];
  readonly received: readonly Cell[] = CLASS_NAMES.map(() => ({ n: 0 }));
  onPacket: (connection: number) => void = () => {};
  onFault: (connection: number) => void = () => {};
  readonly #closed = new CellFamily({ name: 'closed_connections_total', help: '', labels: ['reason'] });

  constructor(limits: Partial<TransportLimits> = {}) {
    this.limits = { ...DEFAULT_LIMITS, ...limits };
    this.table = new ConnectionTable({
      clock: this.clock,
      limits: this.limits,
      self: { member: 7, incarnation: 3 },
      onPacket: (packet) => {
        this.packets.push(see(packet));
        this.onPacket(packet.connection);
      },
      onFault: (packet, fault) => {
        this.faults.push({ fault, packet: see(packet) });
        this.onFault(packet.connection);
      },
      onFlowClosed: (connection, reason) => this.closed.push({ connection, reason }),
      onUnsent: (message) => this.unsent.push(message.toString('latin1')),
      guard: NO_GUARD,
      received: [this.received],
      proxies: [undefined],
      stages: [[]],
      closed: cellsBy(this.#closed, 'reason', Object.keys(CLOSE_REASONS) as CloseReason[]),
    });
    this.table.start();
  }

  async listen(at = SERVER): Promise<this> {
    await this.network.listenTcp(at, (stream) => this.table.accept(0, stream), { halfOpen: true });
    return this;
  }

  /** Returns the number of connections that were closed or refused for this reason. */
  closedBy(reason: CloseReason): number {
    return this.#closed.cell({ reason }).n;
  }

  /** Returns the connection from this table to `remote`. */
  connect(remote: Endpoint): number {
    return this.table.connect(this.network, 0, remote, VIP);
  }
}

const started = (limits: Partial<TransportLimits> = {}): Promise<Rig> => new Rig(limits).listen();

interface Client {
  readonly stream: FakeStream;
  /** Returns all octets that it has received. */
  text(): string;
  ended(): boolean;
}

function dial(rig: Rig, address = '192.0.2.9'): Client {
  const stream = rig.network.connectTcp(SERVER, { address });
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

async function dialled(rig: Rig, address?: string): Promise<Client> {
  const client = dial(rig, address);
  await rig.network.settle();
  return client;
}

async function write(rig: Rig, client: Client, text: string): Promise<void> {
  client.stream.write(Buffer.from(text, 'latin1'));
  await rig.network.settle();
}

/** Checks at the end of each test that no resource and no timer is left. */
async function finished(rig: Rig): Promise<void> {
  rig.table.stop();
  await rig.network.settle();
  assert.equal(rig.table.size, 0);
  assert.equal(rig.table.bufferedBytes, 0);
  assert.equal(rig.clock.timers, 0);
}

describe('an accepted connection', () => {
  test('delivers its messages in order, with source, local address and one id', async () => {
    const rig = await started();
    const alice = await dialled(rig);
    await write(rig, alice, message('one') + message('two', 'body').slice(0, 50));
    await write(rig, alice, message('two', 'body').slice(50) + message('three'));
    assert.deepEqual(
      rig.packets.map((packet) => packet.text),
      [message('one'), message('two', 'body'), message('three')],
    );
    const [first] = rig.packets;
    assert.deepEqual([first?.from, first?.to], [`192.0.2.9 ${alice.stream.localPort}`, `${VIP} 5060`]);
    assert.deepEqual([first?.listener, first?.member], [0, 7]);
    assert.ok(first!.connection > 0);
    assert.equal(new Set(rig.packets.map(({ connection }) => connection)).size, 1);
    assert.equal(rig.received[PacketClass.sip]!.n, 3);
    await finished(rig);
  });

  test('has an id that no other table of the process uses', async () => {
    const one = await started();
    const two = await started();
    for (const rig of [one, two]) await write(rig, await dialled(rig), message());
    assert.notEqual(one.packets[0]?.connection, two.packets[0]?.connection);
    await finished(one);
    await finished(two);
  });

  test('is reported as closed once when the other side closes it, and sends nothing more', async () => {
    const rig = await started();
    const alice = await dialled(rig);
    await write(rig, alice, message('done', '', 'ACK'));
    const connection = rig.packets[0]!.connection;
    alice.stream.end();
    await rig.network.settle();
    assert.deepEqual(rig.closed, [{ connection, reason: 'peer' }]);
    assert.equal(rig.table.send(connection, Buffer.from('late')), false);
    assert.equal(rig.table.size, 0);
    assert.equal(rig.closedBy('peer'), 1);
    await finished(rig);
    assert.equal(rig.closed.length, 1);
  });

  test('that a call has used stays, and its client keeps it; one without a call moves on', async () => {
    const rig = await started();
    const [alice, bob] = [await dialled(rig), await dialled(rig)];
    await write(rig, alice, message('call'));
    await write(rig, bob, message('presence', '', 'SUBSCRIBE'));
    const [called, idle] = rig.packets.map(({ connection }) => connection) as [number, number];
    for (const connection of [called, idle]) rig.table.moveOn(connection);
    await rig.network.settle();
    assert.deepEqual([alice.ended(), bob.ended()], [false, true]);
    assert.deepEqual(rig.closed, [{ connection: idle, reason: 'moved-on' }]);
    assert.deepEqual([rig.table.holds(called), rig.table.holds(idle)], [true, false]);
    await finished(rig);
  });

  test('counts messages, pings and garbage, and passes a framing fault on with its octets and its source', async () => {
    const rig = await started();
    const alice = await dialled(rig);
    const broken = message('broken').replace('Content-Length: 0', 'Content-Length: +5');
    await write(rig, alice, `${message('one')}\r\n\r\n\r\n\r\n${message('two')}${broken}hello`);
    assert.deepEqual(
      rig.faults.map(({ fault, packet }) => [fault, packet.text, packet.from]),
      [['bad-length', broken, `192.0.2.9 ${alice.stream.localPort}`]],
    );
    const counts = CLASS_NAMES.map((name, kind) => [name, rig.received[kind]!.n]);
    assert.deepEqual(Object.fromEntries(counts), { sip: 2, keepalive: 2, stun: 0, garbage: 1 });
    await finished(rig);
  });

  test('whose client has closed it before it is handed in is counted, and takes no place', async () => {
    const rig = new Rig();
    const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
    rig.table.accept(0, stream);
    assert.ok(stream.destroyed);
    assert.deepEqual([rig.closedBy('peer'), rig.table.size, rig.closed], [1, 0, []]);
    await finished(rig);
  });

  test('that is closed while one of its messages is handled loses no message of other connections', async () => {
    const rig = await started({ sendQueueBytes: 10 });
    const alice = await dialled(rig);
    const bob = await dialled(rig);
    rig.onPacket = (connection) => {
      if (rig.packets.length > 1) return;
      // The second send exceeds the limit and destroys the connection that is being read.
      rig.table.send(connection, Buffer.alloc(20));
      rig.table.send(connection, Buffer.alloc(20));
    };
    await write(rig, alice, message('one') + message('two') + message('three').slice(0, 30));
    assert.equal(rig.packets.length, 1);
    assert.equal(rig.table.bufferedBytes, 0);
    await write(rig, bob, message('four'));
    assert.equal(rig.packets.length, 2);
    await finished(rig);
  });
});

describe('an outgoing connection', () => {
  async function withServer(limits: Partial<TransportLimits> = {}) {
    const rig = await started(limits);
    const accepted: { readonly stream: ByteStream; text: string }[] = [];
    await rig.network.listenTcp({ address: '192.0.2.50', port: 5060 }, (stream) => {
      const peer = { stream, text: '' };
      accepted.push(peer);
      stream.on('error', () => {});
      stream.on('data', (chunk: Buffer) => {
        peer.text += chunk.toString('latin1');
      });
    });
    return { rig, accepted, remote: { address: '192.0.2.50', port: 5060 } };
  }

  test("accepts messages before it is open, uses the listener's address, and is used again", async () => {
    const { rig, accepted, remote } = await withServer();
    const connection = rig.connect(remote);
    assert.ok(rig.table.send(connection, Buffer.from('one ')));
    assert.equal(rig.connect(remote), connection);
    assert.ok(rig.table.send(connection, Buffer.from('two')));
    await rig.network.settle();
    assert.equal(rig.connect(remote), connection);
    assert.equal(accepted.length, 1);
    assert.equal(accepted[0]?.text, 'one two');
    assert.equal(accepted[0]?.stream.remoteAddress, VIP);
    accepted[0]?.stream.write(message('back'));
    await rig.network.settle();
    assert.deepEqual([rig.packets[0]?.from, rig.packets[0]?.connection], ['192.0.2.50 5060', connection]);
    await finished(rig);
  });

  test('that is closed before it is open sends its waiting messages first', async () => {
    const { rig, accepted, remote } = await withServer();
    const connection = rig.connect(remote);
    assert.ok(rig.table.send(connection, Buffer.from('waits')));
    rig.table.moveAllOn();
    await rig.network.settle();
    assert.equal(accepted[0]?.text, 'waits');
    assert.deepEqual(rig.closed, [{ connection, reason: 'moved-on' }]);
    assert.deepEqual(rig.unsent, []);
    assert.equal(rig.table.size, 0);
    await finished(rig);
  });

  test('is opened even if the remote has connected here, because that connection expects no requests', async () => {
    const rig = await started();
    const alice = await dialled(rig);
    await write(rig, alice, message());
    const remote = { address: '192.0.2.9', port: alice.stream.localPort };
    assert.notEqual(rig.connect(remote), rig.packets[0]?.connection);
    await finished(rig);
  });

  test('is opened again after the old one has closed', async () => {
    const { rig, accepted, remote } = await withServer();
    const first = rig.connect(remote);
    await rig.network.settle();
    accepted[0]?.stream.destroy();
    await rig.network.settle();
    const second = rig.connect(remote);
    assert.notEqual(second, first);
    assert.deepEqual(rig.closed, [{ connection: first, reason: 'peer' }]);
    await finished(rig);
  });

  test('that is refused is reported as failed, and its waiting messages are returned', async () => {
    const rig = await started();
    const connection = rig.connect({ address: '192.0.2.51', port: 5060 });
    assert.ok(rig.table.send(connection, Buffer.from('lost')));
    await rig.network.settle();
    assert.deepEqual(rig.closed, [{ connection, reason: 'connect-failed' }]);
    assert.equal(rig.table.send(connection, Buffer.from('more')), false);
    assert.deepEqual(rig.unsent, ['lost']);
    await finished(rig);
  });
});

describe('the number of connections', () => {
  test('is limited for one source, and opens again at nine tenths', async () => {
    const rig = await started({ connectionsPerSource: 10 });
    const clients: Client[] = [];
    for (let i = 0; i < 12; i++) clients.push(await dialled(rig));
    assert.equal(rig.table.size, 10);
    assert.equal(rig.closedBy('source-limit'), 2);
    assert.ok(clients[11]?.ended());
    // Other sources are not affected.
    await dialled(rig, '192.0.2.10');
    assert.equal(rig.table.size, 11);
    clients[0]?.stream.destroy();
    await rig.network.settle();
    await dialled(rig);
    assert.equal(rig.table.size, 11);
    await finished(rig);
  });

  test('stays limited for one source until it has fallen to nine tenths', async () => {
    const rig = await started({ connectionsPerSource: 20 });
    const clients: Client[] = [];
    for (let i = 0; i < 20; i++) clients.push(await dialled(rig));
    clients[0]?.stream.destroy();
    await rig.network.settle();
    assert.equal(rig.table.size, 19);
    assert.ok((await dialled(rig)).ended());
    clients[1]?.stream.destroy();
    await rig.network.settle();
    assert.equal((await dialled(rig)).ended(), false);
    assert.equal(rig.closedBy('source-limit'), 1);
    await finished(rig);
  });

  test('counts an IPv6 source by /64', async () => {
    const rig = await new Rig({ connectionsPerSource: 2 }).listen({ address: '2001:db8::1', port: 5060 });
    const from = async (address: string): Promise<boolean> => {
      const stream = rig.network.connectTcp({ address: '2001:db8::1', port: 5060 }, { address });
      stream.on('error', () => {}).resume();
      await rig.network.settle();
      return !stream.destroyed;
    };
    assert.deepEqual(
      [await from('2001:db8:0:1::a'), await from('2001:db8:0:1:ffff::b'), await from('2001:db8:0:1::c')],
      [true, true, false],
    );
    assert.equal(await from('2001:db8:0:2::a'), true);
    await finished(rig);
  });

  test('follows a changed limit while it is full', async () => {
    const rig = await started({ connections: 5 });
    for (let i = 0; i < 6; i++) await dialled(rig);
    assert.equal(rig.table.size, 5);
    rig.limits.connections = 20;
    await dialled(rig);
    assert.equal(rig.table.size, 6);
    rig.limits.connections = 6;
    await dialled(rig);
    assert.equal(rig.table.size, 6);
    await finished(rig);
  });

  test('limits outgoing connections, too: the next one is refused', async () => {
    const rig = await started({ connections: 1 });
    await dialled(rig);
    assert.equal(rig.connect({ address: '192.0.2.50', port: 5060 }), 0);
    assert.equal(rig.closedBy('connection-limit'), 1);
    await finished(rig);
  });

  test('is limited for all sources in the same way', async () => {
    const rig = await started({ connections: 20 });
    const clients: Client[] = [];
    for (let i = 0; i < 22; i++) clients.push(await dialled(rig, `192.0.2.${i}`));
    assert.equal(rig.closedBy('connection-limit'), 2);
    clients[0]?.stream.destroy();
    await rig.network.settle();
    assert.equal(rig.table.size, 19);
    assert.ok((await dialled(rig)).ended());
    clients[1]?.stream.destroy();
    await rig.network.settle();
    assert.equal((await dialled(rig)).ended(), false);
    await finished(rig);
  });

  test('includes a client that has shut its sending half, until it is closed', async () => {
    const rig = await started({ connectionsPerSource: 10 });
    const halves: Client[] = [];
    for (let i = 0; i < 10; i++) {
      const client = await dialled(rig);
      await write(rig, client, message(`${i}`, '', 'OPTIONS'));
      client.stream.end();
      halves.push(client);
    }
    await rig.network.settle();
    assert.equal(rig.table.size, 10);
    assert.ok((await dialled(rig)).ended());
    assert.equal(rig.closedBy('source-limit'), 1);
    rig.clock.advance(32_000);
    await rig.network.settle();
    assert.equal(rig.table.size, 0);
    assert.equal((await dialled(rig)).ended(), false);
    await finished(rig);
  });
});

describe('the memory', () => {
  test('for 10,000 partial messages is limited and counted, and the sweep closes all of them', async () => {
    const limits = { connections: 20_000, connectionsPerSource: 20_000, bufferedBytes: 4 * 1024 * 1024 };
    const rig = await started(limits);
    const half = message('half', 'x'.repeat(2_000)).slice(0, 900);
    let largest = 0;
    for (let i = 0; i < 10_000; i++) {
      dial(rig).stream.write(half);
      if (i % 500 === 499) {
        await rig.network.settle();
        largest = Math.max(largest, rig.table.bufferedBytes);
      }
    }
    await rig.network.settle();
    assert.ok(largest > 0 && largest <= limits.bufferedBytes, `${largest} octets`);
    const shed = rig.closedBy('buffered-bytes');
    assert.ok(shed > 0);
    assert.equal(rig.table.size, 10_000 - shed);
    rig.clock.advance(11_000);
    assert.equal(rig.table.size, 0);
    assert.equal(rig.table.bufferedBytes, 0);
    assert.equal(rig.closedBy('half-message'), 10_000 - shed);
    assert.equal(rig.packets.length, 0);
    await rig.network.settle();
    await finished(rig);
  });

  test('for one large partial message costs that connection and no other', async () => {
    const rig = await started({ bufferedBytes: 40_000 });
    const small = await dialled(rig);
    await write(rig, small, message('small').slice(0, 100));
    const large = await dialled(rig);
    const text = message('large', 'x'.repeat(60_000));
    for (let at = 0; at < 50_000; at += 5_000) await write(rig, large, text.slice(at, at + 5_000));
    assert.deepEqual([small.ended(), large.ended()], [false, true]);
    assert.equal(rig.closedBy('buffered-bytes'), 1);
    await write(rig, small, message('small').slice(100));
    assert.equal(rig.packets.length, 1);
    assert.equal(rig.table.bufferedBytes, 0);
    await finished(rig);
  });

  test('for a closing connection is not counted, and that connection is not closed twice', async () => {
    const rig = await started({ bufferedBytes: 8_000 });
    const broken = rig.network.connectTcp(SERVER, { address: '192.0.2.9' });
    broken.on('error', () => {});
    rig.onFault = (connection) => {
      rig.table.send(connection, Buffer.alloc(300_000));
    };
    const text = message('broken').replace('Content-Length: 0', `Subject: ${'x'.repeat(4_000)}\r\nContent-Length: +`);
    for (const at of [0, 4_000]) {
      broken.write(text.slice(at, at + 4_000));
      await rig.network.settle();
    }
    assert.deepEqual([rig.closedBy('framing'), rig.table.bufferedBytes], [1, 0]);
    // Each is smaller than the share of the closing one, which would otherwise be closed first.
    for (let i = 0; i < 3; i++) {
      await write(rig, await dialled(rig), message('other', 'x'.repeat(20_000)).slice(0, 3_000));
    }
    assert.equal(rig.table.size, 3);
    assert.equal(rig.closedBy('buffered-bytes'), 1);
    await finished(rig);
  });

  test('for a slow reader is limited by closing its connection', async () => {
    const rig = await started({ sendQueueBytes: 100_000 });
    const stream = rig.network.connectTcp(SERVER, { address: '192.0.2.9' });
    stream.on('error', () => {});
    stream.write(message());
    await rig.network.settle();
    const connection = rig.packets[0]!.connection;
    let sent = 0;
    while (sent < 1_000 && rig.table.send(connection, Buffer.alloc(1_000))) {
      sent++;
      if (sent % 50 === 0) await rig.network.settle();
    }
    assert.ok(sent >= 100 && sent < 1_000, `${sent}`);
    assert.deepEqual(rig.closed, [{ connection, reason: 'send-queue' }]);
    assert.equal(rig.table.size, 0);
    await finished(rig);
  });

  test('for all slow readers together is limited by closing the longest queue first', async () => {
    const rig = await started({ sendQueueBytes: 1_000_000, sendQueueTotalBytes: 300_000 });
    const connections: number[] = [];
    for (const octets of [50_000, 400_000]) {
      const stream = rig.network.connectTcp(SERVER, { address: '192.0.2.9' });
      stream.on('error', () => {});
      stream.write(message());
      await rig.network.settle();
      const { connection } = rig.packets.at(-1)!;
      connections.push(connection);
      rig.table.send(connection, Buffer.alloc(octets));
    }
    rig.clock.advance(1_000);
    assert.deepEqual(rig.closed, [{ connection: connections[1], reason: 'send-queue' }]);
    await finished(rig);
  });
});

test('a stop reports each connection once', async () => {
  const rig = await started();
  for (let i = 0; i < 3; i++) await dialled(rig);
  await finished(rig);
  assert.deepEqual(
    rig.closed.map(({ reason }) => reason),
    ['stop', 'stop', 'stop'],
  );
  assert.equal(rig.closedBy('stop'), 3);
});
