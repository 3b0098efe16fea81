// Remembers which proxy address and port the datagrams of each client behind a proxy come from. Answers go there.

/** The proxy's end of one client's session. */
export interface ProxyPeer {
  /** Source of the client's datagrams, and destination of answers. */
  readonly address: string;
  readonly port: number;
  /** Address and port that the client sent to, according to the header. */
  readonly localAddress: string;
  readonly localPort: number;
  /** True when the header had the simple form. */
  readonly simple: boolean;
}

export interface ProxyPeersOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Most clients remembered. */
  readonly most: () => number;
  /** Milliseconds that a client is remembered at least after its last datagram, while there is room. */
  readonly keepMs: () => number;
}

/**
 * Holds two generations; a client that sends is in the young one. The young one becomes the old one when it holds half
 * of all clients, or is `keepMs` old. The former old one is then forgotten. So a datagram of a remembered client costs
 * one lookup, and forgetting costs nothing.
 */
export class ProxyPeers {
  readonly #options: ProxyPeersOptions;
  #young = new Map<string, ProxyPeer>();
  #old = new Map<string, ProxyPeer>();
  #youngSince: number;

  constructor(options: ProxyPeersOptions) {
    this.#options = options;
    this.#youngSince = options.now();
  }

  /** Number of remembered clients. A client in both generations counts twice. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** Notes that a datagram of the client came from the proxy's `address` and `port`. */
  remember(
    client: string,
    clientPort: number,
    address: string,
    port: number,
    localAddress: string,
    localPort: number,
    simple: boolean,
  ): void {
    const { now, keepMs, most } = this.#options;
    const at = now();
    if (at - this.#youngSince >= keepMs()) this.#age(at);
    const key = keyOf(client, clientPort);
    const known = this.#young.get(key);
    if (
      known?.port === port &&
      known.address === address &&
      known.localPort === localPort &&
      known.localAddress === localAddress &&
      known.simple === simple
    )
      return;
    if (!known && this.#young.size + 1 > most() / 2) this.#age(at);
    this.#young.set(key, { address, port, localAddress, localPort, simple });
  }

  /** Returns the proxy's end for this client; undefined when it came without a proxy, or was forgotten. */
  find(client: string, clientPort: number): ProxyPeer | undefined {
    const key = keyOf(client, clientPort);
    return this.#young.get(key) ?? this.#old.get(key);
  }

  #age(at: number): void {
    this.#old = this.#young;
    this.#young = new Map();
    this.#youngSince = at;
  }
}

function keyOf(address: string, port: number): string {
  return `${port}|${address}`;
}
