// Who owns a packet. Asked in this order, the first answer wins:
//   1. a valid token: response -> top Via branch; request -> top Route, else Request-URI, then To tag
//   2. a header that names another dialog (Replaces RFC 3891, Join RFC 3911, Target-Dialog RFC 4538): the owner of that dialog
//   3. the calls this member holds
//   4. the slot of the Call-ID in the current view, with a second chance to those who owned the slot before;
//      a node that is not in the farm keeps what came to it instead
// Pure but for counters: reads finished tables, asks nobody, awaits nothing. (Probes are taken out before, node/packet-way.ts.)
import type { CellFamily } from '../metrics/counters.ts';
import { Method, type Scan } from '../sip/scan.ts';
import { type Packet, SecondChance } from '../transport/packet.ts';
import type { Keyring } from './keyring.ts';
import { earlierOwner, type OwnerTables } from './owner-tables.ts';
import { Redirects } from './redirects.ts';
import { CallHash, hashCallId } from './slots.ts';
import { readBranchToken, readToken, Token, TokenKind } from './token.ts';
import { drop, LOCAL, relayTo, replyWith, type Verdict } from './verdict.ts';

/**
 * A packet that has been relayed this often stays where it is: views that disagree must not play ping-pong with it (RFC 5393 is about the same
 * fear). It is enough to go to the slot's owner, to four that owned the slot before, and back.
 */
export const HOP_LIMIT = 6;

/** Where a forged token stood: the label `place` of sipfarm_forged_tokens_total. */
export const TOKEN_PLACES = ['branch', 'route', 'request-uri', 'to-tag'] as const;
export type TokenPlace = (typeof TOKEN_PLACES)[number];

/** What the lookup asks of the rest of the member. All three answer from memory. */
export interface LookupWorld {
  readonly keys: Keyring;
  readonly tables: OwnerTables;
  /** True when this member holds the call with this key; negative for calls that its SIP server has made. */
  holds(callKey: number): boolean;
  /** The oldest epoch of which the peer may hold a call, by its own word; 0 = it does not answer. A peer that has said nothing yet may hold any: 1. */
  heldSince(member: number): number;
}

/** More than the attended transfers of one member within any ringing time. */
const MAX_NAMED = 4096;
/** Answered calls of other members' SIP servers; some 80 octets each. */
const MAX_MADE = 200_000;

const SIP = Buffer.from('sip:');

/** No member takes calls. */
const NOBODY = replyWith(503);

export class OwnerLookup {
  readonly #world: LookupWorld;
  readonly #forged: Readonly<Record<TokenPlace, { n: number }>>;
  readonly #token = new Token();
  readonly #hash = new CallHash();
  /** Calls that went to the owner of another dialog, because their INVITE named it: their CANCEL and ACK name none. */
  readonly #redirects = new Redirects(MAX_NAMED);
  /** Calls that another member's SIP server has made. */
  readonly #made = new Redirects(MAX_MADE);
  readonly #found = { generation: 0 };

  constructor(world: LookupWorld, forged: CellFamily<'place'>) {
    this.#world = world;
    const cells = TOKEN_PLACES.map((place) => [place, forged.cell({ place })] as const);
    this.#forged = Object.fromEntries(cells) as Record<TokenPlace, { n: number }>;
  }

  /** That member's SIP server has made a call whose slot is ours: what names no owner in its dialog goes there. */
  madeAt(member: number, callKey: number): void {
    this.#made.set(callKey, member);
  }

