// The relay in user space with its real thread, over real sockets.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { systemClock } from '../../../src/base/clock.ts';
import { NO_GUARD } from '../../../src/base/guard.ts';
import { type RelayStream, Side, type StreamOptions } from '../../../src/media/media-relay.ts';
import { UserRelay, type UserRelayOptions } from '../../../src/media/user-relay/user-relay.ts';
import { until } from '../../fake/until.ts';
import { skip } from '../batch/networks.ts';

const { outside, inside } = Side;
const AUDIO: StreamOptions = { clear: true, single: false, facing: Side.inside, ofNewCall: true };
const OUTSIDE = '127.0.59.1';
const INSIDE = '127.0.59.2';

/** Resources that the tests of this file have opened. */
const opened: { stop(): unknown }[] = [];
after(() => Promise.all(opened.map((each) => each.stop())));

async function makeRelay(changes: Partial<UserRelayOptions> = {}): Promise<UserRelay> {
  const relay = await UserRelay.start({
    sides: [
      { address: OUTSIDE, first: 20_000, last: 20_999 },
      { address: INSIDE, first: 20_000, last: 20_999 },
    ],
    own: [],
    dscp: 46,
    restMs: 60_000,
    reservedPairs: 0,
    clock: systemClock,
    log: pino({ enabled: false }),
    guard: NO_GUARD,
    onFailure(error) {
      throw error;
    },
    ...changes,
  });
  opened.push(relay);
  return relay;
}

/** A party with one socket, which records what comes as `text from address port`. */
class Party {
  readonly socket: dgram.Socket;
  readonly received: string[] = [];

  static async at(address: string): Promise<Party> {
    const party = new Party(dgram.createSocket(address.includes(':') ? 'udp6' : 'udp4'));
    party.socket.bind(0, address);
    await once(party.socket, 'listening');
    opened.push({ stop: () => party.socket.close() });
    return party;
  }

  private constructor(socket: dgram.Socket) {
    this.socket = socket;
    socket.on('message', (bytes, { address, port }) =>
      this.received.push(`${bytes.toString('hex')} ${address} ${port}`),
    );
  }

  get place() {
    const { address, port } = this.socket.address();
    return { rtp: { address, port, signalling: '' }, rtcp: { address, port, signalling: '' } };
  }

  send(bytes: Buffer, address: string, port: number): void {
    this.socket.send(bytes, port, address);
  }
}

function rtp(sequence: number): Buffer {
  const bytes = Buffer.alloc(172);
  bytes[0] = 0x80;
  bytes.writeUInt16BE(sequence, 2);
  return bytes;
}

const hex = (bytes: Buffer, address: string, port: number): string => `${bytes.toString('hex')} ${address} ${port}`;
const SEQUENCE = Array.from({ length: 50 }, (_, i) => rtp(i + 1));

async function call(relay: UserRelay, client: Party, server: Party, options: Partial<StreamOptions> = {}) {
  const stream = relay.open({ ...AUDIO, ...options })!;
  stream.expect(outside, client.place);
  stream.expect(inside, server.place);
  return stream;
}

/** Sends a packet and waits until it has come through: all messages and packets before have been handled. */
async function pass(relay: UserRelay, stream: RelayStream, from: Party, to: Party, side: Side): Promise<void> {
  const known = to.received.length;
  from.send(rtp(9999), side === outside ? OUTSIDE : INSIDE, stream.ports[side].port);
  await until(() => to.received.length > known || relay.total('late') > 0);
}

