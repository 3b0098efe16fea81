// Stages between PROXY header and framer: here records of XORed octets, like those of TLS or WebSocket.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AddressList } from '../../../src/base/address-list.ts';
import type { TransportLimits } from '../../../src/transport/limits.ts';
import type { MakeStage, Stage, StageExit } from '../../../src/transport/stage.ts';
import type { FakeStream } from '../../fake/network.ts';
import { type Bench, makeBench, message, tcp, VIP } from './bench.ts';
import { ENDS, version2 } from './proxy-headers.ts';

const PROXY = '10.0.0.254';
const CLIENT = `${ENDS.client} ${ENDS.clientPort}`;
const KEY = 0x5a;
const HEAD_OCTETS = 2;
const MOST_OCTETS = 1000;

/** Reads records: a length of two octets, then that many octets XORed with KEY. The length 0 is a fault. */
class Records implements Stage {
  readonly ends: string[] = [];
  readonly #exit: StageExit;
  #part: Buffer = Buffer.alloc(0);

  constructor(exit: StageExit) {
    this.#exit = exit;
  }

  get held(): number {
    return this.#part.length;
  }

  take(chunk: Buffer): void {
    let rest: Buffer = this.#part.length === 0 ? chunk : Buffer.concat([this.#part, chunk]);
    this.#part = Buffer.alloc(0);
    while (rest.length >= HEAD_OCTETS) {
      const octets = rest.readUInt16BE();
      if (octets === 0 || octets > MOST_OCTETS) {
        this.#exit.fail('error');
        return;
      }
      if (rest.length < HEAD_OCTETS + octets) break;
      const record = rest.subarray(HEAD_OCTETS, HEAD_OCTETS + octets);
      for (let at = 0; at < octets; at++) record[at]! ^= KEY;
      rest = rest.subarray(HEAD_OCTETS + octets);
      this.#exit.pass(record);
    }
    this.#part = rest;
  }

  ended(reason: string): void {
    this.ends.push(reason);
  }
}

function record(text: string): Buffer {
  const octets = Buffer.from(text, 'latin1').map((octet) => octet ^ KEY);
  return Buffer.concat([Buffer.from([octets.length >> 8, octets.length & 255]), octets]);
}

interface Scene {
  readonly bench: Bench;
  readonly stages: readonly Records[];
  dial(): Promise<{ readonly stream: FakeStream; write(...parts: Buffer[]): Promise<void>; closed(): boolean }>;
}

async function started(limits: Partial<TransportLimits> = {}): Promise<Scene> {
  const stages: Records[] = [];
  const make: MakeStage = (exit) => {
    const stage = new Records(exit);
    stages.push(stage);
    return stage;
  };
  const bench = makeBench([{ ...tcp('edge'), proxyProtocol: 'require', stages: [make] }], limits);
  bench.trusted = new AddressList([PROXY]);
  await bench.transport.start();
  return {
    bench,
    stages,
    async dial() {
      const stream = bench.network.connectTcp({ address: VIP, port: 5060 }, { address: PROXY });
      let closed = false;
      stream.on('error', () => {});
      stream.on('close', () => {
        closed = true;
      });
      stream.resume();
      await bench.network.settle();
      return {
        stream,
        closed: () => closed,
        async write(...parts) {
          stream.write(Buffer.concat(parts));
          await bench.network.settle();
        },
      };
    },
  };
}

/** Checks at the end of each test that no resource and no timer is left. */
async function finished({ bench, stages }: Scene): Promise<void> {
  await bench.transport.stop();
  await bench.network.settle();
  assert.equal(bench.transport.connections(), 0);
  assert.equal(bench.transport.bufferedBytes(), 0);
  assert.equal(bench.clock.timers, 0);
  for (const { ends } of stages) assert.equal(ends.length, 1);
}

const seen = ({ bench }: Scene) => bench.packets.map(({ from, text }) => [from, text]);

