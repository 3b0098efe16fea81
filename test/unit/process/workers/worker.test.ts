// A worker in this process: a real member on loopback, whose host is the test.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { describe, type TestContext, test } from 'node:test';
import type { Answer } from '../../../../src/admin/admin-server.ts';
import type { HostMessage, WorkerMessage } from '../../../../src/process/workers/messages.ts';
import { type HostChannel, processChannel, runWorker } from '../../../../src/process/workers/worker.ts';
import { OwnSignals } from './own-signals.ts';

/** An address of this file alone. */
const ADDRESS = '127.0.58.1';
const ENVIRONMENT = { SIPFARM_KEY: 'ab'.repeat(32) };
const FILE = `farm: lab
member: fe1
weight: 100
rampSeconds: 0
store: { kind: memory }
transport: { batch: off }
listeners: [{ name: edge, transport: udp, bind: "${ADDRESS}:5060" }]
keys: ["\${SIPFARM_KEY}"]
relay: { bind: "${ADDRESS}:0" }
service: { kind: answer }
log: { level: silent }
`;
const LIMIT = { timeout: 30_000 };

type Kind = WorkerMessage['kind'];
type Sent<K extends Kind> = Extract<WorkerMessage, { readonly kind: K }>;

class FakeHost implements HostChannel {
  readonly sent: WorkerMessage[] = [];
  #take: (message: HostMessage) => void = () => {};
  #lost = (): void => {};
  #changed = Promise.withResolvers<void>();
  #asked = 0;

  async send(message: WorkerMessage): Promise<void> {
    this.sent.push(message);
    this.#changed.resolve();
  }

  onMessage(take: (message: HostMessage) => void): void {
    this.#take = take;
  }

  onLost(run: () => void): void {
    this.#lost = run;
  }

  say(message: HostMessage): void {
    this.#take(message);
  }

  lose(): void {
    this.#lost();
  }

  /** Resolves to the next message of this kind that the worker has not sent yet. */
  async next<K extends Kind>(kind: K): Promise<Sent<K>> {
    for (let from = this.sent.length; ; ) {
      this.#changed = Promise.withResolvers();
      await this.#changed.promise;
      for (; from < this.sent.length; from++) if (this.sent[from]!.kind === kind) return this.sent[from] as Sent<K>;
    }
  }

  start(text = FILE, reloaded: string | null = null): void {
    this.say({ kind: 'start', index: 0, file: 'x.yaml', text, reloaded });
  }

  async ask(url: string): Promise<Answer | null> {
    const id = ++this.#asked;
    const answer = this.next('answer');
    this.say({ kind: 'ask', id, question: { method: 'GET', url } });
    const message = await answer;
    assert.equal(message.id, id);
    return message.answer;
  }

  async ready(): Promise<boolean> {
    const pong = this.next('pong');
    this.say({ kind: 'ping' });
    return (await pong).ready;
  }
}

/** Runs a worker; the test ends it in any case. */
function run(t: TestContext): { readonly host: FakeHost; readonly ended: Promise<boolean> } {
  const host = new FakeHost();
  const ended = runWorker(host, '1.2.3', ENVIRONMENT);
  t.after(async () => {
    host.lose();
    await ended;
  });
  return { host, ended };
}

async function started(t: TestContext, ...file: Parameters<FakeHost['start']>) {
  const worker = run(t);
  const message = worker.host.next('started');
  worker.host.start(...file);
  await message;
  return worker;
}

const kinds = (host: FakeHost): Kind[] => host.sent.map(({ kind }) => kind);

/** Resolves when the view has the member with this weight. A change of the view takes some turns. */
async function hasWeight(host: FakeHost, weight: number): Promise<void> {
  for (;;) {
    const { body } = (await host.ask('/v1/members'))!;
    if ((JSON.parse(body) as { members: { weight: number }[] }).members[0]?.weight === weight) return;
    await new Promise(setImmediate);
  }
}

describe('a worker that has started', LIMIT, () => {
  test('answers pings and requests as the member that it is among the workers of its host', async (t) => {
    const { host } = await started(t);
    assert.equal(await host.ready(), true);
    const { status, body } = (await host.ask('/v1/farm'))!;
    assert.deepEqual([status, (JSON.parse(body) as { member: string }).member], [200, 'fe1.0']);
    assert.equal((await host.ask('/v1/nothing'))?.status, 404);
  });

  test('applies a new file, and keeps its settings when the file is wrong', async (t) => {
    const { host } = await started(t);
    for (const [text, weight] of [
      [FILE.replace('weight: 100', 'weight: 7'), 7],
      [FILE.replace('weight: 100', 'weight: much'), 7],
      [FILE, 100],
    ] as const) {
      const reloaded = host.next('reloaded');
      host.say({ kind: 'reload', text });
      await reloaded;
      await hasWeight(host, weight);
    }
  });

  test('has the settings of the last reload, when that was before its start', async (t) => {
    const { host } = await started(t, FILE, FILE.replace('weight: 100', 'weight: 7'));
    await hasWeight(host, 7);
  });

  for (const [title, end] of [
    ['drains without calls', (host: FakeHost) => host.say({ kind: 'drain' })],
    ['is quit', (host: FakeHost) => host.say({ kind: 'quit' })],
    ['loses its host', (host: FakeHost) => host.lose()],
  ] as const)
    test(`ends well when it ${title}`, async (t) => {
      const { host, ended } = await started(t);
      end(host);
      assert.equal(await ended, true);
      assert.deepEqual(kinds(host), ['started']);
    });
});

describe('a worker that has not started', LIMIT, () => {
  test('is not ready and has no answers', async (t) => {
    const { host } = run(t);
    assert.equal(await host.ready(), false);
    assert.equal(await host.ask('/v1/farm'), null);
  });

  test('ends well without a message when its host is gone', async (t) => {
    const { host, ended } = run(t);
    host.lose();
    assert.equal(await ended, true);
    assert.deepEqual(host.sent, []);
  });

  test('reports a file that is wrong, and ends', async (t) => {
    const { host, ended } = run(t);
    host.start(FILE.replace('weight: 100', 'weight: much'));
    assert.equal(await ended, false);
    assert.deepEqual(
      host.sent.map((message) => message.kind === 'failed' && message.code),
      ['SF_CONFIG_INVALID'],
    );
  });

  test('reports an address that is taken, and ends', async (t) => {
    const other = dgram.createSocket('udp4').bind(0, ADDRESS);
    t.after(() => other.close());
    await once(other, 'listening');
    const { host, ended } = run(t);
    host.start(
      FILE.replace(`relay: { bind: "${ADDRESS}:0" }`, `relay: { bind: "${ADDRESS}:${other.address().port}" }`),
    );
    assert.equal(await ended, false);
    assert.deepEqual(
      host.sent.map((message) => message.kind === 'failed' && message.code),
      ['SF_BIND_FAILED'],
    );
  });
});

test(
  'a signal to all processes of a terminal does not end a worker, and SIGTERM to it alone drains it',
  LIMIT,
  async (t) => {
    const signals = new OwnSignals();
    const { host, ended } = await started(t);
    for (const signal of ['SIGINT', 'SIGHUP'] as const) signals.send(signal);
    assert.equal(await host.ready(), true);
    signals.send('SIGTERM');
    assert.equal(await ended, true);
    assert.deepEqual(signals.left, []);
  },
);

test('a process that was not forked has no channel to a host', () => {
  assert.throws(processChannel, { code: 'SF_USAGE' });
});
