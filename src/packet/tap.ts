// A tap shows each packet at fixed points of its way through this member, for a trace. Without a tap a point costs one
// comparison.
import type { Endpoint } from '../base/endpoint.ts';
import type { Flow } from './flow.ts';
import type { Packet } from './packet.ts';
import type { DropReason } from './verdict.ts';

/** The points, each with its detail. */
export interface TapDetails {
  /** A packet from outside entered the packet path, before its scan. */
  readonly received: null;
  /** A packet or message goes to another member, whose number is the detail. */
  readonly relayed: number;
  /** A packet for the owner lookup, or a message for a flow of this member, came from another member. */
  readonly 'from-peer': null;
  /** A message goes to the SIP server at this endpoint. */
  readonly 'to-server': Readonly<Endpoint>;
  /** A message leaves from a listener of this member by this flow. */
  readonly 'to-client': Readonly<Flow>;
  /** The packet path drops a packet. */
  readonly dropped: DropReason;
}

type TapPoint = keyof TapDetails;

export interface Tap {
  /**
   * Called at a point. `message` is a packet, or the whole message. Message and detail are reused: copy what must
   * outlive the call. May not throw, change the message or send.
   */
  seen<P extends TapPoint>(point: P, message: Readonly<Packet> | Buffer, detail: TapDetails[P]): void;
}

/** Holds the tap of a member for all its points. It may be set and cleared at any time. */
export class TapSlot {
  tap: Tap | null = null;
}
