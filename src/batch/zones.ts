// Finds interfaces by name and by index: the zones of link-local IPv6 addresses (RFC 4007 11).
import type { Libc } from './libc.ts';
import { NativeBlock } from './native-block.ts';

/** IF_NAMESIZE of <net/if.h>. */
const NAME_OCTETS = 16;

export class Zones {
  readonly #libc: Libc;
  readonly #room: NativeBlock;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#room = new NativeBlock(libc, NAME_OCTETS);
  }

  /** Returns the index of the interface, or 0 when there is none. */
  indexOf(name: string): number {
    return this.#libc.if_nametoindex(name);
  }

  /** Returns the name of the interface, or `index` as text when there is none. */
  nameOf(index: number): string {
    const { address, octets } = this.#room;
    if (Number(this.#libc.if_indextoname(index, address)) === 0) return String(index);
    return octets.toString('latin1', 0, octets.indexOf(0));
  }
}
