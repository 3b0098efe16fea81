// The address plan of a member: which addresses and ports its media uses, and which address SDP shows to clients. Pure.
//
//    plan        sockets towards clients   SDP shows                          ports of the members
//    direct      media.bind, public        media.bind                         any
//    multi-ip    media.bind, private       media.wan of the member's file     any
//    single-ip   media.bind, private       media.wan of the whole farm        disjoint: port-claims.ts
//
// Bind and advertised address are two fields everywhere.

import { isIpv6 } from '../base/endpoint.ts';
import { isPrivate } from '../base/private-address.ts';
import {
  type MediaConfig,
  NO_OWN_WAN_UNDER_MULTI_IP,
  OWN_WAN_UNDER_SINGLE_IP,
  partOf,
} from '../config/media-section.ts';
import { isLoopback } from '../config/schema.ts';
import { Side } from './media-relay.ts';

export interface MediaPlan {
  readonly kind: MediaConfig['plan'];
  /** Address of the sockets towards the clients. */
  readonly bind: string;
  /** Address that SDP shows to clients. The ports are those of the sockets. */
  readonly advertised: string;
  /**
   * Address of the sockets towards the SIP server, and shown to it. It may be `bind`: both sides then share the ports.
   */
  readonly inside: string;
  /** Ports of this member at each of the two addresses, both included: an even one to an odd one. */
  readonly first: number;
  readonly last: number;
}

/** The plan cannot be carried out. `message` names the field and the remedy. */
export interface PlanFault {
  readonly code: 'SF_MEDIA_PLAN' | 'SF_MEDIA_ADDRESS';
  readonly message: string;
}

/** Addresses of this host in the canonical text of the system. */
export type LocalAddresses = Pick<ReadonlySet<string>, 'has'>;

export interface PlanSettings {
  /** The section in force: the member's own file, then the cluster-wide settings, then the defaults. */
  readonly media: MediaConfig;
  /** media.wan of the member's own file. */
  readonly ownWan: string | undefined;
  /** Position among the workers of the host, from 0, and their number. */
  readonly worker: { readonly index: number; readonly count: number };
}

export function planMedia(settings: PlanSettings, local: LocalAddresses): MediaPlan | PlanFault {
  const { media, worker } = settings;
  const { plan: kind, bind, inside, ports } = media;
  const advertised = advertisedOf(settings);
  if (typeof advertised !== 'string') return advertised;
  if (isIpv6(advertised) !== isIpv6(bind))
    return wrong(`media.bind ${bind} and media.wan ${advertised} are of two address families; write two of one family`);
  const part = partOf(ports, worker.index, worker.count);
  if (part.last < part.first)
    return wrong(`media.ports has no two ports for each of ${worker.count} workers; widen the range`);
  for (const [field, address] of [
    ['bind', bind],
    ['inside', inside],
  ] as const)
    if (!isLoopback(address) && !local.has(address))
      return {
        code: 'SF_MEDIA_ADDRESS',
        message: `media.${field} ${address} is no address of this host; add it to an interface, or change media.${field}`,
      };
  return { kind, bind, advertised, inside, ...part };
}

/**
 * Returns the side at which media for this address leaves. A loopback address inside reaches only this host. Otherwise
 * private addresses are on one side, and public ones on the other.
 */
export function sideOf({ bind, inside }: Pick<MediaPlan, 'bind' | 'inside'>, address: string): Side {
  if (address === inside) return Side.inside;
  if (address === bind) return Side.outside;
  if (isLoopback(inside)) return isLoopback(address) ? Side.inside : Side.outside;
  return isPrivate(address) === isPrivate(inside) ? Side.inside : Side.outside;
}

export function isFault(plan: MediaPlan | PlanFault): plan is PlanFault {
  return 'code' in plan;
}

function advertisedOf({ media, ownWan }: PlanSettings): string | PlanFault {
  const { plan, bind, wan } = media;
  switch (plan) {
    case 'direct':
      if (ownWan === undefined || ownWan === bind) return bind;
      return wrong(
        `media.wan ${ownWan} is set, and media.plan is direct: SDP shows media.bind; leave media.wan out, or set plan multi-ip`,
      );
    case 'multi-ip':
      // A cluster-wide address would lead the media of all members to one.
      return ownWan ?? wrong(`media.wan ${NO_OWN_WAN_UNDER_MULTI_IP}`);
    case 'single-ip':
      if (ownWan !== undefined) return wrong(`media.wan ${OWN_WAN_UNDER_SINGLE_IP}`);
      return (
        wan ??
        wrong('media.plan is single-ip, and the cluster-wide settings have no media.wan; set it by sipfarm config put')
      );
  }
}

const wrong = (message: string): PlanFault => ({ code: 'SF_MEDIA_PLAN', message });

/** Values that a running member cannot change, and values that it can. */
export interface PlanChange {
  /** The plan in force from now on. */
  readonly plan: MediaPlan;
  /** Fields of the section whose new values need a restart. */
  readonly restart: readonly string[];
}

/** Returns the plan in force after `next`. Sockets are open, so only the advertised address can change. */
export function changedPlan(inForce: MediaPlan, next: MediaPlan): PlanChange {
  const moved = [
    ...(inForce.kind === next.kind ? [] : ['plan']),
    ...(inForce.bind === next.bind ? [] : ['bind']),
    ...(inForce.inside === next.inside ? [] : ['inside']),
    ...(inForce.first === next.first && inForce.last === next.last ? [] : ['ports']),
  ];
  return moved.length > 0
    ? { plan: inForce, restart: moved.map((name) => `media.${name}`) }
    : { plan: next, restart: [] };
}
