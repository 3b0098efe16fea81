// Answers of a host's admin server from the answers of its workers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdminServer, type Answer, type Question } from '../../../../src/admin/admin-server.ts';
import { ADMIN_ROUTES } from '../../../../src/admin/routes.ts';
import { makeLog } from '../../../../src/base/log.ts';
import { makeHostMetrics, makeMetrics, makeRegistry } from '../../../../src/metrics/metrics.ts';
import type { WorkerSummary } from '../../../../src/process/workers/host.ts';
import { hostRoutes } from '../../../../src/process/workers/host-routes.ts';
import { mergeMetrics } from '../../../../src/process/workers/metrics-page.ts';

const json = (value: unknown): Answer => ({ status: 200, type: 'application/json', body: JSON.stringify(value) });

/** Sets up workers that answer by `answers`: one function each. */
function setUp(...answers: ((question: Question) => Answer | null)[]) {
  const workers: WorkerSummary[] = answers.map((_, worker) => ({
    ...{ worker, id: `fe1.${worker}`, pid: 10 + worker, state: 'started', ready: true, starts: 1, failure: null },
  }));
  const asked: [number, Question][] = [];
  const ask = (question: Question, worker: number): Answer | null => {
    asked.push([worker, question]);
    return answers[worker]?.(question) ?? null;
  };
  const { registry } = makeHostMetrics(makeRegistry(), () =>
    workers.map(({ worker }) => ({ worker: `${worker}`, up: true })),
  );
  const admin = new AdminServer({
    bind: { address: '127.0.0.1', port: 0 },
    log: makeLog({ level: 'silent' }),
    routes: hostRoutes(
      {
        workers,
        ready: async () => ({ ready: false, reasons: ['fe1.0: asleep'] }),
        askAll: async (question) => workers.map((worker, index) => ({ worker, answer: ask(question, index) })),
        askOne: async (question, index = 0) => ask(question, index),
      },
      registry,
    ),
  });
  const get = async (url: string): Promise<{ status: number; value: unknown }> => {
    const { status, body } = await admin.answer({ method: 'GET', url });
    return { status, value: JSON.parse(body) };
  };
  return { admin, asked, get };
}

test('calls are summed over the workers, or are those of the named one', async () => {
  const { get } = setUp(
    () => json({ owned: 2 }),
    () => json({ owned: 5 }),
    () => null,
  );
  assert.deepEqual(await get('/v1/calls'), { status: 200, value: { owned: 7 } });
  assert.deepEqual(await get('/v1/calls?worker=1'), { status: 200, value: { owned: 5 } });
});

test('calls of the workers are listed together, oldest first; any worker returns those of the whole farm', async () => {
  const list =
    (...since: string[]) =>
    () =>
      json({ owned: 1, calls: since.map((each) => ({ since: each })), more: false });
  const { get, asked } = setUp(list('2026-03', '2026-01'), list('2026-02'));
  const since = (...each: string[]) => each.map((one) => ({ since: one }));
  const two = { owned: 2, calls: since('2026-01', '2026-02'), more: true };
  assert.deepEqual((await get('/v1/calls?limit=2')).value, two);
  const three = { owned: 2, calls: since('2026-01', '2026-02', '2026-03'), more: false };
  assert.deepEqual((await get('/v1/calls?limit=3')).value, three);
  asked.length = 0;
  await get('/v1/calls?limit=3&all=1');
  assert.equal(asked.length, 1);
  const refused = setUp(() => ({ status: 400, type: 'application/json', body: '{"error":{}}' }));
  assert.equal((await refused.get('/v1/calls?limit=0')).status, 400);
});

test('a call is on this host when any worker has it', async () => {
  const owner = (heldHere: boolean) => () => json({ callId: 'a', slot: 1, heldHere });
  const { get } = setUp(owner(false), owner(true));
  assert.deepEqual((await get('/v1/owner?callId=a')).value, { callId: 'a', slot: 1, heldHere: true });
  assert.deepEqual((await get('/v1/owner?callId=a&worker=0')).value, { callId: 'a', slot: 1, heldHere: false });
});

test('the media ports of all workers are in one report, and all read their addresses again', async () => {
  const report = (member: string) => () => json({ own: [{ member }], claims: [], capacity: null, warnings: [] });
  const { get, admin, asked } = setUp(report('fe1.0'), report('fe1.1'));
  const both = { own: [{ member: 'fe1.0' }, { member: 'fe1.1' }], claims: [], capacity: null, warnings: [] };
  assert.deepEqual((await get('/v1/ports')).value, both);
  asked.length = 0;
  const { body } = await admin.answer({ method: 'POST', url: '/v1/ports/refresh', body: '{}' });
  assert.deepEqual(JSON.parse(body), both);
  assert.deepEqual(
    asked.map(([worker, { method }]) => [worker, method]),
    [
      [0, 'POST'],
      [1, 'POST'],
    ],
  );
});

