// What an owner does with a packet: the packet's way ends here, and what leaves again leaves by the egress.
import type { Way } from '../packet/flow.ts';
import type { Packet } from '../packet/packet.ts';
import type { Scan } from '../sip/scan.ts';

export interface Service {
  /** Takes one message that this member owns, as it came from outside or from a peer. Both arguments are reused after the call. Never throws, never awaits. */
  handle(packet: Packet, scan: Scan): void;
  /**
   * A request that this member has sent by way of another comes back: `lost`, the connection there, is gone. `message` is the service's; `lost` is
   * reused after the call. Never throws, never awaits.
   */
  returned(message: Buffer, lost: Readonly<Way>): void;
  /** Why new calls cannot be served now, in an operator's words; undefined when they can. */
  readonly trouble: string | undefined;
  /** Binds its sockets; rejects with SF_BIND_FAILED. */
  start(): Promise<void>;
  stop(): Promise<void>;
}
