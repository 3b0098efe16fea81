// Messages from the main thread to the thread of the relay. A port is named by its index (relay-memory.ts).
import type { Endpoint } from '../../base/endpoint.ts';
import type { ExpectedSource } from '../latch.ts';
import type { Side } from '../media-relay.ts';

/** Packets that come to one port leave by the other. */
export interface FacingPorts {
  readonly port: number;
  readonly facing: number;
}

/** One socket of a stream. */
export interface PortOpening extends FacingPorts {
  /** The port's number in UDP. */
  readonly number: number;
  readonly fd: number;
  readonly side: Side;
}

export type RelayMessage =
  | { readonly kind: 'open'; readonly stream: number; readonly clear: boolean; readonly ports: readonly PortOpening[] }
  /** undefined: the party expects no media. */
  | { readonly kind: 'expect'; readonly port: number; readonly source: ExpectedSource | undefined }
  /** See `Latch.hold`. */
  | { readonly kind: 'hold'; readonly port: number; readonly held: boolean }
  /** Packets that come to a port leave by another one from now on. */
  | { readonly kind: 'join'; readonly ports: readonly FacingPorts[] }
  /** A port rests, and another one takes its place. */
  | { readonly kind: 'mux'; readonly ports: readonly { readonly port: number; readonly into: number }[] }
  /** The ports rest: their packets are late. */
  | { readonly kind: 'rest'; readonly ports: readonly number[] }
  /** The thread closes the descriptor. */
  | { readonly kind: 'close'; readonly port: number }
  | { readonly kind: 'stop' };

/** Message from the thread. `fault`: a packet made the program throw. */
export type ThreadMessage = { readonly kind: 'ready' } | { readonly kind: 'fault'; readonly error: Error };

/** The same for the whole life of the thread. */
export interface ThreadData {
  readonly buffer: SharedArrayBuffer;
  readonly ports: number;
  /** Descriptors. */
  readonly epoll: number;
  readonly wake: number;
  /** Milliseconds from the system's monotonic clock to that of the main thread. */
  readonly offsetMs: number;
  readonly targets: TargetRules;
}

/** Facts that decide where media may go. */
export interface TargetRules {
  /** Own address and port range of each side. */
  readonly sides: readonly [MediaRange, MediaRange];
  /** Endpoints of this node that are no media ports: admin, relay link, listeners. */
  readonly own: readonly Endpoint[];
}

export interface MediaRange {
  readonly address: string;
  /** Address that descriptions show, where a NAT makes it another one. */
  readonly advertised?: string;
  /** The first and the last port, both included. */
  readonly first: number;
  readonly last: number;
}

/** Returns the time of the system's monotonic clock, ms: the same in every thread, other than performance.now(). */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}
