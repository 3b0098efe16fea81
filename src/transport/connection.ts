// One TCP connection: its stages, its queue, and the times after which it ends.
import type { Endpoint } from '../base/endpoint.ts';
import type { Guard } from '../base/guard.ts';
import type { ByteStream } from '../base/network.ts';
import { isResponse } from './classify.ts';
import type { CloseReason } from './close-reason.ts';
import { DueAnswers } from './due-answers.ts';
import type { FrameFault } from './framer.ts';
import { type FramerHost, FramerStage } from './framer-stage.ts';
import type { TransportLimits } from './limits.ts';
import type { MakeStage, Stage } from './stage.ts';

/**
 * `opening`: made by this member and not connected; messages wait. `open`: takes and sends messages. `answering`: the
 * client has shut its sending half and receives only answers. `closing`: takes no messages; the queue is sent, then it
 * closes. `gone`: the stream is destroyed or closed.
 */
export type ConnectionState =
  | { readonly kind: 'opening' | 'open' | 'answering' | 'gone' }
  | {
      readonly kind: 'closing';
      /** Monotonic milliseconds. */
      readonly since: number;
    };

const OPENING: ConnectionState = { kind: 'opening' };
const OPEN: ConnectionState = { kind: 'open' };
const ANSWERING: ConnectionState = { kind: 'answering' };
const GONE: ConnectionState = { kind: 'gone' };

const KERNEL_KEEPALIVE_MS = 60_000;
const PONG = Buffer.from('\r\n');

/** `I`: both INVITE and INFO belong to a call (RFC 6086 4.2.1). */
const INVITE_OR_INFO = 0x49;

/** The table of the connection. */
export interface ConnectionOwner {
  readonly limits: TransportLimits;
  readonly guard: Guard;
  /** Returns monotonic milliseconds. */
  now(): number;
  onMessage(connection: Connection, bytes: Buffer, start: number, end: number): void;
  onKeepalive(connection: Connection): void;
  /** The connection closes afterwards. An answer that is sent during the call still leaves. */
  onFrameFault(connection: Connection, fault: FrameFault, bytes: Buffer, start: number, end: number): void;
  /** Called when a stage has received octets that are not valid. The connection is destroyed afterwards. */
  onStageFault(connection: Connection): void;
  /** `change`: octets by which the amount held by this connection has changed. May destroy connections. */
  onHeld(change: number): void;
  /** Called once, when the connection takes no more messages. */
  onClosed(connection: Connection, reason: CloseReason): void;
  /** Called once, when the stream is destroyed or closed. */
  onGone(connection: Connection): void;
  /** Receives a message that waited for a connection that could not be opened. */
  onUnsent(message: Buffer): void;
}

export interface ConnectionOptions {
  readonly id: number;
  /** Index of the listener. */
  readonly listener: number;
  readonly stream: ByteStream;
  readonly remote: Endpoint;
  readonly local: Endpoint;
  /** False for a connection that this member made. */
  readonly accepted: boolean;
  /** The source that the limit per source has counted; undefined while none is counted. */
  readonly source: string | undefined;
}

/** A stage, and the time that it holds octets. */
interface TimedStage {
  stage?: Stage;
  /** Monotonic milliseconds since when it holds octets and has passed none on, or -1. */
  stuckSince: number;
}

export class Connection implements FramerHost {
  readonly id: number;
  readonly listener: number;
  readonly stream: ByteStream;
  readonly accepted: boolean;
  /** The client, once a PROXY header has named it. */
  remote: Endpoint;
  local: Endpoint;
  source: string | undefined;
  /** A PROXY header has named the proxy itself as the sender. */
  fromBalancer = false;
  readonly #owner: ConnectionOwner;
  readonly #answers = new DueAnswers();
  /** The stages before the framer, first to last. */
  readonly #timed: readonly TimedStage[];
  readonly #first: Stage;
  readonly #framer: FramerStage;
  readonly #openedAt: number;
  /** Messages that wait until it is connected. */
  readonly #waiting: Buffer[] = [];
  #state: ConnectionState;
  /** The reason, if the stream closes now without this member's doing. */
  #endsBy: CloseReason;
  #lastOctetAt: number;
  /** Octets that the stages held at the last count: its share of the table's sum. */
  #held = 0;
  /** An INVITE has passed it, in either direction. */
  #hasCalls = false;

