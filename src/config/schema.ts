// The configuration in one place: validation, types, the JSON Schema and docs/configuration.md come from the schema
// below. Each field has a description: its meaning, its unit, and the effect of raising or lowering it.

import { BlockList } from 'node:net';
import { z } from 'zod';
import { asHostPort, type Endpoint, formatEndpoint, isIpv6, isWildcard } from '../base/endpoint.ts';
import { listenerCode } from '../base/listener-code.ts';
import { type Advertised, advertisedBy } from '../packet/advertised.ts';
import { advertisedKinds, isReliable, LISTENER_KINDS } from '../packet/transport-kind.ts';
import { advertised, endpoint, farmName, hostUrl, network, secret } from './fields.ts';
import {
  type MediaClusterSettings,
  type MediaConfig,
  mediaClusterSection,
  mediaFaults,
  mediaSection,
  settleMedia,
} from './media-section.ts';
import type { Secret } from './secret.ts';
import { answerService, endpointsOf, type ServiceConfig, settleService, upstreamService } from './service-section.ts';
import { answersDirect, transparentPortFaults } from './transparent-ports.ts';
import { portFaults } from './worker-ports.ts';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Returns true for 127.0.0.0/8 and ::1. */
export function isLoopback(address: string): boolean {
  return loopback.check(address, isIpv6(address) ? 'ipv6' : 'ipv4');
}

/** Returns the notation that takes a secret from the environment, for the descriptions. */
const fromEnvironment = (name: string): string => `\${${name}}`;

const etcd = z.strictObject({
  kind: z.literal('etcd').describe('The shared store of a farm with more than one process.'),
  hosts: z
    .array(hostUrl)
    .min(1)
    .max(16)
    .describe(
      'Client URLs of the etcd cluster. List all its servers: requests move to the next when one does not answer.',
    ),
  leaseSeconds: z
    .int()
    .min(5)
    .max(300)
    .default(5)
    .describe(
      'Seconds until a member that no longer renews its lease loses its seat. A larger value tolerates a slow ' +
        'store, and detects a death later.',
    ),
  user: z.string().min(1).max(128).optional().describe('etcd user name.'),
  password: secret
    .optional()
    .describe(`Password of that user. Take it from the environment: ${fromEnvironment('ETCD_PASSWORD')}.`),
  ca: z
    .string()
    .min(1)
    .optional()
    .describe('File with the certificate authority of https hosts, PEM. Left out: the authorities of Node.js.'),
  cert: z.string().min(1).optional().describe('File with the client certificate, PEM.'),
  key: z.string().min(1).optional().describe('File with the key of the client certificate, PEM.'),
});

const memory = z.strictObject({
  kind: z.literal('memory').describe('A store inside this process: a farm of one process, for tries and tests.'),
  leaseSeconds: etcd.shape.leaseSeconds,
});

const listener = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9-]{1,32}$/, 'is not a listener name; use 1 to 32 of a-z, 0-9 and -')
    .describe(
      'Name of the listener, the same on every member: a relayed packet finds its listener at the owner by this ' +
        'name. A metric label.',
    ),
  transport: z.enum(LISTENER_KINDS).describe('Transport protocol.'),
  bind: endpoint(5060).describe(
    'Local address and port; the port may be left out (5060). One listener per address, so that answers leave from ' +
      'the address the client used.',
  ),
  advertise: advertised
    .optional()
    .describe(
      'Address for clients, written into Via and Record-Route: `HOST[:PORT]`, an address or a domain name. ' +
        'Default: bind. Behind a NAT balancer the address of the balancer. If a balancer ends TLS and sends plain ' +
        "TCP: `HOST[:PORT];transport=tls`, default port 5061; such a listener sends only on its clients' connections " +
        'and opens none.',
    ),
  answer: z
    .enum(['direct', 'ingress'])
    .optional()
    .describe(
      'How the owner of a relayed packet answers: `direct` from its own listener of this name, `ingress` through ' +
        'the member the packet came to. Default: direct with balancer.mode dsr and proxyProtocol off, else ingress. ' +
        'TCP always answers through the member that holds the connection.',
    ),
  proxyProtocol: z
    .enum(['off', 'accept', 'require'])
    .default('off')
    .describe(
      'PROXY header of a proxy in front, with the true source of each connection or datagram: `off` a header is ' +
        'garbage, `accept` it is optional, `require` it is mandatory. Only headers from balancer.trusted are ' +
        'accepted. See proxy-protocol.md.',
    ),
});

