// Bad input for a running member: RFC 4475 messages whole, split and mutated, noise, huge datagrams, forged relay
// frames, unfinished connections. Afterwards the member lives, its memory is bounded, counters contain everything, and
// a call works as before.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import type dgram from 'node:dgram';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { keyring } from '../../src/ownership/keyring.ts';
import { encodeFrame, Frame, HEAD_IPV4 } from '../../src/relay/envelope.ts';
import { sumOf } from '../lab/farm.ts';
import { until } from '../lab/until.ts';
import { Place, type Program } from './program.ts';
import { Phone, SipServer, statusOf, udpSocket } from './sip-peers.ts';

const FOLDER = join(import.meta.dirname, '..', 'torture', 'rfc4475');
const TORTURE = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.dat'))
  .sort()
  .map((name) => ({ name: name.slice(0, -4), bytes: readFileSync(join(FOLDER, name)) }));
/** A text in many messages of this file that the member may send only to its SIP server. */
const MARK = 'Zq7mark';
const HALF_OPEN = 10_000;
const SOURCES = 10;
/** Largest payload of a UDP datagram over IPv4. */
const MAX_DATAGRAM = 65_507;
/**
 * Octets by which the member may grow while it has 10,000 partial messages (about 10 KiB of socket each), and those
 * that it may keep afterwards.
 */
const GROWTH = 300 * 1024 * 1024;
const LASTING_GROWTH = 200 * 1024 * 1024;
/** Datagrams sent at once, which must fit in the receive buffer of the system. */
const BATCH = 100;
const LIMIT = { timeout: 240_000 };
/**
 * RFC 4475 messages that the member answers itself. All others go to the SIP server, or are responses or ACKs without
 * an answer.
 */
const ANSWERED = {
  badinv01: 400,
  badvers: 505,
  clerr: 400,
  insuf: 400,
  ltgtruri: 400,
  lwsruri: 400,
  lwsstart: 400,
  mcl01: 400,
  mismatch01: 400,
  mismatch02: 501,
  multi01: 400,
  ncl: 400,
  scalar02: 400,
  trws: 400,
  zeromf: 483,
};
/** Drops of a packet after another verdict, which has counted the packet already. */
const LATER_DROPS = ['rate-limit', 'amplification', 'flow-lost', 'next-via', 'service-busy', 'from-stranger'];

/** Returns a generator of the same numbers in each run (mulberry32). */
function randomness(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function noise(random: () => number, octets: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: octets }, () => Math.floor(random() * 256)));
}

/** Returns the message with some octets changed, a piece removed, or a piece repeated. */
function mutate(random: () => number, bytes: Buffer): Buffer {
  const at = Math.floor(random() * bytes.length);
  const length = Math.floor(random() * 40);
  const kind = random();
  if (kind < 0.3) return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
  if (kind < 0.5) return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
  const changed = Buffer.from(bytes);
  for (let i = 0; i <= length / 8; i++) changed[Math.floor(random() * changed.length)] = Math.floor(random() * 256);
  return changed;
}

/** Returns a request of exactly that many octets. */
function messageOf(octets: number, branch: string): Buffer {
  const head = (length: number): string =>
    [
      `MESSAGE sip:${MARK}@example.org SIP/2.0`,
      `Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK${branch};rport`,
      'Max-Forwards: 70',
      `From: <sip:${MARK}@example.org>;tag=${MARK}`,
      `To: <sip:${MARK}@example.org>`,
      `Call-ID: ${MARK}-${branch}`,
      'CSeq: 1 MESSAGE',
      `Content-Length: ${String(length).padStart(5, '0')}`,
      '\r\n',
    ].join('\r\n');
  const body = octets - head(0).length;
  return Buffer.from(head(body) + 'x'.repeat(body), 'latin1');
}

