// Serves health, metrics, status and orders of the running member over HTTP. Binds to loopback by default; other
// addresses need a token.
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { type ErrorCode, SipfarmError } from '../base/errors.ts';
import { isInteger, isObject, isOneOf } from '../base/guards.ts';
import { parseClusterSettings } from '../config/live.ts';
import { isLoopback } from '../config/schema.ts';
import type { Secret } from '../config/secret.ts';
import { MAX_DEADLINE_SECONDS, ORDER_KINDS } from '../membership/order.ts';
import type { OrderRequest } from '../orders/order-status.ts';
import { boundConnections, boundedServer, HTTP_LIMITS, type HttpLimits } from './http-limits.ts';
import type { AdminApi, OwnerReport } from './status.ts';

/** Sources of the answers of a member. */
interface MemberAnswers {
  readonly api: AdminApi;
  readonly registry: Registry;
}

/** Routes of another program that uses this server. */
interface OwnAnswers {
  readonly routes: (app: FastifyInstance) => void;
}

export type AdminOptions = {
  /** Port 0 takes a free one. */
  readonly bind: Endpoint;
  readonly token?: Secret | undefined;
  readonly log: Logger;
  /** Left out: `HTTP_LIMITS`. */
  readonly limits?: HttpLimits;
} & (MemberAnswers | OwnAnswers);

/** A request that did not come by HTTP. */
export interface Question {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** JSON text. */
  readonly body?: string;
}

export interface Answer {
  readonly status: number;
  /** Content type. */
  readonly type: string;
  readonly body: string;
}

/** Octets of the largest body: the cluster-wide settings have some hundred. */
const BODY_BYTES = 64 * 1024;
/** Call-IDs in practice have fewer than 256 characters. */
const MAX_CALL_ID = 1024;
/** Calls in one answer: some MB. */
export const MAX_LISTED_CALLS = 10_000;
const OPEN_PATHS: ReadonlySet<string> = new Set(['/livez', '/readyz']);

const STATUS: Partial<Record<ErrorCode, number>> = {
  SF_CONFIG_INVALID: 400,
  SF_DECODE_FAILED: 400,
  SF_USAGE: 400,
  SF_MEMBER_UNKNOWN: 404,
  SF_ORDER_REFUSED: 409,
  SF_STORE_CONFLICT: 409,
  SF_STORE_REFUSED: 502,
  SF_STORE_UNREACHABLE: 503,
  SF_NO_WORKER: 503,
};

/** Body of every refusal. */
interface AdminRefusal {
  readonly error: { readonly code: string; readonly message: string };
}

function refuse(reply: FastifyReply, status: number, code: ErrorCode, message: string): FastifyReply {
  const body: AdminRefusal = { error: { code, message } };
  return reply.code(status).send(body);
}

/** Returns a digest: its fixed length makes the comparison take the same time for every input. */
function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/**
 * Returns whether the Host header has an IP address or localhost. Other names are refused, because a web page can lead
 * a browser to a loopback server under its own name (DNS rebinding).
 */
function namesThisHost(host: string | undefined): boolean {
  const name = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(host ?? '');
  const bare = name?.[1] ?? name?.[2] ?? '';
  return isIP(bare) !== 0 || bare.toLowerCase() === 'localhost';
}

function guard(app: FastifyInstance, token: Secret | undefined): void {
  const expected = token && digestOf(`Bearer ${token.reveal()}`);
  app.addHook('onRequest', async (request: FastifyRequest, reply: FastifyReply) => {
    if (OPEN_PATHS.has(request.url.split('?', 1)[0]!)) return;
    if (!expected) {
      if (!namesThisHost(request.headers.host))
        return refuse(reply, 403, 'SF_ADMIN_REFUSED', 'ask by address or as localhost');
    } else if (!timingSafeEqual(digestOf(request.headers.authorization ?? ''), expected)) {
      reply.header('www-authenticate', 'Bearer');
      return refuse(reply, 401, 'SF_ADMIN_REFUSED', 'the bearer token is missing or wrong');
    }
  });
}

