// What an owner does with a packet. The packet's way ends here; what leaves again leaves by the egress.

import type { ReplyStatus } from '../ownership/verdict.ts';
import type { Scan } from '../sip/scan.ts';
import type { Packet } from '../transport/packet.ts';

export interface Service {
  /** Takes one message that this member owns, as it came from outside or from a peer. Both arguments are reused after the call. Never throws, never awaits. */
  handle(packet: Packet, scan: Scan): void;
  /** False while new calls cannot be served; the word says why, for /readyz. */
  readonly trouble: string | undefined;
  /** Binds sockets; rejects with SF_BIND_FAILED. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** What a service is given to act with; all of it answers at once. */
export interface Actions {
  /** Answers a request statelessly, to where it came from. Nothing happens for an ACK. */
  reply(packet: Packet, scan: Scan, status: ReplyStatus, headers?: string): void;
}