const balancer = z.strictObject({
  mode: z
    .enum(['dsr', 'nat', 'none'])
    .default('none')
    .describe(
      'How packets arrive here: `dsr` the balancer leaves the destination address (the VIP is on this host), `nat` ' +
        'it rewrites it, `none` clients use the addresses of the members.',
    ),
  probes: z
    .array(network)
    .max(256)
    .default([])
    .describe(
      "Source networks of the balancer's health checks; `!` in front excludes. This member itself answers OPTIONS " +
        'from there, and never relays them.',
    ),
  trusted: z
    .array(network)
    .max(256)
    .default([])
    .describe(
      'Networks from which PROXY headers are accepted; `!` in front excludes. A host there can claim any source ' +
        'address, so list only the proxies.',
    ),
  udpAnswerHeader: z
    .enum(['none', 'simple'])
    .default('none')
    .describe(
      'Header on datagrams to a client whose own datagrams had the simple PROXY header of 38 octets: `none`, or ' +
        '`simple` for the same header. Some proxies cut it off, others do not: check the manual of yours.',
    ),
});

const transport = z.strictObject({
  batch: z
    .enum(['auto', 'on', 'off'])
    .default('auto')
    .describe(
      'UDP in batches of up to 64 datagrams per system call, which doubles the datagrams that a core can forward. ' +
        'It needs 64-bit Linux and the optional package koffi. `auto` uses batches where possible, and logs it; `on` ' +
        'requires them at the start; `off` sends one by one.',
    ),
});

const relay = z.strictObject({
  bind: endpoint(5064).describe(
    'Address and port of the relay link between members, UDP and TCP; published to the peers, so no wildcard. Open ' +
      'it for members only.',
  ),
  mtu: z
    .int()
    .min(576)
    .max(65_535)
    .default(1500)
    .describe(
      'Octets an IP packet may have between members. Longer frames use the TCP side. Raise it on a network with ' +
        'jumbo frames.',
    ),
  mode: z
    .enum(['envelope', 'transparent'])
    .default('envelope')
    .describe(
      'How a UDP packet goes to its owner: `envelope` in a signed frame, `transparent` unchanged, with the source ' +
        'address of the client. Transparent saves the frame and its MAC, needs a native module, CAP_NET_RAW and one ' +
        'network segment, and opens UDP ports after that of bind, one per listener; other packets go in frames. ' +
        'Members of both modes work together. See transparent-relay.md.',
    ),
});

const resolver = z.strictObject({
  servers: z
    .array(endpoint(53))
    .max(8)
    .default([])
    .describe('DNS servers for the lookup of RFC 3263 (NAPTR, SRV, A, AAAA). Empty: those of the host.'),
});

const limits = z.strictObject({
  tcpConnections: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(10_000)
    .describe(
      'All TCP connections. Above it new ones are closed at once. Each costs memory and a file descriptor ' +
        '(LimitNOFILE).',
    ),
  tcpConnectionsPerSource: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(1000)
    .describe(
      'TCP connections of one source address. Raise it if many clients share one address behind a NAT, or behind a ' +
        'balancer that hides the sources.',
    ),
  messageBytes: z
    .int()
    .min(4096)
    .max(65_535)
    .default(65_535)
    .describe('Octets one message may have on TCP. A longer one closes its connection.'),
  halfMessageSeconds: z
    .int()
    .min(1)
    .max(600)
    .default(10)
    .describe(
      'Seconds until a begun message must be complete on TCP. A larger value helps very slow links, and attackers ' +
        'that hold memory.',
    ),
  idleSeconds: z
    .int()
    .min(10)
    .max(86_400)
    .default(600)
    .describe('Seconds that a TCP connection may be silent. Clients with keep-alives (RFC 5626) send more often.'),
  bufferedBytes: z
    .int()
    .min(65_536)
    .max(4_294_967_296)
    .default(64 * 1024 * 1024)
    .describe('Octets of unfinished messages on all TCP connections. Above it the connection with the most is closed.'),
  sendQueueBytes: z
    .int()
    .min(65_536)
    .max(268_435_456)
    .default(1024 * 1024)
    .describe('Octets that may wait for one slow TCP reader. Above it the connection is closed.'),
  errorAnswersPerSecond: z
    .int()
    .min(1)
    .max(100_000)
    .default(50)
    .describe(
      'Answers per second over UDP to malformed messages, per source prefix (IPv4 /24, IPv6 /56); twenty times as ' +
        'many to valid requests that go no further (481, 483, 503 ...). Above it they are dropped and counted.',
    ),
});

