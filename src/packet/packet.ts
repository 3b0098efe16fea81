// One message on its way through this member. One instance per entrance, filled again for each message: copy it to keep
// it.
//
// Each entrance fills its packet in one way: `begin`, then `cameFrom`, `cameTo` and `enteredAt`, or `cameRelayed` for a
// frame. `begin` resets every field, so a field that an entrance does not set has its default, never an old value.

/** Progress of the second chance of a packet without state (ownership/owner-lookup.ts). */
export const SecondChance = { none: 0, offered: 1, returned: 2 } as const;
export type SecondChance = (typeof SecondChance)[keyof typeof SecondChance];

/** Fields of a relayed frame that its packet takes over. */
export interface RelayedHead {
  /** The member that sent the frame, and the epoch of its view. */
  readonly sender: number;
  readonly epoch: number;
  readonly address: string;
  readonly port: number;
  readonly localAddress: string;
  readonly localPort: number;
  /** Code of the ingress listener. */
  readonly listener: number;
  readonly connection: number;
  readonly ingress: number;
  readonly ingressIncarnation: number;
  readonly hops: number;
  readonly secondChance: number;
}

const NO_BYTES = Buffer.alloc(0);

export class Packet {
  /**
   * The message is `bytes[start..end)`. The scanner may lower `end` to cut octets after the body that Content-Length
   * gives.
   */
  bytes: Buffer = NO_BYTES;
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
  /** The member that relayed it, when that member decided by an older view than this member's; else 0. */
  olderFrom = 0;
  /** 53-bit key of its Call-ID in local tables, and its slot. Set by the owner lookup. */
  callKey = 0;
  slot = 0;
  /** The owner that the packet names has no seat any more. Set by the owner lookup, read by the service. */
  orphan = false;
  /** Number of that owner; only valid in an orphan. */
  owner = 0;

  /** Sets every field to its value in a new packet. */
  reset(): void {
    this.bytes = NO_BYTES;
    this.start = 0;
    this.end = 0;
    this.address = '';
    this.port = 0;
    this.localAddress = '';
    this.localPort = 0;
    this.listener = 0;
    this.listenerCode = 0;
    this.connection = 0;
    this.fromBalancer = false;
    this.ingress = 0;
    this.ingressIncarnation = 0;
    this.hops = 0;
    this.secondChance = SecondChance.none;
    this.newerFrom = 0;
    this.olderFrom = 0;
    this.callKey = 0;
    this.slot = 0;
    this.orphan = false;
    this.owner = 0;
  }

  /** Resets every field and sets the message `bytes[start..end)`. The bytes are not copied. Returns this packet. */
  begin(bytes: Buffer, start: number, end: number): this {
    this.reset();
    this.bytes = bytes;
    this.start = start;
    this.end = end;
    return this;
  }

  /** Sets the source. `connection`: 0 for a datagram. `fromBalancer`: the balancer itself sent the message. */
  cameFrom(address: string, port: number, connection: number, fromBalancer: boolean): this {
    this.address = address;
    this.port = port;
    this.connection = connection;
    this.fromBalancer = fromBalancer;
    return this;
  }

  /** Sets the destination address, and the listener by index and code. The code is 0 for a packet from outside. */
  cameTo(localAddress: string, localPort: number, listener: number, listenerCode: number): this {
    this.localAddress = localAddress;
    this.localPort = localPort;
    this.listener = listener;
    this.listenerCode = listenerCode;
    return this;
  }

  /** Sets the member that received the packet from outside, and the hops since then. */
  enteredAt(ingress: number, incarnation: number, hops: number): this {
    this.ingress = ingress;
    this.ingressIncarnation = incarnation;
    this.hops = hops;
    return this;
  }

  /**
   * Sets source, destination, ingress member, hops and second chance from the head of a frame. `listener`: index of
   * this member's listener of that code, or -1. `epoch`: that of this member's view.
   */
  cameRelayed(frame: RelayedHead, listener: number, epoch: number): this {
    this.cameFrom(frame.address, frame.port, frame.connection, false);
    this.cameTo(frame.localAddress, frame.localPort, listener, frame.listener);
    this.enteredAt(frame.ingress, frame.ingressIncarnation, frame.hops);
    this.secondChance = frame.secondChance as SecondChance;
    this.newerFrom = frame.epoch > epoch ? frame.sender : 0;
    this.olderFrom = frame.epoch < epoch ? frame.sender : 0;
    return this;
  }
}
