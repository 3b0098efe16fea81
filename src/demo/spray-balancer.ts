// The demo's balancer: stateless and without knowledge of SIP. It gives each datagram and each connection to another
// member than the one before.
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import type { ByteStream, DatagramSocket, Network, StreamServer } from '../base/network.ts';

/** The side of a member that receives packets from the balancer. */
export interface Frontend {
  datagram(bytes: Buffer, address: string, port: number): void;
  connection(stream: ByteStream): void;
}

export class SprayBalancer {
  readonly #network: Network;
  readonly #vip: Endpoint;
  #frontends: readonly Frontend[] = [];
  #last = 0;
  #udp: DatagramSocket | undefined;
  #tcp: StreamServer | undefined;

  constructor(network: Network, vip: Endpoint) {
    this.#network = network;
    this.#vip = vip;
  }

  /**
   * Opens the VIP. Members answer by the returned socket, as with direct server return. Rejects with SF_BIND_FAILED.
   */
  async start(): Promise<DatagramSocket> {
    try {
      this.#udp = await this.#network.bindUdp(this.#vip, {
        onDatagram: (bytes, address, port) => this.#next()?.datagram(bytes, address, port),
        onSendError: () => {},
      });
      this.#tcp = await this.#network.listenTcp(this.#udp.local, (stream) => {
        const frontend = this.#next();
        if (frontend) frontend.connection(stream);
        else stream.destroy();
      });
      return this.#udp;
    } catch (error) {
      await this.stop();
      const reason = error instanceof Error ? error.message : String(error);
      throw new SipfarmError(
        'SF_BIND_FAILED',
        `the demo's balancer cannot open ${formatEndpoint(this.#vip)}: ${reason}`,
        { cause: error },
      );
    }
  }

  /** Sets the live members. */
  pool(frontends: readonly Frontend[]): void {
    this.#frontends = frontends;
  }

  /** Returns any member but the last one. */
  #next(): Frontend | undefined {
    const count = this.#frontends.length;
    this.#last = count < 2 ? 0 : (this.#last + 1 + Math.floor(Math.random() * (count - 1))) % count;
    return this.#frontends[this.#last];
  }

  async stop(): Promise<void> {
    const [udp, tcp] = [this.#udp, this.#tcp];
    this.#udp = undefined;
    this.#tcp = undefined;
    await Promise.all([udp?.close(), tcp?.close()]);
  }
}