describe('a member with bad input', LIMIT, () => {
  const here = new Place();
  const { address, client } = here;
  const sources = Array.from({ length: SOURCES }, (_, i) => address.replace(/^127\.\d+/, `127.${130 + i}`));
  let server: SipServer;
  let program: Program;
  let prober: Phone;
  /** Targets of answers without rport: the ports in the Via of the RFC 4475 messages. */
  let listening: dgram.Socket[] = [];
  let heard: Buffer[] = [];
  let atStart = '';
  const children: ChildProcess[] = [];

  before(async () => {
    server = await SipServer.start(address);
    here.write({
      limits: {
        tcpConnections: 20_000,
        tcpConnectionsPerSource: 2 * (HALF_OPEN / SOURCES),
        halfMessageSeconds: 60,
        errorAnswersPerSecond: 100_000,
      },
    });
    program = await here.member({ openFiles: HALF_OPEN + 1000 });
    prober = await Phone.udp(address, client);
    listening = await Promise.all([5060, 5050, 5070].map((port) => udpSocket(client, port)));
    for (const socket of listening) socket.on('message', (bytes) => heard.push(bytes));
    await assertServes();
    atStart = await here.metrics();
  }, LIMIT);
  after(async () => {
    for (const child of children) child.kill('SIGKILL');
    prober?.close();
    for (const socket of listening) socket.close();
    await program?.close();
    await server?.stop();
    here.remove();
  });

  /** Makes a call by UDP and one by TCP, from the INVITE to the answer of the BYE. */
  async function assertServes(): Promise<void> {
    for (const transport of ['udp', 'tcp'] as const) {
      const phone = await Phone[transport](address, client);
      assert.equal(await (await phone.call()).hangUp(), 200, transport);
      phone.close();
    }
    assert.equal((await here.get('/readyz')).status, 200);
  }

  /** Resolves once the member has read all earlier datagrams, and its answers have arrived. */
  async function settled(): Promise<void> {
    assert.equal(await prober.probe(), 200);
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
  }

  function send(bytes: Buffer, port = 5060): Promise<void> {
    const [socket] = listening;
    return new Promise((resolve, reject) => {
      socket!.send(bytes, port, address, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Sends one datagram and returns its answers. */
  async function ask(bytes: Buffer): Promise<Buffer[]> {
    heard = [];
    await send(bytes);
    await settled();
    return heard;
  }

  function assertModest(question: Buffer, answers: readonly Buffer[], what: string): void {
    assert.ok(answers.length <= 1, `${what}: ${answers.length} answers`);
    for (const answer of answers)
      assert.ok(answer.length <= question.length, `${what}: ${answer.length} octets for ${question.length}`);
  }

  /**
   * Sends the parts one after the other on a new connection, ends it, and returns all received octets. Waits until the
   * member has closed it, or, without `closes`, until the member has read everything. An unanswered request keeps its
   * connection open for the answer.
   */
  async function talk(parts: readonly Buffer[], closes = false): Promise<Buffer> {
    const socket = net.connect({ host: address, port: 5060, localAddress: client, noDelay: true });
    const pieces: Buffer[] = [];
    socket.on('data', (piece) => pieces.push(piece));
    socket.on('error', () => {});
    await once(socket, 'connect');
    for (const [i, part] of parts.entries()) {
      // The member has had a turn of its event loop in between, so that the parts arrive separately.
      if (i > 0) await settled();
      await new Promise((written) => socket.write(part, written));
    }
    const closed = once(socket, 'close');
    socket.end();
    if (closes) await closed;
    else {
      // This connection is accepted and read after the one before.
      const behind = await Phone.tcp(address, client);
      assert.equal(await behind.probe(), 200);
      behind.close();
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    }
    socket.destroy();
    return Buffer.concat(pieces);
  }

  /**
   * Runs `work` and asserts that counters contain each datagram and each message that it sent. `work` returns the
   * number of its own datagrams.
   */
  async function counted(
    work: () => Promise<number>,
  ): Promise<(name: string, labels?: Record<string, string>) => number> {
    const before = await here.metrics();
    const probesBefore = prober.sent;
    const own = await work();
    await settled();
    const datagrams = own + prober.sent - probesBefore;
    const after = await here.metrics();
    const grown = (name: string, labels: Record<string, string> = {}): number =>
      sumOf(after, `sipfarm_${name}`, labels) - sumOf(before, `sipfarm_${name}`, labels);
    assert.equal(grown('received_packets_total', { listener: 'edge' }), datagrams, 'datagrams by class');
    const judged =
      grown('received_packets_total', { class: 'sip' }) +
      grown('received_packets_total', { listener: 'edge-tcp', class: 'garbage' });
    const later = LATER_DROPS.reduce((sum, reason) => sum + grown('verdicts_total', { verdict: 'drop', reason }), 0);
    assert.equal(grown('verdicts_total') - later, judged, 'verdicts');
    return grown;
  }

  it('decides on every RFC 4475 message in a datagram, whole or in two, with at most one small answer', async () => {
    const statuses = new Map<string, number>();
    await counted(async () => {
      for (const { name, bytes } of TORTURE) {
        const answers = await ask(bytes);
        assertModest(bytes, answers, name);
        statuses.set(name, statusOf(String(answers[0] ?? '')));
        const middle = bytes.length >> 1;
        for (const half of [bytes.subarray(0, middle), bytes.subarray(middle)])
          assertModest(half, await ask(half), `half of ${name}`);
      }
      return 3 * TORTURE.length;
    });
    assert.deepEqual(Object.fromEntries([...statuses].filter(([, status]) => status > 0)), ANSWERED);
  });

  it('gives the same answers to the messages by TCP, in one piece and in two', async () => {
    const answered: Record<string, number> = {};
    await counted(async () => {
      for (const { name, bytes } of TORTURE) {
        const middle = bytes.length >> 1;
        const whole = await talk([bytes]);
        const split = await talk([bytes.subarray(0, middle), bytes.subarray(middle)]);
        assert.equal(statusOf(String(split)), statusOf(String(whole)), name);
        assert.equal(split.length, whole.length, name);
        if (whole.length > 0) answered[name] = statusOf(String(whole));
      }
      return 0;
    });
    // By TCP the member waits for the body of clerr, and inv2543 lacks the Content-Length that a stream needs.
    const { clerr: _, ...byUdp } = ANSWERED;
    assert.deepEqual(answered, { ...byUdp, inv2543: 400 });
  });

  it('decides on mutated messages, and answers each at most once and with no more octets', async () => {
    const random = randomness(4475);
    await counted(async () => {
      for (let i = 0; i < 1000; i++) {
        const bytes = mutate(random, TORTURE[i % TORTURE.length]!.bytes);
        assertModest(bytes, await ask(bytes), `mutation ${i}: ${bytes.toString('latin1')}`);
      }
      for (let i = 0; i < 200; i++) await talk([mutate(random, TORTURE[i % TORTURE.length]!.bytes)]);
      return 1000;
    });
  });

  it('counts noise by UDP and by TCP', async () => {
    const random = randomness(1);
    const grown = await counted(async () => {
      for (let i = 0; i < 20; i++) {
        await Promise.all(Array.from({ length: BATCH }, () => send(noise(random, 1 + Math.floor(random() * 600)))));
        await settled();
      }
      for (let i = 0; i < 100; i++) await talk([noise(random, 2000)]);
      return 20 * BATCH;
    });
    assert.ok(grown('received_packets_total', { class: 'garbage' }) > 1000);
  });

  it('accepts datagrams of the greatest size, garbage or SIP', async () => {
    const grown = await counted(async () => {
      const random = randomness(2);
      for (const bytes of [
        Buffer.alloc(MAX_DATAGRAM, 1),
        Buffer.alloc(MAX_DATAGRAM, 'A'),
        Buffer.alloc(MAX_DATAGRAM, '\r\n'),
        noise(random, MAX_DATAGRAM),
        messageOf(MAX_DATAGRAM, 'huge'),
        Buffer.concat([messageOf(2000, 'broken').subarray(0, 150), Buffer.alloc(MAX_DATAGRAM - 150, ',;<"\\')]),
      ])
        assertModest(bytes, await ask(bytes), `${bytes.subarray(0, 20)}`);
      return 6;
    });
    // With the farm's headers it no longer fits in a datagram to the SIP server (RFC 3261 21.5.7).
    assert.equal(grown('requests_answered_total', { status: '513' }), 1);
    assert.equal(grown('send_errors_total'), 0);
  });

  it('answers a mebibyte of line ends by no UDP packet and at most one pong per ping by TCP', async () => {
    const MEBIBYTE = 1024 * 1024;
    const grown = await counted(async () => {
      const probe = `OPTIONS sip:${address} SIP/2.0\r\nVia: SIP/2.0/TCP ${client};branch=z9hG4bKlast\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:${address}>\r\nCall-ID: last\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n`;
      const back = await talk([Buffer.alloc(MEBIBYTE, '\r\n'), Buffer.from(probe)], true);
      const pongs = back.indexOf('SIP/2.0 200');
      assert.ok(pongs >= 0, `no answer to the request behind them, ${back.length} octets came back`);
      assert.ok(pongs <= MEBIBYTE / 2, `${pongs} octets of pongs`);
      const datagrams = Math.ceil(MEBIBYTE / MAX_DATAGRAM);
      for (let i = 0; i < datagrams; i++) assert.deepEqual(await ask(Buffer.alloc(MAX_DATAGRAM, '\r\n')), []);
      return datagrams;
    });
    assert.ok(grown('received_packets_total', { listener: 'edge', class: 'keepalive' }) >= 17);
  });

  it('refuses and counts relay frames that are cut at any octet or changed in any octet', async () => {
    const keys = keyring([here.key]);
    const frame = new Frame();
    Object.assign(frame, { sender: 2, senderIncarnation: 1, receiver: 1, hops: 1, ingress: 2, ingressIncarnation: 1 });
    frame.bound = 1;
    Object.assign(frame, {
      epoch: 1,
      sequence: 1,
      address: client,
      port: 5060,
      localAddress: address,
      localPort: 5060,
    });
    const message = messageOf(500, 'frame');
    const room = Buffer.alloc(HEAD_IPV4 + message.length);
    const good = room.subarray(0, encodeFrame(keys, frame, message, 0, message.length, room, 0));

    const shown = await here.sipfarm('decode', good.toString('hex'));
    assert.match(shown.out, /^what +relay frame\nMAC +good$/m);
    const refused = async (reason?: string): Promise<number> =>
      sumOf(await here.metrics(), 'sipfarm_relay_refused_total', reason === undefined ? {} : { reason });
    let sent = await refused();
    const forged = await refused('mac');
    const sendAll = async (frames: readonly Buffer[]): Promise<void> => {
      for (let i = 0; i < frames.length; i += BATCH) {
        const some = frames.slice(i, i + BATCH);
        await Promise.all(some.map((bytes) => send(bytes, 5064)));
        sent += some.length;
        await until(
          async () => (await refused()) >= sent,
          () => `frames were lost uncounted after ${sent}`,
        );
      }
      assert.equal(await refused(), sent);
    };

    // The complete frame is valid, but this member does not have its sender.
    await sendAll([good]);
    assert.equal(await refused('unknown-sender'), 1);
    const cuts = Array.from({ length: good.length }, (_, octets) => good.subarray(0, octets));
    await sendAll(cuts);
    const changed = Array.from({ length: good.length }, (_, at) => {
      const copy = Buffer.from(good);
      copy[at]! ^= 1 << (at % 8);
      return copy;
    });
    await sendAll(changed);
    const macAt = HEAD_IPV4 - 8;
    const wrongMacs = cuts
      .filter((cut) => cut.length > macAt)
      .map((cut) => {
        const copy = Buffer.from(cut);
        copy[macAt]! ^= 0x80;
        return copy;
      });
    await sendAll(wrongMacs);
    assert.equal(await refused('unknown-sender'), 1, 'a changed frame was believed');
    assert.ok((await refused('mac')) - forged > 1000);
    const metrics = await here.metrics();
    assert.equal(sumOf(metrics, 'sipfarm_relayed_packets_total'), 0);
  });

  it('closes connections to the relay link without proof of a farm key', async () => {
    const random = randomness(3);
    const before = sumOf(await here.metrics(), 'sipfarm_relay_refused_total', { reason: 'handshake' });
    for (let i = 0; i < 20; i++) {
      const socket = net.connect({ host: address, port: 5064 });
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write(i % 2 === 0 ? noise(random, 3000) : messageOf(1000, 'tls'));
      socket.resume();
      await once(socket, 'close');
    }
    const after = sumOf(await here.metrics(), 'sipfarm_relay_refused_total', { reason: 'handshake' });
    assert.equal(after - before, 20);
  });

  it('serves calls while it has 10,000 partial messages by TCP, and closes all of them after their time', async (t) => {
    const before = await here.metrics();
    // Connections of earlier tests that still wait for answers.
    const others = sumOf(before, 'sipfarm_tcp_connections');
    const args = [join(import.meta.dirname, 'half-open.ts'), address, '5060', String(HALF_OPEN), ...sources];
    const limit = `ulimit -n ${HALF_OPEN + 1000} 2>/dev/null; exec "$@"`;
    const holder = spawn('sh', ['-c', limit, 'sh', process.execPath, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(holder);
    let said = '';
    holder.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const says = (text: string): Promise<void> =>
      until(
        () => said.includes(text) || holder.exitCode !== null,
        () => `the holder said ${said}, not ${text}`,
        60,
      );
    await says(`{"open":${HALF_OPEN}}`);
    await until(
      async () => sumOf(await here.metrics(), 'sipfarm_tcp_connections') >= HALF_OPEN,
      () => `not all connections are held: ${said}`,
    );
    await assertServes();
    const during = await here.metrics();
    assert.ok(sumOf(during, 'sipfarm_tcp_connections') <= HALF_OPEN + others);
    const growth = sumOf(during, 'process_resident_memory_bytes') - sumOf(atStart, 'process_resident_memory_bytes');
    t.diagnostic(`${HALF_OPEN} half messages: memory grew by ${(growth / 1024 / 1024).toFixed(0)} MiB`);
    assert.ok(growth < GROWTH, `memory grew by ${growth}`);

    here.write({
      limits: {
        tcpConnections: 20_000,
        tcpConnectionsPerSource: 2000,
        halfMessageSeconds: 1,
        errorAnswersPerSecond: 100_000,
      },
    });
    program.kill('SIGHUP');
    await says(`{"closed":${HALF_OPEN}}`);
    const after = await here.metrics();
    const closed = (text: string): number =>
      sumOf(text, 'sipfarm_closed_connections_total', { reason: 'half-message' });
    assert.equal(closed(after) - closed(before), HALF_OPEN);
    assert.ok(sumOf(after, 'sipfarm_tcp_connections') <= others);
  });

  it('closes a connection whose message comes octet by octet and is not complete in time', async () => {
    const before = await here.metrics();
    const socket = net.connect({ host: address, port: 5060, localAddress: client, noDelay: true });
    socket.on('error', () => {});
    await once(socket, 'connect');
    const message = messageOf(60_000, 'slow');
    let at = 0;
    const drip = setInterval(() => socket.write(message.subarray(at, ++at)), 20);
    const back: Buffer[] = [];
    socket.on('data', (piece) => back.push(piece));
    await once(socket, 'close');
    clearInterval(drip);
    assert.equal(Buffer.concat(back).length, 0);
    const closed = (text: string): number =>
      sumOf(text, 'sipfarm_closed_connections_total', { reason: 'half-message' });
    assert.equal(closed(await here.metrics()) - closed(before), 1);
  });

  it('lives afterwards, serves calls, and has grown within the limits', async (t) => {
    assert.ok(!program.isOver, program.tail());
    await assertServes();
    const now = await here.metrics();
    const growth = sumOf(now, 'process_resident_memory_bytes') - sumOf(atStart, 'process_resident_memory_bytes');
    t.diagnostic(`memory grew by ${(growth / 1024 / 1024).toFixed(0)} MiB`);
    assert.ok(growth < LASTING_GROWTH, `memory grew by ${growth}`);
    assert.equal(sumOf(now, 'sipfarm_evicted_calls_total'), 0);
    assert.equal(sumOf(now, 'sipfarm_verdicts_total', { reason: 'internal-error' }), 0);
  });

  it('has no text of the messages in its metrics and its log, and no line per packet', async () => {
    const metrics = await here.metrics();
    const values = [...metrics.matchAll(/[a-zA-Z_]+="((?:[^"\\]|\\.)*)"/g)].map(([, value = '']) => value);
    assert.ok(values.length > 50);
    const strange = values.filter((value) => !/^[a-zA-Z0-9 _.+-]{0,40}$/.test(value));
    assert.deepEqual(strange, []);
    const seriesOf = (text: string): number => text.split('\n').filter((line) => /^sipfarm_/.test(line)).length;
    // Only the statuses of first answers are new series.
    assert.ok(seriesOf(metrics) - seriesOf(atStart) < 30, `${seriesOf(atStart)} series became ${seriesOf(metrics)}`);
    const wrote = program.stdout + program.stderr;
    for (const text of [metrics, wrote])
      for (const word of [MARK, 'example.', '192.0.2.']) assert.ok(!text.includes(word));
    assert.ok(program.log.length < 40, `${program.log.length} lines of log`);
    assert.equal(program.stderr, '');
  });
});
