// The stream side of the relay link: one TLS-PSK connection per pair of members, for frames that may not be lost or do
// not fit a datagram. The member with the lower number dials, so that a pair has one connection, not two. Each frame
// follows 4 octets of length.
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import tls from 'node:tls';
import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { ByteStream, Network, StreamServer } from '../base/network.ts';
import type { Cell } from '../metrics/counters.ts';
import { type FarmKey, type Keyring, keyName } from '../ownership/keyring.ts';
import { LENGTH_OCTETS, StreamFramer } from './stream-framer.ts';

/** A full handshake takes two round trips on a LAN. */
const HANDSHAKE_MS = 5000;
const RETRY_FIRST_MS = 100;
const RETRY_LAST_MS = 2000;
/** After a connection that was up this long, the next attempt starts with the shortest wait again. */
const PROVEN_MS = 2000;
/** Octets that may wait per peer: some thousand messages. More would be delivered too late. */
const QUEUE_OCTETS = 1024 * 1024;
/** 64 * T1: the transaction of a queued frame has ended by then (RFC 3261 17.1.1.2). */
const QUEUE_AGE_MS = 32_000;
/** Maximum of connections without a proven key, in all and from addresses of no peer: strangers cannot block peers. */
const UNPROVEN_LIMIT = 64;
const UNPROVEN_STRANGERS = 32;
/** First probe of a silent connection (RFC 9293 3.8.4). */
const KEEP_ALIVE_MS = 5000;

/**
 * TLS 1.2 with one suite. Both ends prove the key (RFC 4279). Recorded traffic stays secret when the key leaks later
 * (ECDHE, RFC 7905).
 */
export const TLS_OPTIONS = {
  minVersion: 'TLSv1.2',
  maxVersion: 'TLSv1.2',
  ciphers: 'ECDHE-PSK-CHACHA20-POLY1305',
  secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
} as const;

/** It has no secret: each connection has its key by `pskCallback`. */
const CONTEXT = tls.createSecureContext(TLS_OPTIONS);

/** A peer and the endpoint of its relay link. A change of incarnation or endpoint makes a new connection. */
export interface StreamPeer {
  readonly number: number;
  readonly incarnation: number;
  readonly relay: Endpoint;
}

interface StreamOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly log: Logger;
  readonly keys: () => Keyring;
  /** This member's number; 0 = none yet. */
  readonly number: () => number;
  /** Called for each frame on the connection of member `from`. The handler owns `bytes`. */
  readonly onFrame: (from: number, bytes: Buffer, start: number, end: number) => void;
  /** Called for each frame that waited for a peer that is removed now. The handler owns the bytes. */
  readonly onUndelivered: (frame: Buffer) => void;
  readonly refused: Readonly<Record<'queue-full' | 'queue-old' | 'handshake' | 'connections' | 'framing', Cell>>;
}

/** One connection: the TCP stream and the TLS layer on it. */
interface Link {
  readonly raw: ByteStream;
  readonly secure: tls.TLSSocket;
}

/** State of the connection to one peer. */
interface Line {
  peer: StreamPeer;
  /** Set while dialling and while up. */
  link: Link | undefined;
  up: boolean;
  upSince: number;
  queue: { readonly frame: Buffer; readonly at: number }[];
  /** Octets in the queue. */
  queued: number;
  retry: Timer | undefined;
  /** Milliseconds before the next attempt. */
  wait: number;
  closed: boolean;
}

/** Returns the PSK identity of a dialling member: `sipfarm/<name of the key>/<member number>`. */
export function pskIdentity(key: FarmKey, number: number): string {
  return `sipfarm/${keyName(key)}/${number}`;
}

function isAnyAddress(address: string): boolean {
  return address === '0.0.0.0' || address === '::';
}

function destroy(link: Link): void {
  link.secure.destroy();
  link.raw.destroy();
}

/** Calls `onClosed` once, when either end or either layer closes or fails. */
function onceClosed(link: Link, onClosed: () => void): void {
  let open = true;
  const closed = (): void => {
    destroy(link);
    if (!open) return;
    open = false;
    onClosed();
  };
  for (const stream of [link.raw, link.secure]) {
    stream.on('error', closed);
    stream.on('end', closed);
    stream.on('close', closed);
  }
}

