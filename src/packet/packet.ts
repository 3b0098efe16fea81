// One message on its way through this member. One instance per entrance, filled again for each message: copy it to keep
// it.

/** Progress of the second chance of a packet without state (ownership/owner-lookup.ts). */
export const SecondChance = { none: 0, offered: 1, returned: 2 } as const;
export type SecondChance = (typeof SecondChance)[keyof typeof SecondChance];

export class Packet {
  /**
   * The message is `bytes[start..end)`. The scanner may lower `end` to cut octets after the body that Content-Length
   * gives.
   */
  bytes: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  /**
   * True source of the datagram or connection, or the source that a trusted proxy named. Kept when a peer relays the
   * packet.
   */
  address = '';
  port = 0;
  /**
   * Address the packet came to: local at the ingress member, or the client's destination according to a trusted proxy.
   */
  localAddress = '';
  localPort = 0;
  /** Index of this member's listener that has the name of the ingress listener; -1 = this member has none. */
  listener = 0;
  /** Code of that listener; set on a packet that a peer relayed. */
  listenerCode = 0;
  /** Connection at the ingress member; 0 for a datagram. */
  connection = 0;
  /** The balancer itself sent this packet, no client (PROXY protocol, command LOCAL). */
  fromBalancer = false;
  /** Number and incarnation of the member that received the packet from outside. */
  ingress = 0;
  ingressIncarnation = 0;
  /** Relay hops so far; 0 when it came from outside the farm. */
  hops = 0;
  secondChance: SecondChance = SecondChance.none;
  /** The member that relayed it, when that member decided by a newer view than this member's; else 0. */
  newerFrom = 0;
  /** 53-bit key of its Call-ID in local tables, and its slot. Set by the owner lookup. */
  callKey = 0;
  slot = 0;
  /** The owner that the packet names has no seat any more. Set by the owner lookup, read by the service. */
  orphan = false;
  /** Number of that owner; only valid in an orphan. */
  owner = 0;
}
