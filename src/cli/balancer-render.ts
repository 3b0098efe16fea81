// Defines `sipfarm balancer render KIND`: its options and its output.

import { isIP } from 'node:net';
import { Argument, type Command, InvalidArgumentError } from 'commander';
import type { MemberSummary } from '../admin/status.ts';
import { isMapped } from '../balancer/media.ts';
import { askNeighbours, isMac } from '../balancer/neighbours.ts';
import { type BalancerPlan, type HealthCheck, type Planned, planBalancer } from '../balancer/plan.ts';
import {
  BALANCER_KINDS,
  type BalancerKind,
  canEndTls,
  carriesMedia,
  isDirectReturn,
  renderBalancer,
} from '../balancer/render.ts';
import { SipfarmError } from '../base/errors.ts';
import type { PortClaim } from '../media/port-claims.ts';
import { isReliable } from '../packet/transport-kind.ts';

export interface RenderOptions {
  readonly vip?: string;
  readonly port?: number;
  readonly check?: HealthCheck | null;
  readonly mac?: ReadonlyMap<string, string>;
  readonly address?: ReadonlyMap<string, string>;
  readonly balancerMac?: string;
  readonly device?: string;
  readonly outDevice?: string;
  readonly file?: string;
}

function ipAddress(text: string): string {
  if (isIP(text) !== 0 && !text.includes('%')) return text;
  throw new InvalidArgumentError('it must be an IP address without a port');
}

function port(text: string): number {
  const value = Number(text);
  if (/^\d{1,5}$/.test(text) && value >= 1 && value <= 65_535) return value;
  throw new InvalidArgumentError('it must be a whole number from 1 to 65535');
}

function mac(text: string): string {
  const value = text.toLowerCase();
  if (isMac(value)) return value;
  throw new InvalidArgumentError('it must be a MAC address like 00:00:5e:00:53:11');
}

function device(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/.test(text)) return text;
  throw new InvalidArgumentError('it must be the name of a network interface');
}

function check(text: string): HealthCheck | null {
  if (text === 'none') return null;
  const match = /^(sip|tcp|http):(\d{1,5})$/.exec(text);
  if (!match) throw new InvalidArgumentError('it must be sip:PORT, tcp:PORT, http:PORT or none');
  return { kind: match[1] as HealthCheck['kind'], port: port(match[2]!) };
}

/** Parses an option `ID=VALUE` that may be given for each member. */
function perMember(parse: (text: string) => string) {
  return (text: string, before: ReadonlyMap<string, string> | undefined): ReadonlyMap<string, string> => {
    const at = text.indexOf('=');
    if (at < 1) throw new InvalidArgumentError("it must be a member's name, =, and the value");
    return new Map([...(before ?? []), [text.slice(0, at), parse(text.slice(at + 1))]]);
  };
}

/** Adds argument and options to the command `render`. */
export function addRenderOptions(command: Command): Command {
  return command
    .addArgument(new Argument('<kind>', 'kind of balancer').choices(BALANCER_KINDS))
    .option(
      '--vip <address>',
      "clients' address of the farm (default: the address that the members advertise)",
      ipAddress,
    )
    .option('--port <port>', 'port at the VIP (default: every port the members advertise)', port)
    .option('--check <how>', 'health check: sip:PORT, tcp:PORT, http:PORT (/readyz) or none', check)
    .option('--address <id=address>', "a member's own address; may be given again", perMember(ipAddress))
    .option('--mac <id=mac>', "a member's MAC address, for nftables-dsr; may be given again", perMember(mac))
    .option('--balancer-mac <mac>', "the balancer's MAC address, for nftables-dsr", mac)
    .option('--device <name>', "the balancer's interface towards the clients (default: eth0)", device)
    .option('--out-device <name>', 'its interface towards the members (default: the same)', device)
    .option('--file <name>', 'print this one of several files');
}

/** Returns the plan of the farm for `kind`. MAC addresses that are not given come from this host's neighbour table. */
export function planFor(
  kind: BalancerKind,
  farm: string,
  members: readonly MemberSummary[],
  options: RenderOptions,
  neighbours: () => ReadonlyMap<string, string> = askNeighbours,
  claims: readonly PortClaim[] = [],
): Planned {
  const { vip, port, check, mac, address, balancerMac, device, outDevice } = options;
  if (!/^[a-z0-9-]{1,32}$/.test(farm)) throw new SipfarmError('SF_BALANCER_PLAN', 'the name of the farm is not valid');
  const { plan, warnings } = planBalancer(farm, members, {
    directReturn: isDirectReturn(kind),
    endsTls: canEndTls(kind),
    claims,
    ...(kind === 'nftables-dsr' && { neighbours: neighbours() }),
    ...(vip !== undefined && { vip }),
    ...(port !== undefined && { port }),
    ...(check !== undefined && { check }),
    ...(mac && { macs: mac }),
    ...(address && { addresses: address }),
    ...(balancerMac !== undefined && { balancerMac }),
    ...(device !== undefined && { device }),
    ...(outDevice !== undefined && { outDevice }),
  });
  return { plan, warnings: [...warnings, ...lacking(kind, plan, check === undefined)] };
}

/** Returns warnings of missing data, and of services that this kind does not carry. */
function lacking(kind: BalancerKind, plan: BalancerPlan, checkIsFound: boolean): string[] {
  const found: string[] = [];
  const media = plan.media ?? [];
  const missing = [...plan.members, ...media.filter((one) => one.plan !== 'direct' && !isPlanned(one.id, plan))];
  const unknown = missing.filter(({ mac }) => mac === null).map(({ id }) => id);
  if (media.some(isMapped) && !carriesMedia(kind))
    found.push(`media is left out: ${kind} maps no ranges of UDP ports; its file says what to do`);
  if (kind === 'nftables-dsr' && unknown.length > 0)
    found.push(`the MAC addresses of ${unknown.join(', ')} are unknown: give them with --mac ID=MAC`);
  if (kind === 'nftables-dsr' && plan.balancerMac === null)
    found.push("the balancer's own MAC address is unknown: give it with --balancer-mac");
  if (plan.check === null && checkIsFound && !kind.startsWith('nftables'))
    found.push(
      'the balancer will make no health checks: not every member has a TCP port on its own address; give --check',
    );
  const udp = plan.services.filter(({ transport }) => !isReliable(transport)).map((service) => service.port);
  if (kind === 'haproxy' && udp.length > 0)
    found.push(`UDP ${udp.join(', ')} is left out: haproxy balances TCP only; add nftables or IPVS for UDP`);
  return found;
}

const isPlanned = (id: string, { members }: BalancerPlan): boolean => members.some((member) => member.id === id);

/** Returns the text to print: a single file alone, several files each under a line with its name. */
export function showFiles(kind: BalancerKind, plan: Planned['plan'], file: string | undefined): string {
  const files = renderBalancer(kind, plan);
  const wanted = file === undefined ? files : files.filter(({ name }) => name === file);
  if (wanted.length === 0)
    throw new SipfarmError('SF_USAGE', `${kind} has no file ${file}, but ${files.map(({ name }) => name).join(', ')}`);
  if (wanted.length === 1) return wanted[0]!.text.trimEnd();
  return wanted.map(({ name, text }) => `==> ${name} <==\n${text.trimEnd()}`).join('\n\n');
}
