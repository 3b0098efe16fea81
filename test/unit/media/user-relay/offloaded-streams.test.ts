// Streams of the relay in user space whose packets go into the kernel: packets in, and paths of a kernel that the test
// controls.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { formatEndpoint } from '../../../../src/base/endpoint.ts';
import type { KernelPath } from '../../../../src/media/kernel/kernel-path.ts';
import type { AddRefusal, PathHandle } from '../../../../src/media/kernel/kernel-paths.ts';
import { type RelayStream, Side } from '../../../../src/media/media-relay.ts';
import { Offload } from '../../../../src/media/offload.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { AUDIO, CLIENT, INSIDE, OUTSIDE, openCall, type RelayRig, relayRig, rtcp, rtp, SERVER } from './relay-rig.ts';

const { outside, inside } = Side;
/** Shorter than the time between two closings of sockets, so that the thread need not close them. */
const REST_MS = 500;
const CLIENTS = `${CLIENT}:4000 > ${OUTSIDE}:20000, ${INSIDE}:30000 > ${SERVER}:5000`;
const SERVERS = `${SERVER}:5000 > ${INSIDE}:30000, ${OUTSIDE}:20000 > ${CLIENT}:4000`;

interface Path {
  readonly text: string;
  readonly counts: { packets: number; octets: number };
  readonly fail: (reason: string) => void;
  readonly stopped: PromiseWithResolvers<void>;
  readonly final: PromiseWithResolvers<void>;
  isRemoved: boolean;
}

/** Paths of a kernel whose transactions end when the test ends them. */
class FakePaths {
  readonly all: Path[] = [];
  refusal: AddRefusal | undefined;
  tries = 0;

  add = ({ from, at, by, to }: KernelPath, fail: (reason: string) => void): PathHandle | AddRefusal => {
    this.tries++;
    if (this.refusal) return this.refusal;
    const [there, back] = [
      [from, at],
      [by, to],
    ].map((pair) => pair.map(formatEndpoint).join(' > '));
    const path: Path = {
      text: `${there}, ${back}`,
      counts: { packets: 0, octets: 0 },
      fail,
      stopped: Promise.withResolvers<void>(),
      final: Promise.withResolvers<void>(),
      isRemoved: false,
    };
    this.all.push(path);
    const remove = (): Promise<void> => {
      path.isRemoved = true;
      return path.stopped.promise;
    };
    return { counts: path.counts, final: path.final.promise, remove };
  };

  /** Paths in the kernel, in order. */
  get texts(): string[] {
    return this.all.filter(({ isRemoved }) => !isRemoved).map(({ text }) => text);
  }

  /** Ends the transactions of the removed paths. */
  async change(): Promise<void> {
    for (const { isRemoved, stopped } of this.all) if (isRemoved) stopped.resolve();
    await turn();
  }
}

interface Rig extends RelayRig {
  readonly paths: FakePaths;
  readonly offload: Offload;
  /** Sends RTP from a port of the client, or of the server. */
  readonly client: (sequence: number, port?: number, to?: number) => void;
  readonly server: (sequence: number) => void;
  readonly tick: (ms?: number) => void;
  /** Opens a call whose parties both have sent. */
  readonly call: () => RelayStream;
}

async function rig(): Promise<Rig> {
  const paths = new FakePaths();
  const clock = new FakeClock();
  const offload = new Offload(paths, clock);
  const made = await relayRig({ offload, clock, restMs: REST_MS });
  const { system, thread, relay } = made;
  const deliver = (from: string, to: string, sequence: number): void => {
    system.deliver(from, to, rtp(sequence));
    thread.run();
  };
  const client = (sequence: number, port = 4000, to = 20_000): void =>
    deliver(`${CLIENT} ${port}`, `${OUTSIDE} ${to}`, sequence);
  const server = (sequence: number): void => deliver(`${SERVER} 5000`, `${INSIDE} 30000`, sequence);
  const tick = (ms = 200): void => clock.advance(ms);
  const call = (): RelayStream => {
    const stream = openCall(relay);
    client(1);
    server(1);
    tick();
    return stream;
  };
  return { ...made, paths, offload, client, server, tick, call };
}

const place = (port: number) => ({ rtp: { address: CLIENT, port, signalling: '' }, rtcp: undefined });

