// One worker process as its host manages it: start, pings, requests, death and restart.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { makeLog } from '../../../../src/base/log.ts';
import type { HostMessage } from '../../../../src/process/workers/messages.ts';
import { PING_MS, WorkerProcess } from '../../../../src/process/workers/worker-process.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { FakeChild } from './fake-worker.ts';

const START: HostMessage = { kind: 'start', index: 1, file: 'x.yaml', text: 'text', reloaded: null };
const FARM = { method: 'GET', url: '/v1/farm' } as const;
const PATIENCE = 2000;

function setUp({ awake = true } = {}) {
  const clock = new FakeClock();
  const children: FakeChild[] = [];
  /** States at each call of onChange. */
  const changes: string[] = [];
  const worker: WorkerProcess = new WorkerProcess({
    index: 1,
    id: 'fe1.1',
    clock,
    log: makeLog({ level: 'silent' }),
    fork: (index, handlers) => {
      const child = new FakeChild(index, 100 + children.length, handlers);
      child.awake = awake;
      children.push(child);
      return child;
    },
    startMessage: () => START,
    onChange: () => void changes.push(worker.state),
    onStart: () => {},
  });
  worker.start();
  const last = (): FakeChild => children.at(-1)!;
  /** Sends this many pings. */
  const ping = (count = 1): void => {
    for (let k = 0; k < count; k++) {
      clock.advance(PING_MS);
      worker.ping();
    }
  };
  return { clock, children, changes, worker, last, ping };
}

describe('a worker', () => {
  test('gets the file as its first message, and is started when it reports so', () => {
    const { worker, last, changes } = setUp();
    assert.deepEqual([worker.state, worker.pid, worker.starts, last().told], ['starting', 100, 1, [START]]);
    last().say({ kind: 'started' });
    assert.deepEqual([worker.state, changes], ['started', ['started']]);
  });

  test('is ready as its last answer to a ping reports, and not after its death', () => {
    const { worker, last, ping } = setUp();
    last().say({ kind: 'started' });
    assert.equal(worker.ready, false);
    ping();
    assert.equal(worker.ready, true);
    last().ready = false;
    ping();
    assert.equal(worker.ready, false);
    last().ready = true;
    ping();
    last().end('SIGKILL');
    assert.equal(worker.ready, false);
  });

  for (const [title, heard, unanswered] of [
    ['has 15 seconds', true, 15],
    ['has a minute before its first message, because it loads the program', false, 60],
  ] as const)
    test(`${title} to answer a ping, and is then killed`, () => {
      const { worker, last, ping } = setUp({ awake: false });
      if (heard) last().say({ kind: 'started' });
      ping(unanswered - 1);
      assert.equal(worker.answers, true);
      ping();
      assert.deepEqual([worker.answers, last().signals], [false, []]);
      ping();
      assert.deepEqual(last().signals, ['SIGKILL']);
      assert.equal(worker.answers, true, 'there is no process that could answer');
    });

  test('answers again after any message, not only after a pong', () => {
    const { worker, last, ping } = setUp({ awake: false });
    last().say({ kind: 'started' });
    ping(15);
    last().say({ kind: 'reloaded' });
    assert.equal(worker.answers, true);
    ping(15);
    assert.deepEqual(last().signals, []);
  });

  test('gets no ping while it has no process', () => {
    const { children, ping, last } = setUp();
    last().end('SIGKILL');
    ping();
    assert.equal(children[0]!.told.filter(({ kind }) => kind === 'ping').length, 0);
  });
});

