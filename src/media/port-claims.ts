// The claims of media ports in the store: `ports/<member>`, bound to the lease of the member. With single-ip the
// balancer maps each port of the one public address to one member, so two claims may not overlap.
//
// Proof that two members that claim at once cannot overlap. A claim with single-ip reads the key `ports`, then lists
// `ports/`, and then writes both keys in one transaction, if `ports` still has the revision that it read. Any other
// claim of this kind was written before the first read or after it. In the first case the listing contains it. In the
// second case it has changed `ports`, and the transaction fails. The end of a lease deletes claims only.
//
// With direct and multi-ip each member has its own public address. Their claims inform operators and the balancer.

import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { SipfarmError } from '../base/errors.ts';
import { isInteger, isObject, isOneOf, isText } from '../base/guards.ts';
import type { PortRange } from '../config/media-section.ts';
import type { Lease, Store, Write } from '../store/store.ts';
import type { MediaPlan } from './plan.ts';

const PLAN_KINDS = ['direct', 'multi-ip', 'single-ip'] as const satisfies readonly MediaPlan['kind'][];

/** The value of ports/<member>, with the member. */
export interface PortClaim extends PortRange {
  readonly member: string;
  /** Name of the host in the file: its workers have one. */
  readonly host: string;
  readonly plan: MediaPlan['kind'];
  readonly bind: string;
  readonly advertised: string;
}

const PREFIX = 'ports/';
/** The key that every claim with single-ip changes. No member has it as its own: theirs begin with `ports/`. */
const SINGLE_IP_KEY = 'ports';
/** Ports of one public address for media: those below 1536 are left to other services. */
export const SINGLE_IP_PORTS: PortRange = { first: 1536, last: 65_535 };
/** Conflicts need another member that claims at the same time, so a farm that starts has as many as members. */
const ATTEMPTS = 100;

export const sizeOf = ({ first, last }: PortRange): number => last - first + 1;
export const rangeText = ({ first, last }: PortRange): string => `${first}-${last}`;
const meet = (a: PortRange, b: PortRange): boolean => a.first <= b.last && b.first <= a.last;

/** Returns the claim of `member`; undefined when `value` has a wrong shape or breaks a bound. */
function parsePortClaim(member: string, value: unknown): PortClaim | undefined {
  if (!isObject(value) || !isText(member, 64)) return undefined;
  const { v, host, plan, bind, advertised, first, last } = value;
  if (v !== 1 || !isText(host, 64) || !isOneOf(plan, PLAN_KINDS)) return undefined;
  if (!isAddress(bind) || !isAddress(advertised)) return undefined;
  if (!isInteger(first, 1, 65_535) || !isInteger(last, first, 65_535)) return undefined;
  return { member, host, plan, bind, advertised, first, last };
}

function isAddress(value: unknown): value is string {
  return isText(value, 45) && isIP(value) !== 0;
}

/** Returns all readable claims, ordered by member. Rejects as Store.list does. */
export async function listPortClaims(store: Pick<Store, 'list'>): Promise<readonly PortClaim[]> {
  const entries = await store.list(PREFIX);
  return entries.flatMap(({ key, value }) => parsePortClaim(key.slice(PREFIX.length), value) ?? []);
}

/**
 * Returns a range of `size` ports that no claim with single-ip has, the first from port 10,000 on, else the first of
 * all; the largest free one when there is none of that size; undefined when no two ports are free.
 */
export function freeRange(claims: readonly PortClaim[], size: number): PortRange | undefined {
  const gaps = freeGaps(claims);
  const high = gaps.map(({ first, last }) => ({ first: Math.max(first, 10_000), last }));
  const fitting = [...high, ...gaps].find((gap) => sizeOf(gap) >= size);
  const best = fitting ?? gaps.toSorted((a, b) => sizeOf(b) - sizeOf(a))[0];
  return best && { first: best.first, last: Math.min(best.last, best.first + size - 1) };
}

/** Returns the ranges of the one public address that nobody has claimed, from an even port to an odd one. */
export function freeGaps(claims: readonly PortClaim[]): PortRange[] {
  const taken: PortRange[] = claims.filter(({ plan }) => plan === 'single-ip').sort((a, b) => a.first - b.first);
  const gaps: PortRange[] = [];
  let next = SINGLE_IP_PORTS.first;
  for (const claim of [...taken, { first: SINGLE_IP_PORTS.last + 1, last: SINGLE_IP_PORTS.last + 1 }]) {
    const gap = { first: next + (next % 2), last: claim.first - 1 - (claim.first % 2) };
    if (gap.first < gap.last) gaps.push(gap);
    next = Math.max(next, claim.last + 1);
  }
  return gaps;
}

export interface PortClaimsOptions {
  readonly store: Pick<Store, 'get' | 'list'>;
  /** Commits writes with the lease of the member; resolves to undefined while it has none (Membership.commit). */
  readonly commit: (writes: (lease: Lease) => readonly Write[]) => Promise<boolean | undefined>;
  readonly member: string;
  readonly host: string;
  /** Ports of the whole host: the size of the free range that a refusal names. */
  readonly hostPorts: number;
}

export class PortClaims {
  readonly #options: PortClaimsOptions;

  constructor(options: PortClaimsOptions) {
    this.#options = options;
  }

  /**
   * Claims the ports of `plan` for this member; replaces its earlier claim. Resolves to false when the member has no
   * lease now. Rejects with SF_MEDIA_PORTS when another member has claimed some of them, and as the Store does; with
   * SF_STORE_CONFLICT when other members claim all the time.
   */
  async claim(plan: MediaPlan): Promise<boolean> {
    const { store, commit, member, host } = this.#options;
    const { kind, bind, advertised, first, last } = plan;
    const value = { v: 1, host, plan: kind, bind, advertised, first, last };
    const key = PREFIX + member;
    if (kind !== 'single-ip') return (await commit((lease) => [{ key, value, lease }])) !== undefined;
    // The store counts a repeated commit as applied if its values are there: each claim has its own text.
    const nonce = randomBytes(8).toString('hex');
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const expect = (await store.get(SINGLE_IP_KEY))?.revision ?? 0n;
      this.#refuseOverlap(plan, await listPortClaims(store));
      const done = await commit((lease) => [
        { key: SINGLE_IP_KEY, value: { v: 1, member, nonce }, expect },
        { key, value, lease },
      ]);
      if (done !== false) return done ?? false;
    }
    throw new SipfarmError('SF_STORE_CONFLICT', 'other members claim media ports at the same time; trying on');
  }

  #refuseOverlap(plan: MediaPlan, claims: readonly PortClaim[]): void {
    const { member, host, hostPorts } = this.#options;
    const others = claims.filter((claim) => claim.member !== member && claim.plan === 'single-ip');
    const other = others.find((claim) => meet(claim, plan));
    if (!other) return;
    const elsewhere = others.filter((claim) => claim.host !== host);
    const free = freeRange(elsewhere, hostPorts);
    throw new SipfarmError(
      'SF_MEDIA_PORTS',
      `the media ports ${rangeText(plan)} of ${member} overlap ${rangeText(other)} of ${other.member}, and media.plan is single-ip; ${
        free
          ? `${rangeText(free)} is free: write it as media.ports`
          : 'no ports are free: narrow media.ports of other members'
      }`,
    );
  }
}
