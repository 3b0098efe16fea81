// Limits the connections and times that a slow or hostile client can use on the admin port.
import type { FastifyInstance, FastifyServerOptions } from 'fastify';
import type { Logger } from 'pino';

export interface HttpLimits {
  /** Open connections; further ones are closed at once. */
  readonly connections: number;
  /** Milliseconds for the headers, from the opening of a connection, or from the first octet of a later request. */
  readonly headersMs: number;
  /**
   * Milliseconds for headers and body, from the same moment. Must exceed `headersMs`: otherwise Node.js exchanges the
   * two.
   */
  readonly requestMs: number;
  /** Milliseconds from the end of the headers to the end of the answer. A slower reader loses its connection. */
  readonly exchangeMs: number;
  /** Milliseconds that a connection may wait for its next request. */
  readonly idleMs: number;
  /** Milliseconds between two checks of `headersMs` and `requestMs`, which may be exceeded by that much. */
  readonly checkMs: number;
}

/** At most 80 KB per connection (headers and body): 20 MB in all. */
export const HTTP_LIMITS: HttpLimits = {
  connections: 256,
  headersMs: 5_000,
  requestMs: 10_000,
  exchangeMs: 60_000,
  idleMs: 20_000,
  checkMs: 1_000,
};

/** Milliseconds between two log lines about a full port. */
const LOG_PAUSE_MS = 60_000;

/** Returns the limits that the server takes as options. */
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

/** Sets the other limits on a server made with `boundedServer`. */
export function boundConnections({ server }: FastifyInstance, limits: HttpLimits, log: Logger): void {
  let told = Number.NEGATIVE_INFINITY;
  server.maxConnections = limits.connections;
  server.on('drop', () => {
    // Makes room for the next client. A client without a request can open another connection.
    server.closeIdleConnections();
    if (performance.now() - told < LOG_PAUSE_MS) return;
    told = performance.now();
    log.warn({ connections: limits.connections }, 'the admin port is full: new connections are closed');
  });
  server.on('request', (request, response) => {
    const late = setTimeout(() => request.socket.destroy(), limits.exchangeMs).unref();
    response.once('close', () => clearTimeout(late));
  });
}
