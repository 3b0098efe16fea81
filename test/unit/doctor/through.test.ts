import assert from 'node:assert/strict';
import { describe, it, type TestContext, test } from 'node:test';
import { systemClock, type Timer } from '../../../src/base/clock.ts';
import type { Endpoint } from '../../../src/base/endpoint.ts';
import { nodeNetwork } from '../../../src/base/network.ts';
import { diagnoseThrough } from '../../../src/doctor/doctor.ts';
import { askThrough, type ThroughFacts } from '../../../src/doctor/through-probe.ts';

const VIP = { address: '198.51.100.1', port: 5060 };
const GOOD: ThroughFacts = {
  to: VIP,
  isLocal: false,
  udp: { short: { sent: 24, answered: 24 }, long: { sent: 24, answered: 24 } },
  tcp: { short: { sent: 6, answered: 6 }, long: { sent: 6, answered: 6 } },
  strangers: [],
};

/**
 * An address of this file alone: a port that UDP has is then also free for TCP, whatever connections from 127.0.0.1
 * use.
 */
const LOOPBACK = '127.0.57.1';

/** The clock of the host, except that a wait for an answer ends only when the test ends it. */
class PatientClock {
  readonly now = systemClock.now;
  readonly wall = systemClock.wall;
  readonly every = systemClock.every;
  #isOver = false;
  readonly #waiting = new Set<() => void>();

  after(ms: number, run: () => void): Timer {
    if (ms < 1000 || this.#isOver) return systemClock.after(this.#isOver ? 1 : ms, run);
    this.#waiting.add(run);
    return { cancel: () => void this.#waiting.delete(run) };
  }

  endPatience(): void {
    this.#isOver = true;
    for (const run of this.#waiting) run();
  }
}

/**
 * A SIP server on loopback, UDP and TCP at one port, that answers requests for which `takes` is true, from another port
 * when `elsewhere`.
 */
async function serve(t: TestContext, takes: (octets: number) => boolean, elsewhere = false): Promise<Endpoint> {
  const local = { address: LOOPBACK, port: 0 };
  const answerTo = (text: string): string => `SIP/2.0 483 Too Many Hops\r\n${/^Call-ID: .*$/m.exec(text)?.[0]}\r\n\r\n`;
  const handlers = { onDatagram: () => {}, onSendError: () => {} };
  const other = await nodeNetwork.bindUdp(local, handlers);
  const socket = await nodeNetwork.bindUdp(local, {
    ...handlers,
    onDatagram: (bytes, address, port) => {
      if (takes(bytes.length))
        (elsewhere ? other : socket).send(Buffer.from(answerTo(bytes.toString())), address, port);
    },
  });
  const server = await nodeNetwork.listenTcp(socket.local, (stream) => {
    let text = '';
    stream.on('error', () => {});
    stream.on('data', (part: Buffer) => {
      text += part.toString();
      const head = text.indexOf('\r\n\r\n') + 4;
      const octets = head + Number(/^Content-Length: (\d+)/m.exec(text)?.[1]);
      if (head < 4 || text.length < octets) return;
      if (takes(octets)) stream.write(answerTo(text));
      text = text.slice(octets);
    });
  });
  t.after(() => Promise.all([socket.close(), other.close(), server.close()]));
  return socket.local;
}

function look(to: Endpoint, clock = new PatientClock()): Promise<ThroughFacts> {
  const routing = { network: nodeNetwork, clock, nonce: 'n', isLocal: () => false };
  return askThrough(routing, to);
}

const named = (facts: ThroughFacts): string[] => diagnoseThrough(facts).map(({ code, about }) => `${code} ${about}`);

test('a farm that answers everything gives no finding', async (t) => {
  const facts = await look(await serve(t, () => true));
  assert.deepEqual({ ...facts, to: VIP }, GOOD);
  assert.deepEqual(named(facts), []);
});

test('long messages are also sent, with 3,000 octets', async (t) => {
  const clock = new PatientClock();
  let long = 0;
  const takes = (octets: number): boolean => {
    if (octets === 3000 && ++long === 24 + 6) clock.endPatience();
    return octets < 3000;
  };
  const facts = await look(await serve(t, takes), clock);
  assert.equal(long, 24 + 6);
  assert.deepEqual([facts.udp.short.answered, facts.udp.long.answered], [24, 0]);
  assert.deepEqual([facts.tcp.short.answered, facts.tcp.long.answered], [6, 0]);
});

test('answers from another address are distinguished from those of the probed address', async (t) => {
  const { strangers, to } = await look(await serve(t, () => true, true));
  assert.equal(strangers.length, 1);
  assert.notEqual(strangers[0], `${LOOPBACK}:${to.port}`);
});

test('an address without a listener gives no answers and no failure', async () => {
  const gone = await nodeNetwork.bindUdp({ address: '127.0.0.1', port: 0 }, { onDatagram() {}, onSendError() {} });
  await gone.close();
  const clock = new PatientClock();
  clock.endPatience();
  const facts = await look(gone.local, clock);
  assert.deepEqual([facts.udp.short.answered, facts.tcp.short.answered], [0, 0]);
});

describe('the finding', () => {
  for (const [given, found] of [
    [{ udp: { ...GOOD.udp, short: { sent: 24, answered: 16 } } }, ['DR_THROUGH_SILENT 198.51.100.1:5060 by UDP']],
    [
      { tcp: { short: { sent: 6, answered: 0 }, long: { sent: 0, answered: 0 } } },
      ['DR_THROUGH_SILENT 198.51.100.1:5060 by TCP'],
    ],
    [{ strangers: ['10.0.0.12:5060'] }, ['DR_THROUGH_SOURCE 198.51.100.1:5060']],
    [{ udp: { ...GOOD.udp, long: { sent: 24, answered: 8 } } }, ['DR_THROUGH_LONG 198.51.100.1:5060 by UDP']],
    [{ tcp: { ...GOOD.tcp, long: { sent: 6, answered: 5 } } }, ['DR_THROUGH_LONG 198.51.100.1:5060 by TCP']],
    [{ isLocal: true, strangers: ['10.0.0.12:5060'] }, ['DR_THROUGH_LOCAL 198.51.100.1:5060']],
  ] as const)
    it(`follows from the answers: ${found}`, () => assert.deepEqual(named({ ...GOOD, ...given }), found));

  it('is no worse for long messages than for short ones', () => {
    const half = { sent: 24, answered: 12 };
    assert.deepEqual(named({ ...GOOD, udp: { short: half, long: half } }), [
      'DR_THROUGH_SILENT 198.51.100.1:5060 by UDP',
    ]);
  });
});