const ownership = z.strictObject({
  longestCallSeconds: z
    .int()
    .min(60)
    .max(604_800)
    .default(43_200)
    .describe(
      'Seconds without a message until an answered call is forgotten here; a call with a session time (RFC 4028) ' +
        'is forgotten after that time. A larger value costs memory for calls whose BYE was lost.',
    ),
  ringingSeconds: z
    .int()
    .min(32)
    .max(3600)
    .default(300)
    .describe('Seconds without a message until a ringing call is forgotten here.'),
  records: z
    .enum(['none', 'dialogs', 'calls'])
    .default('calls')
    .describe(
      'Calls that are recorded in the store, so that another member can adopt them when this member dies: calls ' +
        '(ringing ones too), dialogs (answered ones only) or none. A call costs three writes with calls, two with ' +
        'dialogs. A change applies to calls that begin after it.',
    ),
});

const drain = z.strictObject({
  deadlineSeconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(60)
    .describe('Seconds a stopping member waits for its calls to end. 0 stops at once.'),
});

/** The section `admin` alone. */
export const adminSchema = z.strictObject({
  bind: endpoint(8060)
    .prefault('127.0.0.1:8060')
    .describe('Address and port of the admin HTTP server. Another address than loopback needs admin.token.'),
  token: secret
    .optional()
    .describe(
      'Bearer token, required on every path except /livez and /readyz. Take it from the environment: ' +
        `${fromEnvironment('SIPFARM_ADMIN_TOKEN')}.`,
    ),
});

const log = z.strictObject({
  level: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info')
    .describe('Lowest level that is written. No level up to info writes a line per packet.'),
});

const shape = z.strictObject({
  farm: z
    .string()
    .regex(/^[a-z0-9-]{1,32}$/, 'is not a farm name; use 1 to 32 of a-z, 0-9 and -')
    .describe('Name of the farm: its keys in the store begin with /sipfarm/FARM/.'),
  member: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/, 'is not a member name; use 1 to 64 letters, digits, dots, - and _')
    .optional()
    .describe('Name of this member, different on each. Default: the host name.'),
  weight: z
    .int()
    .min(0)
    .max(1000)
    .default(100)
    .describe("This member's share of new calls, relative to the other members. 0 takes none."),
  rampSeconds: z
    .int()
    .min(0)
    .max(600)
    .default(10)
    .describe(
      'Seconds until a member that joins a running farm has its full weight: a quarter at first, half after half ' +
        'the time, then all. The first members of a farm, and members that start together, begin with the full ' +
        'weight; with 0 every member does. Each step moves slots.',
    ),
  role: z
    .enum(['member', 'disabled', 'relay', 'auto'])
    .default('member')
    .describe(
      'Role of this node. `member`: takes its share of new calls. `disabled`: outside the farm; its SIP server ' +
        'handles the packets that arrive here, and packets with its token reach it from any member. `relay`: outside ' +
        "the farm; its SIP server's own requests leave through members, so it needs neither listeners nor a way to " +
        'the clients. `auto`: with store.kind memory `disabled`, else with listeners `member`, without `relay`.',
    ),
  workers: z
    .int()
    .min(1)
    .max(64)
    .default(1)
    .describe(
      'Processes on this host, each a member of its own (fe1.0, fe1.1 ...) on the same listeners: one per core ' +
        'that SIP may use. Above 1, `relay.bind`, `service.bind` and `service.advertise` are those of the first ' +
        'worker, and each next worker has the next port; `weight` and `limits` apply per worker. See workers.md.',
    ),
  store: z.discriminatedUnion('kind', [etcd, memory]).describe('The store that the members share.'),
  listeners: z
    .array(listener)
    .max(64)
    .describe('Local addresses for clients. Only role relay, or auto that becomes relay, may have none: write [].'),
  names: z
    .array(farmName)
    .max(64)
    .default([])
    .describe(
      'Names of the farm for clients, as `sip.example.com` or `sip.example.com:5061`. A name without a port ' +
        'matches every port of a listener, 5060, 5061, and no port. A Route with such a name is removed before the ' +
        "SIP server receives the request. Addresses of the members' listeners need not be listed. A Request-URI is " +
        'never changed. The same on every member.',
    ),
  transport: transport.prefault({}).describe('How datagrams are read and written.'),
  balancer: balancer.prefault({}).describe('The L4 balancer in front.'),
  keys: z
    .array(secret)
    .min(1)
    .max(8)
    .optional()
    .describe(
      'Farm keys, 64 hexadecimal digits each, the same on every member: the first makes tokens, all verify them. ' +
        'Tokens and the relay link use keys derived from them. Take them from the environment: ' +
        `${fromEnvironment('SIPFARM_KEY')}.`,
    ),
  keyFile: z.string().min(1).optional().describe('File with the farm keys instead, one a line, # begins a comment.'),
  relay: relay.describe('The link between the members.'),
  service: z
    .discriminatedUnion('kind', [upstreamService, answerService])
    .describe('Handling of a packet by its owner.'),
  media: mediaSection
    .optional()
    .describe('The media relay of calls. Left out: media does not pass this member, and SDP stays as it is.'),
  resolver: resolver.prefault({}).describe('How names are looked up.'),
  limits: limits.prefault({}).describe('Bounds for the resources that clients can use.'),
  ownership: ownership.prefault({}).describe('Times and records of calls.'),
  drain: drain.prefault({}).describe('How a member stops.'),
  admin: adminSchema.prefault({}).describe('The admin HTTP server: health, metrics, status, orders.'),
  log: log.prefault({}).describe('Log lines, JSON on the standard output.'),
});