test('other requests and changes go to one worker unchanged, and its answer returns unchanged', async () => {
  const { admin, asked } = setUp(() => ({ status: 409, type: 'application/json', body: '{"error":{}}' }));
  const answer = await admin.answer({ method: 'PUT', url: '/v1/config', body: '{"log":{"level":"debug"}}' });
  assert.deepEqual([answer.status, answer.body], [409, '{"error":{}}']);
  assert.deepEqual(asked, [[0, { method: 'PUT', url: '/v1/config', body: '{"log":{"level":"debug"}}' }]]);
});

test('a missing worker is wrong usage, and no answering worker gives 503', async () => {
  const { get } = setUp(() => null);
  for (const wrong of ['1', '-1', 'x', '', '0x0'])
    assert.equal((await get(`/v1/farm?worker=${wrong}`)).status, 400, wrong);
  for (const url of ['/v1/farm', '/v1/calls', '/v1/owner?callId=a']) {
    const { status, value } = await get(url);
    assert.equal(status, 503, url);
    assert.equal((value as { error: { code: string } }).error.code, 'SF_NO_WORKER');
  }
  assert.deepEqual(await get('/readyz'), { status: 503, value: { ready: false, reasons: ['fe1.0: asleep'] } });
  assert.equal((await get('/livez')).status, 200);
  assert.equal((await get('/v1/workers')).status, 200);
  assert.equal((await get('/elsewhere')).status, 404);
});

test('the page of metrics has the series of all workers, with each family once', async () => {
  const page = async (worker: number): Promise<string> => {
    const metrics = makeMetrics(makeRegistry({ worker: `${worker}` }), { version: '1', dropReasons: ['garbage'] });
    metrics.relayHop.observe(0.001);
    metrics.received.cell({ listener: 'edge', class: 'sip' }).n = worker + 3;
    return metrics.registry.metrics();
  };
  const pages = await Promise.all([page(0), page(1)]);
  const { admin } = setUp(...pages.map((body) => () => ({ status: 200, type: 'text/plain', body })));
  const { body, type } = await admin.answer({ method: 'GET', url: '/metrics' });
  assert.match(type, /^text\/plain; version=0\.0\.4/);
  for (const worker of [0, 1]) {
    const series = `sipfarm_received_packets_total{listener="edge",class="sip",worker="${worker}"} ${worker + 3}`;
    assert.ok(body.includes(`\n${series}\n`), body.slice(0, 2000));
    assert.ok(body.includes(`sipfarm_worker_up{worker="${worker}"} 1`));
  }
  const heads = body.match(/^# TYPE \S+/gm) ?? [];
  assert.equal(new Set(heads).size, heads.length);
  const lines = body.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  assert.equal(new Set(lines.map((line) => line.slice(0, line.lastIndexOf(' ')))).size, lines.length, 'a series twice');
  // The series of a family follow its head without series of other families in between.
  let family = '';
  for (const line of body.split('\n')) {
    family = /^# TYPE (\S+)/.exec(line)?.[1] ?? family;
    if (line !== '' && !line.startsWith('#')) assert.ok(line.startsWith(family), `${line} under ${family}`);
  }
});

test('pages with different families, or none, are merged, too', () => {
  const merged = mergeMetrics([
    '# HELP a A.\n# TYPE a counter\na{w="0"} 1\n',
    '',
    '# HELP b B.\n# TYPE b gauge\nb 2\n\n# HELP a A.\n# TYPE a counter\na{w="1",x="{}"} 3\n',
  ]);
  assert.equal(
    merged,
    '# HELP a A.\n# TYPE a counter\na{w="0"} 1\na{w="1",x="{}"} 3\n\n# HELP b B.\n# TYPE b gauge\nb 2\n',
  );
});

test('each route of a member is one of the host, too: answered by the host, by any worker, or by all', async () => {
  const { asked, get } = setUp(
    (question) => (question.url === '/metrics' ? null : json({ owned: 1, heldHere: false, calls: [] })),
    () => json({ owned: 1, heldHere: true, calls: [] }),
  );
  const workersOf = async (url: string): Promise<number> => {
    asked.length = 0;
    await get(url);
    return new Set(asked.map(([worker]) => worker)).size;
  };
  for (const { method, path, merge } of ADMIN_ROUTES) {
    if (method !== 'GET' || path === '/metrics') continue;
    const url = path.replace(':id', 'fe1');
    const expected = merge === 'own' ? 0 : merge === 'one' || merge({}) === 'one' ? 1 : 2;
    assert.equal(await workersOf(url), expected, url);
  }
  assert.equal(await workersOf('/v1/calls?all=1&limit=5'), 1);
});