function wanted(request: FastifyRequest, name: string, longest: number): string {
  const value = (request.query as Record<string, unknown>)[name];
  if (typeof value === 'string' && value !== '' && value.length <= longest) return value;
  throw new SipfarmError('SF_USAGE', `the query must hold ${name} once, with 1 to ${longest} characters`);
}

function wantedLimit(limit: unknown): number {
  const value = Number(limit);
  if (typeof limit === 'string' && /^\d{1,9}$/.test(limit) && value >= 1 && value <= MAX_LISTED_CALLS) return value;
  throw new SipfarmError('SF_USAGE', `limit must be a number from 1 to ${MAX_LISTED_CALLS}`);
}

/**
 * Returns the owner of a call from tables in memory, and its record from the store. Leaves the record out when the
 * store does not answer.
 */
async function ownerReport(api: AdminApi, callId: string): Promise<OwnerReport> {
  const answer = api.owner(callId);
  try {
    return { ...answer, record: await api.recordOf(callId), recordKnown: true };
  } catch (error) {
    const silent = error instanceof SipfarmError && (STATUS[error.code] === 503 || STATUS[error.code] === 502);
    if (!silent) throw error;
    return { ...answer, record: null, recordKnown: false };
  }
}

function addRoutes(app: FastifyInstance, { api, registry }: MemberAnswers): void {
  app.get('/livez', async () => ({ live: true }));
  app.get('/readyz', async (_request, reply) => {
    const readiness = api.ready();
    return reply.code(readiness.ready ? 200 : 503).send(readiness);
  });
  app.get('/metrics', async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()));
  app.get('/v1/farm', async () => api.farm());
  app.get('/v1/members', async () => ({ members: api.members(), absent: api.absent() }));
  app.get('/v1/peers', async () => ({ peers: api.peers() }));
  app.get('/v1/view', async () => ({ view: api.view() ?? null }));
  app.get('/v1/calls', async (request) => {
    const { limit, all } = request.query as Readonly<Record<string, unknown>>;
    if (limit === undefined) return api.calls();
    return { ...api.calls(), ...(await api.callList(wantedLimit(limit), all !== undefined)) };
  });
  app.get('/v1/owner', async (request) => ownerReport(api, wanted(request, 'callId', MAX_CALL_ID)));
  app.get('/v1/decode', async (request) => api.decode(wanted(request, 'text', 8192)));
  app.get('/v1/config', async () => ({ config: await api.getConfig() }));
  app.put('/v1/config', { bodyLimit: BODY_BYTES }, async (request) => {
    const settings = parseClusterSettings(request.body);
    await api.putConfig(settings);
    return { config: settings };
  });
}

function addOrderRoutes(app: FastifyInstance, { orders }: AdminApi): void {
  const idOf = (request: FastifyRequest): string => (request.params as { readonly id: string }).id;
  app.get('/v1/orders', async () => ({ orders: orders.all() }));
  app.get('/v1/orders/:id', async (request) => orders.status(idOf(request)));
  app.post('/v1/orders/:id', async (request) => orders.give(idOf(request), wantedOrder(request.body)));
  app.delete('/v1/orders/:id', async (request) => {
    const kinds = wanted(request, 'order', 64).split(',');
    if (kinds.every((kind) => isOneOf(kind, ORDER_KINDS))) return orders.lift(idOf(request), kinds);
    throw new SipfarmError('SF_USAGE', `order must name some of ${ORDER_KINDS.join(',')}`);
  });
  app.delete('/v1/members/:id', async (request) => {
    const { force } = request.query as Readonly<Record<string, unknown>>;
    await orders.remove(idOf(request), force === 'true');
    return { removed: idOf(request) };
  });
}

