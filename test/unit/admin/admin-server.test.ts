import assert from 'node:assert/strict';
import http from 'node:http';
import { type TestContext, test } from 'node:test';
import { Registry } from 'prom-client';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import { SipfarmError } from '../../../src/base/errors.ts';
import { makeLog } from '../../../src/base/log.ts';
import { Secret } from '../../../src/config/secret.ts';
import { makeMetrics } from '../../../src/metrics/metrics.ts';
import { callOf, type FakeApi, newFakeApi } from './fake-api.ts';

interface Answer {
  readonly status: number;
  readonly text: string;
  json<T>(): T;
}

interface Started {
  readonly api: FakeApi;
  ask(path: string, request?: http.RequestOptions & { readonly body?: string }): Promise<Answer>;
}

function options(api: FakeApi, token?: string): ConstructorParameters<typeof AdminServer>[0] {
  const registry = new Registry();
  makeMetrics(registry, { version: '0.1.0', dropReasons: ['garbage'] });
  const log = makeLog({ level: 'silent' });
  return { bind: { address: '127.0.0.1', port: 0 }, token: token ? new Secret(token) : undefined, api, registry, log };
}

async function start(t: TestContext, token?: string): Promise<Started> {
  const api = newFakeApi();
  const server = new AdminServer(options(api, token));
  const { port } = await server.start();
  t.after(() => server.stop());
  const ask: Started['ask'] = (path, request = {}) =>
    new Promise((resolve, reject) => {
      const { body, ...rest } = request;
      // Node.js sets the length of a body itself, except for DELETE.
      const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
      const headers = { ...(rest.headers as http.OutgoingHttpHeaders), ...length };
      const asked = http.request({ host: '127.0.0.1', port, path, ...rest, headers }, (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode!, text, json: <T>() => JSON.parse(text) as T }));
      });
      asked.on('error', reject);
      asked.end(body);
    });
  return { api, ask };
}

const JSON_TYPE = { 'content-type': 'application/json' };

test('a living member answers /livez with 200, ready or not', async (t) => {
  const { api, ask } = await start(t);
  api.readiness = { ready: false, reasons: ['draining'] };
  assert.equal((await ask('/livez')).status, 200);
});

test('readiness is 200, or 503 with the reasons', async (t) => {
  const { api, ask } = await start(t);
  assert.deepEqual((await ask('/readyz')).json(), { ready: true, reasons: [] });
  api.readiness = { ready: false, reasons: ['the SIP server does not answer'] };
  const answer = await ask('/readyz');
  assert.equal(answer.status, 503);
  assert.deepEqual(answer.json(), { ready: false, reasons: ['the SIP server does not answer'] });
});

test('metrics have the Prometheus text format', async (t) => {
  const { ask } = await start(t);
  const { text } = await ask('/metrics');
  assert.match(text, /^sipfarm_verdicts_total\{verdict="drop",reason="garbage"\} 0$/m);
});

test('each page returns its answer', async (t) => {
  const { ask } = await start(t);
  assert.equal((await ask('/v1/farm')).json<{ member: string }>().member, 'fe1');
  assert.equal((await ask('/v1/members')).json<{ members: unknown[] }>().members.length, 1);
  assert.deepEqual((await ask('/v1/peers')).json<{ peers: { misses: string[] }[] }>().peers[0]?.misses, ['fe1']);
  assert.deepEqual((await ask('/v1/view')).json(), { view: null });
  assert.deepEqual((await ask('/v1/calls')).json(), { owned: 2 });
  const owner = await ask(`/v1/owner?callId=${encodeURIComponent('a b\u0001@x')}`);
  assert.equal(owner.json<{ callId: string }>().callId, 'a b\u0001@x');
  assert.ok(!owner.text.includes('\u0001'));
});

test('calls are listed up to the requested number, of this member or of all', async (t) => {
  const { api, ask } = await start(t);
  api.records.push(callOf('one'), callOf('two'));
  const listed = (await ask('/v1/calls?limit=1')).json<{ owned: number; calls: { callId: string }[]; more: boolean }>();
  assert.deepEqual([listed.owned, listed.calls.map(({ callId }) => callId), listed.more], [2, ['one'], true]);
  await ask('/v1/calls?limit=5&all=1');
  assert.deepEqual(api.asked, ['calls 1', 'calls 5 all']);
});

test('the owner of a Call-ID is returned with its record, and without it when the store is down', async (t) => {
  const { api, ask } = await start(t);
  api.records.push(callOf('one'));
  type Told = { owner: { id: string }; record: { state: string } | null; recordKnown: boolean };
  const of = async (callId: string): Promise<unknown[]> => {
    const { owner, record, recordKnown } = (await ask(`/v1/owner?callId=${callId}`)).json<Told>();
    return [owner.id, record?.state, recordKnown];
  };
  assert.deepEqual(await of('one'), ['fe1', 'early', true]);
  assert.deepEqual(await of('two'), ['fe1', undefined, true]);
  api.storeDown = true;
  assert.deepEqual(await of('one'), ['fe1', undefined, false]);
});

