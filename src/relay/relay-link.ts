// The relay link of this member: hands packets and outgoing messages to other members, and takes theirs.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { Network } from '../base/network.ts';
import type { CellFamily } from '../metrics/counters.ts';
import type { Flow } from '../ownership/flow.ts';
import type { Keyring } from '../ownership/keyring.ts';
import type { Packet } from '../transport/packet.ts';

/** Another member, as its record in the store tells it. */
export interface PeerInfo {
  readonly number: number;
  readonly incarnation: number;
  readonly id: string;
  /** Where its relay link listens, UDP and TCP. */
  readonly relay: Endpoint;
  /** Names of its listeners, in the order of its own indexes. */
  readonly listeners: readonly string[];
}

/** This member as it is now. Read per frame: hand out one object and keep it up to date. */
export interface RelaySelf {
  /** 0 while this member has no number yet: nothing is sent and nothing accepted. */
  readonly number: number;
  readonly incarnation: number;
  /** Epoch of the view this member decides by. */
  readonly epoch: number;
  /** Oldest epoch of a call this member still holds; 0 = none. */
  readonly heldSince: number;
}

export interface RelayHandlers {
  /** A packet for this member's owner lookup. The object is reused: copy what you keep. `packet.listener` is an index of this member. */
  onPacket(packet: Packet): void;
  /** Send `bytes[start..end)` by `flow`, which this member holds (`flow.listener` is an index of this member). The flow object is reused. */
  onEgress(flow: Flow, bytes: Buffer, start: number, end: number, fromMember: number): void;
  /** A member decides by a newer view: fetch it. At most once a second for one epoch. */
  onNewerEpoch(epoch: number): void;
  /** The members a majority of the other seated members cannot reach; called when the set changes. Always empty with fewer than three seats. */
  onSuspects(numbers: ReadonlySet<number>): void;
}

export interface RelayOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly log: Logger;
  /** UDP and TCP. */
  readonly bind: Endpoint;
  /** Octets of an IP packet that reach every other member unfragmented; 1500 by default. */
  readonly mtu?: number;
  readonly keys: () => Keyring;
  readonly self: () => RelaySelf;
  /** Names of this member's listeners, in the order of their indexes. */
  readonly listeners: readonly string[];
  readonly metrics: {
    /** Frames of kind packet and egress. */
    readonly relayed: CellFamily<'direction' | 'peer'>;
    readonly refused: CellFamily<'reason'>;
    /** Seconds of one hop: half of a probe's round trip. */
    readonly hop?: { observe(seconds: number): void };
  };
  readonly handlers: RelayHandlers;
}

export class RelayLink {
  constructor(_options: RelayOptions) {}

  /** Binds UDP and TCP; resolves to the bound endpoint (one port for both). Rejects with SF_BIND_FAILED. */
  start(): Promise<Endpoint> {
    return Promise.reject(new Error('to come'));
  }

  /** Closes sockets and connections; queued frames are lost. */
  stop(): Promise<void> {
    return Promise.resolve();
  }

  /** The members there are, this one left out or not. Whoever is missing is forgotten. */
  setPeers(_records: readonly PeerInfo[]): void {}

  /** The seats of the current view. Before the first call no frame is refused for want of a seat. */
  setSeats(_seats: readonly { readonly number: number; readonly incarnation: number }[]): void {}

  /** Passes the packet to member `to`, one hop further. False when there is no such peer, or no room for it: the packet is still yours. */
  relay(_to: number, _packet: Packet): boolean {
    return false;
  }

  /** Has `flow.member` send `bytes[start..end)` by `flow`. False when there is no such peer (this member is none), or no room. */
  egress(_flow: Readonly<Flow>, _bytes: Buffer, _start: number, _end: number): boolean {
    return false;
  }

  /** The index that this member's listener `own` has at member `number`, by name; -1 when there is none. For flows of packets that came to another member. */
  listenerAt(_number: number, _own: number): number {
    return -1;
  }

  /** False for a member that has not answered a probe for a second, and for one that is not known. */
  reachable(_number: number): boolean {
    return false;
  }

  /** Oldest epoch of a call that peer still holds; 0 = none, or not known. */
  heldSince(_number: number): number {
    return 0;
  }
}
