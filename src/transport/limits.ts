// The bounds of the transport: what an outside party can make a member hold, and for how long.

export interface TransportLimits {
  /** Octets of one message on a stream, start line to last octet of the body. Raising it raises what a half message may hold. */
  readonly messageBytes: number;
  /** Octets of start line and headers on a stream. */
  readonly headerBytes: number;
  /** Milliseconds from the first octet of a message on a stream to its last. */
  readonly halfMessageMs: number;
  /** Milliseconds an accepted connection may stay before its first whole message or keep-alive. */
  readonly silentMs: number;
  /** Milliseconds without an octet in either direction. Keep it above the keep-alive interval of clients (RFC 5626 section 4.4.1: 120 s). */
  readonly idleMs: number;
  /** Milliseconds behind the last message in which a client that has shut its sending half may get an answer: 64*T1 (RFC 3261 section 17.1.2.2). */
  readonly answerMs: number;
  /** The same while its INVITE has no final answer: timer C, and 64*T1 for the answer to the CANCEL that it causes (RFC 3261 section 16.8). */
  readonly ringingMs: number;
  /** Milliseconds until an outgoing connection must be open. */
  readonly connectMs: number;
  /** Milliseconds that the answer to a framing fault gets to leave before its connection is destroyed. */
  readonly lingerMs: number;
  /** Open connections in all, in and out. New ones are refused from here until their number has fallen to nine tenths. */
  readonly connections: number;
  /** Accepted connections per IPv4 address or IPv6 /64, with the same nine tenths. Behind a TCP proxy every client has the proxy's address, unless the proxy names it (proxyProtocol): raise it there. */
  readonly connectionsPerSource: number;
  /** Octets that the half messages of all connections may hold together; above it the largest, then oldest, lose their connections. */
  readonly bufferedBytes: number;
  /** Octets that wait for one slow reader; above it its connection is destroyed. */
  readonly sendQueueBytes: number;
  /** Octets that wait for all slow readers together; looked at once a second, the longest queues are cut off. */
  readonly sendQueueTotalBytes: number;
  /** Milliseconds in which a PROXY header must be whole; looked at once a second. */
  readonly proxyHeaderMs: number;
  /** Clients behind proxies remembered per UDP listener, so that answers find them; some 200 octets each. */
  readonly proxyPeers: number;
  /** Milliseconds such a client is remembered at least after its last datagram, while there is room. */
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
