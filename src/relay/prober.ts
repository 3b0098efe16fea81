// Asks every peer four times a second whether it is there, and tells which members the farm as a whole cannot reach.
import type { Clock, Timer } from '../base/clock.ts';
import { type Peer, type Peers, QUESTIONS } from './peers.ts';
import { MAX_PROBE_OCTETS, PROBE_ANSWER, PROBE_QUESTION, type Probe, writeProbe } from './probe.ts';

/** Four questions fit into the time of silence: one lost datagram, or two, says nothing. */
export const INTERVAL_MS = 250;
export const SILENCE_MS = 1000;
/** A connection outlives a cable that is put back; after this it is doubted. */
const LONG_SILENCE_MS = 5000;

/**
 * The members that a majority of the other seated members reports as unreachable. `misses` gives the report of a member, undefined when there is none.
 * With fewer than three seats nobody is: two members cannot outvote each other: the lease decides.
 */
export function suspectsOf(
  seated: readonly number[],
  misses: (reporter: number) => ReadonlySet<number> | undefined,
): Set<number> {
  const suspects = new Set<number>();
  if (seated.length < 3) return suspects;
  for (const number of seated) {
    let against = 0;
    for (const reporter of seated) if (reporter !== number && misses(reporter)?.has(number)) against++;
    if (against * 2 > seated.length - 1) suspects.add(number);
  }
  return suspects;
}

function same(a: ReadonlySet<number>, b: ReadonlySet<number>): boolean {
  return a.size === b.size && [...a].every((number) => b.has(number));
}

interface ProberOptions {
  readonly clock: Clock;
  readonly peers: Peers;
  readonly self: () => { readonly number: number; readonly heldSince: number };
  /** Sends `body[0..octets)` as a probe frame; the body is reused after the call. */
  readonly send: (peer: Peer, body: Buffer, octets: number) => void;
  readonly onSuspects: (numbers: ReadonlySet<number>) => void;
  /** A peer has been silent for so long that its connection may be dead too. Called once per silence. */
  readonly onLongSilence: (peer: Peer) => void;
  readonly observeHop: (seconds: number) => void;
}

export class Prober {
  readonly #options: ProberOptions;
  readonly #body = Buffer.alloc(MAX_PROBE_OCTETS);
  #misses = new Set<number>();
  #suspects: ReadonlySet<number> = new Set();
  #timer: Timer | undefined;
  #tickedAt = 0;

  constructor(options: ProberOptions) {
    this.#options = options;
  }

  start(): void {
    const { clock } = this.#options;
    this.#tickedAt = clock.now();
    this.#timer = clock.every(INTERVAL_MS, () => this.#tick());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** This member has joined, or joined anew: peers that did not answer because they had no place for it count as they do when they are new. */
  joined(): void {
    const now = this.#options.clock.now();
    for (const peer of this.#options.peers.all()) peer.presume(now);
    this.#misses = new Set();
  }

  /** A probe from `peer`. Answers a question; takes note of what the peer says. */
  onProbe(peer: Peer, probe: Probe): void {
    peer.heldSince = probe.heldSince;
    const news = !same(peer.misses, probe.unreachable);
    if (news) {
      peer.misses.clear();
      for (const number of probe.unreachable) peer.misses.add(number);
    }
    if (probe.answer) this.#onAnswer(peer, probe);
    else this.#send(peer, PROBE_ANSWER, probe.question);
    // Not at the next tick: a death must be told within two seconds.
    if (news) this.#vote();
  }

  #onAnswer(peer: Peer, probe: Probe): void {
    if (!this.proves(peer, probe)) return;
    const now = this.#options.clock.now();
    const askedAt = peer.askedAt[probe.question % QUESTIONS]!;
    this.#options.observeHop((now - askedAt) / 2000);
    peer.heardAt = now;
    peer.provenAt = Math.max(peer.provenAt, askedAt);
    peer.reachable = true;
    peer.doubted = false;
    this.#misses.delete(peer.number);
  }

  /** Only an answer to one of the last questions proves that the way there and back is open now, and who is there. */
  proves(peer: Peer, probe: Probe): boolean {
    return probe.answer && (peer.question - probe.question) >>> 0 < QUESTIONS;
  }

  /** Asks one peer out of turn. */
  askOne(peer: Peer): void {
    peer.question = (peer.question + 1) >>> 0;
    const slot = peer.question % QUESTIONS;
    peer.askedAt[slot] = this.#options.clock.now();
    peer.topAsked[slot] = peer.window.top;
    this.#send(peer, PROBE_QUESTION, peer.question);
  }

  /** Asks all peers now, and so tells them what the probes tell: also out of turn, when that has changed. */
  ask(): void {
    for (const peer of this.#options.peers.all()) this.askOne(peer);
  }

  #send(peer: Peer, type: typeof PROBE_QUESTION | typeof PROBE_ANSWER, question: number): void {
    const octets = writeProbe(type, question, this.#options.self().heldSince, this.#misses, this.#body);
    this.#options.send(peer, this.#body, octets);
  }

  #tick(): void {
    const { clock, peers } = this.#options;
    const now = clock.now();
    // When this member itself stood still, the answers wait unread: the silence is its own, not the peers'.
    const stall = Math.max(0, now - this.#tickedAt - 2 * INTERVAL_MS);
    this.#tickedAt = now;
    this.#misses = new Set();
    for (const peer of peers.all()) {
      if (stall > 0) peer.heardAt = Math.min(now, peer.heardAt + stall);
      const silence = now - peer.heardAt;
      peer.reachable = silence < SILENCE_MS;
      if (!peer.reachable) this.#misses.add(peer.number);
      if (silence >= LONG_SILENCE_MS && !peer.doubted) {
        peer.doubted = true;
        this.#options.onLongSilence(peer);
      }
    }
    this.ask();
    this.#vote();
  }

  #vote(): void {
    const { peers, self, onSuspects } = this.#options;
    const own = self().number;
    const suspects = suspectsOf(peers.members(), (reporter) => {
      if (reporter === own) return this.#misses;
      const peer = peers.get(reporter);
      return peer?.reachable ? peer.misses : undefined;
    });
    // What others report of this member is theirs to act on; on its own seat it would act a moment too late, on old reports.
    suspects.delete(own);
    if (same(suspects, this.#suspects)) return;
    this.#suspects = suspects;
    onSuspects(suspects);
  }
}
