// Claims number and incarnation of a member: writes numbers/<n> and members/<id> in one transaction, the latter bound
// to the member's lease.
import { SipfarmError } from '../base/errors.ts';
import type { MemberLife } from '../ownership/view.ts';
import type { Lease, Store } from '../store/store.ts';
import { checkKeys } from './key-check.ts';
import {
  MAX_INCARNATION,
  MAX_NUMBER,
  type MemberRecord,
  type NumberRecord,
  parseMemberRecord,
  parseNumberRecord,
} from './member-record.ts';

const DAY_MS = 86_400_000;
/** How often a member writes `lastSeen`. */
export const LAST_SEEN_MS = DAY_MS / 4;
/** A number is reused seven days after its member was last seen, plus the time by which `lastSeen` may lag. */
const REUSE_MS = 7 * DAY_MS + LAST_SEEN_MS;

export type SeatRecord = Omit<MemberRecord, 'number' | 'incarnation'>;

export interface SeatClaim {
  readonly store: Store;
  readonly record: SeatRecord;
  /** Wall clock, milliseconds since 1970. */
  readonly wall: number;
  /** 0 to below 1. */
  readonly random: () => number;
  /** Conflicts of this claim so far: each one widens the choice among the free numbers. */
  readonly conflicts: number;
  /** Previous number and incarnation of this process: tokens contain the number. */
  readonly before: MemberLife | undefined;
  /** Only a starting process may replace the record of its predecessor. */
  readonly starting: boolean;
  /** Grants the lease. Called only when the claim can succeed. */
  readonly lease: () => Promise<Lease>;
}

/**
 * Makes one attempt. Resolves to number and incarnation. `taken`: another process holds the member id. `conflict`:
 * another member wrote first; try again.
 *
 * A present record is replaced at once in two cases. The first: this process wrote it. The second: this process is
 * starting, and the record has this machine and this relay address. This process has already bound that address, so the
 * writer of the record is dead (killed, its lease still running). Any other record stays as long as its lease lives.
 *
 * Rejects as the Store does, with SF_NUMBERS_EXHAUSTED, and with SF_KEY_MISMATCH before anything is written.
 */
export async function claimSeat(claim: SeatClaim): Promise<MemberLife | 'taken' | 'conflict'> {
  const { store, record } = claim;
  const members = await store.list('members/');
  checkKeys(
    record,
    members.map(({ key, value }) => parseMemberRecord(idOf(key), value)).filter((other) => other !== undefined),
  );
  const memberKey = `members/${record.id}`;
  const present = members.find((entry) => entry.key === memberKey);
  if (present && !mayReplace(parseMemberRecord(record.id, present.value), claim)) return 'taken';
  const live = new Set(members.map(({ key }) => idOf(key)));
  const chosen = await chooseNumber(claim, live);
  const given = { number: chosen.number, incarnation: chosen.incarnation + 1 };
  const lease = await claim.lease();
  const applied = await store.commit([
    {
      key: `numbers/${given.number}`,
      value: numberRecord(record.id, given.incarnation, claim.wall),
      expect: chosen.revision,
    },
    { key: memberKey, value: { ...record, ...given }, expect: present?.revision ?? 0n, lease },
  ]);
  return applied ? given : 'conflict';
}

function idOf(key: string): string {
  return key.slice('members/'.length);
}

function mayReplace(present: MemberRecord | undefined, { record, starting }: SeatClaim): boolean {
  if (!present) return false;
  if (present.claim === record.claim) return true;
  return starting && present.host === record.host && present.relay === record.relay;
}

interface ChosenNumber {
  readonly number: number;
  readonly incarnation: number;
  /** Revision of the key numbers/<number>; 0n when it is absent. */
  readonly revision: bigint;
}

async function chooseNumber(claim: SeatClaim, live: ReadonlySet<string>): Promise<ChosenNumber> {
  const { store, record, wall, conflicts, random, before } = claim;
  const used = new Map<number, ChosenNumber | undefined>();
  for (const { key, value, revision } of await store.list('numbers/')) {
    const number = Number(key.slice('numbers/'.length));
    const given = parseNumberRecord(value);
    used.set(number, undefined);
    if (!given || given.incarnation === MAX_INCARNATION) continue;
    const choice = { number, incarnation: given.incarnation, revision };
    if (given.member === record.id) return choice;
    if (!live.has(given.member) && Date.parse(given.lastSeen) + REUSE_MS < wall) used.set(number, choice);
  }
  // The store has lost its data, and living members rejoin in any order: each one keeps its number.
  if (before && !used.has(before.number) && before.incarnation < MAX_INCARNATION) return { ...before, revision: 0n };
  // Takes the lowest free number. After a conflict it takes one of the lowest few, so that members that start at the
  // same time choose different numbers.
  let skip = Math.floor(random() * Math.min(2 * conflicts, 64));
  let found: ChosenNumber | undefined;
  for (let number = 1; number <= MAX_NUMBER; number++) {
    const choice = used.has(number) ? used.get(number) : { number, incarnation: 0, revision: 0n };
    if (!choice) continue;
    found = choice;
    if (skip-- === 0) break;
  }
  if (!found) throw new SipfarmError('SF_NUMBERS_EXHAUSTED', `no member number is left for ${record.id}`);
  return found;
}

function numberRecord(member: string, incarnation: number, wall: number): NumberRecord {
  return { v: 1, member, incarnation, lastSeen: new Date(wall).toISOString() };
}

/** Writes the present time as `lastSeen`, unless another member has the number now. Rejects as Store.commit does. */
export async function touchNumber(store: Store, id: string, given: MemberLife, wall: number): Promise<void> {
  const key = `numbers/${given.number}`;
  const entry = await store.get(key);
  const present = parseNumberRecord(entry?.value);
  if (!entry || present?.member !== id) return;
  await store.commit([{ key, value: numberRecord(id, present.incarnation, wall), expect: entry.revision }]);
}
