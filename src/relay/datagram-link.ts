// The datagram side of the relay link: its own UDP socket, so that a flood at a SIP listener cannot fill its buffer.
import { type Endpoint, isIpv6 } from '../base/endpoint.ts';
import type { DatagramSocket, Network } from '../base/network.ts';
import type { Cell } from '../metrics/counters.ts';

/** The longest payload of a UDP datagram over IPv4 (RFC 768, RFC 791: 65,535 less both headers). */
export const MAX_DATAGRAM_OCTETS = 65_507;

/** Octets of UDP and IP header in front of a frame to `address`: 28 for IPv4, 48 for IPv6, without options. */
export function ipOverhead(address: string): number {
  return isIpv6(address) ? 48 : 28;
}

export class DatagramLink {
  readonly #network: Network;
  readonly #onDatagram: (bytes: Buffer, address: string, port: number) => void;
  readonly #sendErrors: Cell;
  #socket: DatagramSocket | undefined;

  constructor(network: Network, onDatagram: (bytes: Buffer, address: string, port: number) => void, sendErrors: Cell) {
    this.#network = network;
    this.#onDatagram = onDatagram;
    this.#sendErrors = sendErrors;
  }

  /** Binds the socket. Resolves to the bound endpoint; rejects with the system's error. */
  async bind(local: Endpoint): Promise<Endpoint> {
    this.#socket = await this.#network.bindUdp(local, {
      onDatagram: this.#onDatagram,
      onSendError: () => {
        this.#sendErrors.n++;
      },
    });
    return this.#socket.local;
  }

  /** Sends `frame` as one datagram; no effect while unbound. The socket reads `frame` later: it may not be reused. */
  send(frame: Buffer, to: Endpoint): void {
    this.#socket?.send(frame, to.address, to.port);
  }

  async close(): Promise<void> {
    const socket = this.#socket;
    this.#socket = undefined;
    await socket?.close();
  }
}