type Parsed = z.output<typeof shape>;

type ListenerConfig = Omit<Parsed['listeners'][number], 'advertise'> & {
  readonly advertise: Advertised;
  readonly answer: 'direct' | 'ingress';
};
type Limits = Parsed['limits'];
/** A role in force. */
type Role = Exclude<Parsed['role'], 'auto'>;

/** The cluster-wide settings stored under `config`: the same fields, each optional. */
export interface ClusterSettings {
  log?: Partial<Parsed['log']> | undefined;
  balancer?: Partial<Pick<Parsed['balancer'], 'probes'>> | undefined;
  limits?: Partial<Limits> | undefined;
  drain?: Partial<Parsed['drain']> | undefined;
  ownership?: Partial<Parsed['ownership']> | undefined;
  media?: MediaClusterSettings | undefined;
}

/** Position of a member among the workers of a host. */
interface WorkerPlace {
  /** From 0. */
  readonly index: number;
  /** Addresses where the workers of this host receive from each other and from the SIP server. */
  readonly ownPorts: readonly Endpoint[];
}

/** The configuration of one member, with every default filled in. */
export interface Config
  extends Omit<Parsed, 'member' | 'role' | 'listeners' | 'service' | 'media' | 'keys' | 'keyFile'> {
  readonly member: string;
  /** The role in force: `auto` has been replaced. */
  readonly role: Role;
  /** Reason for the role chosen for `auto`; empty when the file names the role. */
  readonly roleChosenBecause: string;
  readonly listeners: readonly ListenerConfig[];
  readonly service: ServiceConfig;
  readonly media?: MediaConfig | undefined;
  /** From `keys` or `keyFile`, never empty, 64 hexadecimal digits each. The first key signs. */
  readonly keys: readonly Secret[];
  /** Fields of this member's own file that also exist cluster-wide. They win over the store. */
  readonly given: ClusterSettings;
  /** Position among several processes on this host (workerConfig); undefined for a single process. */
  readonly worker?: WorkerPlace;
}

function withoutDefaults(section: z.ZodObject): z.ZodType {
  const fields = Object.entries(section.shape).map(([name, field]) => {
    const bare = field instanceof z.ZodDefault ? (field.unwrap() as z.ZodType) : (field as z.ZodType);
    return [name, bare.optional().describe((field as z.ZodType).description ?? '')];
  });
  return z.strictObject(Object.fromEntries(fields)).optional();
}

/** Schema of the cluster-wide settings (`sipfarm config put`). */
export const clusterSchema = z.strictObject({
  log: withoutDefaults(log),
  balancer: withoutDefaults(balancer.pick({ probes: true })),
  limits: withoutDefaults(limits),
  drain: withoutDefaults(drain),
  ownership: withoutDefaults(ownership),
  media: withoutDefaults(mediaClusterSection),
}) as unknown as z.ZodType<ClusterSettings>;

/** Sections that may also come from the store, with every default filled in. */
export const clusterSections = z.strictObject({
  log: shape.shape.log,
  balancer: shape.shape.balancer,
  limits: shape.shape.limits,
  drain: shape.shape.drain,
  ownership: shape.shape.ownership,
  media: mediaClusterSection.prefault({}),
});

type Complain = (path: readonly (string | number)[], message: string) => void;

