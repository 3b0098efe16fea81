// One message on its way through this member. One instance per entrance, filled anew for each message: whoever keeps it must copy.

/** How far the second chance of a packet without state has gone (ownership/owner-lookup.ts). */
export const SecondChance = { none: 0, offered: 1, returned: 2 } as const;
export type SecondChance = (typeof SecondChance)[keyof typeof SecondChance];

export class Packet {
  /** The message is `bytes[start..end)`; the scanner may move `end` to cut noise behind Content-Length. */
  bytes: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  /** True source: of the datagram or connection, or the one a trusted proxy named; also when a peer relayed the packet. */
  address = '';
  port = 0;
  /** The address the packet came to: local at the ingress member, or where the client sent to by the word of a trusted proxy. */
  localAddress = '';
  localPort = 0;
  /** Index of this member's listener with the name the packet came to; -1 = this member has none. */
  listener = 0;
  /** Code of that listener, of a packet that a peer relayed. */
  listenerCode = 0;
  /** Connection at the ingress member; 0 for a datagram. */
  connection = 0;
  /** The proxy in front speaks for itself (PROXY protocol, command LOCAL): no client sent this. */
  fromBalancer = false;
  /** Number and incarnation of the member the packet came to. */
  ingress = 0;
  ingressIncarnation = 0;
  /** Relay hops so far; 0 when it came from outside. */
  hops = 0;
  secondChance: SecondChance = SecondChance.none;
  /** The member that relayed it, when it decided by a newer view than ours; else 0. */
  newerFrom = 0;
  /** The 53-bit key of its Call-ID in local tables, and its slot: set by the owner lookup. */
  callKey = 0;
  slot = 0;
  /** The owner named by the packet has no seat any more: set by the owner lookup, read by the service. */
  orphan = false;
  /** Number of that owner; only meaningful in an orphan. */
  owner = 0;
}
