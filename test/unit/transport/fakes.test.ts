// The fake clock and the fake network, which other tests use.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork, type FakeNetworkOptions } from '../../fake/network.ts';

const ALICE = { address: '192.0.2.1', port: 5060 };
const BOB = { address: '192.0.2.2', port: 5060 };

async function pair(options: Partial<FakeNetworkOptions> = {}) {
  const clock = new FakeClock();
  const network = new FakeNetwork({ clock, ...options });
  const heard: string[] = [];
  const alice = await network.bindUdp(ALICE, { onDatagram() {}, onSendError() {} });
  await network.bindUdp(BOB, { onDatagram: (bytes) => heard.push(bytes.toString()), onSendError() {} });
  const say = async (text: string): Promise<void> => {
    alice.send(Buffer.from(text), BOB.address, BOB.port);
    await network.settle();
  };
  return { clock, network, heard, alice, say };
}

describe('the fake clock', () => {
  test('runs timers in order of time, also timers that were set meanwhile', () => {
    const clock = new FakeClock(0);
    const ran: string[] = [];
    const note = (what: string) => (): void => void ran.push(`${what} ${clock.now()}`);
    clock.after(30, note('late'));
    clock.after(10, () => {
      note('early')();
      clock.after(5, note('nested'));
    });
    const ticks = clock.every(12, note('tick'));
    clock.after(11, note('cancelled')).cancel();
    clock.advance(30);
    ticks.cancel();
    clock.advance(100);
    assert.deepEqual(ran, ['early 10', 'tick 12', 'nested 15', 'tick 24', 'late 30']);
    assert.equal(clock.timers, 0);
    assert.equal(clock.now(), 130);
  });

  test('lets promises run between its steps', async () => {
    const clock = new FakeClock();
    let rounds = 0;
    const again = async (): Promise<void> => {
      await new Promise<void>((resolve) => clock.after(10, resolve));
      if (++rounds < 5) await again();
    };
    const done = again();
    await clock.pass(100);
    await done;
    assert.equal(rounds, 5);
  });
});

describe('the fake network', () => {
  test('reads the octets of a datagram at the end of the turn', async () => {
    const { network, heard, alice } = await pair();
    const scratch = Buffer.from('first');
    alice.send(scratch, BOB.address, BOB.port);
    scratch.write('again');
    await Promise.resolve();
    await network.settle();
    assert.deepEqual(heard, ['again']);
  });

  test('loses and doubles the same datagrams for the same seed', async () => {
    const run = async (seed: number): Promise<readonly string[]> => {
      const { heard, say } = await pair({ seed, loss: 0.3, duplication: 0.3 });
      for (let i = 0; i < 40; i++) await say(`${i}`);
      return heard;
    };
    const first = await run(5);
    assert.deepEqual(await run(5), first);
    assert.notDeepEqual(await run(6), first);
    assert.ok(new Set(first).size < 40);
    assert.ok(new Set(first).size < first.length);
  });

  test('delays by the clock', async () => {
    const { clock, heard, say } = await pair({ delay: { min: 20, max: 40 } });
    await say('x');
    clock.advance(19);
    assert.deepEqual(heard, []);
    clock.advance(21);
    assert.deepEqual(heard, ['x']);
  });

  test('loses datagrams and holds streams while it is cut', async () => {
    const { clock, network, heard, say } = await pair();
    let got = '';
    await network.listenTcp(BOB, (stream) => {
      stream.on('data', (chunk: Buffer) => {
        got += chunk;
      });
    });
    const stream = network.connectTcp(BOB, ALICE);
    await network.settle();
    network.reaches = () => false;
    await say('lost');
    stream.write('held ');
    stream.write('back');
    await network.settle();
    assert.deepEqual([heard, got, network.lost], [[], '', 1]);
    network.reaches = () => true;
    await clock.pass(400, 100);
    await network.settle();
    assert.equal(got, 'held back');
  });

  test('stops reading from a writer whose reader does not read', async () => {
    const { network } = await pair();
    await network.listenTcp(BOB, () => {});
    const stream = network.connectTcp(BOB, ALICE);
    for (let i = 0; i < 10; i++) stream.write(Buffer.alloc(50_000));
    await network.settle();
    assert.ok(stream.writableLength > 100_000);
  });

  test('reports a send error when no socket listens', async () => {
    const { network } = await pair();
    let refused = 0;
    const knock = await network.connectUdp({ address: '192.0.2.3', port: 5060 }, () => {
      refused++;
    });
    knock.probe(Buffer.from('x'));
    const error = await new Promise<Error & { code?: string }>((resolve) => {
      network.connectTcp({ address: '192.0.2.3', port: 5060 }).on('error', resolve);
    });
    assert.equal(error.code, 'ECONNREFUSED');
    await network.settle();
    assert.equal(refused, 1);
  });
});