test('a wrong request is refused with a code', async (t) => {
  const { ask } = await start(t);
  for (const [path, status, code] of [
    ['/v1/owner', 400, 'SF_USAGE'],
    ['/v1/owner?callId=a&callId=b', 400, 'SF_USAGE'],
    [`/v1/owner?callId=${'x'.repeat(1025)}`, 400, 'SF_USAGE'],
    ['/v1/calls?limit=0', 400, 'SF_USAGE'],
    ['/v1/calls?limit=10001', 400, 'SF_USAGE'],
    ['/v1/calls?limit=1&limit=2', 400, 'SF_USAGE'],
    ['/v1/decode?text=zzz', 400, 'SF_DECODE_FAILED'],
    ['/v1/nothing', 404, 'SF_ADMIN_REFUSED'],
  ] as const) {
    const answer = await ask(path);
    assert.equal(answer.status, status, path);
    assert.equal(answer.json<{ error: { code: string } }>().error.code, code, path);
  }
});

test('the report of the media ports is returned, after a new reading of the addresses if that is requested', async (t) => {
  const { api, ask } = await start(t);
  api.portsReport = { ...api.portsReport, warnings: ['one'] };
  assert.deepEqual((await ask('/v1/ports')).json(), api.portsReport);
  assert.deepEqual(api.asked, []);
  const refreshed = await ask('/v1/ports/refresh', { method: 'POST', headers: JSON_TYPE, body: '{}' });
  assert.deepEqual(refreshed.json(), api.portsReport);
  assert.deepEqual(api.asked, ['refresh ports']);
});

test('cluster-wide settings are checked and then stored', async (t) => {
  const { api, ask } = await start(t);
  const put = (body: string, headers: Record<string, string> = JSON_TYPE): Promise<Answer> =>
    ask('/v1/config', { method: 'PUT', headers, body });
  assert.equal((await put('{"drain":{"deadlineSeconds":5}}')).status, 200);
  assert.deepEqual(api.settings, { drain: { deadlineSeconds: 5 } });
  assert.deepEqual((await ask('/v1/config')).json(), { config: { drain: { deadlineSeconds: 5 } } });
  for (const [body, status] of [
    ['{"drain":{"deadlineSecond":5}}', 400],
    ['{"member":"x"}', 400],
    ['{', 400],
    ['', 400],
    [JSON.stringify({ log: 'x'.repeat(70_000) }), 413],
  ] as const)
    assert.equal((await put(body)).status, status, body.slice(0, 40));
  assert.equal((await put('{}', { 'content-type': 'text/plain' })).status, 415);
  assert.deepEqual(api.settings, { drain: { deadlineSeconds: 5 } });
});

test('a store that is down is reported as such', async (t) => {
  const { api, ask } = await start(t);
  api.storeDown = true;
  const answer = await ask('/v1/config');
  assert.equal(answer.status, 503);
  assert.equal(answer.json<{ error: { code: string } }>().error.code, 'SF_STORE_UNREACHABLE');
});

test('an address other than loopback needs a token', () => {
  const open = { ...options(newFakeApi()), bind: { address: '0.0.0.0', port: 0 } };
  assert.throws(
    () => new AdminServer(open),
    (error) => error instanceof SipfarmError && error.code === 'SF_ADMIN_TOKEN_REQUIRED',
  );
  assert.ok(new AdminServer({ ...open, token: new Secret('t') }));
});

test('a token is required for all pages except health', async (t) => {
  const { ask } = await start(t, 'right');
  for (const path of ['/livez', '/readyz', '/readyz?x=/v1/farm']) assert.equal((await ask(path)).status, 200, path);
  for (const path of ['/metrics', '/v1/farm', '/v1/config', '/nothing', '/livez/../v1/farm', '/%6civez/x'])
    assert.equal((await ask(path)).status, 401, path);
  for (const authorization of ['Bearer wrong', 'Bearer righ', 'Bearer right2', 'right', 'Basic right'])
    assert.equal((await ask('/v1/farm', { headers: { authorization } })).status, 401, authorization);
  const good = await ask('/v1/farm', { headers: { authorization: 'Bearer right' } });
  assert.equal(good.status, 200);
});

test('a page in a browser cannot read anything through its own domain name when there is no token', async (t) => {
  const { ask } = await start(t);
  assert.equal((await ask('/v1/farm', { headers: { host: 'evil.example.org:8060' } })).status, 403);
  for (const host of ['127.0.0.1:8060', 'localhost', '[::1]:8060'])
    assert.equal((await ask('/v1/farm', { headers: { host } })).status, 200, host);
});

