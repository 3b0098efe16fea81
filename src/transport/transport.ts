// The face of the transport: all listeners of a member, what they bring in, and the ways out by datagram and by connection.
import type { Clock } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { ByteStream, DatagramSocket, Network } from '../base/network.ts';
import type { CellFamily } from '../metrics/counters.ts';
import type { FrameFault } from './framer.ts';
import type { TransportLimits } from './limits.ts';
import type { Packet } from './packet.ts';
import type { CloseReason } from './tcp.ts';

export interface ListenerConfig {
  readonly name: string;
  readonly transport: 'udp' | 'tcp';
  readonly bind: Endpoint;
  /** What Via, Record-Route and Contact show. Port 0 stands for the port that was bound. */
  readonly advertise: Endpoint;
  readonly answer: 'direct' | 'ingress';
  /** false: a TCP listener that opens no port; its connections are handed in by `accept`. */
  readonly listen?: boolean;
}

/** A listener after `start`. Its index in `Transport.listeners` is `Packet.listener` and the listener of a flow. */
export interface Listener extends ListenerConfig {
  /** The bound address and port; `bind` before `start`. */
  readonly local: Endpoint;
}

export interface TransportHandlers {
  /** A message. The packet and its bytes are reused: copy what is kept beyond the call. Must not throw. */
  onPacket(packet: Packet): void;
  /** A stream lost its framing. `packet` holds what came of the message; an answer sent before this returns still leaves, then the connection closes. */
  onFault(packet: Packet, fault: FrameFault): void;
  /** The connection takes no more messages. May be called from within `sendStream`. */
  onFlowClosed(connection: number, reason: CloseReason): void;
}

export interface TransportOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly listeners: readonly ListenerConfig[];
  readonly limits: TransportLimits;
  readonly handlers: TransportHandlers;
  /** received_packets_total */
  readonly received: CellFamily<'listener' | 'class'>;
  /** closed_connections_total */
  readonly closedConnections: CellFamily<'reason'>;
  /** send_errors_total */
  readonly sendErrors: CellFamily<'listener'>;
  /** UDP sockets that exist already, by listener name; the listener binds none of its own, and datagrams come by `inject`. */
  readonly sockets?: ReadonlyMap<string, DatagramSocket>;
}

export class Transport {
  readonly listeners: readonly Listener[];

  constructor(options: TransportOptions) {
    this.listeners = options.listeners.map((listener) => ({ ...listener, local: listener.bind }));
  }

  /** Which member packets are stamped with; known once the store has given the number. */
  setSelf(_member: number, _incarnation: number): void {
    throw new Error('under construction');
  }

  /** Binds all listeners. Rejects with SF_BIND_FAILED, which names listener, address and reason; then nothing stays bound. */
  start(): Promise<void> {
    throw new Error('under construction');
  }

  /** Sends from the listener's own address. `address` is an IP literal. `bytes` is not copied: do not reuse it before the turn ends. Failures are counted, never thrown. */
  sendDatagram(_listener: number, _bytes: Uint8Array, _address: string, _port: number): void {
    throw new Error('under construction');
  }

  /** Queues `bytes` (copied) on the connection; false when it is gone, or is cut off now because its reader is too slow. */
  sendStream(_connection: number, _bytes: Uint8Array): boolean {
    throw new Error('under construction');
  }

  /** The open connection from this listener's address to `remote`, or a new one (messages may be sent at once); 0 when refused by a limit or not an address of the listener's family. */
  connectStream(_listener: number, _remote: Endpoint): number {
    throw new Error('under construction');
  }

  /** Takes an accepted connection for a TCP listener. */
  accept(_listener: number, _stream: ByteStream): void {
    throw new Error('under construction');
  }

  /** Takes a datagram for a UDP listener, as if its socket had received it. */
  inject(_listener: number, _bytes: Buffer, _address: string, _port: number): void {
    throw new Error('under construction');
  }

  /** Open connections. */
  connections(): number {
    return 0;
  }

  /** Octets held by half messages of all connections. */
  bufferedBytes(): number {
    return 0;
  }

  /** Closes what this transport bound, and every connection. Given sockets stay open. */
  stop(): Promise<void> {
    return Promise.resolve();
  }
}
