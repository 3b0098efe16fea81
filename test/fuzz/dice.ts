// Random choices from a seed: the same seed gives the same inputs.
import { seededRandom } from '../fake/network.ts';

export class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  /** Returns 0 to `below` - 1. */
  int(below: number): number {
    return Math.floor(this.#random() * below);
  }

  /** Returns true in `share` of all calls. */
  chance(share: number): boolean {
    return this.#random() < share;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(from.length)]!;
  }

  octets(count: number): Buffer<ArrayBuffer> {
    const made = Buffer.allocUnsafe(count);
    for (let i = 0; i < count; i++) made[i] = this.int(256);
    return made;
  }

  /** Returns a length that is mostly small and sometimes up to `most`. */
  length(most: number): number {
    return this.int(this.chance(0.03) ? most : this.chance(0.3) ? Math.min(most, 200) : Math.min(most, 12)) + 1;
  }
}