describe('a stage between PROXY header and framer', () => {
  test('gives the same messages at every cut, from the client that the header names', async () => {
    const whole = Buffer.concat([version2('tcp'), record(message('one')), record(message('two'))]);
    for (let cut = 1; cut < whole.length; cut += 7) {
      const scene = await started();
      const client = await scene.dial();
      await client.write(Buffer.from(whole.subarray(0, cut)));
      await client.write(Buffer.from(whole.subarray(cut)));
      assert.deepEqual(seen(scene), [
        [CLIENT, message('one')],
        [CLIENT, message('two')],
      ]);
      await finished(scene);
    }
  });

  test('passes parts of a message, which the framer joins', async () => {
    const scene = await started();
    const client = await scene.dial();
    const text = message('parts', 'body');
    await client.write(version2('tcp'), record(text.slice(0, 50)));
    assert.deepEqual(seen(scene), []);
    await client.write(record(text.slice(50)));
    assert.deepEqual(seen(scene), [[CLIENT, text]]);
    await finished(scene);
  });

  test('closes the connection with the reason of the fault; its octets are garbage, and no more follow', async () => {
    const scene = await started();
    const { bench } = scene;
    const client = await scene.dial();
    await client.write(version2('tcp'), record(message('one')), Buffer.from([0, 0]), record(message('two')));
    assert.deepEqual(seen(scene), [[CLIENT, message('one')]]);
    assert.ok(client.closed());
    assert.deepEqual(bench.closed, [{ connection: bench.packets[0]!.connection, reason: 'error' }]);
    assert.deepEqual([bench.closedBy('error'), bench.received('edge', 'garbage')], [1, 1]);
    assert.deepEqual(scene.stages[0]!.ends, ['error']);
    await finished(scene);
  });

  test('passes nothing on once a message has closed the connection', async () => {
    const scene = await started();
    const { bench } = scene;
    bench.onPacket = () => bench.transport.redirectClients();
    const client = await scene.dial();
    await client.write(version2('tcp'), record(message('one')), record(message('two')), Buffer.from([0, 0]));
    assert.deepEqual(seen(scene), [[CLIENT, message('one')]]);
    assert.deepEqual([bench.closedBy('moved-on'), bench.closedBy('error')], [1, 0]);
    await finished(scene);
  });

  test('gets no octet of a connection whose header is refused', async () => {
    const scene = await started();
    const { bench } = scene;
    const client = await scene.dial();
    await client.write(record(message('one')));
    assert.deepEqual([seen(scene), client.closed(), bench.closedBy('proxy-header')], [[], true, 1]);
    assert.equal(scene.stages[0]!.held, 0);
    await finished(scene);
  });
});

describe('the octets that a stage holds', () => {
  test('count with those of half messages, and the connection that holds most loses it', async () => {
    const scene = await started({ bufferedBytes: 900 });
    const { bench } = scene;
    const [small, large] = [await scene.dial(), await scene.dial()];
    await small.write(version2('tcp'), record(message('small')).subarray(0, 100));
    assert.equal(bench.transport.bufferedBytes(), 100);
    await large.write(version2('tcp'), record('x'.repeat(990)).subarray(0, 850));
    assert.deepEqual([small.closed(), large.closed(), bench.closedBy('buffered-bytes')], [false, true, 1]);
    assert.equal(bench.transport.bufferedBytes(), 100);
    await small.write(record(message('small')).subarray(100));
    assert.deepEqual(seen(scene), [[CLIENT, message('small')]]);
    assert.equal(bench.transport.bufferedBytes(), 0);
    await finished(scene);
  });

  test('are held no longer than a half message, whatever octets follow slowly', async () => {
    const scene = await started({ halfMessageMs: 10_000 });
    const { bench } = scene;
    const client = await scene.dial();
    await client.write(version2('tcp'), record(message('one')));
    await client.write(record(message('two')).subarray(0, 20));
    for (let second = 0; second < 9; second++) {
      bench.clock.advance(1000);
      await client.write(Buffer.from('x'));
    }
    assert.equal(client.closed(), false);
    bench.clock.advance(2000);
    await bench.network.settle();
    assert.deepEqual([client.closed(), bench.closedBy('half-message')], [true, 1]);
    await finished(scene);
  });

  test('may remain in part for as long as whole records are passed on', async () => {
    const scene = await started({ halfMessageMs: 10_000 });
    const { bench } = scene;
    const client = await scene.dial();
    const bytes = record(message('one'));
    await client.write(version2('tcp'), bytes.subarray(0, 5));
    for (let second = 0; second < 20; second++) {
      bench.clock.advance(1000);
      await client.write(bytes.subarray(5), bytes.subarray(0, 5));
    }
    assert.deepEqual([client.closed(), bench.packets.length], [false, 20]);
    await finished(scene);
  });

  test('count as a half message from its first octet, when the framer holds them', async () => {
    const scene = await started({ halfMessageMs: 10_000 });
    const client = await scene.dial();
    await client.write(version2('tcp'), record('INV'), record('ITE'));
    scene.bench.clock.advance(9000);
    assert.equal(client.closed(), false);
    scene.bench.clock.advance(2000);
    await scene.bench.network.settle();
    assert.deepEqual([client.closed(), scene.bench.closedBy('half-message')], [true, 1]);
    await finished(scene);
  });
});
