// A flow (RFC 5626 1): one way to reach a remote party, held at one member.

export interface Flow {
  /** The member that holds the flow, and its incarnation when the flow was made. */
  member: number;
  incarnation: number;
  /** Code of the listener, the same at every member (base/listener-code.ts). */
  listener: number;
  /** The connection at that member; 0 for a datagram flow. */
  connection: number;
  /** Remote address and port of a datagram flow; informative for a connection. */
  address: string;
  port: number;
}

/** The flow to a party, with the place that the party gave when it last used the flow. */
export interface Way extends Flow {
  /**
   * Hash of host and port of its Contact, 31 bits. 0: it had none. -1: not recorded, since the token is that of a bare
   * flow.
   */
  target: number;
  /** True behind a NAT: this farm cannot reach its Contact. */
  nat: boolean;
}

/** Returns a way without a destination, to be filled. */
export function emptyWay(): Way {
  return { member: 0, incarnation: 0, listener: 0, connection: 0, address: '', port: 0, target: -1, nat: false };
}

/**
 * Returns true when both flows lead to the same place.
 * That is one connection, or one remote address and port at listeners of one name.
 */
export function sameFlow(one: Readonly<Flow>, other: Readonly<Flow>): boolean {
  if (one.listener !== other.listener || one.connection !== other.connection) return false;
  return one.connection !== 0
    ? one.member === other.member && one.incarnation === other.incarnation
    : one.address === other.address && one.port === other.port;
}

/** Returns a flow without a destination, to be filled. */
export function emptyFlow(): Flow {
  return { member: 0, incarnation: 0, listener: 0, connection: 0, address: '', port: 0 };
}
