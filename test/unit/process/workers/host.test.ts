// The workers of a host together, as processes that the test controls: the start, requests, a reload, the end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { makeLog } from '../../../../src/base/log.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { Host } from '../../../../src/process/workers/host.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { changed, load } from '../../config/sample.ts';
import { FakeChild } from './fake-worker.ts';

const { config } = load(changed('member: fe1', 'member: fe1\nworkers: 2'));

function setUp() {
  const clock = new FakeClock();
  const children: FakeChild[] = [];
  const starts = new CellFamily({ name: 'starts', help: '-', labels: ['worker'] });
  const host = new Host({
    config,
    file: 'x.yaml',
    text: 'first',
    clock,
    log: makeLog({ level: 'silent' }),
    fork: (index, handlers) => {
      const child = new FakeChild(index, 100 + children.length, handlers);
      children.push(child);
      return child;
    },
    starts,
  });
  const settled = host.start().then(() => 'settled');
  const failed = host.failed.catch((error: { code: string }) => error.code);
  /** Returns the current state: `settled`, the code of the failure, or `waits`. */
  const outcome = async (): Promise<string> => {
    await turn();
    return Promise.race([failed, settled, Promise.resolve('waits')]);
  };
  return { clock, children, host, starts, outcome, last: () => children.at(-1)! };
}

const states = (host: Host): string[] => host.workers.map(({ state }) => state);

test('all workers start with the file as the host read it, and the host is up when all are in the farm', async () => {
  const { children, host, outcome, starts } = setUp();
  assert.deepEqual(
    children.map(({ told }) => told),
    [0, 1].map((index) => [{ kind: 'start', index, file: 'x.yaml', text: 'first', reloaded: null }]),
  );
  children[0]!.say({ kind: 'started' });
  assert.equal(await outcome(), 'waits');
  children[1]!.say({ kind: 'started' });
  assert.equal(await outcome(), 'settled');
  assert.deepEqual(
    host.workers.map(({ id, pid, state }) => [id, pid, state]),
    [
      ['fe1.0', 100, 'started'],
      ['fe1.1', 101, 'started'],
    ],
  );
  assert.deepEqual(
    [...starts.entries()].map(({ value }) => value),
    [1, 1],
  );
});

test('a worker that cannot start is retried while another works', async () => {
  const { clock, children, host, outcome, last } = setUp();
  children[0]!.say({ kind: 'started' });
  for (let attempt = 0; attempt < 5; attempt++) {
    last().say({ kind: 'failed', code: 'SF_BIND_FAILED', message: 'taken' });
    last().end('exit code 1');
    clock.advance(30_000);
  }
  assert.equal(await outcome(), 'settled');
  assert.deepEqual(host.workers[1]?.failure, { code: 'SF_BIND_FAILED', message: 'taken' });
  last().say({ kind: 'started' });
  assert.equal(host.workers[1]?.failure, null);
});

test('the host ends with the error of one worker when none can start', async () => {
  const { clock, children, outcome } = setUp();
  children[0]!.say({ kind: 'failed', code: 'SF_BIND_FAILED', message: 'taken' });
  children[0]!.end('exit code 1');
  clock.advance(600);
  assert.equal(await outcome(), 'waits');
  children[1]!.end('SIGABRT');
  assert.equal(await outcome(), 'SF_BIND_FAILED');
});

test('the host also ends when all its workers have worked, died and cannot start again', async () => {
  const { clock, children, host, last } = setUp();
  const failed = host.failed.catch((error: { code: string }) => error.code);
  for (const child of children) child.say({ kind: 'started' });
  children[0]!.end('SIGKILL');
  children[1]!.end('SIGKILL');
  clock.advance(500);
  children[2]!.end('SIGABRT');
  assert.equal(last().index, 1);
  children[3]!.end('SIGABRT');
  assert.equal(await failed, 'SF_WORKER_DIED');
});

test('a worker whose event loop stands still is killed, and the watchdog gets no notification until then', () => {
  const { clock, children, host } = setUp();
  for (const child of children) child.say({ kind: 'started' });
  children[1]!.awake = false;
  clock.advance(14_000);
  assert.equal(host.answers, true);
  clock.advance(1000);
  assert.equal(host.answers, false);
  clock.advance(1000);
  assert.deepEqual(children[1]!.signals, ['SIGKILL']);
  assert.equal(host.answers, true);
  clock.advance(500);
  assert.deepEqual(children[2]?.index, 1);
  assert.deepEqual(children[0]!.signals, []);
});

