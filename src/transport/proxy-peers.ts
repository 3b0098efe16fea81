// Where a datagram to a client behind a proxy has to go: to the address and port of the proxy that the client's datagrams come from.

/** The proxy's end of one client's session. */
export interface ProxyPeer {
  /** Where the client's datagrams come from, and answers go. */
  readonly address: string;
  readonly port: number;
  /** Where the client sent to, by the header. */
  readonly localAddress: string;
  readonly localPort: number;
  /** Did the header have the simple form? */
  readonly simple: boolean;
}

export interface ProxyPeersOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Clients remembered at most. */
  readonly most: () => number;
  /** Milliseconds a client is remembered at least after its last datagram, as long as there is room. */
  readonly keepMs: () => number;
}

/**
 * Two generations: a client that speaks is in the young one. When that is half of all, or as old as a client is remembered, it becomes the
 * old one, and what was old is forgotten. So a datagram of a known client costs one look, and forgetting costs nothing.
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

  /** Clients remembered; who is in both generations counts twice. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** A datagram of the client came from the proxy's `address` and `port`. */
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

  /** The proxy's end for this client; undefined for one that came without a proxy, or was forgotten. */
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
