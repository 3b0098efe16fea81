// Lists the supported kinds of balancers and writes their files.

import { SipfarmError } from '../base/errors.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { renderAlteon, renderBigIp, renderServerIron } from './appliances.ts';
import { renderAwsNlb } from './aws-nlb.ts';
import { renderEnvoy } from './envoy.ts';
import { renderHaproxy } from './haproxy.ts';
import { renderIpvsadm, renderKeepalived } from './ipvs.ts';
import { renderCilium, renderMetallb, renderService } from './kubernetes.ts';
import { mediaNote } from './media.ts';
import { renderNftablesDsr, renderNftablesNat } from './nftables.ts';
import { renderNginx } from './nginx-stream.ts';
import type { BalancerPlan } from './plan.ts';

interface Kind {
  /** True: packets arrive at the members with the VIP as destination. */
  readonly directReturn: boolean;
  /** True: TCP services only. */
  readonly tcpOnly?: boolean;
  /** True: its file configures the end of TLS. */
  readonly endsTls?: boolean;
  readonly files: Readonly<Record<string, (plan: BalancerPlan) => string>>;
  /** File for the media rules as comments, and the mark of a comment. Left out: the kind carries media. */
  readonly note?: readonly [file: string, mark: string];
}

const KIND_TABLE = {
  'nftables-nat': { directReturn: false, files: { 'sipfarm.nft': renderNftablesNat } },
  'nftables-dsr': { directReturn: true, files: { 'sipfarm.nft': renderNftablesDsr } },
  ipvs: {
    directReturn: true,
    files: { 'ipvsadm.rules': renderIpvsadm, 'keepalived.conf': renderKeepalived },
    note: ['keepalived.conf', '#'],
  },
  haproxy: {
    ...{ directReturn: false, tcpOnly: true, endsTls: true },
    files: { 'haproxy.cfg': renderHaproxy },
    note: ['haproxy.cfg', '#'],
  },
  'nginx-stream': { directReturn: false, files: { 'nginx.conf': renderNginx }, note: ['nginx.conf', '#'] },
  envoy: { directReturn: false, files: { 'envoy.yaml': renderEnvoy }, note: ['envoy.yaml', '#'] },
  'aws-nlb': { directReturn: false, files: { 'main.tf': renderAwsNlb }, note: ['main.tf', '#'] },
  kubernetes: {
    directReturn: false,
    files: { 'service.yaml': renderService, 'metallb.yaml': renderMetallb, 'cilium.yaml': renderCilium },
    note: ['service.yaml', '#'],
  },
  serveriron: { directReturn: true, files: { 'serveriron.cfg': renderServerIron }, note: ['serveriron.cfg', '!'] },
  alteon: { directReturn: true, files: { 'alteon.cfg': renderAlteon }, note: ['alteon.cfg', '/*'] },
  bigip: { directReturn: true, files: { 'bigip.conf': renderBigIp }, note: ['bigip.conf', '#'] },
} as const satisfies Readonly<Record<string, Kind>>;

export type BalancerKind = keyof typeof KIND_TABLE;

export const BALANCER_KINDS = Object.keys(KIND_TABLE) as readonly BalancerKind[];

/** Returns whether this kind leaves the destination address unchanged (direct server return). */
export function isDirectReturn(kind: BalancerKind): boolean {
  return KIND_TABLE[kind].directReturn;
}

/** Returns whether this kind can end TLS in front of a TCP listener. */
export function canEndTls(kind: BalancerKind): boolean {
  const { endsTls = false }: Kind = KIND_TABLE[kind];
  return endsTls;
}

/** Returns whether the files of this kind carry media that is mapped to members. */
export function carriesMedia(kind: BalancerKind): boolean {
  const { note }: Kind = KIND_TABLE[kind];
  return note === undefined;
}

export interface RenderedFile {
  readonly name: string;
  readonly text: string;
}

/**
 * Returns the files of `kind` for this farm. Throws SF_BALANCER_PLAN when the kind cannot carry its services.
 */
export function renderBalancer(kind: BalancerKind, plan: BalancerPlan): readonly RenderedFile[] {
  const { files, tcpOnly, note }: Kind = KIND_TABLE[kind];
  if (tcpOnly && plan.services.every(({ transport }) => !isReliable(transport)))
    throw new SipfarmError(
      'SF_BALANCER_PLAN',
      `${kind} balances TCP only, and the members have no TCP listener at the VIP`,
    );
  return Object.entries(files).map(([name, render]) => {
    const comment = note?.[0] === name ? mediaNote(plan.media ?? [], note[1]) : '';
    return { name, text: comment + render(plan) };
  });
}
