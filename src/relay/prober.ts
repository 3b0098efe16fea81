// Probes every peer four times a second, and reports the members that a majority of the farm cannot reach.
import type { Clock, Timer } from '../base/clock.ts';
import { type Peer, type Peers, QUESTIONS } from './peers.ts';
import { MAX_PROBE_OCTETS, PROBE_ANSWER, PROBE_QUESTION, type Probe, writeProbe } from './probe.ts';

/** Four questions fit into SILENCE_MS: one or two lost datagrams do not make a peer unreachable. */
export const INTERVAL_MS = 250;
export const SILENCE_MS = 1000;
/** TCP survives a cable that is put back in time; after this silence the connection is closed. */
const LONG_SILENCE_MS = 5000;

/**
 * Returns the members that a majority of the other seated members reports as unreachable. `misses` returns the report
 * of a member, undefined when there is none. Returns an empty set for fewer than three seats: two members cannot
 * outvote each other, so the lease decides.
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
  /** Called once per silence when a peer has been silent for 5 s: its connection may be dead, too. */
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

  /**
   * This member has joined, or joined anew. Peers that had no record of it did not answer it: they count as new ones.
   */
  joined(): void {
    const now = this.#options.clock.now();
    for (const peer of this.#options.peers.all()) peer.presume(now);
    this.#misses = new Set();
  }

  /** Takes a probe from `peer`: stores its report and answers a question. */
  onProbe(peer: Peer, probe: Probe): void {
    peer.heldSince = probe.heldSince;
    const news = !same(peer.misses, probe.unreachable);
    if (news) {
      peer.misses.clear();
      for (const number of probe.unreachable) peer.misses.add(number);
    }
    if (probe.answer) this.#onAnswer(peer, probe);
    else this.#send(peer, PROBE_ANSWER, probe.question);
    // Votes now instead of at the next tick: a dead member must be reported within two seconds.
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

  /**
   * Returns true for an answer to one of the last questions. Only that proves that the network works in both directions
   * now, and which incarnation runs there.
   */
  proves(peer: Peer, probe: Probe): boolean {
    return probe.answer && (peer.question - probe.question) >>> 0 < QUESTIONS;
  }

  /** Sends one peer a question now. */
  askOne(peer: Peer): void {
    peer.question = (peer.question + 1) >>> 0;
    const slot = peer.question % QUESTIONS;
    peer.askedAt[slot] = this.#options.clock.now();
    peer.topAsked[slot] = peer.window.top;
    this.#send(peer, PROBE_QUESTION, peer.question);
  }

  /** Sends all peers a question now. Callers use it to announce new content of the probes at once. */
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
    // After a stall of this process, answers wait unread: the time of the stall is not silence of the peers.
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
    // The other members act on reports about this member. This member would act on its own seat late, on old reports.
    suspects.delete(own);
    if (same(suspects, this.#suspects)) return;
    this.#suspects = suspects;
    onSuspects(suspects);
  }
}