  /** The verdict on one scanned message: local, relay, reply or drop. Sets `callKey`, `slot`, `orphan` and `secondChance` of the packet. */
  decide(scan: Scan, packet: Packet): Verdict {
    const { tables } = this.#world;
    hashCallId(tables.slotKey, scan.bytes, scan.callIdStart, scan.callIdEnd, this.#hash);
    packet.callKey = this.#hash.key;
    packet.slot = this.#hash.slot;
    packet.orphan = false;
    return scan.isRequest ? this.#request(scan, packet) : this.#response(scan, packet);
  }

  #response(scan: Scan, packet: Packet): Verdict {
    const token = this.#token;
    if (scan.branchStart < 0) return drop('stray-response');
    const check = readBranchToken(this.#world.keys, scan.bytes, scan.branchStart, scan.branchEnd, token);
    if (check === 'none') return drop('stray-response');
    if (check === 'forged') {
      this.#forged.branch.n++;
      return drop('forged-token');
    }
    if (token.kind === TokenKind.edge) return this.#toMember(token.member, packet);
    if (token.kind !== TokenKind.transaction) return drop('forged-token');
    const { tables } = this.#world;
    const incarnation = token.member === tables.self ? tables.incarnation : tables.seats.get(token.member)?.incarnation;
    return incarnation === token.incarnation ? this.#toMember(token.member, packet) : drop('stale-token');
  }

  #request(scan: Scan, packet: Packet): Verdict {
    const token = this.#token;
    const { keys } = this.#world;
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
    // A request without a To tag under such a Call-ID begins something new.
    const inDialog = scan.toTagStart >= 0;
    if (this.#world.holds(callKey) || (inDialog && this.#world.holds(-callKey))) return LOCAL;
    const elsewhere = this.#redirects.get(callKey) ?? (inDialog ? this.#made.get(callKey) : undefined);
    if (elsewhere !== undefined && packet.hops < HOP_LIMIT && this.#world.tables.seats.has(elsewhere))
      return relayTo(elsewhere);
    const verdict = this.#toSlot(packet.slot, packet);
    return verdict === NOBODY && scan.method === Method.ACK ? drop('owner-gone') : verdict;
  }

  /**
   * A request that names another dialog goes to that dialog's owner, but by way of the owner of its own slot: its CANCEL and the ACK of its
   * error name no dialog, and that member sends them on.
   */
  #toNamedDialog(scan: Scan, packet: Packet): Verdict {
    const { slots, self, apart } = this.#world.tables;
    if (apart && packet.hops === 0) return LOCAL;
    const home = slots[packet.slot]!;
    if (packet.hops === 0 && home !== self && home !== 0) return relayTo(home);
    this.#hashNamedDialog(scan);
    const { key, slot } = this.#hash;
    if (this.#world.holds(key) || this.#world.holds(-key)) return LOCAL;
    const made = this.#made.get(key);
    const verdict =
      made !== undefined && packet.hops < HOP_LIMIT && this.#world.tables.seats.has(made)
        ? relayTo(made)
        : this.#toSlot(slot, packet);
    if (verdict.kind === 'relay') this.#redirects.set(packet.callKey, verdict.to);
    return verdict;
  }

  /** True when the user part of the URI in `bytes[start..end)`, of a Route in its `<>`, is a valid token of a dialog; the token is then in `#token`. */
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
    const check = readToken(this.#world.keys, bytes, at, to, this.#token);
    if (check === 'forged') this.#forged[place].n++;
    return check === 'valid' && this.#token.kind === TokenKind.dialog;
  }

  /** The Call-ID is what stands before the first semicolon (RFC 3891 6.1, RFC 3911 7.1, RFC 4538 7). */
  #hashNamedDialog(scan: Scan): void {
    const { bytes } = scan;
    let end = scan.namedDialogStart;
    while (end < scan.namedDialogEnd && bytes[end] !== 0x3b) end++;
    while (end > scan.namedDialogStart && (bytes[end - 1] === 0x20 || bytes[end - 1] === 0x09)) end--;
    hashCallId(this.#world.tables.slotKey, bytes, scan.namedDialogStart, end, this.#hash);
  }

  /** A member named by a token; when it has no seat any more, the slot's owner stands in for it. */
  #toMember(member: number, packet: Packet): Verdict {
    const { tables } = this.#world;
    if (member === tables.self) return LOCAL;
    if (tables.seats.has(member)) return packet.hops >= HOP_LIMIT ? LOCAL : relayTo(member);
    packet.orphan = true;
    packet.owner = member;
    const owner = tables.slots[packet.slot]!;
    return owner === tables.self || owner === 0 || packet.hops >= HOP_LIMIT ? LOCAL : relayTo(owner);
  }

  #toSlot(slot: number, packet: Packet): Verdict {
    const { tables } = this.#world;
    const owner = tables.slots[slot]!;
    if (packet.hops >= HOP_LIMIT || (tables.apart && packet.hops === 0)) return LOCAL;
    const offered = packet.secondChance === SecondChance.offered;
    // What is the sender's by our view and ours by the sender's newer one is ours: a member that cannot read the store would send it back for ever.
    const home = owner === tables.self || owner === 0 || (!offered && owner === packet.newerFrom);
    const before = home || offered ? this.#mayStillHold(slot, packet) : 0;
    if (before !== 0) {
      packet.secondChance = SecondChance.offered;
      return relayTo(before);
    }
    // Members without a seat would each begin the same call: where nobody owns anything, they own nothing either.
    if (home) return owner !== 0 || tables.seats.has(tables.self) ? LOCAL : NOBODY;
    // Whoever it was offered to last hands it back, marked, so that it is not offered again.
    if (offered) packet.secondChance = SecondChance.returned;
    return relayTo(owner);
  }

  /**
   * Who may hold a call that this member does not know: asked by the slot's owner and by each that it was offered to, of those who owned the
   * slot before. One that holds no call of its time is left out, and so is everybody when the packet could not go there and come back. 0 = none.
   */
  #mayStillHold(slot: number, packet: Packet): number {
    const { tables } = this.#world;
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
      const heldSince = before === self ? 0 : this.#world.heldSince(before);
      if (heldSince !== 0 && heldSince <= earlier[found.generation]!.epoch) return before;
      before = earlierOwner(tables, slot, found.generation + 1, found);
    }
    return 0;
  }
}