function checkListeners(config: Parsed, complain: Complain): void {
  const names = new Set<string>();
  const codes = new Map<number, string>();
  const binds = new Set<string>();
  const trusting = config.balancer.trusted.some((text) => !text.trim().startsWith('!'));
  for (const [index, { name, transport, bind, advertise, answer, proxyProtocol }] of config.listeners.entries()) {
    const at = ['listeners', index] as const;
    if (names.has(name)) complain([...at, 'name'], `is used by two listeners; give each its own name`);
    names.add(name);
    const twin = codes.get(listenerCode(name));
    if (twin !== undefined && twin !== name)
      complain([...at, 'name'], `has the same one-octet code as ${twin}; give one of the two another name`);
    codes.set(listenerCode(name), name);
    const place = `${transport} ${formatEndpoint(bind)}`;
    if (bind.port !== 0 && binds.has(place))
      complain([...at, 'bind'], `is bound by two ${transport} listeners; leave one out`);
    binds.add(place);
    if (isWildcard(bind.address)) {
      if (config.balancer.mode === 'dsr')
        complain(
          [...at, 'bind'],
          'is a wildcard: with balancer.mode dsr answers must leave from the VIP; bind to the VIP itself',
        );
      else if (!advertise)
        complain(
          [...at, 'bind'],
          'is a wildcard and advertise is not set: clients would receive no address; set advertise, or bind to one ' +
            'address',
        );
    }
    if (proxyProtocol !== 'off' && !trusting)
      complain(
        [...at, 'proxyProtocol'],
        `is ${proxyProtocol} and balancer.trusted is empty, so every header would be refused; list the proxies in ` +
          'balancer.trusted',
      );
    if (proxyProtocol !== 'off' && !isReliable(transport) && answer === 'direct')
      complain(
        [...at, 'answer'],
        'is direct: with proxyProtocol only the member that received the datagram can answer through the proxy; ' +
          'write ingress, or leave it out',
      );
    if (advertise && isWildcard(advertise.host))
      complain([...at, 'advertise'], 'is a wildcard; write the address that clients use');
    if (advertise && !advertisedBy(transport, advertise))
      complain(
        [...at, 'advertise'],
        `has transport=${advertise.transport}: clients of a ${transport} listener send by ` +
          `${advertisedKinds(transport).join(' or ')}; leave the transport out, or write one of these`,
      );
  }
}

function same(a: Endpoint, b: Endpoint): boolean {
  return a.port !== 0 && a.port === b.port && a.address === b.address;
}

function checkAddresses(config: Parsed, complain: Complain): void {
  const { relay: link } = config;
  const own = endpointsOf(config.service);
  if (isWildcard(link.bind.address))
    complain(['relay', 'bind'], 'is a wildcard: the peers receive this address; write one address of this host');
  if (own.bind && isWildcard(own.bind.address) && !own.advertise)
    complain(['service', 'bind'], 'is a wildcard and service.advertise is not set; set it, or bind to one address');
  if (own.advertise && isWildcard(own.advertise.address))
    complain(['service', 'advertise'], 'is a wildcard; write the address that the SIP server uses');
  if (own.bind && same(link.bind, own.bind))
    complain(['service', 'bind'], 'is also relay.bind; give each its own port');
  const target = own.server && { address: own.server.host, port: own.server.port };
  if (target && own.bind && same(target, own.bind))
    complain(
      ['service', 'server'],
      'is service.bind itself: sipfarm would send to itself; write where the SIP server listens',
    );
  for (const [index, { transport, bind }] of config.listeners.entries()) {
    if (!isReliable(transport) && own.bind && same(bind, own.bind))
      complain(['service', 'bind'], `is also the bind of listener ${index + 1}; give each its own port`);
    if (same(bind, link.bind))
      complain(['relay', 'bind'], `is also the bind of listener ${index + 1}; give each its own port`);
    if (!isReliable(transport) && target && same(target, bind))
      complain(
        ['service', 'server'],
        `is the bind of listener ${index + 1}: sipfarm would send to itself; write where the SIP server listens`,
      );
  }
}

