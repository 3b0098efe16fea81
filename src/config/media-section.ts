// The section `media` of the configuration: where the media relay opens its ports, and which address SDP shows.

import { isIP, SocketAddress } from 'node:net';
import { z } from 'zod';
import { type Endpoint, formatEndpoint, isIpv6, isWildcard } from '../base/endpoint.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { endpointsOf, type ParsedService } from './service-section.ts';
import { type TransparentSettings, transparentPorts } from './transparent-ports.ts';
import { workerEndpoint } from './worker-ports.ts';

/** Inclusive on both sides. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Lower ports belong to the system (RFC 6335 6). */
const LOWEST_PORT = 1024;

const ipLiteral = z.string().transform((text, context): string => {
  const family = isIP(text);
  if (family !== 0 && !text.includes('%') && !isWildcard(text))
    return new SocketAddress({ address: text, family: family === 6 ? 'ipv6' : 'ipv4' }).address;
  const message = 'is not one IP address without a port; write 203.0.113.11 or 2001:db8::11';
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
});

const portRange = z.string().transform((text, context): PortRange => {
  const [, first, last] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? [];
  const range = { first: Number(first), last: Number(last) };
  if (first !== undefined && range.first >= LOWEST_PORT && range.last <= 65_535 && range.first < range.last)
    return range;
  const message = `is not a range of ports from ${LOWEST_PORT} to 65535; write 10000-19999`;
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
});

/** The kernel's counts are read every five seconds, and later while nft is busy. */
const LEAST_IDLE_SECONDS = 20;

export const mediaSection = z.strictObject({
  anchor: z
    .enum(['never', 'nat', 'always'])
    .default('never')
    .describe(
      'Calls whose media this member relays: `never` none, `nat` those with a party behind a NAT, `always` all. A change applies to calls that begin after it.',
    ),
  plan: z
    .enum(['direct', 'multi-ip', 'single-ip'])
    .default('direct')
    .describe(
      'Address plan: `direct` bind is a public address, and SDP shows it; `multi-ip` the public address media.wan of this member is mapped to bind one to one, same ports; `single-ip` one public address for the farm, and the balancer maps port ranges to members. See media.md.',
    ),
  bind: ipLiteral.describe('Local address of the media ports towards the clients.'),
  wan: ipLiteral
    .optional()
    .describe(
      'Public address that SDP shows to clients. With multi-ip in the file of each member, with single-ip cluster-wide only. Not with direct.',
    ),
  inside: ipLiteral
    .optional()
    .describe(
      'Local address of the media ports towards the SIP server; SDP shows it to the server. Default: the address of service.bind; with service.kind answer that of media.bind. It may be bind: then both sides take ports of one range.',
    ),
  ports: portRange
    .prefault('10000-19999')
    .describe(
      'Range of media ports, FIRST-LAST. A stream takes two at each side, or one with rtcp-mux. Several workers share the range in equal parts. With single-ip each member needs its own range.',
    ),
  restSeconds: z
    .int()
    .min(0)
    .max(600)
    .default(15)
    .describe(
      'Seconds between the end of a stream and the next use of its ports. A larger value keeps late packets of one call out of another, and needs more ports.',
    ),
  dscp: z
    .int()
    .min(0)
    .max(63)
    .default(46)
    .describe('Differentiated services code point of media packets (RFC 2474). 46 is expedited forwarding (RFC 3246).'),
  offload: z
    .enum(['auto', 'on', 'off'])
    .default('auto')
    .describe(
      'Forwarding of RTP by the kernel, with nftables: `auto` where this host can do it, else in user space; `on` the member does not start where it cannot; `off` all in user space. It needs nft, CAP_NET_ADMIN and forwarding (see media.md).',
    ),
  origin: z
    .enum(['keep', 'replace'])
    .default('keep')
    .describe('Address in the o= line of SDP: `keep` leaves it, `replace` writes the relay address.'),
  ice: z
    .enum(['first', 'remove'])
    .default('first')
    .describe(
      'Candidates of ICE (RFC 8839) in SDP: `first` puts the relay in front of them, `remove` takes them out, so that all media passes the relay.',
    ),
  idleSeconds: z
    .int()
    .min(0)
    .max(86_400)
    .refine((value) => value === 0 || value >= LEAST_IDLE_SECONDS, {
      message: `is too short: counts of packets in the kernel are some seconds old; write 0, or ${LEAST_IDLE_SECONDS} or more`,
    })
    .default(0)
    .describe(
      'Seconds without any media packet of a confirmed call after which media.onIdle applies. Calls on hold do not count. 0: never, else 20 or more. Phones that suppress silence send RTCP every five seconds or so: use 60 or more.',
    ),
  onIdle: z
    .enum(['log', 'end'])
    .default('log')
    .describe(
      'Handling of a call without media packets: `log` writes one log line, `end` also sends BYE to both ends. `end` needs ownership.records.',
    ),
});

/** The fields that may also be set cluster-wide, with every default. */
export const mediaClusterSection = mediaSection.omit({ bind: true, inside: true, ports: true });

