// Finds the owner of a packet. The first of these that applies decides:
//   1. a valid token: response -> top Via branch; request -> top Route, else Request-URI, then To tag
//   2. a header that names another dialog (Replaces RFC 3891, Join RFC 3911, Target-Dialog RFC 4538): its owner
//   3. the calls that this member holds, if it has a seat
//   4. the slot of the Call-ID in the current view, with a second chance for its earlier owners;
//      a node outside the farm keeps the packets that came to it instead
// Pure except for counters: reads finished tables and awaits nothing. ingress/packet-path.ts takes probes out earlier.
import { BoundedMap } from '../base/bounded-map.ts';
import { type CellFamily, cellsBy } from '../metrics/counters.ts';
import { type Packet, SecondChance } from '../packet/packet.ts';
import { drop, LOCAL, relayTo, replyWith, type Verdict } from '../packet/verdict.ts';
import { Method, type Scan } from '../sip/scan.ts';
import type { Keyring } from './keyring.ts';
import { earlierOwner, type OwnerTables } from './owner-tables.ts';
import { CallHash, hashCallId } from './slots.ts';
import { readBranchToken, readToken, Token, TokenKind } from './token.ts';

/**
 * A packet with this many hops stays where it is: members with different views must not relay it back and forth.
 * (RFC 5393 guards against the same danger.) Six hops reach the slot's owner, four earlier owners, and the owner again.
 */
export const HOP_LIMIT = 6;
/**
 * Up to this number of hops a packet is passed to a member with a newer view. The three hops left go there, to one
 * earlier owner, and back. Members of an older build return it at once; the limit then ends it here.
 */
const PASSED_HOPS = HOP_LIMIT - 3;

/** Positions of a forged token: the label `place` of sipfarm_forged_tokens_total. */
const TOKEN_PLACES = ['branch', 'route', 'request-uri', 'to-tag'] as const;
export type TokenPlace = (typeof TOKEN_PLACES)[number];

/** State that the lookup reads from the rest of the member. Its functions answer from memory. */
export interface LookupState {
  readonly keys: Keyring;
  readonly tables: OwnerTables;
  /**
   * Returns true when this member holds the call with this key. Calls that its SIP server has made have negative keys.
   */
  holds(callKey: number): boolean;
  /**
   * Returns true when this member has the held call from its record only: the call began before this member got its
   * seat. Another member may have taken it meanwhile.
   */
  regained(callKey: number): boolean;
  /**
   * Returns the oldest epoch of which the peer may hold a call, as the peer reports it; 0 = the peer does not answer.
   * A peer without a report may hold calls of any epoch: 1.
   */
  heldSince(member: number): number;
  /** Returns a reachable member with a newer view than this member's, as its frames show; 0 = none is known. */
  newer(): number;
}

/** More than the attended transfers of one member within any ringing time. */
const MAX_NAMED = 4096;
/** Answered calls of other members' SIP servers. Each needs about 80 octets. */
const MAX_MADE = 200_000;

const SIP = Buffer.from('sip:');

/** No member takes calls. */
const NOBODY = replyWith(503);

export class OwnerLookup {
  readonly #routing: LookupState;
  readonly #forged: Readonly<Record<TokenPlace, { n: number }>>;
  readonly #token = new Token();
  readonly #hash = new CallHash();
  /**
   * Calls relayed to the owner of another dialog because their INVITE names it. Their CANCEL and ACK name no dialog.
   */
  readonly #redirects = new BoundedMap<number, number>(MAX_NAMED);
  /** Calls that another member's SIP server has made. */
  readonly #made = new BoundedMap<number, number>(MAX_MADE);
  readonly #found = { generation: 0 };

  constructor(routing: LookupState, forged: CellFamily<'place'>) {
    this.#routing = routing;
    this.#forged = cellsBy(forged, 'place', TOKEN_PLACES);
  }

  /**
   * Notes that another member's SIP server has made a call in a slot of this member.
   * In-dialog requests of the call without an owner token are relayed to that member.
   */
  madeAt(member: number, callKey: number): void {
    this.#made.set(callKey, member);
  }

