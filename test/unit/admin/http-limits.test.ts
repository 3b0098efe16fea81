// Limits for a client of the admin port in number and time: real sockets against a server with short limits.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { type TestContext, test } from 'node:test';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import { HTTP_LIMITS, type HttpLimits } from '../../../src/admin/http-limits.ts';
import { makeLog } from '../../../src/base/log.ts';
import { Secret } from '../../../src/config/secret.ts';

/** Data of a connection until its end. */
interface Ended {
  readonly text: string;
}

interface Client {
  readonly socket: net.Socket;
  readonly ended: Promise<Ended>;
}

/** Long enough that only the limit under test ends a connection. */
const NEVER = 600_000;
const PATIENT: HttpLimits = {
  connections: 100,
  headersMs: NEVER,
  requestMs: NEVER,
  exchangeMs: NEVER,
  idleMs: NEVER,
  checkMs: 20,
};

/** Starts a server with `/livez` and with `/never`, which does not answer. */
async function start(t: TestContext, limits: Partial<HttpLimits>): Promise<(first: string) => Client> {
  const server = new AdminServer({
    bind: { address: '127.0.0.1', port: 0 },
    token: new Secret('right'),
    log: makeLog({ level: 'silent' }),
    limits: { ...PATIENT, ...limits },
    routes: (app) => {
      app.get('/livez', async () => ({ live: true }));
      app.get('/never', () => new Promise(() => {}));
      app.put('/v1/config', async () => ({}));
    },
  });
  const { port } = await server.start();
  t.after(() => server.stop());
  return (first) => {
    const socket = net.connect(port, '127.0.0.1');
    let text = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', () => {});
    socket.write(first);
    t.after(() => socket.destroy());
    return { socket, ended: new Promise((resolve) => socket.once('close', () => resolve({ text }))) };
  };
}

const head = (line: string): string =>
  `${line} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer right\r\nContent-Type: application/json\r\n`;
const LIVEZ = `${head('GET /livez')}\r\n`;

/** Sends one octet after the other until the connection ends. */
function trickle({ socket, ended }: Client): Client['ended'] {
  const more = setInterval(() => socket.write('x'), 10);
  socket.once('close', () => clearInterval(more));
  return ended;
}

test('a head that does not end is cut off, however slowly its octets arrive', { timeout: 30_000 }, async (t) => {
  const connect = await start(t, { headersMs: 50 });
  const slow = [connect('').ended, connect('GET /livez HTTP/1.1\r\nHost: ').ended, trickle(connect('GET /x'))];
  for (const { text } of await Promise.all(slow)) assert.match(text, /^HTTP\/1\.1 408 /);
});

test('a body that does not end is cut off, also after an answer that did not wait for it', {
  timeout: 30_000,
}, async (t) => {
  const connect = await start(t, { headersMs: 50, requestMs: 100 });
  const slow = [
    head('PUT /v1/config'),
    head('PUT /v1/nothing'),
    head('GET /livez'),
    head('PUT /v1/config').replace('right', 'wrong'),
  ];
  await Promise.all(slow.map((each) => trickle(connect(`${each}Content-Length: 60000\r\n\r\n{`))));
});

test('the limit for a head ends before the limit for a body, because Node.js would otherwise exchange the two', () => {
  assert.ok(HTTP_LIMITS.headersMs < HTTP_LIMITS.requestMs);
});

test('an answer that is not sent in time ends with its connection', { timeout: 30_000 }, async (t) => {
  const connect = await start(t, { exchangeMs: 50 });
  assert.equal((await connect(`${head('GET /never')}\r\n`).ended).text, '');
});

test('a connection without a next request is closed', { timeout: 30_000 }, async (t) => {
  const connect = await start(t, { idleMs: 20 });
  assert.match((await connect(LIVEZ).ended).text, /^HTTP\/1\.1 200 /);
});

test('connections above the limit are closed at once, and idle ones are closed to make space', {
  timeout: 30_000,
}, async (t) => {
  const connect = await start(t, { connections: 2 });
  const busy = connect(`${head('GET /never')}\r\n`);
  const idle = connect(LIVEZ);
  await once(idle.socket, 'data');
  assert.equal((await connect(LIVEZ).ended).text, '');
  assert.match((await idle.ended).text, /^HTTP\/1\.1 200 /);
  await once(connect(LIVEZ).socket, 'data');
  assert.equal(busy.socket.closed, false);
});