export class StreamLink {
  readonly #options: StreamOptions;
  readonly #lines = new Map<number, Line>();
  /** Accepted connections whose handshake is not complete. */
  readonly #unproven = new Set<Link>();
  #strangers = 0;
  #server: StreamServer | undefined;
  #from: { readonly address: string } | undefined;

  constructor(options: StreamOptions) {
    this.#options = options;
  }

  /** Listens on TCP `local`. Rejects with the system's error. */
  async listen(local: Endpoint): Promise<void> {
    this.#server = await this.#options.network.listenTcp(local, (raw) => this.#onConnection(raw));
    if (!isAnyAddress(local.address)) this.#from = { address: local.address };
  }

  /** Takes the current peers. Dials those with a higher number. Closes the connections to all others. */
  setPeers(peers: Iterable<StreamPeer>): void {
    const stay = new Set<number>();
    for (const { number, incarnation, relay } of peers) {
      stay.add(number);
      const peer = { number, incarnation, relay };
      const line = this.#lines.get(number);
      if (line) this.#update(line, peer);
      else this.#open(peer);
    }
    for (const line of this.#lines.values()) if (!stay.has(line.peer.number)) this.#close(line);
  }

  /** Returns true while the connection to the peer is up and frames leave at once. */
  up(number: number): boolean {
    return this.#lines.get(number)?.up === true;
  }

  /**
   * Sends `frame`, which begins with its length, or queues it until the connection is up. Returns false when there is
   * no such peer, or when more than QUEUE_OCTETS would wait; the latter is counted.
   */
  send(number: number, frame: Buffer): boolean {
    const line = this.#lines.get(number);
    if (!line) return false;
    const secure = line.up ? line.link?.secure : undefined;
    if (!secure) this.#forgetOld(line);
    if ((secure ? secure.writableLength : line.queued) + frame.length > QUEUE_OCTETS) {
      this.#options.refused['queue-full'].n++;
      return false;
    }
    if (secure) secure.write(frame);
    else {
      line.queue.push({ frame, at: this.#options.clock.now() });
      line.queued += frame.length;
    }
    return true;
  }

  /** Removes queued frames whose transactions are over, to make room for new ones. */
  #forgetOld(line: Line): void {
    const oldest = this.#options.clock.now() - QUEUE_AGE_MS;
    while (line.queue.length > 0 && line.queue[0]!.at < oldest) {
      line.queued -= line.queue.shift()!.frame.length;
      this.#options.refused['queue-old'].n++;
    }
  }

  /**
   * Closes the connection to a peer that has long been silent: the other end may have lost it. Dials again if this end
   * is the dialling one.
   */
  cut(number: number): void {
    const line = this.#lines.get(number);
    if (line?.up) this.#drop(line);
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const line of this.#lines.values()) this.#close(line);
    for (const link of this.#unproven) destroy(link);
    await server?.close();
  }

  #open(peer: StreamPeer): void {
    const line: Line = {
      peer,
      link: undefined,
      up: false,
      upSince: 0,
      queue: [],
      queued: 0,
      retry: undefined,
      wait: RETRY_FIRST_MS,
      closed: false,
    };
    this.#lines.set(peer.number, line);
    this.#dial(line);
  }

  #update(line: Line, peer: StreamPeer): void {
    const { relay, incarnation } = line.peer;
    line.peer = peer;
    const moved = relay.address !== peer.relay.address || relay.port !== peer.relay.port;
    if (!moved && incarnation === peer.incarnation) {
      // Not dialled yet: this member had no number when the peer was added.
      if (!line.link && !line.retry) this.#dial(line);
      return;
    }
    line.wait = RETRY_FIRST_MS;
    // Also closes a connection that the new incarnation has already made; it is back after the first wait.
    if (line.link) this.#drop(line);
    else this.#dial(line);
  }

  /** Closes the connection. It is down at once, not at its close event: nothing may be written to it in between. */
  #drop(line: Line): void {
    const { link } = line;
    if (!link) return;
    this.#down(line, link);
    destroy(link);
  }

  #close(line: Line): void {
    line.closed = true;
    this.#lines.delete(line.peer.number);
    line.retry?.cancel();
    const { queue } = line;
    line.queue = [];
    line.queued = 0;
    this.#drop(line);
    if (!this.#server) return;
    const oldest = this.#options.clock.now() - QUEUE_AGE_MS;
    for (const { frame, at } of queue)
      if (at >= oldest) this.#options.onUndelivered(frame.subarray(LENGTH_OCTETS));
      else this.#options.refused['queue-old'].n++;
  }

