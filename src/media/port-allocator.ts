// Hands out the media ports of one address range: pairs for RTP and RTCP (even and next odd, RFC 3550 11), single ports
// for streams with rtcp-mux (RFC 5761). Pure: time and randomness are passed in. Every operation takes constant time.
//
//    state      meaning                                           leaves it by
//    free       may be handed out                                 takePair, takeSingle, claim
//    used       belongs to a session                              release
//    resting    late packets of the last session may still come   `restMs` after release, longer while packets come
//    foreign    another program holds the port                    `foreignMs` after `markForeign`
//
// Constant time is amortized: a port that has rested is freed by the next call of a method.
// Ports are drawn at random (RFC 6056), so that nobody can foresee the port of the next call.

import { IndexQueue, IndexSet } from './index-sets.ts';

const State = { free: 0, used: 1, resting: 2, foreign: 3 } as const;
type State = (typeof State)[keyof typeof State];

export type PortState = keyof typeof State;

const STATE_NAMES = Object.keys(State) as PortState[];

export interface PortAllocatorOptions {
  /** The first and the last port of the range, both included. An odd first or an even last port is left out. */
  readonly first: number;
  readonly last: number;
  /** Time between the release of a port and its next use, ms. */
  readonly restMs: number;
  /** Time until a port of another program is tried again, ms. */
  readonly foreignMs: number;
  /** Pairs that new calls may not take. Calls that run already may: a re-INVITE with one more stream must not fail. */
  readonly reservedPairs: number;
  /** Returns an integer from 0 to `below` - 1. */
  readonly random: (below: number) => number;
  /** Times of the last packet to each resting port, by index, written by others. Left out: by `heard` only. */
  readonly heardAt?: Float64Array;
}

/** Returns the range without an odd first and an even last port, which have no other half. */
export function evenRange(first: number, last: number): { readonly first: number; readonly ports: number } {
  const even = first + (first % 2);
  return { first: even, ports: Math.max(last + (last % 2) - even, 0) };
}

/** No port: the range has none that is free. */
export const NO_PORT = 0;

/** The media ports of one range. `now` of all methods is a monotonic time, ms. */
export class PortAllocator {
  readonly #options: PortAllocatorOptions;
  readonly #first: number;
  readonly #state: Uint8Array;
  /** End of the rest or of the exclusion of a port, by index. */
  readonly #until: Float64Array;
  /** Time of the last packet to a resting port, by index. */
  readonly #heardAt: Float64Array;
  readonly #counts = { free: 0, used: 0, resting: 0, foreign: 0 };
  readonly #pairs: IndexSet;
  /** Pairs with one free port. */
  readonly #halves: IndexSet;
  readonly #resting: IndexQueue;
  readonly #foreign: IndexQueue;

  constructor(options: PortAllocatorOptions) {
    this.#options = options;
    const { first, ports } = evenRange(options.first, options.last);
    this.#first = first;
    this.#state = new Uint8Array(ports);
    this.#until = new Float64Array(ports);
    this.#heardAt = options.heardAt ?? new Float64Array(ports);
    this.#heardAt.fill(Number.NEGATIVE_INFINITY);
    this.#pairs = new IndexSet(ports / 2);
    this.#halves = new IndexSet(ports / 2);
    this.#resting = new IndexQueue(ports);
    this.#foreign = new IndexQueue(ports);
    this.#counts.free = ports;
    for (let pair = 0; pair < ports / 2; pair++) this.#pairs.set(pair, true);
  }

  /** Ports by state, for metrics. Reused: the next call of a method may change it. */
  get counts(): Readonly<Record<PortState, number>> {
    return this.#counts;
  }

  /** Pairs that are free at `now`. */
  freePairs(now: number): number {
    this.#wake(now);
    return this.#pairs.size;
  }