describe('the RTP of a stream', () => {
  test('goes into the kernel both ways once both parties are locked, and RTCP does not', async () => {
    const { paths, relay, system, thread, client, server, tick } = await rig();
    const stream = openCall(relay);
    client(1);
    system.deliver(`${SERVER} 5001`, `${INSIDE} 30001`, rtcp(0, 0));
    system.deliver(`${CLIENT} 4001`, `${OUTSIDE} 20001`, rtcp(0, 0));
    thread.run();
    tick();
    assert.deepEqual([paths.texts, stream.statistics(inside).latched, relay.wayOf(20_000)], [[], false, 'user']);
    server(1);
    tick();
    assert.deepEqual(
      [paths.texts, relay.wayOf(20_000), relay.wayOf(20_002)],
      [[CLIENTS, SERVERS], 'kernel', undefined],
    );
    openCall(relay);
    assert.deepEqual(relay.ways, { user: 1, kernel: 1 });
  });

  test('comes back before a new offer counts, and goes in again from the new place', async () => {
    const { paths, thread, call, client, tick } = await rig();
    const stream = call();
    stream.expect(outside, place(4444));
    assert.deepEqual(paths.texts, []);
    thread.run();
    assert.equal(stream.statistics(outside).latched, false);
    client(2, 4444);
    tick();
    assert.deepEqual(paths.texts, [], 'the kernel may still forward');
    await paths.change();
    tick();
    assert.deepEqual(paths.texts, [CLIENTS, SERVERS].map((text) => text.replaceAll('4000', '4444')).slice(0, 1));
  });

  test('passes without a gap when it comes back after hours: the source is still locked', async () => {
    const { paths, system, call, client, clock } = await rig();
    const stream = call();
    clock.advance(7_200_000);
    stream.expect(outside, place(4000));
    await paths.change();
    const before = system.sent.length;
    client(2);
    assert.equal(system.sent.length, before + 1);
    assert.equal(stream.statistics(outside).latched, true);
  });

  test('lets no stranger in after a repeated offer, however long the kernel has had it', async () => {
    const { paths, system, thread, call, client, clock } = await rig();
    const stream = call();
    const before = system.sent.length;
    const intrude = (): void => {
      for (let sequence = 1; sequence < 9; sequence++) client(sequence, 4444);
    };
    clock.advance(60_000);
    stream.expect(outside, place(4000));
    clock.advance(60_000);
    intrude();
    assert.equal(system.sent.length, before, 'while the kernel may still forward');
    await paths.change();
    thread.run();
    intrude();
    assert.equal(system.sent.length, before, 'the party has had no time to send here');
    clock.advance(500);
    intrude();
    assert.ok(system.sent.length > before, 'after its silence');
  });

  test('of two joined streams goes from outer leg to outer leg', async () => {
    const { paths, relay, client, tick } = await rig();
    const [one, other] = [openCall(relay), openCall(relay)];
    other.expect(outside, place(4100));
    const { port } = other.ports[outside];
    client(1);
    client(1, 4100, port);
    one.join(other);
    other.join(one);
    tick();
    assert.deepEqual(paths.texts, [
      `${CLIENT}:4000 > ${OUTSIDE}:20000, ${OUTSIDE}:${port} > ${CLIENT}:4100`,
      `${CLIENT}:4100 > ${OUTSIDE}:${port}, ${OUTSIDE}:20000 > ${CLIENT}:4000`,
    ]);
    one.join(undefined);
    assert.equal(paths.texts.length, 1, 'of the stream that goes elsewhere');
    other.close();
    assert.deepEqual(paths.texts, []);
  });

  test('leaves the kernel with its stream, and no path leads to a stream that has ended', async () => {
    const { paths, relay, call, client, tick } = await rig();
    const one = call();
    const other = openCall(relay);
    other.expect(outside, place(4100));
    const { port } = other.ports[outside];
    client(1, 4100, port);
    other.join(one);
    tick();
    assert.equal(paths.texts.length, 3);
    one.close();
    assert.deepEqual(paths.texts, []);
    await paths.change();
    client(2, 4100, port);
    tick(60_000);
    assert.deepEqual([paths.texts, relay.wayOf(20_000)], [[], undefined]);
  });

  test('goes into no path while the thread has not read that a stream has ended, or begun', async () => {
    const { paths, relay, call, client, tick } = await rig();
    const one = call();
    const other = openCall(relay);
    other.expect(outside, place(4100));
    client(1, 4100, other.ports[outside].port);
    other.join(one);
    one.close();
    tick();
    assert.deepEqual(paths.texts, [], 'to the port of the old stream');
    await paths.change();
    tick(REST_MS);
    assert.ok(relay.reopen(AUDIO, one.ports));
    tick();
    assert.deepEqual(paths.texts, [], 'with the sources of the old stream');
  });

  test('is tried again ever later where the kernel cannot take it now, and not at all where it never can', async () => {
    for (const [refusal, tries] of [
      // Two ports at 0.2, 1.2, 3.2 and 7.2 s.
      ['unavailable', 8],
      // Every second.
      ['taken', 22],
      ['loopback', 2],
    ] as const) {
      const { paths, call, client, server, tick } = await rig();
      paths.refusal = refusal;
      call();
      for (let ms = 0; ms < 10_000; ms += 200) {
        client(ms);
        server(ms);
        tick();
      }
      assert.equal(paths.tries, tries, refusal);
    }
  });

  test('goes on in user space when the kernel has failed, and is tried again', async () => {
    const { paths, system, call, client, tick, relay } = await rig();
    call();
    for (const { fail } of paths.all) fail('nft has failed');
    await paths.change();
    const before = system.sent.length;
    client(2);
    assert.deepEqual([system.sent.length, relay.wayOf(20_000)], [before + 1, 'user']);
    tick();
    assert.deepEqual(paths.texts, [CLIENTS]);
  });

  test('leaves the kernel while its party is silent, and goes in again with its packets', async () => {
    const { paths, offload, call, client, tick } = await rig();
    call();
    const read = (packets: number): void => {
      paths.all[0]!.counts.packets = packets;
      offload.counted();
      paths.all[1]!.counts.packets += 100;
      offload.counted();
      tick();
    };
    read(100);
    assert.deepEqual(paths.texts, [CLIENTS, SERVERS]);
    read(100);
    assert.deepEqual(paths.texts, [SERVERS]);
    await paths.change();
    tick(60_000);
    assert.deepEqual(paths.texts, [SERVERS]);
    client(2);
    tick();
    assert.deepEqual(paths.texts, [SERVERS, CLIENTS]);
  });

  test('leaves the kernel when the thread has locked another source', async () => {
    const { paths, thread, call, client, tick, clock } = await rig();
    const stream = call();
    const [first] = paths.all;
    stream.expect(outside, place(4000));
    await paths.change();
    first!.final.resolve();
    client(2);
    tick();
    thread.run();
    assert.equal(paths.texts.length, 1);
    // As if the message of the hold had come too late.
    for (const { stopped } of paths.all) stopped.resolve();
    clock.advance(0);
    stream.expect(outside, place(4555));
    thread.run();
    tick();
    assert.deepEqual(paths.texts, []);
  });

  test('is counted with what the kernel has forwarded, also after the end, and has the time of the last reading', async () => {
    const { paths, offload, call, client, clock } = await rig();
    const stream = call();
    const count = (packets: number): void => {
      Object.assign(paths.all[0]!.counts, { packets, octets: 172 * packets });
      offload.counted();
    };
    clock.advance(5000);
    count(250);
    const { packets, octets, lastAt } = stream.statistics(outside);
    assert.deepEqual([packets, octets, lastAt], [251, 251 * 172, clock.now()]);
    clock.advance(5000);
    count(250);
    assert.equal(stream.statistics(outside).lastAt, lastAt, 'nothing has come since');
    stream.expect(outside, place(4000));
    paths.all[0]!.counts.packets = 260;
    paths.all[0]!.final.resolve();
    await paths.change();
    client(2);
    assert.equal(stream.statistics(outside).packets, 262);
    clock.advance(200);
    stream.close();
    let isFinal = false;
    void stream.final.then(() => {
      isFinal = true;
    });
    await paths.change();
    assert.equal(isFinal, false);
    paths.all.at(-1)!.counts.packets = 7;
    for (const { final } of paths.all) final.resolve();
    await paths.change();
    assert.deepEqual([isFinal, stream.statistics(outside).packets], [true, 269]);
  });
});

test('a stream without an offload stays in user space', async () => {
  const { relay } = await relayRig();
  relay.open(AUDIO);
  assert.deepEqual([relay.wayOf(20_000), relay.ways], ['user', { user: 1, kernel: 0 }]);
});
