// The seam between a call's media session and the relay that forwards its packets. A stream has a leg at each side.
// A packet that comes to one leg leaves by the other. The relay in user space implements it; relays of other programs
// can.
import type { ExpectedSource } from './latch.ts';

/** outside: towards the client. inside: towards the SIP server. */
export const Side = { outside: 0, inside: 1 } as const;
export type Side = (typeof Side)[keyof typeof Side];

/** The forwarder of packets: the thread of the relay in user space, or the kernel. */
export type Way = 'user' | 'kernel';

/** Ports of one leg of a stream. */
export interface LegPorts {
  readonly port: number;
  /** Port for RTCP; `port` itself with rtcp-mux. */
  readonly rtcpPort: number;
}

/** Where a party expects media, and thus where it probably sends from. undefined: it expects none. */
export interface LegTarget {
  readonly rtp: ExpectedSource | undefined;
  readonly rtcp: ExpectedSource | undefined;
}

/** Counts of the packets that came to one leg. Loss and jitter are those of the party's last report (RFC 3550 6.4). */
export interface LegStatistics {
  readonly packets: number;
  readonly octets: number;
  /** Packets of sources that do not fit, and packets that are no media. */
  readonly foreign: number;
  /** Packets that the party has reported as lost, and its jitter in units of the RTP timestamp; -1 = no report. */
  readonly lost: number;
  readonly jitter: number;
  /** The source is locked. */
  readonly latched: boolean;
  /** Monotonic time of the last packet of the party, ms; 0 = none. */
  readonly lastAt: number;
}

/** One stream of a party: two legs that face each other. All methods return at once. */
export interface RelayStream {
  /** Ports by side. The leg at the inner side has its ports at the address of `StreamOptions.facing`. */
  readonly ports: readonly [LegPorts, LegPorts];
  /** Takes the place that a new offer or answer of this side's party names. */
  expect(side: Side, target: LegTarget): void;
  /**
   * Packets from outside leave by the outer leg of `other`, and no longer by the inner leg. undefined: by the inner
   * leg. For two parties of this relay, whose SIP server has passed on the description of one to the other.
   */
  join(other: RelayStream | undefined): void;
  /** Both parties use one port for RTP and RTCP (RFC 5761): the second ports become free. */
  mux(): void;
  /** Statistics of the packets that came from this side. */
  statistics(side: Side): LegStatistics;
  /** Forwards nothing more. The ports rest. */
  close(): void;
  /** After `close`: resolves when the statistics change no more, some seconds later at the most. Never rejects. */
  readonly final: Promise<unknown>;
}

export interface StreamOptions {
  /** RTP in clear: its padding is checked, and its RTCP reports are read. */
  readonly clear: boolean;
  /** One port from the beginning: the offer has a=rtcp-mux-only (RFC 8858). */
  readonly single: boolean;
  /** Network of the inner leg: the far party is at the SIP server's side, or is another client. */
  readonly facing: Side;
  /** A stream of a call that exists already may take ports of the reserve. */
  readonly ofNewCall: boolean;
}

export interface MediaRelay {
  /** Opens the sockets of a stream. Returns undefined when the ports of a side are used up. */
  open(options: StreamOptions): RelayStream | undefined;
  /** Opens a stream of a restarted process on the ports of its record. Returns undefined when one is not free. */
  reopen(options: StreamOptions, ports: readonly [LegPorts, LegPorts]): RelayStream | undefined;
}
