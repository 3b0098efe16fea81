// The rules for one port of a relay, as docs/media.md states them: which source may send, and where packets leave for.
import type { ExpectedSource } from '../../src/media/latch.ts';
import { Side } from '../../src/media/media-relay.ts';
import { INSIDE, OUTSIDE } from '../unit/media/user-relay/relay-rig.ts';
import type { Dice } from './dice.ts';
import { isForbidden } from './forbidden.ts';

export type Place = readonly [address: string, port: number];

/** must: a packet without fault passes. may: it depends on the packets before. never: it may not pass. */
export type Verdict = 'must' | 'may' | 'never';

/** Packets in order that a source needs, and the time that one of low rank needs, ms. */
const CONSISTENT = 3;
const WINDOW_MS = 500;
const PRIVATE =
  /^(?:10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|0\.0\.0\.0$)/;

const network = (address: string): string => address.slice(0, address.lastIndexOf('.'));

export class LegModel {
  readonly place: string;
  /** `address port` to which packets leave; '' = nobody. */
  party = '';
  expected: ExpectedSource | undefined;
  readonly #side: Side;
  readonly #number: number;
  #locked = false;
  #renewed = false;
  #passedAt = 0;
  /** Earlier packets by their source. */
  readonly #seen = new Map<string, { count: number; readonly firstAt: number }>();

  constructor(side: Side, number: number) {
    this.#side = side;
    this.#number = number;
    this.place = `${side === Side.outside ? OUTSIDE : INSIDE} ${number}`;
  }

  expect(expected: ExpectedSource | undefined): void {
    const known = this.expected;
    this.expected = expected;
    this.#seen.clear();
    if (expected && this.#locked && known?.address === expected.address && known.port === expected.port) {
      this.#renewed = true;
      return;
    }
    this.#locked = this.#renewed = false;
    const place: Place | undefined = expected && [expected.address, expected.port];
    this.party = place && this.#allows(place) ? place.join(' ') : '';
  }

  /** Returns a source that the rules have a word about: the party, the expected place, or one near it. */
  someSource(dice: Dice): Place | undefined {
    const [address = '', port = ''] = this.party.split(' ');
    if (address !== '' && dice.chance(0.6)) return [address, Number(port)];
    if (!this.expected) return undefined;
    const { address: named, port: at, signalling } = this.expected;
    if (dice.chance(0.3)) return [named, dice.chance(0.5) ? at : 4444];
    return signalling !== '' && dice.chance(0.5) ? [signalling, 4444] : [`${network(named)}.77`, 4444];
  }

  verdict(from: Place, now: number, silenceMs: number): Verdict {
    const expected = this.expected;
    if (!expected || !this.#allows(from)) return 'never';
    const [address, port] = from;
    if (this.#locked && this.party === from.join(' ')) return 'must';
    if (this.#locked && !(this.#renewed && now - this.#passedAt >= silenceMs)) return 'never';
    if (address === expected.address && port === expected.port) return 'must';
    const { count, firstAt } = this.#seen.get(from.join(' ')) ?? { count: 0, firstAt: now };
    if (count + 1 < CONSISTENT) return 'never';
    if (address === expected.address || address === expected.signalling) return 'may';
    if (!PRIVATE.test(expected.address) && network(address) !== network(expected.address)) return 'never';
    return now - firstAt >= WINDOW_MS ? 'may' : 'never';
  }

  /** Notes a packet that has not passed. */
  saw(from: Place, now: number): void {
    const key = from.join(' ');
    const seen = this.#seen.get(key) ?? { count: 0, firstAt: now };
    seen.count++;
    this.#seen.set(key, seen);
  }

  /** Notes a packet that has passed. */
  lock(from: Place, now: number): void {
    this.#passedAt = now;
    const party = from.join(' ');
    if (this.#locked && party === this.party) return;
    this.party = party;
    this.#locked = true;
    this.#renewed = false;
    this.#seen.clear();
  }

  /** Two streams may face each other at their inside ports. */
  #allows(from: Place): boolean {
    const place = from.join(' ');
    if (isForbidden(place) || place === `${INSIDE} 5062`) return false;
    if (!/^10\.0\.0\.1 300[01]\d$/.test(place)) return true;
    return this.#side === Side.inside && from[1] !== this.#number;
  }
}
