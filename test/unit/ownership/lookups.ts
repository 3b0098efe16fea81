// Owner lookups of a farm of plain tables, and requests for them, for the tests of ownership.
import { CellFamily } from '../../../src/metrics/counters.ts';
import { type Keyring, keyring } from '../../../src/ownership/keyring.ts';
import { type LookupState, OwnerLookup, type TokenPlace } from '../../../src/ownership/owner-lookup.ts';
import { earlierOwner, type OwnerTables } from '../../../src/ownership/owner-tables.ts';
import { CallHash, hashCallId } from '../../../src/ownership/slots.ts';
import { mintToken, type TokenKind } from '../../../src/ownership/token.ts';
import { nextView, type Seat, type View } from '../../../src/ownership/view.ts';
import { Packet } from '../../../src/packet/packet.ts';
import type { Verdict } from '../../../src/packet/verdict.ts';
import { options, scanned } from '../sip/messages.ts';

export const KEYS = keyring(['ab'.repeat(32)]);
export const FOREIGN_KEYS = keyring(['cd'.repeat(32)]);
export const SEED = '000102030405060708090a0b0c0d0e0f';

export function seat(number: number, change: Partial<Seat> = {}): Seat {
  return { id: `fe${number}`, number, incarnation: 1, weight: 100, state: 'active', ...change };
}

/** Returns the view after `steps`, each a list of seats. */
export function viewOf(...steps: readonly (readonly Seat[])[]): View {
  let view: View | undefined;
  for (const seats of steps) view = nextView(view, seats, SEED);
  return view!;
}

/** Returns a token of member `number` with an empty value, or with the eight octets of a branch. */
export function token(kind: TokenKind, number: number, incarnation = 0, octets = 0, keys: Keyring = KEYS): string {
  return mintToken(keys, kind, number, incarnation, new Uint8Array(octets).fill(7));
}

/** Returns a request whose CSeq fits its method. `changes` replace, add or (undefined) remove header lines. */
export function request(method: string, changes: Record<string, string | undefined> = {}, uri = 'sip:bob@example.com') {
  return options({ CSeq: `1 ${method}`, ...changes }, `${method} ${uri} SIP/2.0`);
}

/** Returns a response whose top Via has this branch; undefined: no branch. */
export function response(branch: string | undefined, changes: Record<string, string | undefined> = {}, status = 200) {
  const parameter = branch === undefined ? '' : `;branch=${branch}`;
  return options({ Via: `SIP/2.0/UDP 198.51.100.1:5060${parameter}`, ...changes }, `SIP/2.0 ${status} Fine`);
}

const hash = new CallHash();

export function slotOf({ slotKey }: OwnerTables, callId: string): number {
  const bytes = Buffer.from(callId);
  hashCallId(slotKey, bytes, 0, bytes.length, hash);
  return hash.slot;
}

export function keyOf(tables: OwnerTables, callId: string): number {
  slotOf(tables, callId);
  return hash.key;
}

/** Returns the previous owner of the slot with a seat and its last epoch; 0 = none. */
export function previousOf(tables: OwnerTables, slot: number): { readonly owner: number; readonly until: number } {
  const found = { generation: 0 };
  const owner = earlierOwner(tables, slot, 0, found);
  return { owner, until: owner === 0 ? 0 : tables.earlier[found.generation]!.epoch };
}

/** Returns a Call-ID whose slot has this owner and, if given, this previous owner. */
export function callIdOf(tables: OwnerTables, owner: number, previous?: number): string {
  for (let i = 0; i < 100_000; i++) {
    const callId = `call-${i}@192.0.2.7`;
    const slot = slotOf(tables, callId);
    if (tables.slots[slot] === owner && (previous === undefined || previousOf(tables, slot).owner === previous))
      return callId;
  }
  throw new Error(`no slot of member ${owner} with previous owner ${previous}`);
}

export interface Decision {
  readonly verdict: Verdict;
  readonly packet: Packet;
}

/** One member's lookup, with settable state of the rest of the member. */
export class Member implements LookupState {
  keys: Keyring = KEYS;
  tables: OwnerTables;
  /** Keys of its calls. */
  readonly held = new Set<number>();
  /** Keys of those of its calls that it has from their records only. */
  readonly read = new Set<number>();
  /** Reported oldest epoch of calls by peer; peers without an entry have no calls. */
  readonly told = new Map<number, number>();
  /** A reachable member with a newer view; 0 = none. */
  ahead = 0;
  readonly #forged = new CellFamily({ name: 'forged_tokens_total', help: '', labels: ['place'] });
  readonly #lookup: OwnerLookup;

  constructor(tables: OwnerTables) {
    this.tables = tables;
    this.#lookup = new OwnerLookup(this, this.#forged);
  }

  holds(callKey: number): boolean {
    return this.held.has(callKey);
  }

  regained(callKey: number): boolean {
    return this.read.has(callKey);
  }

  heldSince(member: number): number {
    return this.told.get(member) ?? 0;
  }

  newer(): number {
    return this.ahead;
  }

  /** Decides on a complete, valid message. */
  decide(bytes: Buffer, change: Partial<Packet> = {}): Decision {
    const { scan, fault } = scanned(bytes);
    if (fault !== null) throw new Error(`the message of the test is refused: ${fault}`);
    const packet = Object.assign(new Packet(), { bytes, end: bytes.length }, change);
    return { verdict: this.#lookup.decide(scan, packet), packet };
  }

  verdict(bytes: Buffer, change: Partial<Packet> = {}): Verdict {
    return this.decide(bytes, change).verdict;
  }

  /** Number of forged tokens by place, without places that have none. */
  get forged(): Partial<Record<TokenPlace, number>> {
    const counted = [...this.#forged.entries()].filter(({ value }) => value > 0);
    return Object.fromEntries(counted.map(({ labels, value }) => [labels.place, value]));
  }
}