  /** Returns true when a new call may take `pairs` pairs: the reserve for the calls that run stays untouched. */
  admits(pairs: number, now: number): boolean {
    return this.freePairs(now) - pairs >= this.#options.reservedPairs;
  }

  /** Takes a free pair. Returns its even port; NO_PORT when no pair is free. */
  takePair(now: number): number {
    this.#wake(now);
    if (this.#pairs.size === 0) return NO_PORT;
    const index = 2 * this.#pairs.at(this.#options.random(this.#pairs.size));
    this.#set(index, State.used);
    this.#set(index + 1, State.used);
    return this.#first + index;
  }

  /** Takes one free port, of a half used pair where there is one. Returns NO_PORT when no port is free. */
  takeSingle(now: number): number {
    this.#wake(now);
    const { random } = this.#options;
    let index: number;
    if (this.#halves.size > 0) {
      index = 2 * this.#halves.at(random(this.#halves.size));
      if (this.#state[index] !== State.free) index++;
    } else if (this.#pairs.size > 0) index = 2 * this.#pairs.at(random(this.#pairs.size));
    else return NO_PORT;
    this.#set(index, State.used);
    return this.#first + index;
  }

  /**
   * Takes this very port: that of a call which this process finds alive at its start. Returns false when it is not
   * free.
   */
  claim(port: number, now: number): boolean {
    this.#wake(now);
    const index = this.#indexOf(port);
    if (index < 0 || this.#state[index] !== State.free) return false;
    this.#set(index, State.used);
    return true;
  }

  /** Returns a used port; it rests first. Does nothing for a port in another state. */
  release(port: number, now: number): void {
    this.#leave(port, State.resting, this.#resting, now + this.#options.restMs);
  }

  /** Excludes a port that was taken and could not be bound. Does nothing for a port in another state. */
  markForeign(port: number, now: number): void {
    this.#leave(port, State.foreign, this.#foreign, now + this.#options.foreignMs);
  }

  /** Notes a packet that came to this port: if the port rests, its rest begins anew. */
  heard(port: number, now: number): void {
    const index = this.#indexOf(port);
    if (index >= 0) this.#heardAt[index] = now;
  }

  /** Returns the state of a port; undefined outside the range. */
  stateOf(port: number): PortState | undefined {
    const index = this.#indexOf(port);
    return index < 0 ? undefined : STATE_NAMES[this.#state[index]!];
  }

  #indexOf(port: number): number {
    const index = port - this.#first;
    return index >= 0 && index < this.#state.length ? index : -1;
  }

  #leave(port: number, state: State, queue: IndexQueue, until: number): void {
    const index = this.#indexOf(port);
    if (index < 0 || this.#state[index] !== State.used) return;
    this.#set(index, state);
    this.#until[index] = until;
    queue.push(index);
  }

  #wake(now: number): void {
    this.#wakeQueue(this.#resting, now);
    this.#wakeQueue(this.#foreign, now);
  }

  /**
   * Frees the ports whose time is over. A port that heard packets goes to the end of the queue: it may rest up to twice
   * as long as it must, and never shorter.
   */
  #wakeQueue(queue: IndexQueue, now: number): void {
    for (let index = queue.first; index !== undefined && this.#until[index]! <= now; index = queue.first) {
      queue.shift();
      const until = this.#heardAt[index]! + this.#options.restMs;
      if (until > now && this.#state[index] === State.resting) {
        this.#until[index] = until;
        queue.push(index);
      } else this.#set(index, State.free);
    }
  }

  #set(index: number, state: State): void {
    this.#counts[STATE_NAMES[this.#state[index]!]!]--;
    this.#counts[STATE_NAMES[state]!]++;
    this.#state[index] = state;
    const pair = index >> 1;
    const free = Number(this.#state[2 * pair] === State.free) + Number(this.#state[2 * pair + 1] === State.free);
    this.#pairs.set(pair, free === 2);
    this.#halves.set(pair, free === 1);
  }
}
