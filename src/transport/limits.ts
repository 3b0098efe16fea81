// Bounds of the transport: how much an outside party can make a member hold, and for how long.

export interface TransportLimits {
  /**
   * Octets of one message on a stream, from the start line to the last octet of the body. It bounds each half message,
   * too.
   */
  readonly messageBytes: number;
  /** Octets of start line and headers on a stream. */
  readonly headerBytes: number;
  /** Milliseconds from the first octet of a message on a stream to its last. */
  readonly halfMessageMs: number;
  /** Milliseconds that an accepted connection may stay open before its first whole message or keep-alive. */
  readonly silentMs: number;
  /**
   * Milliseconds without an octet in either direction. Keep it above the keep-alive interval of clients (RFC 5626
   * 4.4.1: 120 s).
   */
  readonly idleMs: number;
  /** Milliseconds after the last message in which a half-closed client may get an answer: 64*T1 (RFC 3261 17.1.2.2). */
  readonly answerMs: number;
  /**
   * The same while its INVITE has no final answer: timer C (RFC 3261 16.8) plus 64*T1 for the answer to the CANCEL it
   * causes.
   */
  readonly ringingMs: number;
  /** Milliseconds until an outgoing connection must be open. */
  readonly connectMs: number;
  /** Milliseconds for the answer to a framing fault to leave before its connection is destroyed. */
  readonly lingerMs: number;
  /** Open connections in total, in and out. At this number new ones are refused until it has fallen to nine tenths. */
  readonly connections: number;
  /**
   * Accepted connections per IPv4 address or IPv6 /64, with the same nine tenths.
   * Behind a TCP proxy every client has the proxy's address, unless the proxy names the client (proxyProtocol). Raise
   * the limit there.
   */
  readonly connectionsPerSource: number;
  /**
   * Octets that the half messages of all connections may hold together. Above it the largest, then the oldest, lose
   * their connections.
   */
  readonly bufferedBytes: number;
  /** Octets that may wait for one slow reader. Above it the reader's connection is destroyed. */
  readonly sendQueueBytes: number;
  /**
   * Octets that may wait for all slow readers together. Checked once a second; connections with the longest queues are
   * destroyed.
   */
  readonly sendQueueTotalBytes: number;
  /** Milliseconds in which a PROXY header must be complete. Checked once a second. */
  readonly proxyHeaderMs: number;
  /** Clients behind proxies that a UDP listener remembers, so that answers reach them. Each needs about 200 octets. */
  readonly proxyPeers: number;
  /** Milliseconds that such a client is remembered at least after its last datagram, while there is room. */
  readonly proxyPeerMs: number;
}

export const DEFAULT_LIMITS: TransportLimits = {
  messageBytes: 65_535,
  headerBytes: 65_535,
  halfMessageMs: 10_000,
  silentMs: 60_000,
  idleMs: 3_600_000,
  answerMs: 32_000,
  ringingMs: 212_000,
  connectMs: 5_000,
  lingerMs: 2_000,
  connections: 20_000,
  connectionsPerSource: 2_000,
  bufferedBytes: 64 * 1024 * 1024,
  sendQueueBytes: 512 * 1024,
  sendQueueTotalBytes: 256 * 1024 * 1024,
  proxyHeaderMs: 5_000,
  proxyPeers: 131_072,
  proxyPeerMs: 7_200_000,
};
