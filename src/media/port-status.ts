// The media ports of a member and of the farm, for `sipfarm ports` and GET /v1/ports.

import { SipfarmError } from '../base/errors.ts';
import type { Store } from '../store/store.ts';
import type { MediaPorts, PortTrouble } from './media-ports.ts';
import type { MediaPlan } from './plan.ts';
import type { PortState } from './port-allocator.ts';
import { freeGaps, listPortClaims, type PortClaim, SINGLE_IP_PORTS, sizeOf } from './port-claims.ts';

/** Ports by state at each side. The relay counts them. */
export interface PortCounts {
  readonly outside: Readonly<Record<PortState, number>>;
  readonly inside: Readonly<Record<PortState, number>>;
}

/** One member's part of the report. */
export interface OwnPorts extends Omit<MediaPlan, 'kind'> {
  readonly member: string;
  readonly plan: MediaPlan['kind'];
  /** null: no relay counts them. */
  readonly counts: PortCounts | null;
  /** null: new streams can be opened. */
  readonly trouble: PortTrouble | null;
}

/** Ports that the plan of the answering member can carry in the whole farm. */
export interface PortCapacity {
  readonly ports: number;
  readonly claimed: number;
  readonly audioCalls: number;
  readonly videoCalls: number;
}

export interface PortsReport {
  /** The members that answer: one, or the workers of a host. Empty without a section `media`. */
  readonly own: readonly OwnPorts[];
  /** Claims of the whole farm; null when the store does not answer. */
  readonly claims: readonly PortClaim[] | null;
  /** null without `own` or without `claims`. */
  readonly capacity: PortCapacity | null;
  readonly warnings: readonly string[];
}

export interface PortStatusOptions {
  readonly member: string;
  readonly ports: Pick<MediaPorts, 'plan' | 'trouble' | 'refresh'>;
  readonly store: Pick<Store, 'list'>;
  /** Ids of the members in the view. */
  readonly members: () => readonly string[];
  /** null until there is a relay. */
  readonly counts: () => PortCounts | null;
}

export class PortStatus {
  readonly #options: PortStatusOptions;

  constructor(options: PortStatusOptions) {
    this.#options = options;
  }

  async report(): Promise<PortsReport> {
    const { member, ports, members, counts } = this.#options;
    const claims = await this.#claims();
    const { plan, trouble } = ports;
    if (!plan) return { own: [], claims, capacity: null, warnings: [] };
    const { kind, ...addresses } = plan;
    return {
      own: [{ member, plan: kind, ...addresses, counts: counts(), trouble: trouble ?? null }],
      claims,
      capacity: claims && capacityOf(plan, claims),
      warnings: claims ? portWarnings(plan, claims, members()) : ['the store does not answer: no claims are known'],
    };
  }

  /** Reads the local addresses again, then reports. */
  async refresh(): Promise<PortsReport> {
    await this.#options.ports.refresh();
    return this.report();
  }

  async #claims(): Promise<readonly PortClaim[] | null> {
    try {
      return await listPortClaims(this.#options.store);
    } catch (error) {
      if (error instanceof SipfarmError) return null;
      throw error;
    }
  }
}

/** Makes one report of those of the workers of a host. */
export function mergeReports(reports: readonly PortsReport[]): PortsReport {
  const best = reports.find(({ capacity }) => capacity !== null) ?? reports[0]!;
  return {
    ...best,
    own: reports.flatMap(({ own }) => own),
    warnings: [...new Set(reports.flatMap(({ warnings }) => warnings))],
  };
}

/**
 * Returns what claims of this kind of plan carry; with single-ip all members share one public address. A stream takes
 * two ports at each side. Both sides take them of one range where they have one address.
 */
export function capacityOf(
  { kind, bind, inside }: Pick<MediaPlan, 'kind' | 'bind' | 'inside'>,
  claims: readonly PortClaim[],
): PortCapacity {
  const perStream = bind === inside ? 4 : 2;
  const claimed = claims.filter(({ plan }) => plan === kind).reduce((sum, claim) => sum + sizeOf(claim), 0);
  const ports = kind === 'single-ip' ? sizeOf(SINGLE_IP_PORTS) : claimed;
  return { ports, claimed, audioCalls: Math.floor(ports / perStream), videoCalls: Math.floor(ports / perStream / 2) };
}

/** Returns the faults of the farm's plans that one member alone cannot see. */
export function portWarnings(
  own: Pick<MediaPlan, 'kind' | 'first' | 'last'>,
  claims: readonly PortClaim[],
  members: readonly string[],
): string[] {
  return [...misfits(own, claims, members), ...mixedPlans(claims), ...sharedPorts(claims)];
}

/** With single-ip: members without a claim for which no range of this member's size is left. */
function misfits(
  own: Pick<MediaPlan, 'kind' | 'first' | 'last'>,
  claims: readonly PortClaim[],
  members: readonly string[],
): string[] {
  if (own.kind !== 'single-ip') return [];
  const size = sizeOf(own);
  const without = members.filter((id) => !claims.some(({ member }) => member === id));
  const room = freeGaps(claims).reduce((sum, gap) => sum + Math.floor(sizeOf(gap) / size), 0);
  if (without.length <= room) return [];
  const total = sizeOf(SINGLE_IP_PORTS);
  return [
    `${without.join(', ')} have claimed no media ports, and ${room} ranges of ${size} ports are free of the ${total} of one public address: narrow media.ports of all members, or use multi-ip`,
  ];
}

function mixedPlans(claims: readonly PortClaim[]): string[] {
  const plans = Map.groupBy(claims, ({ plan }) => plan);
  if (plans.size < 2) return [];
  const each = [...plans].map(([plan, of]) => `${plan} at ${of.map(({ member }) => member).join(', ')}`);
  return [`the members have different plans: ${each.join('; ')}`];
}

/** Two members that show the same address and port to clients: the media of one reaches the other. */
function sharedPorts(claims: readonly PortClaim[]): string[] {
  return claims.flatMap((one, index) =>
    claims
      .slice(index + 1)
      .filter((other) => one.advertised === other.advertised && one.first <= other.last && other.first <= one.last)
      .map(
        (other) =>
          `${one.member} and ${other.member} both show ${one.advertised} and some of the same ports to clients: media of one reaches the other`,
      ),
  );
}