function wantedOrder(body: unknown): OrderRequest {
  const { order, deadlineSeconds } = (isObject(body) ? body : {}) as Readonly<Record<string, unknown>>;
  if (!isOneOf(order, ORDER_KINDS))
    throw new SipfarmError('SF_USAGE', `order must be one of ${ORDER_KINDS.join(', ')}`);
  if (deadlineSeconds === undefined) return { order };
  if (order === 'drain' && isInteger(deadlineSeconds, 0, MAX_DEADLINE_SECONDS)) return { order, deadlineSeconds };
  throw new SipfarmError('SF_USAGE', `deadlineSeconds goes with a drain and is 0 to ${MAX_DEADLINE_SECONDS}`);
}

/**
 * Refuses changing requests without content type JSON. A foreign web page can make a browser send simple requests, but
 * JSON needs a preflight request, which is not answered.
 */
function demandJson(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    if (request.method === 'GET' || request.method === 'HEAD') return;
    if (/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) return;
    return refuse(
      reply,
      415,
      'SF_ADMIN_REFUSED',
      'what changes something is asked with content-type: application/json',
    );
  });
}

function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setNotFoundHandler((_request, reply) => refuse(reply, 404, 'SF_ADMIN_REFUSED', 'there is no such path'));
  app.setErrorHandler((error: Error & { readonly statusCode?: number }, _request, reply) => {
    if (error instanceof SipfarmError) return refuse(reply, STATUS[error.code] ?? 500, error.code, error.message);
    const status = error.statusCode ?? 500;
    if (status < 500) return refuse(reply, status, 'SF_ADMIN_REFUSED', error.message);
    log.error({ err: error }, 'admin request failed');
    return refuse(reply, 500, 'SF_INTERNAL', 'the request failed; see the log of the member');
  });
}

export class AdminServer {
  readonly #app: FastifyInstance;
  readonly #bind: Endpoint;
  readonly #authorization: Readonly<Record<string, string>>;

  /** Throws SF_ADMIN_TOKEN_REQUIRED when `bind` is no loopback address and there is no token. */
  constructor(options: AdminOptions) {
    const { bind } = options;
    if (!isLoopback(bind.address) && !options.token)
      throw new SipfarmError(
        'SF_ADMIN_TOKEN_REQUIRED',
        `admin.bind ${formatEndpoint(bind)} is not a loopback address; set admin.token, or bind to 127.0.0.1`,
      );
    this.#bind = bind;
    this.#authorization = options.token ? { authorization: `Bearer ${options.token.reveal()}` } : {};
    const limits = options.limits ?? HTTP_LIMITS;
    this.#app = fastify({
      ...{ logger: false, bodyLimit: BODY_BYTES, forceCloseConnections: true },
      ...boundedServer(limits),
    });
    boundConnections(this.#app, limits, options.log);
    this.#app.removeContentTypeParser('text/plain');
    guard(this.#app, options.token);
    demandJson(this.#app);
    if ('routes' in options) options.routes(this.#app);
    else {
      addRoutes(this.#app, options);
      addOrderRoutes(this.#app, options.api);
    }
    answerErrors(this.#app, options.log);
  }

  /** Listens; resolves to the bound address. Rejects with SF_BIND_FAILED. */
  async start(): Promise<Endpoint> {
    const { address, port } = this.#bind;
    try {
      await this.#app.listen({ host: address, port });
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? String(error);
      throw new SipfarmError('SF_BIND_FAILED', `admin.bind ${formatEndpoint(this.#bind)}: ${reason}`, { cause: error });
    }
    const [bound] = this.#app.addresses() as { readonly port: number }[];
    return { address, port: bound?.port ?? port };
  }

  /** Answers as by HTTP to a client on this host that has the token. Needs no `start`. */
  async answer({ method, url, body }: Question): Promise<Answer> {
    const { statusCode, headers, payload } = await this.#app.inject({
      method: method as 'GET',
      url,
      headers: {
        host: 'localhost',
        ...this.#authorization,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { payload: body }),
    });
    return { status: statusCode, type: String(headers['content-type'] ?? 'text/plain'), body: payload };
  }

  /** Closes the port and every connection. */
  async stop(): Promise<void> {
    await this.#app.close();
  }
}
