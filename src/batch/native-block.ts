// Memory that the kernel reads and writes. It is allocated outside V8's heap, so that it never moves, and lives as long
// as its object.
import type { Address, Libc } from './libc.ts';

/** Octets before and after each block that must not change. A wrong length or offset would hit them first. */
const GUARD_OCTETS = 64;
const GUARD = 0xa5;

export class NativeBlock {
  readonly octets: Buffer;
  /** The same memory as little-endian words. */
  readonly words: Uint32Array;
  readonly address: Address;
  readonly #whole: Buffer;

  /** `octets`: a multiple of 4. The contents are zeros when `zeroed`, else undefined. */
  constructor(libc: Pick<Libc, 'addressOf'>, octets: number, zeroed = true) {
    // Only a buffer with its own memory: a small one would lie in V8's heap or in a pool.
    const whole = Buffer.allocUnsafeSlow(octets + 2 * GUARD_OCTETS);
    whole.fill(GUARD, 0, GUARD_OCTETS);
    whole.fill(GUARD, octets + GUARD_OCTETS);
    this.#whole = whole;
    this.octets = whole.subarray(GUARD_OCTETS, GUARD_OCTETS + octets);
    if (zeroed) this.octets.fill(0);
    this.words = new Uint32Array(whole.buffer, whole.byteOffset + GUARD_OCTETS, octets / 4);
    this.address = libc.addressOf(whole) + BigInt(GUARD_OCTETS);
  }

  /** True while the guards are unchanged. */
  get intact(): boolean {
    const whole = this.#whole;
    for (let i = 0; i < GUARD_OCTETS; i++)
      if (whole[i] !== GUARD || whole[whole.length - 1 - i] !== GUARD) return false;
    return true;
  }

  /** Writes an address at `at` octets. */
  writeAddress(at: number, address: Address): void {
    this.octets.writeBigUInt64LE(address, at);
  }
}