describe('a dead worker', () => {
  test('starts again at once after half a minute of life, and after ever longer pauses when it dies young', () => {
    const { clock, children, worker, last } = setUp();
    last().say({ kind: 'started' });
    clock.advance(30_000);
    last().end('SIGSEGV');
    assert.equal(worker.state, 'waiting');
    clock.advance(0);
    assert.equal(children.length, 2);
    for (const pause of [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      last().say({ kind: 'started' });
      last().end('SIGSEGV');
      const before: number = children.length;
      clock.advance(pause - 1);
      assert.equal(children.length, before, `${pause} ms are not over`);
      clock.advance(1);
      assert.equal(children.length, before + 1);
    }
    assert.equal(worker.starts, children.length);
  });

  test('has short pauses again after a long life', () => {
    const { clock, children, last } = setUp();
    for (const pause of [500, 1000]) {
      last().end('SIGSEGV');
      clock.advance(pause);
    }
    clock.advance(30_000);
    last().end('SIGSEGV');
    clock.advance(0);
    last().end('SIGSEGV');
    clock.advance(500);
    assert.equal(children.length, 5);
  });

  for (const [title, before, code] of [
    [
      'its own reason when it could not start',
      [{ kind: 'failed', code: 'SF_BIND_FAILED', message: 'taken' }],
      'SF_BIND_FAILED',
    ],
    ['a reason of its host when it died before it had started', [], 'SF_WORKER_DIED'],
    ['no reason when it had started', [{ kind: 'started' }], undefined],
  ] as const)
    test(`has ${title}`, () => {
      const { worker, last } = setUp();
      for (const message of before) last().say(message);
      last().end('SIGABRT');
      assert.deepEqual([worker.state, worker.failure?.code], ['waiting', code]);
    });

  test('keeps the reason until it has started again', () => {
    const { clock, worker, last } = setUp();
    last().end('SIGABRT');
    clock.advance(500);
    assert.deepEqual([worker.state, worker.failure?.code], ['starting', 'SF_WORKER_DIED']);
    last().say({ kind: 'started' });
    assert.equal(worker.failure, undefined);
  });
});

describe('the end', () => {
  for (const how of ['drain', 'quit'] as const) {
    test(`by ${how} reaches the process, which is not started again`, () => {
      const { clock, children, worker, last } = setUp();
      worker.end(how);
      assert.deepEqual([last().orders.at(-1), worker.state], [how, 'starting']);
      last().end();
      assert.equal(worker.state, 'ended');
      assert.deepEqual([children.length, clock.timers], [1, 0]);
    });

    test(`by ${how} is at once for a worker that waits for its restart`, () => {
      const { clock, changes, worker, last } = setUp();
      last().end('SIGKILL');
      worker.end(how);
      assert.deepEqual([worker.state, changes.at(-1), clock.timers], ['ended', 'ended', 0]);
    });
  }

  test('of a worker that was ended gives no reason', () => {
    const { worker, last } = setUp();
    worker.end('quit');
    last().end('SIGKILL');
    assert.equal(worker.failure, undefined);
  });
});

describe('a request', () => {
  test('gets the answer with its own number, in any order', async () => {
    const { worker, last } = setUp({ awake: false });
    const asked = [worker.ask(FARM, PATIENCE), worker.ask(FARM, PATIENCE)];
    const ids = last().told.flatMap((message) => (message.kind === 'ask' ? [message.id] : []));
    const answer = (body: string) => ({ status: 200, type: 'application/json', body });
    last().say({ kind: 'answer', id: ids[1]!, answer: answer('second') });
    last().say({ kind: 'answer', id: ids[0]!, answer: answer('first') });
    assert.deepEqual(
      (await Promise.all(asked)).map((one) => one?.body),
      ['first', 'second'],
    );
  });

  test('has no answer after its time, and a late answer is ignored', async () => {
    const { clock, worker, last } = setUp({ awake: false });
    const asked = worker.ask(FARM, PATIENCE);
    clock.advance(PATIENCE);
    assert.equal(await asked, null);
    last().say({ kind: 'answer', id: 1, answer: { status: 200, type: 'text/plain', body: 'late' } });
    assert.equal(clock.timers, 0);
  });

  test('has no answer from a worker that dies, that cannot answer, or that is dead', { timeout: 10_000 }, async () => {
    const { worker, last } = setUp({ awake: false });
    const cannot = worker.ask(FARM, PATIENCE);
    last().say({ kind: 'answer', id: 1, answer: null });
    assert.equal(await cannot, null);
    const open = worker.ask(FARM, PATIENCE);
    last().end('SIGKILL');
    assert.equal(await open, null);
    assert.equal(await worker.ask(FARM, PATIENCE), null);
  });
});

describe('a reload', () => {
  /** Returns whether the promise has resolved. */
  async function isOver(promise: Promise<void>): Promise<boolean> {
    let over = false;
    void promise.then(() => {
      over = true;
    });
    await turn();
    return over;
  }

  test('is over when the worker has applied it', async () => {
    const { worker, last } = setUp();
    const reloaded = worker.reload('new');
    assert.deepEqual(last().told.at(-1), { kind: 'reload', text: 'new' });
    assert.equal(await isOver(reloaded), false);
    last().say({ kind: 'reloaded' });
    assert.equal(await isOver(reloaded), true);
  });

  test('is over when a next one begins, when the worker dies, and when there is none', async () => {
    const { worker, last } = setUp();
    const first = worker.reload('new');
    const second = worker.reload('newer');
    assert.deepEqual([await isOver(first), await isOver(second)], [true, false]);
    last().end('SIGKILL');
    assert.equal(await isOver(second), true);
    assert.equal(await isOver(worker.reload('newest')), true);
  });
});