/** Fields of the section that apply without a restart. */
export const LIVE_MEDIA_FIELDS = ['anchor', 'wan', 'origin', 'ice', 'idleSeconds', 'onIdle'] as const;

/** The section as it stands in the file, every default filled in. */
export type ParsedMedia = z.output<typeof mediaSection>;

/** The section in force. */
export interface MediaConfig extends Omit<ParsedMedia, 'inside'> {
  readonly inside: string;
}

/** The cluster-wide fields of the section. */
export type MediaClusterSettings = Partial<z.output<typeof mediaClusterSection>>;

/** Returns the cluster-wide fields of a section of the file. */
export function clusterFieldsOf(section: object): object {
  return Object.fromEntries(Object.entries(section).filter(([name]) => name in mediaClusterSection.shape));
}

/** Fills in the defaults that depend on other fields. */
export function settleMedia(media: ParsedMedia, service: ParsedService): MediaConfig {
  return { ...media, inside: media.inside ?? endpointsOf(service).bind?.address ?? media.bind };
}

/** Returns `before` with the fields of `after` that apply without a restart. */
export function withLiveMedia(before: MediaConfig, after: MediaConfig): MediaConfig {
  const { wan: _, ...rest } = before;
  const live = Object.entries(after).filter(([name]) => (LIVE_MEDIA_FIELDS as readonly string[]).includes(name));
  return { ...rest, ...Object.fromEntries(live) };
}

/**
 * Returns the part of `range` for one of `count` workers, from an even port to an odd one. All parts have one size; a
 * part without a pair of ports has its last port before its first.
 */
export function partOf(range: PortRange, index: number, count: number): PortRange {
  const even = range.first + (range.first % 2);
  const pairs = Math.floor(Math.floor((range.last - even + 1) / 2) / count);
  return { first: even + 2 * pairs * index, last: even + 2 * pairs * (index + 1) - 1 };
}

/** Faults of `wan`, also for the start of a plan that is set cluster-wide. */
export const OWN_WAN_UNDER_SINGLE_IP =
  'is set in the file of this member, and media.plan is single-ip: one address is for the whole farm; leave it out, and set it by sipfarm config put';
export const NO_OWN_WAN_UNDER_MULTI_IP =
  'is missing, and media.plan is multi-ip: each member has a public address of its own; write it into the file of this member';

/** Settings that decide whether the section fits the rest of the file. */
interface Around extends TransparentSettings {
  readonly media?: ParsedMedia | undefined;
  readonly service: ParsedService;
}

interface Fault {
  readonly path: readonly string[];
  readonly message: string;
}

/** Returns the faults of the section that the file alone shows. Those of the address plan follow with its start. */
export function mediaFaults(config: Around): Fault[] {
  const { media, service, workers } = config;
  if (!media) return [];
  const { plan, wan, bind, inside, ports } = media;
  const faults: Fault[] = [];
  const complain = (field: string, message: string): void => void faults.push({ path: ['media', field], message });
  if (plan === 'single-ip' && wan !== undefined) complain('wan', OWN_WAN_UNDER_SINGLE_IP);
  if (plan === 'multi-ip' && wan === undefined) complain('wan', NO_OWN_WAN_UNDER_MULTI_IP);
  if (wan !== undefined && isIpv6(wan) !== isIpv6(bind))
    complain('wan', 'has another address family than media.bind: the two are mapped one to one');
  const towardsServer = endpointsOf(service).bind?.address ?? bind;
  if (inside === undefined && isWildcard(towardsServer))
    complain('inside', 'is not set, and service.bind is a wildcard; write the address that the SIP server reaches');
  const { first, last } = partOf(ports, workers - 1, workers);
  if (last < first) complain('ports', `has no two ports for each of ${workers} workers; widen it`);
  const taken = ownUdpPorts(config).find(({ at }) => isIn(ports, at, [bind, inside ?? towardsServer]));
  if (taken) complain('ports', `contains ${formatEndpoint(taken.at)}, which is ${taken.what}; move one of the two`);
  return faults;
}

function isIn({ first, last }: PortRange, at: Endpoint, addresses: readonly string[]): boolean {
  if (at.port < first || at.port > last) return false;
  return isWildcard(at.address) || addresses.includes(at.address);
}

/** Returns the UDP ports that the members of this host open for other purposes. */
function ownUdpPorts(config: Around): { readonly what: string; readonly at: Endpoint }[] {
  const { workers, listeners, relay, service } = config;
  const { bind } = endpointsOf(service);
  const listening = listeners.filter(({ transport }) => !isReliable(transport));
  const all = Array.from({ length: workers }, (_, index) => [
    { what: 'relay.bind', at: workerEndpoint(relay.bind, index) },
    ...(bind ? [{ what: 'service.bind', at: workerEndpoint(bind, index) }] : []),
    ...transparentPorts(config, index).map(({ name, at }) => ({ what: `the transparent port of ${name}`, at })),
  ]);
  return [...listening.map(({ name, bind: at }) => ({ what: `listener ${name}`, at })), ...all.flat()];
}