test('a reload reaches all workers, ends when all have applied it, and a later worker gets both texts', async () => {
  const { clock, children, host } = setUp();
  for (const child of children) child.say({ kind: 'started' });
  let over = false;
  void host.reload('second').then(() => {
    over = true;
  });
  children[0]!.say({ kind: 'reloaded' });
  await turn();
  assert.equal(over, false);
  children[1]!.say({ kind: 'reloaded' });
  await turn();
  assert.equal(over, true);
  children[1]!.end('SIGKILL');
  clock.advance(500);
  assert.deepEqual(children[2]!.told[0], {
    kind: 'start',
    index: 1,
    file: 'x.yaml',
    text: 'first',
    reloaded: 'second',
  });
});

test('a drain ends all workers without restarts, and ends with the last one; a quit kills remaining ones', async () => {
  const { clock, children, host } = setUp();
  for (const child of children) child.say({ kind: 'started' });
  let over = false;
  const drained = host.drain().then(() => {
    over = true;
  });
  assert.deepEqual(
    children.map(({ orders }) => orders.at(-1)),
    ['drain', 'drain'],
  );
  children[0]!.end();
  clock.advance(60_000);
  await turn();
  assert.deepEqual([over, children.length], [false, 2]);
  void host.quit();
  assert.equal(children[1]!.orders.at(-1), 'quit');
  clock.advance(15_000);
  assert.deepEqual(children[1]!.signals, ['SIGKILL']);
  await drained;
  assert.equal(clock.timers, 0);
});

test('a host that ends while a worker waits for its restart starts nothing', async () => {
  const { clock, children, host } = setUp();
  children[0]!.end('SIGKILL');
  void host.quit();
  children[1]!.end();
  await host.quit();
  clock.advance(60_000);
  assert.equal(children.length, 2);
  assert.deepEqual(states(host), ['ended', 'ended']);
});

test('a request goes to a ready worker, to the next when one cannot answer, and to the named one', async () => {
  const { clock, children, host } = setUp();
  for (const child of children) child.say({ kind: 'started' });
  children[0]!.ready = false;
  for (const child of children) child.pages = { '/v1/farm': JSON.stringify({ member: child.index }) };
  clock.advance(1000);
  const ask = async (url: string, index?: number): Promise<string | undefined> =>
    (await host.askOne({ method: 'GET', url }, index))?.body;
  assert.equal(await ask('/v1/farm'), '{"member":1}');
  assert.equal(await ask('/v1/farm', 0), '{"member":0}');
  children[1]!.pages = {};
  assert.equal(await ask('/v1/farm'), '{"member":0}');
  assert.equal(await ask('/v1/farm', 1), undefined);
});

test('a change is never sent twice, and a dying worker leaves no request open', { timeout: 10_000 }, async () => {
  const { children, host } = setUp();
  for (const child of children) {
    child.say({ kind: 'started' });
    child.awake = false;
  }
  const put = host.askOne({ method: 'PUT', url: '/v1/config', body: '{}' });
  children[0]!.end('SIGKILL');
  assert.equal(await put, null);
  assert.ok(!children[1]!.orders.includes('ask'));
});

test('the host is ready when one worker is, and returns the reasons of all when none is', async () => {
  const { clock, children, host } = setUp();
  for (const child of children) child.say({ kind: 'started' });
  const readiness = (ready: boolean, reasons: string[]): Record<string, string> => ({
    '/readyz': JSON.stringify({ ready, reasons }),
  });
  children[0]!.pages = readiness(false, ['the member is draining']);
  children[1]!.pages = readiness(true, []);
  assert.deepEqual(await host.ready(), { ready: true, reasons: [] });
  clock.advance(1000);
  assert.deepEqual(
    host.workers.map(({ ready }) => ready),
    [true, true],
  );
  children[1]!.end('SIGKILL');
  assert.deepEqual(
    host.workers.map(({ ready }) => ready),
    [true, false],
    'told by pings',
  );
  clock.advance(0);
  assert.deepEqual(await host.ready(), {
    ready: false,
    reasons: ['fe1.0: the member is draining', 'fe1.1: the worker has ended and is started again'],
  });
});
