// Plans the balancer of a farm: one VIP, its ports, the members that take packets, and the health check. The source is
// the members' own records, so the balancer's configuration and the farm cannot differ.

import { isIP } from 'node:net';
import type { ListenerSummary, MemberSummary } from '../admin/status.ts';
import { type Endpoint, formatEndpoint, isIpv6, isWildcard, parseEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import { fnv1a, mix32, rendezvousScore } from '../base/rendezvous.ts';
import { isLoopback } from '../config/schema.ts';
import type { PortClaim } from '../media/port-claims.ts';
import { type Advertised, advertisedIn } from '../packet/advertised.ts';
import { isReliable, type ListenerKind, TRANSPORT_KINDS } from '../packet/transport-kind.ts';
import { mediaOf, mediaWarnings, type PlannedMedia } from './media.ts';

export interface PlannedMember {
  readonly id: string;
  /** Own address of the member, never the VIP. */
  readonly address: string;
  /** 1-1000, relative to the other members. */
  readonly weight: number;
  /** MAC address of the interface with `address`; null: not known. Only direct server return needs it. */
  readonly mac: string | null;
}

export interface PlannedService {
  readonly transport: ListenerKind;
  /** Port at the VIP. */
  readonly port: number;
  /** Port at the member. */
  readonly targetPort: number;
  /** Clients use TLS at this port, and the balancer ends it. */
  readonly tls?: true;
}

/**
 * `sip`: OPTIONS over TCP; `tcp`: a connection; `http`: GET /readyz of the admin server. All to the member's own
 * address.
 */
export interface HealthCheck {
  readonly kind: 'sip' | 'tcp' | 'http';
  readonly port: number;
}

export interface BalancerPlan {
  readonly farm: string;
  readonly vip: string;
  readonly services: readonly PlannedService[];
  readonly members: readonly PlannedMember[];
  /** null: the balancer makes no health checks. */
  readonly check: HealthCheck | null;
  /**
   * Interfaces of the balancer: the one that faces the clients, and the one that faces the members (often the same).
   */
  readonly device: string;
  readonly outDevice: string;
  /** MAC address of the balancer's `outDevice`; null: not known. */
  readonly balancerMac: string | null;
  /** Media ports by host. Left out: no member has claimed any. */
  readonly media?: readonly PlannedMedia[];
}

export interface PlanOptions {
  /** Default: the one address that every member advertises. */
  readonly vip?: string;
  /** Selects the listeners that advertise this port. If there are none, all listeners are put at this port. */
  readonly port?: number;
  /** MAC and own addresses by member id. They override addresses that are found. */
  readonly macs?: ReadonlyMap<string, string>;
  readonly addresses?: ReadonlyMap<string, string>;
  /** MAC addresses by IP address, from this host's neighbour table. */
  readonly neighbours?: ReadonlyMap<string, string>;
  readonly balancerMac?: string;
  readonly device?: string;
  readonly outDevice?: string;
  /** Default: OPTIONS to the TCP port that every member has on its own address; null when there is none. */
  readonly check?: HealthCheck | null;
  /** True: members take packets whose destination is the VIP itself (direct server return). */
  readonly directReturn: boolean;
  /** True: the balancer can end TLS. Left out: it cannot, and listeners that clients reach by TLS are left out. */
  readonly endsTls?: boolean;
  /** Claims of media ports by all members. */
  readonly claims?: readonly PortClaim[];
}

export interface Planned {
  readonly plan: BalancerPlan;
  /** Warnings for the operator, one line each. */
  readonly warnings: readonly string[];
}

interface Entrance {
  readonly transport: ListenerKind;
  readonly bind: Endpoint;
  readonly advertise: Advertised;
}

interface Candidate {
  readonly member: MemberSummary;
  readonly entrances: readonly Entrance[];
}

/** Highest weight of one member in the configuration. */
const MOST_WEIGHT = 1000;

function refuse(message: string): never {
  throw new SipfarmError('SF_BALANCER_PLAN', message);
}

/** A listener that advertises a name is reached at the VIP, whatever the VIP is. */
const isNamed = ({ advertise }: Entrance): boolean => isIP(advertise.host) === 0;
const isTls = ({ advertise }: Entrance): boolean => TRANSPORT_KINDS[advertise.transport].secure;
const isAt =
  (vip: string) =>
  (entrance: Entrance): boolean =>
    isNamed(entrance) || entrance.advertise.host === vip;

function entrancesOf(listeners: readonly ListenerSummary[]): Entrance[] {
  return listeners.flatMap((listener) => {
    const { transport } = listener;
    const bind = parseEndpoint(listener.bind);
    const advertise = advertisedIn(listener);
    return bind && advertise ? [{ transport, bind, advertise }] : [];
  });
}

/**
 * Sorts by name, not by number: the text does not depend on the order of joining. Digits count as numbers: fe2 before
 * fe10.
 */
const byName = (a: MemberSummary, b: MemberSummary): number => a.id.localeCompare(b.id, 'en', { numeric: true });

function candidates(members: readonly MemberSummary[], endsTls: boolean, warnings: string[]): Candidate[] {
  const taken: Candidate[] = [];
  const secured = new Set<number>();
  for (const member of [...members].sort(byName)) {
    const { id } = member;
    if (!/^[A-Za-z0-9._-]{1,64}$/.test(id)) refuse('the name of a member is not valid');
    const all = entrancesOf(member.listeners);
    const entrances = endsTls ? all : all.filter((entrance) => !isTls(entrance));
    for (const entrance of all) if (!endsTls && isTls(entrance)) secured.add(entrance.advertise.port);
    if (member.role !== 'member') warnings.push(`${id} is left out: its role is ${member.role}`);
    else if (member.state !== 'active') warnings.push(`${id} is left out: it is ${member.state}`);
    else if (member.weight < 1) warnings.push(`${id} is left out: its weight is 0`);
    else if (entrances.length === 0) warnings.push(`${id} is left out: its record has no listeners`);
    else taken.push({ member, entrances });
  }
  if (secured.size > 0)
    warnings.push(
      `TLS ${[...secured].join(', ')} is left out: for this kind the command writes no configuration that ends TLS ` +
        '(docs/operations.md, "TLS ended at the balancer")',
    );
  if (taken.length === 0) refuse('no member takes packets: none is active with a weight above 0 and a listener');
  return taken;
}

/** Returns what only workers of one host have in common: two other processes never share an address. */
function placeOf({ member, entrances }: Candidate): string {
  const relay = parseEndpoint(member.relay)?.address ?? member.id;
  return [relay, ...entrances.map(({ transport, bind }) => `${transport} ${formatEndpoint(bind)}`)].join(' ');
}

/**
 * Merges the workers of one host (fe1.0, fe1.1 ...), which share its listeners. The balancer sees one member with the
 * weight of all.
 */
function byHost(farm: readonly Candidate[]): Candidate[] {
  const hosts = new Map<string, Candidate[]>();
  for (const one of farm) hosts.set(placeOf(one), [...(hosts.get(placeOf(one)) ?? []), one]);
  const weights = [...hosts.values()].map((own) => own.reduce((sum, { member }) => sum + member.weight, 0));
  const shrink = Math.max(1, ...weights.map((weight) => weight / MOST_WEIGHT));
  return [...hosts.values()].map((own, index) => {
    const { member, entrances } = own[0]!;
    const id = own.length === 1 ? member.id : member.id.replace(/\.\d+$/, '');
    return { member: { ...member, id, weight: Math.max(1, Math.round(weights[index]! / shrink)) }, entrances };
  });
}

/** Returns the one address that all members advertise. */
function findVip(farm: readonly Candidate[]): string {
  const [first, ...others] = farm.map(
    ({ entrances }) =>
      new Set(entrances.filter((entrance) => !isNamed(entrance)).map(({ advertise }) => advertise.host)),
  );
  const shared = [...first!].filter((address) => others.every((told) => told.has(address)) && !isWildcard(address));
  if (shared.length === 1) return shared[0]!;
  if (shared.length > 1) return refuse(`the members advertise ${shared.join(' and ')}: pick one with --vip`);
  return refuse('the members advertise no address in common, so the VIP is unknown: give it with --vip');
}

/** Returns the elements that satisfy `wanted`; all elements when none does. */
function pick<T>(all: readonly T[], wanted: (one: T) => boolean): readonly T[] {
  const picked = all.filter(wanted);
  return picked.length > 0 ? picked : all;
}

function servicesOf(farm: readonly Candidate[], vip: string, port: number | undefined): PlannedService[] {
  const found = new Map<string, PlannedService>();
  const seen = new Map<string, number>();
  for (const { member, entrances } of farm) {
    const family = entrances.filter(
      (entrance) => isIpv6(isNamed(entrance) ? entrance.bind.address : entrance.advertise.host) === isIpv6(vip),
    );
    const atVip = pick(family, isAt(vip));
    const chosen = port === undefined ? atVip : pick(atVip, ({ advertise }) => advertise.port === port);
    const mine = new Set<string>();
    for (const entrance of chosen) {
      const { transport, bind, advertise } = entrance;
      const tls = isTls(entrance) && ({ tls: true } as const);
      const service: PlannedService = { transport, port: port ?? advertise.port, targetPort: bind.port, ...tls };
      const place = `${tls ? 'tls' : transport} ${service.port}`;
      const other = found.get(place);
      if (other && other.targetPort !== service.targetPort)
        refuse(
          `${place} of the VIP is port ${other.targetPort} of one listener and port ${service.targetPort} of ` +
            `another (at ${member.id}): a balancer without sessions needs one; pick with --port, or make the ` +
            'listeners alike',
        );
      found.set(place, service);
      mine.add(place);
    }
    for (const place of mine) seen.set(place, (seen.get(place) ?? 0) + 1);
  }
  if (found.size === 0) refuse(`no listener is of the family of ${vip}`);
  for (const [place, count] of seen)
    if (count < farm.length)
      refuse(`only ${count} of ${farm.length} members listen for ${place} of the VIP: make their listeners alike`);
  return [...found.values()];
}

function ownAddress({ member, entrances }: Candidate, vip: string, given: string | undefined): string {
  if (given !== undefined) return given;
  const fits = (address: string): boolean =>
    isIP(address) !== 0 && isIpv6(address) === isIpv6(vip) && address !== vip && !isWildcard(address);
  const bound = entrances.map(({ bind }) => bind.address).find((address) => fits(address) && !isLoopback(address));
  const relay = parseEndpoint(member.relay)?.address;
  if (bound !== undefined) return bound;
  if (relay !== undefined && fits(relay)) return relay;
  return refuse(
    `no own address of ${member.id} is published in the family of ${vip}: give it with --address ${member.id}=...`,
  );
}

/** Returns a check of the TCP port that every member has on its own address; null when there is none. */
function findCheck(farm: readonly Candidate[], vip: string): HealthCheck | null {
  const ports = farm.map(({ entrances }) =>
    entrances
      .filter(
        ({ transport, bind }) => isReliable(transport) && bind.address !== vip && isIpv6(bind.address) === isIpv6(vip),
      )
      .map(({ bind }) => bind.port),
  );
  const port = ports[0]!.find((one) => ports.every((own) => own.includes(one)));
  return port === undefined ? null : { kind: 'sip', port };
}

/** Warns of members whose listeners do not receive packets from this kind of balancer. */
function misplaced(farm: readonly Candidate[], vip: string, directReturn: boolean): string[] {
  const wrong = farm.filter(({ entrances }) =>
    entrances.every(({ bind }) => (bind.address === vip) !== directReturn || isIpv6(bind.address) !== isIpv6(vip)),
  );
  if (wrong.length === 0) return [];
  const ids = wrong.map(({ member }) => member.id).join(', ');
  return directReturn
    ? [
        `no listener of ${ids} is bound to ${vip}: with direct server return packets arrive for the VIP ` +
          '(balancer.mode: dsr)',
      ]
    : [`no listener of ${ids} is bound to an own address, but this balancer sends there (balancer.mode: nat)`];
}

/**
 * Plans the balancer of the farm with these members. Throws SF_BALANCER_PLAN, with the remedy, when they do not fit
 * behind one balancer.
 */
export function planBalancer(farm: string, members: readonly MemberSummary[], options: PlanOptions): Planned {
  const warnings: string[] = [];
  const all = byHost(candidates(members, options.endsTls === true, warnings));
  const vip = options.vip ?? findVip(all);
  if (all.every(({ entrances }) => !entrances.some(isAt(vip))))
    warnings.push(
      `no member advertises ${vip}: set advertise of the listeners to it, or clients receive other addresses`,
    );
  warnings.push(...misplaced(all, vip, options.directReturn));
  const services = servicesOf(all, vip, options.port);
  const changed = services.find(({ port, targetPort }) => port !== targetPort);
  if (options.directReturn && changed)
    refuse(
      `direct server return changes no port, but ${changed.transport} ${changed.port} of the VIP is port ` +
        `${changed.targetPort} of the members`,
    );
  const check = options.check === undefined ? findCheck(all, vip) : options.check;
  const device = options.device ?? 'eth0';
  const { macs, neighbours } = options;
  const macOf = (id: string, address: string): string | null => macs?.get(id) ?? neighbours?.get(address) ?? null;
  const media = mediaOf(options.claims ?? [], vip, macOf);
  const udpPorts = services.filter(({ transport }) => !isReliable(transport)).map(({ port }) => port);
  warnings.push(...mediaWarnings(media, { vip, udpPorts, directReturn: options.directReturn }));
  return {
    plan: {
      farm,
      vip,
      services,
      members: all.map((candidate) => {
        const { id, weight } = candidate.member;
        const address = ownAddress(candidate, vip, options.addresses?.get(id));
        return { id, address, weight, mac: macOf(id, address) };
      }),
      check,
      device,
      outDevice: options.outDevice ?? device,
      balancerMac: options.balancerMac ?? null,
      ...(media.length > 0 && { media }),
    },
    warnings,
  };
}

/** Returns the endpoint at the VIP: `198.51.100.1:5060`. */
export function atVip(plan: BalancerPlan, { port }: PlannedService): string {
  return formatEndpoint({ address: plan.vip, port });
}

/** Returns the endpoint at the member: `10.0.0.11:5060`. */
export function atMember(member: PlannedMember, { targetPort }: PlannedService): string {
  return formatEndpoint({ address: member.address, port: targetPort });
}

const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));

/** Returns the weights without their common divisor, none above `most`. */
export function smallWeights(members: readonly PlannedMember[], most: number): number[] {
  const common = members.reduce((so, { weight }) => divisor(so, weight), 0);
  const small = members.map(({ weight }) => weight / common);
  const highest = Math.max(...small);
  return highest <= most ? small : small.map((weight) => Math.max(1, Math.round((weight * most) / highest)));
}

/**
 * Assigns each of `count` hash buckets to a member, by weighted rendezvous hashing. A member that comes or goes moves
 * only its own share. TCP connections of the others stay where they are.
 */
export function buckets(members: readonly PlannedMember[], count: number): PlannedMember[] {
  const score = (bucket: number, { id, weight }: PlannedMember): number =>
    rendezvousScore(mix32(fnv1a(`${id}/${bucket}`)) >>> 0, weight);
  return Array.from({ length: count }, (_, bucket) =>
    members.reduce((best, member) => (score(bucket, member) > score(bucket, best) ? member : best)),
  );
}

/** Returns the SIP port at the VIP: of the first TCP service, else of the first service. */
export function sipPort({ services }: BalancerPlan): number {
  return (services.find(({ transport }) => isReliable(transport)) ?? services[0]!).port;
}