  #dial(line: Line): void {
    const { network, clock, keys, number } = this.#options;
    const own = number();
    line.retry?.cancel();
    line.retry = undefined;
    if (own === 0 || own > line.peer.number || line.closed || line.link) return;
    const { primary } = keys();
    const raw = network.connectTcp(line.peer.relay, this.#from);
    const secure = tls.connect({
      secureContext: CONTEXT,
      socket: raw,
      pskCallback: () => ({ psk: primary.psk, identity: pskIdentity(primary, own) }),
      // There is no certificate: the cipher suite proves the key.
      checkServerIdentity: () => undefined,
    });
    const link = { raw, secure };
    line.link = link;
    const deadline = clock.after(HANDSHAKE_MS, () => destroy(link));
    secure.once('secureConnect', () => {
      deadline.cancel();
      if (line.link === link) this.#isUp(line, link);
    });
    onceClosed(link, () => {
      deadline.cancel();
      this.#down(line, link);
    });
  }

  #isUp(line: Line, link: Link): void {
    const { clock, log, refused, onFrame } = this.#options;
    const from = line.peer.number;
    const now = clock.now();
    line.up = true;
    line.upSince = now;
    link.raw.setKeepAlive?.(true, KEEP_ALIVE_MS);
    log.debug({ peer: from }, 'relay connection up');
    const framer = new StreamFramer((bytes, start, end) => onFrame(from, bytes, start, end));
    link.secure.on('data', (chunk: Buffer) => {
      if (framer.feed(chunk)) return;
      refused.framing.n++;
      destroy(link);
    });
    const { queue } = line;
    line.queue = [];
    line.queued = 0;
    for (const { frame, at } of queue) {
      if (now - at <= QUEUE_AGE_MS) link.secure.write(frame);
      else refused['queue-old'].n++;
    }
  }

  #down(line: Line, link: Link): void {
    const { clock, log } = this.#options;
    if (line.link !== link) return;
    if (line.up) {
      log.debug({ peer: line.peer.number }, 'relay connection down');
      if (clock.now() - line.upSince >= PROVEN_MS) line.wait = RETRY_FIRST_MS;
    }
    line.link = undefined;
    line.up = false;
    if (line.closed) return;
    line.retry?.cancel();
    line.retry = clock.after(line.wait, () => this.#dial(line));
    line.wait = Math.min(RETRY_LAST_MS, line.wait * 2);
  }

  #onConnection(raw: ByteStream): void {
    const { clock, refused } = this.#options;
    const stranger = !this.#isPeerAddress(raw.remoteAddress);
    if (this.#unproven.size >= UNPROVEN_LIMIT || (stranger && this.#strangers >= UNPROVEN_STRANGERS)) {
      refused.connections.n++;
      raw.on('error', () => {});
      raw.destroy();
      return;
    }
    let claimed = 0;
    const secure = new tls.TLSSocket(
      raw as Socket,
      {
        isServer: true,
        secureContext: CONTEXT,
        pskCallback: (_socket: unknown, identity: string) => {
          const match = /^sipfarm\/([0-9a-f]{16})\/(\d{1,5})$/.exec(identity);
          claimed = Number(match?.[2] ?? 0);
          return this.#options.keys().all.find((key) => keyName(key) === match?.[1])?.psk ?? null;
        },
      } as tls.TLSSocketOptions,
    );
    const link = { raw, secure };
    const leave = (): boolean => {
      deadline.cancel();
      if (!this.#unproven.delete(link)) return false;
      if (stranger) this.#strangers--;
      return true;
    };
    const deadline = clock.after(HANDSHAKE_MS, () => destroy(link));
    this.#unproven.add(link);
    if (stranger) this.#strangers++;
    let line: Line | undefined;
    secure.once('secure', () => {
      line = claimed < this.#options.number() ? this.#lines.get(claimed) : undefined;
      if (!line) {
        destroy(link);
        return;
      }
      leave();
      const before = line.link;
      line.link = link;
      // Only the dialling end opens connections: a new one means that it has given up the old one.
      if (before) destroy(before);
      this.#isUp(line, link);
    });
    onceClosed(link, () => {
      if (leave()) refused.handshake.n++;
      if (line) this.#down(line, link);
    });
  }

  #isPeerAddress(address: string | undefined): boolean {
    for (const { peer } of this.#lines.values()) if (peer.relay.address === address) return true;
    return false;
  }
}