  /**
   * Returns the verdict on one scanned message: local, relay, reply or drop.
   * Sets `callKey`, `slot`, `orphan` and `secondChance` of the packet.
   */
  decide(scan: Scan, packet: Packet): Verdict {
    const { tables } = this.#routing;
    hashCallId(tables.slotKey, scan.bytes, scan.callIdStart, scan.callIdEnd, this.#hash);
    packet.callKey = this.#hash.key;
    packet.slot = this.#hash.slot;
    packet.orphan = false;
    return scan.isRequest ? this.#request(scan, packet) : this.#response(scan, packet);
  }

  #response(scan: Scan, packet: Packet): Verdict {
    const token = this.#token;
    if (scan.branchStart < 0) return drop('stray-response');
    const check = readBranchToken(this.#routing.keys, scan.bytes, scan.branchStart, scan.branchEnd, token);
    if (check === 'none') return drop('stray-response');
    if (check === 'forged') {
      this.#forged.branch.n++;
      return drop('forged-token');
    }
    if (token.kind === TokenKind.outward) return this.#toMember(token.member, packet, false);
    if (token.kind !== TokenKind.transaction) return drop('forged-token');
    const { tables } = this.#routing;
    const incarnation = token.member === tables.self ? tables.incarnation : tables.seats.get(token.member)?.incarnation;
    return incarnation === token.incarnation ? this.#toMember(token.member, packet, false) : drop('stale-token');
  }

  #request(scan: Scan, packet: Packet): Verdict {
    const token = this.#token;
    const { keys } = this.#routing;
    if (scan.routeStart >= 0 ? this.#uriNames(scan, scan.routeStart, scan.routeEnd, 'route') : false)
      return this.#toMember(token.member, packet);
    if (this.#uriNames(scan, scan.uriStart, scan.uriEnd, 'request-uri')) return this.#toMember(token.member, packet);
    if (scan.toTagStart >= 0) {
      const check = readToken(keys, scan.bytes, scan.toTagStart, scan.toTagEnd, token);
      if (check === 'forged') this.#forged['to-tag'].n++;
      else if (check === 'valid' && token.kind === TokenKind.dialog) return this.#toMember(token.member, packet);
      else if (check === 'valid' && token.kind === TokenKind.reply && scan.method === Method.ACK)
        return drop('stateless-ack');
    }
    if (scan.namedDialogStart >= 0) return this.#toNamedDialog(scan, packet);
    const { callKey } = packet;
    // Made calls count only for in-dialog requests: without a To tag, the same Call-ID begins another dialog.
    const inDialog = scan.toTagStart >= 0;
    if (this.#isHere(callKey, packet.slot, packet) || (inDialog && this.#hasMade(callKey))) return LOCAL;
    const elsewhere = this.#redirects.get(callKey) ?? (inDialog ? this.#made.get(callKey) : undefined);
    if (elsewhere !== undefined && packet.hops < HOP_LIMIT && this.#routing.tables.seats.has(elsewhere))
      return relayTo(elsewhere);
    const verdict = this.#toSlot(packet.slot, packet);
    return verdict === NOBODY && scan.method === Method.ACK ? drop('owner-gone') : verdict;
  }

  /**
   * Returns true when this member handles the packet because it holds the call `key`, whose slot is `slot`. Without a
   * seat it does not: its calls belong to others. A regained call may have been taken, so it gets the second chance
   * first.
   */
  #isHere(key: number, slot: number, packet: Packet): boolean {
    if (!this.#routing.holds(key)) return false;
    const { outsideFarm, seats, self } = this.#routing.tables;
    if (outsideFarm) return true;
    return seats.has(self) && (!this.#routing.regained(key) || this.#lacksChance(slot, packet));
  }

  /**
   * Returns true when a regained call's packet gets no second chance from here: it has had one, or there is no owner
   * to return it, or the slot's owner has relayed it here without one. An owner does that for a redirect.
   */
  #lacksChance(slot: number, packet: Packet): boolean {
    const { slots, self } = this.#routing.tables;
    const owner = slots[slot]!;
    if (owner === 0 || packet.secondChance !== SecondChance.none) return true;
    if (owner === self || packet.hops === 0) return false;
    // A sender with another view may see this member as the owner of the slot: its view lacks the owner meanwhile.
    const { newerFrom, olderFrom } = packet;
    return newerFrom === 0 && (olderFrom === 0 || olderFrom === owner);
  }

  /** Returns true when this member's SIP server has made the call, and the call still belongs to this member. */
  #hasMade(key: number): boolean {
    const { outsideFarm, seats, self } = this.#routing.tables;
    return this.#routing.holds(-key) && (outsideFarm || seats.has(self));
  }

  /**
   * Routes a request that names another dialog to that dialog's owner, through the owner of its own slot.
   * Its CANCEL and the ACK of its error name no dialog; the slot's owner relays those to the same member.
   */
  #toNamedDialog(scan: Scan, packet: Packet): Verdict {
    const { slots, self, outsideFarm } = this.#routing.tables;
    if (outsideFarm && packet.hops === 0) return LOCAL;
    const home = slots[packet.slot]!;
    if (packet.hops === 0 && home !== self && home !== 0) return relayTo(home);
    this.#hashNamedDialog(scan);
    const { key, slot } = this.#hash;
    if (this.#isHere(key, slot, packet) || this.#hasMade(key)) return LOCAL;
    const made = this.#made.get(key);
    const verdict =
      made !== undefined && packet.hops < HOP_LIMIT && this.#routing.tables.seats.has(made)
        ? relayTo(made)
        : this.#toSlot(slot, packet);
    if (verdict.kind === 'relay') this.#redirects.set(packet.callKey, verdict.to);
    return verdict;
  }

  /**
   * Returns true when the user part of the URI in `bytes[start..end)` is a valid dialog token; `#token` then holds it.
   * With `place` route the range is a Route value and its URI may stand in `<>`.
   */
  #uriNames(scan: Scan, start: number, end: number, place: TokenPlace): boolean {
    const { bytes } = scan;
    let at = start;
    if (place === 'route') {
      while (at < end && bytes[at] !== 0x3c) at++; // <
      at = at === end ? start : at + 1;
    }
    for (let i = 0; i < 4; i++, at++) if ((bytes[at]! | 32) !== (SIP[i]! | 32)) return false;
    if ((bytes[at]! | 32) !== 0x73 || (bytes[at + 1]! | 32) !== 0x66) return false; // sf
    let to = at;
    while (to < end && bytes[to] !== 0x40) to++; // @
    if (to === end) return false;
    const check = readToken(this.#routing.keys, bytes, at, to, this.#token);
    if (check === 'forged') this.#forged[place].n++;
    return check === 'valid' && this.#token.kind === TokenKind.dialog;
  }

  /**
   * Hashes the Call-ID of the named dialog: the text before the first semicolon (RFC 3891 6.1, RFC 3911 7.1, RFC 4538
   * 7).
   */
  #hashNamedDialog(scan: Scan): void {
    const { bytes } = scan;
    let end = scan.namedDialogStart;
    while (end < scan.namedDialogEnd && bytes[end] !== 0x3b) end++;
    while (end > scan.namedDialogStart && (bytes[end - 1] === 0x20 || bytes[end - 1] === 0x09)) end--;
    hashCallId(this.#routing.tables.slotKey, bytes, scan.namedDialogStart, end, this.#hash);
  }

  /**
   * Routes to a member that a token names. When it has no seat any more, the member that holds the dialog takes its
   * place, else the slot's owner.
   */
  #toMember(member: number, packet: Packet, isRequest = true): Verdict {
    const { tables } = this.#routing;
    if (member === tables.self) return LOCAL;
    if (tables.seats.has(member)) return packet.hops >= HOP_LIMIT ? LOCAL : relayTo(member);
    packet.orphan = true;
    packet.owner = member;
    const owner = tables.slots[packet.slot]!;
    if (owner === 0 || packet.hops >= HOP_LIMIT) return LOCAL;
    if (!isRequest || tables.outsideFarm) return owner === tables.self ? LOCAL : relayTo(owner);
    // The slot may have moved since a member has adopted the dialog.
    const { callKey, slot } = packet;
    return this.#isHere(callKey, slot, packet) || this.#hasMade(callKey) ? LOCAL : this.#toSlot(slot, packet);
  }

  #toSlot(slot: number, packet: Packet): Verdict {
    const { tables } = this.#routing;
    const owner = tables.slots[slot]!;
    if (packet.hops >= HOP_LIMIT || (tables.outsideFarm && packet.hops === 0)) return LOCAL;
    const { secondChance, newerFrom } = packet;
    const offered = secondChance === SecondChance.offered;
    const untried = secondChance === SecondChance.none;
    // By the sender's newer view this member owns the slot. The newer view counts.
    const home = owner === tables.self || owner === 0 || (!offered && newerFrom !== 0);
    // An older view lacks the latest owners of the slot. A member with the newer view offers the packet to them.
    const newer = home && untried && packet.hops <= PASSED_HOPS ? newerFrom || this.#routing.newer() : 0;
    if (newer !== 0) return relayTo(newer);
    const forOwner = untried && owner === packet.olderFrom;
    const before = home || offered || forOwner ? this.#mayStillHold(slot, packet) : 0;
    if (before !== 0) {
      packet.secondChance = SecondChance.offered;
      return relayTo(before);
    }
    // The sender has offered it by its newer view, so the slot's owner of the older view here does not get it.
    if (offered && newerFrom !== 0) {
      packet.secondChance = SecondChance.returned;
      return relayTo(newerFrom);
    }
    // Members without a seat would each begin the same call. Where no member owns the slot, they do not own it either.
    if (home) return owner !== 0 || tables.seats.has(tables.self) ? LOCAL : NOBODY;
    // The last member that the packet was offered to returns it with a mark, so that it is not offered again.
    if (offered || forOwner) packet.secondChance = SecondChance.returned;
    return relayTo(owner);
  }

  /**
   * Returns the next earlier owner of the slot to offer the packet to; 0 = none. Called at the slot's owner, or for it
   * at a member with a newer view, and at each member that the packet was offered to. Skips members whose oldest call
   * is younger than that generation. Returns 0 when two hops are no longer left.
   */
  #mayStillHold(slot: number, packet: Packet): number {
    const { tables } = this.#routing;
    const { self, earlier } = tables;
    if (packet.secondChance === SecondChance.returned || packet.hops > HOP_LIMIT - 2) return 0;
    let from = 0;
    if (packet.secondChance === SecondChance.offered && tables.slots[slot] !== self) {
      while (from < earlier.length && earlier[from]!.slots[slot] !== self) from++;
      from++;
    }
    const found = this.#found;
    let before = earlierOwner(tables, slot, from, found);
    while (before !== 0) {
      const heldSince = before === self ? 0 : this.#routing.heldSince(before);
      if (heldSince !== 0 && heldSince <= earlier[found.generation]!.epoch) return before;
      before = earlierOwner(tables, slot, found.generation + 1, found);
    }
    return 0;
  }
}
