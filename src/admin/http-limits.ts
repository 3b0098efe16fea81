// The bounds of the admin port: what a client that is slow, or means no good, can hold there, and for how long.
import type { FastifyInstance, FastifyServerOptions } from 'fastify';
import type { Logger } from 'pino';

export interface HttpLimits {
  /** Open connections; those above it are closed at once. */
  readonly connections: number;
  /** Milliseconds from the opening of a connection, or the first octet of a later request, to the end of the headers. */
  readonly headersMs: number;
  /** Milliseconds from the same moment to the end of the body. Above `headersMs`: Node.js exchanges the two otherwise. */
  readonly requestMs: number;
  /** Milliseconds from the end of the headers to the end of the answer: a reader who is slow gets no more. */
  readonly exchangeMs: number;
  /** Milliseconds until the next request on a connection. */
  readonly idleMs: number;
  /** Milliseconds from one look at the first two to the next: they may last that much longer. */
  readonly checkMs: number;
}

/** At most 80 KB each (headers and body): 20 MB in all. */
export const HTTP_LIMITS: HttpLimits = {
  connections: 256,
  headersMs: 5_000,
  requestMs: 10_000,
  exchangeMs: 60_000,
  idleMs: 20_000,
  checkMs: 1_000,
};

/** Milliseconds from one log line about a full port to the next. */
const TOLD_MS = 60_000;

/** Those of the limits that the server takes as options. */
export function boundedServer(limits: HttpLimits): FastifyServerOptions & { http: object } {
  return {
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.idleMs,
    http: {
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: limits.checkMs,
    },
  };
}

/** Sets the rest on a server made with `boundedServer`. */
export function boundConnections({ server }: FastifyInstance, limits: HttpLimits, log: Logger): void {
  let told = Number.NEGATIVE_INFINITY;
  server.maxConnections = limits.connections;
  server.on('drop', () => {
    // Room for the next: whoever waits on a connection without a request can open another.
    server.closeIdleConnections();
    if (performance.now() - told < TOLD_MS) return;
    told = performance.now();
    log.warn({ connections: limits.connections }, 'the admin port is full: new connections are closed');
  });
  server.on('request', (request, response) => {
    const late = setTimeout(() => request.socket.destroy(), limits.exchangeMs).unref();
    response.once('close', () => clearTimeout(late));
  });
}
