// Places to which the relay never sends media, and from which it takes none, whatever a session description names:
// those of `ForbiddenTargets`, and media ports of this relay, because packets could run in a circle. Pure.
import { AddressList } from '../../base/address-list.ts';
import { ForbiddenTargets } from '../../egress/forbidden-targets.ts';
import { Side } from '../media-relay.ts';
import type { MediaRange, TargetRules } from './relay-messages.ts';

export class MediaTargets {
  readonly #forbidden: readonly [ForbiddenTargets, ForbiddenTargets];
  readonly #ranges: readonly (MediaRange & { readonly list: AddressList })[];
  readonly #inside: AddressList;

  constructor({ sides, own }: TargetRules) {
    // Loopback and link-local places are for a side whose own address is there.
    const forbidden = (side: Side): ForbiddenTargets => new ForbiddenTargets([{ ...sides[side], port: 0 }], own);
    this.#forbidden = [forbidden(Side.outside), forbidden(Side.inside)];
    this.#ranges = sides.map((range) => ({ ...range, list: listOf(range) }));
    this.#inside = this.#ranges[Side.inside]!.list;
  }

  /**
   * Returns true for a place that a party at `side` may have. `ownPort`: the media port that sends there. Two streams
   * may face each other at their inside ports: the SIP server connects two calls of this member.
   */
  allows(side: Side, address: string, port: number, ownPort: number): boolean {
    if (port === 0 || this.#forbidden[side].has(address, port)) return false;
    if (side === Side.inside && port !== ownPort && this.#inside.matches(address)) {
      const { first, last } = this.#ranges[Side.inside]!;
      if (port >= first && port <= last) return true;
    }
    return !this.#ranges.some(({ list, first, last }) => port >= first && port <= last && list.matches(address));
  }
}

/** Returns the addresses that lead to the ports of a range. */
function listOf({ address, advertised }: MediaRange): AddressList {
  return new AddressList(advertised === undefined ? [address] : [address, advertised]);
}