test('a port in use is reported with its address', async (t) => {
  const first = new AdminServer(options(newFakeApi()));
  const bound = await first.start();
  t.after(() => first.stop());
  const second = new AdminServer({ ...options(newFakeApi()), bind: bound });
  await assert.rejects(
    second.start(),
    (error) => error instanceof SipfarmError && error.code === 'SF_BIND_FAILED' && /EADDRINUSE/.test(error.message),
  );
  await second.stop();
});

test('the process itself reads pages without a port and without the token, with the same answers', async (t) => {
  const api = newFakeApi();
  const server = new AdminServer(options(api, 'secret'));
  t.after(() => server.stop());
  api.readiness = { ready: false, reasons: ['draining'] };
  assert.deepEqual(await server.answer({ method: 'GET', url: '/readyz' }), {
    status: 503,
    type: 'application/json; charset=utf-8',
    body: '{"ready":false,"reasons":["draining"]}',
  });
  const body = '{"log":{"level":"debug"}}';
  assert.equal((await server.answer({ method: 'PUT', url: '/v1/config', body })).status, 200);
  assert.deepEqual(api.settings, { log: { level: 'debug' } });
  assert.equal((await server.answer({ method: 'PUT', url: '/v1/config', body: '{"keys":1}' })).status, 400);
});

test('orders are given, returned, and lifted', async (t) => {
  const { api, ask } = await start(t);
  const post = (path: string, body: string) => ask(path, { method: 'POST', headers: JSON_TYPE, body });
  const end = (path: string) => ask(path, { method: 'DELETE', headers: JSON_TYPE, body: '{}' });
  const given = await post('/v1/orders/fe1', '{"order":"drain","deadlineSeconds":90}');
  assert.deepEqual([given.status, given.json<typeof api.status>().order?.order], [200, 'drain']);
  assert.equal((await ask('/v1/orders')).json<{ orders: unknown[] }>().orders.length, 1);
  assert.equal((await ask('/v1/orders/fe1')).status, 200);
  assert.equal((await end('/v1/orders/fe1?order=drain,pause')).status, 200);
  assert.equal((await end('/v1/members/fe1?force=true')).status, 200);
  assert.equal((await end('/v1/members/fe1?force=1')).status, 200);
  assert.deepEqual(api.asked, ['drain fe1 90', 'lift fe1 drain,pause', 'remove fe1 true', 'remove fe1 false']);

  const unknown = await post('/v1/orders/fe7', '{"order":"ban"}');
  assert.deepEqual(
    [unknown.status, unknown.json<{ error: { code: string } }>().error.code],
    [404, 'SF_MEMBER_UNKNOWN'],
  );
  const wrong = [
    '{}',
    'null',
    '[]',
    '{"order":"stop"}',
    '{"order":"ban","deadlineSeconds":5}',
    '{"order":"drain","deadlineSeconds":-1}',
  ];
  for (const body of wrong) assert.equal((await post('/v1/orders/fe1', body)).status, 400, body);
  for (const query of ['', '?order=', '?order=stop', '?order=ban,stop'])
    assert.equal((await end(`/v1/orders/fe1${query}`)).status, 400, query);
  assert.equal((await post(`/v1/orders/${'x'.repeat(90)}`, '{"order":"ban"}')).status, 404);
});

test('a request that a page of another site can make a browser send changes nothing', async (t) => {
  const { api, ask } = await start(t);
  const types = [
    undefined,
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'application/jsonp',
    // A browser sends this without a preflight request.
    'text/plain; charset=application/json',
  ];
  const changes = [
    ['POST', '/v1/orders/fe1'],
    ['DELETE', '/v1/orders/fe1?order=ban'],
    ['DELETE', '/v1/members/fe1?force=true'],
    ['PUT', '/v1/config'],
  ] as const;
  for (const [method, path] of changes)
    for (const type of types) {
      const { status } = await ask(path, {
        method,
        headers: type ? { 'content-type': type } : {},
        body: '{"order":"ban"}',
      });
      assert.equal(status, 415, `${method} ${path} ${type}`);
    }
  assert.deepEqual(api.asked, []);
});

test('orders need the token, if there is one', async (t) => {
  const { api, ask } = await start(t, 'secret');
  const post = (headers: Record<string, string>) =>
    ask('/v1/orders/fe1', { method: 'POST', headers: { ...JSON_TYPE, ...headers }, body: '{"order":"ban"}' });
  assert.equal((await post({})).status, 401);
  assert.deepEqual(api.asked, []);
  assert.equal((await post({ authorization: 'Bearer secret' })).status, 200);
});