  /** `makes`: the stages before the framer, first to last. */
  constructor(options: ConnectionOptions, owner: ConnectionOwner, makes: readonly MakeStage[]) {
    const { id, listener, stream, remote, local, accepted, source } = options;
    this.id = id;
    this.listener = listener;
    this.stream = stream;
    this.remote = remote;
    this.local = local;
    this.accepted = accepted;
    this.source = source;
    this.#owner = owner;
    this.#state = accepted ? OPEN : OPENING;
    this.#endsBy = accepted ? 'peer' : 'connect-failed';
    this.#openedAt = owner.now();
    this.#lastOctetAt = this.#openedAt;
    this.#framer = new FramerStage(this, owner.limits);
    const timed: TimedStage[] = [];
    let first: Stage = this.#framer;
    for (const make of makes.toReversed()) {
      const next = first;
      const link: TimedStage = { stuckSince: -1 };
      const pass = (octets: Buffer): void => {
        if (!this.taking || octets.length === 0) return;
        link.stuckSince = -1;
        next.take(octets);
      };
      first = make({ pass, fail: (reason) => this.#stageFailed(reason) });
      link.stage = first;
      timed.unshift(link);
    }
    this.#timed = timed;
    this.#first = first;
  }

  /** Listens to the stream. Called once, when the table has the connection. */
  start(): void {
    const { stream } = this;
    stream.setNoDelay?.(true);
    stream.setKeepAlive?.(true, KERNEL_KEEPALIVE_MS);
    if (!this.accepted) stream.once('connect', () => this.#connected());
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('error', () => {
      if (this.#endsBy === 'peer') this.#endsBy = 'error';
    });
    stream.once('end', () => this.#ended());
    stream.once('close', () => this.#remove(this.#endsBy));
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** True while it takes octets. */
  get taking(): boolean {
    return this.#state === OPEN || this.#state === OPENING;
  }

  /** Octets that its stages held at the last count. */
  get held(): number {
    return this.#held;
  }

  /** Monotonic milliseconds when its half message began, or -1. */
  get halfSince(): number {
    return this.#framer.halfSince;
  }

  /** Octets of its queue. */
  get queued(): number {
    return this.stream.writableLength + sumOf(this.#waiting);
  }

  /** True when a call has used it. */
  get hasCalls(): boolean {
    return this.#hasCalls;
  }

  now(): number {
    return this.#owner.now();
  }

  /**
   * Queues a copy of `bytes`. Returns false when it takes no more messages, or is destroyed now for its slow reader.
   * Returns false for a request to a half-closed client, too.
   */
  send(bytes: Uint8Array): boolean {
    if (this.#state.kind === 'closing' || this.#state === GONE) return false;
    if (bytes[0] === INVITE_OR_INFO) this.#hasCalls = true;
    if (isResponse(bytes, 0)) this.#answers.gave(bytes, this.now());
    else if (this.#state === ANSWERING) return false;
    if (!this.#write(Buffer.from(bytes))) return false;
    if (this.#state === ANSWERING && this.#answers.none) this.closeFlushed('half-closed');
    return true;
  }

  pong(): void {
    this.#write(PONG);
  }

  onMessage(bytes: Buffer, start: number, end: number): void {
    if (bytes[start] === INVITE_OR_INFO) this.#hasCalls = true;
    this.#answers.took(bytes, start, this.now());
    this.#owner.onMessage(this, bytes, start, end);
  }

  onKeepalive(): void {
    this.#owner.onKeepalive(this);
  }

  onFault(fault: FrameFault, bytes: Buffer, start: number, end: number): void {
    this.#owner.onFrameFault(this, fault, bytes, start, end);
    this.closeFlushed('framing');
  }

  /**
   * Takes no more messages and closes when the queue has been sent. If the other side does not close, `sweep` destroys
   * it. Incoming octets are still read, because a reset would overtake the answer.
   */
  closeFlushed(reason: CloseReason): void {
    const before = this.#state;
    if (before.kind === 'closing' || before === GONE) return;
    this.#state = { kind: 'closing', since: this.now() };
    this.#close(reason);
    // The end of a connection that is not open yet follows its waiting messages.
    if (before !== OPENING) this.stream.end();
  }

  /** Destroys the stream. `reason` counts unless the connection is closing for another. */
  destroy(reason: CloseReason): void {
    this.#remove(reason);
    this.stream.destroy();
  }

  /** Ends the connection when one of its times is over. `now` is in monotonic milliseconds. */
  sweep(now: number): void {
    const { limits } = this.#owner;
    if (this.taking) {
      for (const { stage } of this.#timed) stage?.expire?.(now - this.#openedAt);
      this.#count();
    }
    if (this.#state === ANSWERING && !this.#answers.mayCome(now, limits)) this.closeFlushed('half-closed');
    const state = this.#state;
    if (state.kind === 'closing') {
      if (now - state.since >= limits.lingerMs) this.#destroyClosing();
    } else if (state === OPENING) {
      if (now - this.#openedAt >= limits.connectMs) this.destroy('connect-failed');
    } else if (state === OPEN) {
      const due = this.#overdue(now, limits);
      if (due) this.destroy(due);
    }
  }

  /** Returns the reason to destroy an open connection; undefined while it may stay. */
  #overdue(now: number, limits: TransportLimits): CloseReason | undefined {
    const { halfSince, silent } = this.#framer;
    if (halfSince >= 0 && now - halfSince >= limits.halfMessageMs) return 'half-message';
    for (const { stage, stuckSince } of this.#timed)
      if (stuckSince >= 0 && !stage?.expire && now - stuckSince >= limits.halfMessageMs) return 'half-message';
    if (this.accepted && silent && now - this.#openedAt >= limits.silentMs) return 'silent';
    return now - this.#lastOctetAt >= limits.idleMs ? 'idle' : undefined;
  }

  #connected(): void {
    if (this.#state === GONE) return;
    this.#endsBy = 'peer';
    if (this.#state === OPENING) this.#state = OPEN;
    const { stream } = this;
    this.local = { address: stream.localAddress ?? this.local.address, port: stream.localPort ?? 0 };
    this.#lastOctetAt = this.now();
    for (const message of this.#waiting.splice(0)) stream.write(message);
    if (this.#state.kind === 'closing') stream.end();
  }

  #read(chunk: Buffer): void {
    if (!this.taking) return;
    this.#lastOctetAt = this.now();
    try {
      this.#first.take(chunk);
      this.#count();
    } catch (error) {
      // It is not known where the next message begins.
      this.#owner.guard.caught('connection', error, chunk, 0, chunk.length);
      this.destroy('error');
    }
  }

  #stageFailed(reason: CloseReason): void {
    if (!this.taking) return;
    this.#owner.onStageFault(this);
    this.destroy(reason);
  }

  /** Counts the octets that the stages hold. */
  #count(): void {
    if (!this.taking) return;
    let held = this.#framer.held;
    for (const link of this.#timed) {
      const octets = link.stage?.held ?? 0;
      held += octets;
      if (octets === 0) link.stuckSince = -1;
      else if (link.stuckSince < 0) link.stuckSince = this.now();
    }
    this.#hold(held);
  }

  #hold(octets: number): void {
    const change = octets - this.#held;
    this.#held = octets;
    this.#owner.onHeld(change);
  }

  /** Queues `bytes`, which then belong to the stream. Returns false when the connection cannot send. */
  #write(bytes: Buffer): boolean {
    const { stream } = this;
    if (!stream.writable) return false;
    const opening = this.#state === OPENING;
    const queued = opening ? sumOf(this.#waiting) : stream.writableLength;
    if (queued > 0 && queued + bytes.length > this.#owner.limits.sendQueueBytes) {
      this.destroy('send-queue');
      return false;
    }
    this.#lastOctetAt = this.now();
    if (opening) this.#waiting.push(bytes);
    else stream.write(bytes);
    return true;
  }

  /**
   * Handles the end of the other side's octets. An accepted connection stays open for the answers that may come. One
   * that this member made does not: its network closes it.
   */
  #ended(): void {
    const answers = this.#answers;
    const waits = this.accepted && answers.some && answers.mayCome(this.now(), this.#owner.limits);
    if (!waits || this.#state !== OPEN) {
      this.closeFlushed('peer');
      return;
    }
    this.#state = ANSWERING;
    this.#framer.stop();
    this.#hold(0);
  }

  /** Ends the flow, whatever happens to the stream. */
  #close(reason: CloseReason): void {
    this.#framer.stop();
    this.#hold(0);
    for (const { stage } of this.#timed) stage?.ended?.(reason);
    this.#owner.onClosed(this, reason);
  }

  #remove(reason: CloseReason): void {
    const before = this.#state;
    if (before.kind === 'closing') this.#leave();
    else if (before !== GONE) {
      this.#state = GONE;
      this.#owner.onGone(this);
      this.#close(reason);
      this.#giveBack();
    }
  }

  /** Destroys a closing connection that the other side does not close. Its reason has been counted. */
  #destroyClosing(): void {
    this.#leave();
    this.stream.destroy();
  }

  #leave(): void {
    this.#state = GONE;
    this.#owner.onGone(this);
    this.#giveBack();
  }

  #giveBack(): void {
    for (const message of this.#waiting.splice(0)) this.#owner.onUnsent(message);
  }
}

function sumOf(messages: readonly Buffer[]): number {
  let octets = 0;
  for (const message of messages) octets += message.length;
  return octets;
}
