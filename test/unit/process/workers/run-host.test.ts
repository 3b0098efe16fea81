// A host of two workers in this process: its admin address and its signals are real, its workers are fakes.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { loadConfig } from '../../../../src/config/load.ts';
import { runHost } from '../../../../src/process/workers/run-host.ts';
import { until } from '../../../fake/until.ts';
import { changed, ENVIRONMENT } from '../../config/sample.ts';
import { FakeChild } from './fake-worker.ts';
import { OwnSignals } from './own-signals.ts';

/** An address of this file alone. */
const ADDRESS = '127.0.61.1';
const LIMIT = { timeout: 30_000 };

/** Listens on a free port. */
async function listen(): Promise<{ readonly server: net.Server; readonly port: number }> {
  const server = net.createServer().listen(0, ADDRESS);
  await once(server, 'listening');
  return { server, port: (server.address() as net.AddressInfo).port };
}

async function freePort(): Promise<number> {
  const { server, port } = await listen();
  server.close();
  await once(server, 'close');
  return port;
}

/** Runs a host of two workers. The test ends it in any case. */
async function run(t: TestContext, port?: number) {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-host-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'sipfarm.yaml');
  const at = `${ADDRESS}:${port ?? (await freePort())}`;
  const text = `${changed('member: fe1', 'member: fe1\nworkers: 2')}admin: { bind: "${at}" }\nlog: { level: silent }\n`;
  writeFileSync(file, text);
  const signals = new OwnSignals();
  const children: FakeChild[] = [];
  const ended = runHost(loadConfig(file, ENVIRONMENT), file, ENVIRONMENT, (index, handlers) => {
    const child = new FakeChild(index, 100 + index, handlers);
    children.push(child);
    return child;
  }).then(
    () => 'ended',
    ({ code }: { readonly code: string }) => code,
  );
  t.after(async () => {
    if (signals.left.includes('SIGTERM')) signals.send('SIGTERM');
    for (const child of children) child.end();
    await ended;
  });
  const get = async (path: string): Promise<unknown> => (await fetch(`http://${at}${path}`)).json();
  return { children, ended, file, get, signals, text };
}

async function started(t: TestContext) {
  const host = await run(t);
  await until(() => host.children.length === 2);
  for (const child of host.children) child.say({ kind: 'started' });
  return host;
}

const orders = (children: readonly FakeChild[]): (string | undefined)[] => children.map((child) => child.orders.at(-1));

describe('a host of two workers', LIMIT, () => {
  test('starts both with the text of the file, and answers for both at the admin address', async (t) => {
    const { children, file, get, text } = await started(t);
    assert.deepEqual(
      children.map(({ told }) => told[0]),
      [0, 1].map((index) => ({ kind: 'start', index, file, text, reloaded: null })),
    );
    const { workers } = (await get('/v1/workers')) as { workers: { id: string; state: string }[] };
    assert.deepEqual(
      workers.map(({ id, state }) => [id, state]),
      [
        ['fe1.0', 'started'],
        ['fe1.1', 'started'],
      ],
    );
  });

  test('passes the changed file on at SIGHUP, and keeps an invalid one to itself', async (t) => {
    const { children, file, signals, text } = await started(t);
    const good = `${text}weight: 7\n`;
    for (const next of [`${text}weight: much\n`, good]) {
      writeFileSync(file, next);
      signals.send('SIGHUP');
    }
    for (const { told } of children)
      assert.deepEqual(
        told.filter(({ kind }) => kind === 'reload'),
        [{ kind: 'reload', text: good }],
      );
  });

  test('goes on after a SIGHUP without a file', async (t) => {
    const { file, get, signals } = await started(t);
    rmSync(file);
    signals.send('SIGHUP');
    assert.deepEqual(await get('/livez'), { live: true });
  });

  test('drains both at SIGTERM, answers until the last has ended, and leaves no listener', async (t) => {
    const { children, ended, get, signals } = await started(t);
    signals.send('SIGTERM');
    await until(() => orders(children).every((order) => order === 'drain'));
    children[0]!.end();
    assert.deepEqual(await get('/livez'), { live: true });
    children[1]!.end();
    assert.equal(await ended, 'ended');
    await assert.rejects(get('/livez'));
    assert.deepEqual(signals.left, []);
  });

  test('ends both at once at a second signal', async (t) => {
    const { children, ended, signals } = await started(t);
    signals.send('SIGTERM');
    await until(() => orders(children).every((order) => order === 'drain'));
    signals.send('SIGINT');
    await until(() => orders(children).every((order) => order === 'quit'));
    for (const child of children) child.end();
    assert.equal(await ended, 'ended');
  });
});

describe('a host whose workers have not started', LIMIT, () => {
  test('drains them at a signal', async (t) => {
    const { children, ended, signals } = await run(t);
    await until(() => children.length === 2);
    signals.send('SIGTERM');
    await until(() => orders(children).every((order) => order === 'drain'));
    for (const child of children) child.end();
    assert.equal(await ended, 'ended');
  });

  test('ends with the error of one when none can start', async (t) => {
    const { children, ended, get } = await run(t);
    await until(() => children.length === 2);
    for (const child of children) {
      child.say({ kind: 'failed', code: 'SF_BIND_FAILED', message: 'taken' });
      child.end('exit code 1');
    }
    assert.equal(await ended, 'SF_BIND_FAILED');
    await assert.rejects(get('/livez'));
  });

  test('starts none when the admin address is taken', async (t) => {
    const { server, port } = await listen();
    t.after(() => server.close());
    const { children, ended } = await run(t, port);
    assert.equal(await ended, 'SF_BIND_FAILED');
    assert.deepEqual(children, []);
  });
});