function checkStore(config: Parsed, complain: Complain): void {
  const { store } = config;
  if (store.kind !== 'etcd') return;
  const secure = store.hosts.filter((host) => host.startsWith('https:')).length;
  if (secure !== 0 && secure !== store.hosts.length)
    complain(['store', 'hosts'], 'mixes http and https; use one of them');
  if (secure === 0 && (store.ca || store.cert))
    complain(['store', store.ca ? 'ca' : 'cert'], 'needs https hosts; write https:// in store.hosts');
  if ((store.cert === undefined) !== (store.key === undefined))
    complain(['store', store.cert ? 'cert' : 'key'], 'needs the other half; set both store.cert and store.key');
  if ((store.user === undefined) !== (store.password === undefined))
    complain(
      ['store', store.user ? 'user' : 'password'],
      'needs the other half; set both store.user and store.password',
    );
}

function checkSections(config: Pick<Parsed, 'limits' | 'ownership'>, complain: Complain): void {
  if (config.limits.tcpConnectionsPerSource > config.limits.tcpConnections)
    complain(['limits', 'tcpConnectionsPerSource'], 'is above limits.tcpConnections; lower it, or raise the other');
  if (config.ownership.ringingSeconds > config.ownership.longestCallSeconds)
    complain(['ownership', 'ringingSeconds'], 'is above ownership.longestCallSeconds; lower it');
}

/** Returns the role in force, and the reason when it was chosen for `auto`. */
function roleOf({ role, store, listeners }: Parsed): { readonly role: Role; readonly because: string } {
  if (role !== 'auto') return { role, because: '' };
  if (store.kind === 'memory') return { role: 'disabled', because: 'store.kind is memory: there are no other members' };
  if (listeners.length === 0) return { role: 'relay', because: 'there are no listeners, and the store is shared' };
  return { role: 'member', because: 'there are listeners, and the store is shared' };
}

function checkRole(config: Parsed, complain: Complain): void {
  const { role, because } = roleOf(config);
  const chosen = because === '' ? `role is ${role}` : `role auto becomes ${role} (${because})`;
  if (config.listeners.length === 0 && role !== 'relay')
    complain(['listeners'], `is empty, and ${chosen}: no packet could arrive; add a listener, or set role: relay`);
  if (role === 'relay' && config.store.kind === 'memory')
    complain(['role'], 'is relay, and store.kind is memory: there are no members to send through; use etcd');
}

/** Checks settings that one process may have but several on one host may not. */
function checkWorkers(config: Parsed, complain: Complain): void {
  const { workers, store, listeners } = config;
  if (workers === 1) return;
  if (store.kind === 'memory')
    complain(
      ['workers'],
      `is ${workers}, but store.kind memory is inside one process: each worker would be a farm of its own; use ` +
        'etcd, or one worker',
    );
  for (const [index, { bind }] of listeners.entries())
    if (bind.port === 0)
      complain(
        ['listeners', index, 'bind'],
        'lets the system pick a port, and all workers must have the same; name one',
      );
  for (const { field, message } of portFaults(config)) complain(field.split('.'), message);
}

/** Schema of the configuration file: fields and cross checks. */
export const configSchema = shape.superRefine((config, context) => {
  const complain: Complain = (path, message) => context.addIssue({ code: 'custom', path: [...path], message });
  checkRole(config, complain);
  checkListeners(config, complain);
  checkAddresses(config, complain);
  for (const message of transparentPortFaults(config)) complain(['relay', 'bind'], message);
  checkStore(config, complain);
  checkSections(config, complain);
  checkWorkers(config, complain);
  for (const { path, message } of mediaFaults(config)) complain(path, message);
  if (config.keys && config.keyFile) complain(['keyFile'], 'is set together with keys; leave one of them out');
});

/** Output of `configSchema` for a valid file. */
export type ParsedConfig = z.output<typeof configSchema>;

/**
 * Fills in the defaults that depend on other fields or on the host. `given`: the cluster-wide fields that the file
 * itself sets.
 */
export function settle(
  parsed: ParsedConfig,
  hostName: string,
  keys: readonly Secret[],
  given: ClusterSettings,
): Config {
  const { keys: _keys, keyFile: _keyFile, ...rest } = parsed;
  const { role, because } = roleOf(parsed);
  return {
    ...rest,
    member: parsed.member ?? hostName,
    role,
    roleChosenBecause: because,
    listeners: parsed.listeners.map((entry) => ({
      ...entry,
      // An unsuitable transport has been rejected by the checks before.
      advertise: advertisedBy(entry.transport, entry.advertise ?? { ...asHostPort(entry.bind), transport: undefined })!,
      answer: answersDirect(entry, parsed.balancer.mode) ? 'direct' : 'ingress',
    })),
    service: settleService(parsed.service),
    media: parsed.media && settleMedia(parsed.media, parsed.service),
    keys,
    given,
  };
}
