// Serves health, metrics, status and orders of the running member over HTTP. Binds to loopback by default; other
// addresses need a token.
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { type ErrorCode, SipfarmError } from '../base/errors.ts';
import { isLoopback } from '../config/schema.ts';
import type { Secret } from '../config/secret.ts';
import { boundConnections, boundedServer, HTTP_LIMITS, type HttpLimits } from './http-limits.ts';
import { ADMIN_ROUTES, type AdminRequest, type MemberAnswers, Reply } from './routes.ts';

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
        return refuse(reply, 403, 'SF_ADMIN_REFUSED', 'the Host header must be an IP address or localhost');
    } else if (!timingSafeEqual(digestOf(request.headers.authorization ?? ''), expected)) {
      reply.header('www-authenticate', 'Bearer');
      return refuse(reply, 401, 'SF_ADMIN_REFUSED', 'the bearer token is missing or wrong');
    }
  });
}

function addRoutes(app: FastifyInstance, of: MemberAnswers): void {
  for (const { method, path, answer } of ADMIN_ROUTES)
    app.route({
      method,
      url: path,
      handler: async ({ query, params, body }, reply) => {
        const given = await answer(of, { query, params, body } as AdminRequest);
        if (!(given instanceof Reply)) return given;
        if (given.type !== undefined) reply.type(given.type);
        return reply.code(given.status).send(given.body);
      },
    });
}

/**
 * Refuses changing requests without content type JSON. A foreign web page can make a browser send simple requests, but
 * JSON needs a preflight request, which is not answered.
 */
function demandJson(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    if (request.method === 'GET' || request.method === 'HEAD') return;
    if (/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) return;
    return refuse(reply, 415, 'SF_ADMIN_REFUSED', 'a changing request needs content-type: application/json');
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
    else addRoutes(this.#app, options);
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