describe('the relay in user space', { skip }, () => {
  test('sends the packets of both parties on in order, from its own ports', async () => {
    const relay = await makeRelay();
    const [client, server] = [await Party.at('127.0.59.3'), await Party.at('127.0.59.4')];
    const stream = await call(relay, client, server);
    const [{ port }, { port: insidePort }] = stream.ports;
    for (const bytes of SEQUENCE) {
      client.send(bytes, OUTSIDE, port);
      server.send(bytes, INSIDE, insidePort);
    }
    await until(() => client.received.length === 50 && server.received.length === 50);
    assert.deepEqual(
      server.received,
      SEQUENCE.map((bytes) => hex(bytes, INSIDE, insidePort)),
    );
    assert.deepEqual(
      client.received,
      SEQUENCE.map((bytes) => hex(bytes, OUTSIDE, port)),
    );
    const { packets, octets, lastAt } = stream.statistics(outside);
    assert.deepEqual([packets, octets], [50, 50 * 172]);
    assert.ok(lastAt > 0 && lastAt <= systemClock.now());
  });

  test('does not let a stranger in, and counts its packets', async () => {
    const relay = await makeRelay();
    const [client, server] = [await Party.at('127.0.59.3'), await Party.at('127.0.59.4')];
    const strangers = [await Party.at('127.0.59.3'), await Party.at('127.0.59.5')];
    const stream = await call(relay, client, server);
    await pass(relay, stream, client, server, outside);
    for (const bytes of SEQUENCE) for (const each of strangers) each.send(bytes, OUTSIDE, stream.ports[outside].port);
    await until(() => stream.statistics(outside).foreign === 100);
    await pass(relay, stream, server, client, inside);
    assert.deepEqual([server.received.length, client.received.length], [1, 1]);
    assert.deepEqual(
      strangers.map(({ received }) => received),
      [[], []],
    );
  });

  test('sends STUN, DTLS and SRTP on unread', async () => {
    const relay = await makeRelay();
    const [client, server] = [await Party.at('127.0.59.3'), await Party.at('127.0.59.4')];
    const stream = await call(relay, client, server, { clear: false, single: true });
    const opaque = [
      Buffer.from('000100002112a442000102030405060708090a0b', 'hex'),
      Buffer.from('16fefd0000000000000000000101ff', 'hex'),
      Buffer.concat([rtp(1), Buffer.alloc(10, 0xab)]),
    ];
    for (const bytes of opaque) client.send(bytes, OUTSIDE, stream.ports[outside].port);
    await until(() => server.received.length === 3);
    assert.deepEqual(
      server.received,
      opaque.map((bytes) => hex(bytes, INSIDE, stream.ports[inside].port)),
    );
  });

  test('carries RTCP beside RTP and with it, and reads its reports', async () => {
    const relay = await makeRelay();
    const [client, server] = [await Party.at('127.0.59.3'), await Party.at('127.0.59.4')];
    const stream = await call(relay, client, server);
    const report = Buffer.alloc(32);
    report.writeUInt32BE(0x81c9_0007, 0);
    report.writeUInt32BE(7, 12);
    report.writeUInt32BE(160, 20);
    client.send(report, OUTSIDE, stream.ports[outside].rtcpPort);
    await until(() => server.received.length === 1);
    assert.equal(server.received[0], hex(report, INSIDE, stream.ports[inside].rtcpPort));
    const { lost, jitter } = stream.statistics(outside);
    assert.deepEqual([lost, jitter], [7, 160]);
    stream.mux();
    client.send(report, OUTSIDE, stream.ports[outside].rtcpPort);
    await until(() => server.received.length === 2);
    assert.equal(server.received[1], hex(report, INSIDE, stream.ports[inside].port));
  });

  test('joins IPv6 outside and IPv4 inside', async () => {
    const relay = await makeRelay({
      sides: [
        { address: '::1', first: 20_000, last: 20_999 },
        { address: INSIDE, first: 20_000, last: 20_999 },
      ],
    });
    const [client, server] = [await Party.at('::1'), await Party.at('127.0.59.4')];
    const stream = await call(relay, client, server);
    for (const bytes of SEQUENCE.slice(0, 5)) {
      client.send(bytes, '::1', stream.ports[outside].port);
      server.send(bytes, INSIDE, stream.ports[inside].port);
    }
    await until(() => client.received.length === 5 && server.received.length === 5);
    assert.equal(client.received[4], hex(rtp(5), '::1', stream.ports[outside].port));
    assert.equal(server.received[4], hex(rtp(5), INSIDE, stream.ports[inside].port));
  });

  test('sends the packets of joined clients from outer leg to outer leg, until they are parted', async () => {
    const relay = await makeRelay();
    const [alice, bob, server] = [await Party.at(OUTSIDE), await Party.at(OUTSIDE), await Party.at(INSIDE)];
    const [one, other] = [await call(relay, alice, server), await call(relay, bob, server)];
    one.join(other);
    other.join(one);
    await pass(relay, one, alice, bob, outside);
    await pass(relay, other, bob, alice, outside);
    assert.deepEqual(bob.received, [hex(rtp(9999), OUTSIDE, other.ports[outside].port)]);
    assert.deepEqual(alice.received, [hex(rtp(9999), OUTSIDE, one.ports[outside].port)]);
    one.join(undefined);
    await pass(relay, one, alice, server, outside);
    assert.deepEqual(server.received, [hex(rtp(9999), INSIDE, one.ports[inside].port)]);
    assert.equal(bob.received.length, 1);
  });

  test('has both legs at the outside address for a client that is called by another one there', async () => {
    const relay = await makeRelay();
    const [alice, bob] = [await Party.at(OUTSIDE), await Party.at(OUTSIDE)];
    const stream = await call(relay, bob, alice, { facing: outside });
    await pass(relay, stream, bob, alice, outside);
    assert.deepEqual(alice.received, [hex(rtp(9999), OUTSIDE, stream.ports[inside].port)]);
    assert.equal(relay.ports(outside).used, 4);
  });

  test('counts late packets of a stream that has ended, and sends none on', async () => {
    const relay = await makeRelay();
    const [client, server] = [await Party.at('127.0.59.3'), await Party.at('127.0.59.4')];
    const stream = await call(relay, client, server);
    await pass(relay, stream, client, server, outside);
    stream.close();
    await until(async () => {
      client.send(rtp(3), OUTSIDE, stream.ports[outside].port);
      return relay.total('late') > 0;
    });
    const { length } = server.received;
    await pass(relay, await call(relay, client, server), server, client, inside);
    assert.equal(server.received.length, length);
  });

  test('skips the ports of another program', async () => {
    const taken = dgram.createSocket('udp4');
    taken.bind(21_002, OUTSIDE);
    await once(taken, 'listening');
    opened.push({ stop: () => taken.close() });
    const relay = await makeRelay({
      sides: [
        { address: OUTSIDE, first: 21_000, last: 21_005 },
        { address: INSIDE, first: 21_000, last: 21_005 },
      ],
    });
    const ports = [relay.open(AUDIO), relay.open(AUDIO), relay.open(AUDIO)].map((each) => each?.ports[outside].port);
    assert.deepEqual(ports.toSorted(), [21_000, 21_004, undefined]);
    assert.equal(relay.ports(outside).foreign, 1);
  });

  test('closes its sockets and ends its thread when it stops', async () => {
    const relay = await makeRelay();
    const { port } = relay.open(AUDIO)!.ports[outside];
    await relay.stop();
    const socket = dgram.createSocket('udp4');
    socket.bind(port, OUTSIDE);
    await once(socket, 'listening');
    socket.close();
    assert.equal(relay.open(AUDIO), undefined);
  });

  test('does not keep a process alive, nor from its end', async () => {
    const file = path.resolve(import.meta.dirname, '../../../src/media/user-relay/user-relay.ts');
    for (const end of ['', 'process.exit(0)']) {
      const program = `import(${JSON.stringify(file)}).then(async ({ UserRelay }) => {
        const side = { address: '127.0.59.6', first: 20000, last: 20999 };
        const clock = { now: () => performance.now(), every: () => ({ cancel() {} }) };
        const relay = await UserRelay.start({ sides: [side, side], own: [], restMs: 1, reservedPairs: 0, clock });
        console.log(relay.open({ clear: true, single: false, facing: 1, ofNewCall: true }).ports.length);
        ${end}
      })`;
      const { stdout } = await promisify(execFile)(process.execPath, ['-e', program], {
        timeout: 30_000,
      });
      assert.equal(stdout, '2\n');
    }
  });
});
