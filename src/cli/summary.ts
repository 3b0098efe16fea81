// Formats a valid configuration for `sipfarm check`, and the member's answers for the other commands.

import type { Decoded } from '../admin/decode.ts';
import type { AbsentSummary, CallList, CallSummary, MemberSummary, OwnerMember, OwnerReport } from '../admin/status.ts';
import { type Endpoint, formatEndpoint, formatHostPort } from '../base/endpoint.ts';
import type { Config } from '../config/schema.ts';
import { endpointsOf, type ServiceConfig } from '../config/service-section.ts';
import { transparentPorts } from '../config/transparent-ports.ts';
import { memberIds, workerConfig } from '../config/workers.ts';
import { formatAdvertised } from '../packet/advertised.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { pairs, printable, table } from './table.ts';

function place(bind: Endpoint, advertised: string): string {
  const own = formatEndpoint(bind);
  return own === advertised ? own : `${own}, advertised as ${advertised}`;
}

function showWorkers(config: Config): string {
  const ids = memberIds(config);
  const last = workerConfig(config, config.workers - 1);
  const [own, end] = [endpointsOf(config.service).bind, endpointsOf(last.service).bind];
  const to = (bind: Endpoint, end: Endpoint): string => `${formatEndpoint(bind)} to ${end.port}`;
  const inner = own && end ? `, service ${to(own, end)}` : '';
  return `${config.workers}: ${ids[0]} to ${ids.at(-1)}; relay ${to(config.relay.bind, last.relay.bind)}${inner}`;
}

function showService(service: ServiceConfig): string {
  if (service.kind !== 'upstream')
    return `${service.kind}, ${service.holdSeconds ? `hangs up after ${service.holdSeconds} s` : 'callers hang up'}`;
  const { kind, server, bind, advertise, dialogs } = service;
  const target = formatEndpoint({ address: server.host, port: server.port });
  return `${kind} ${target} from ${place(bind, formatEndpoint(advertise))}, dialogs ${dialogs}`;
}

function showMedia({ media }: Config): string {
  const { anchor, plan, bind, wan, inside, ports } = media!;
  const told = wan === undefined ? '' : `, clients are told ${wan}`;
  return `anchor ${anchor}, ${plan}: ${bind}${told}, inside ${inside}, ports ${ports.first}-${ports.last}`;
}

/** Returns the effective configuration in a dozen lines. */
export function summarizeConfig(config: Config): string {
  const { store, service, balancer, relay, names } = config;
  return pairs([
    ['farm', `${config.farm}, this is member ${config.member} with weight ${config.weight}`],
    ['role', config.roleChosenBecause === '' ? config.role : `${config.role} (auto: ${config.roleChosenBecause})`],
    ...(config.workers > 1 ? [['workers', showWorkers(config)] as [string, string]] : []),
    ['store', store.kind === 'etcd' ? `etcd at ${store.hosts.join(', ')}, lease ${store.leaseSeconds} s` : 'memory'],
    ...config.listeners.map(({ name, transport, bind, advertise, answer }): [string, string] => [
      'listener',
      `${name}: ${transport} ${place(bind, formatAdvertised(transport, advertise))}` +
        (isReliable(transport) ? '' : `, answers ${answer}`),
    ]),
    ...(names.length > 0 ? [['names', names.map(formatHostPort).join(', ')] as [string, string]] : []),
    ['balancer', `${balancer.mode}, probes from ${balancer.probes.join(', ') || 'nowhere'}`],
    ['keys', `${config.keys.length}, the first signs`],
    ['relay', `${formatEndpoint(relay.bind)}, MTU ${relay.mtu}, ${relay.mode}`],
    ...transparentPorts(config).map(({ name, at: port }): [string, string] => [
      'transparent port',
      `${name}: udp ${formatEndpoint(port)}, packets that other members relay unchanged`,
    ]),
    ['service', showService(service)],
    ...(config.media ? [['media', showMedia(config)] as [string, string]] : []),
    ['admin', `${formatEndpoint(config.admin.bind)}${config.admin.token ? ', with a token' : ''}`],
    ['log', config.log.level],
  ]);
}

/** Returns one line per member, then one per node without a seat. Has a column of orders if there are any. */
export function showMembers(members: readonly MemberSummary[], absent: readonly AbsentSummary[]): string {
  const ordered = [...members, ...absent].some(({ order }) => order !== undefined);
  const orderOf = ({ order = '' }: { readonly order?: string }): string[] => (ordered ? [order] : []);
  const headings = [
    'MEMBER',
    'NUMBER',
    'INCARNATION',
    'ROLE',
    'STATE',
    'WEIGHT',
    'SHARE',
    'RELAY',
    'REACHABLE',
    'VERSION',
  ];
  return table(
    [...headings, ...(ordered ? ['ORDER'] : [])],
    [
      ...members.map((member) => [
        member.self ? `${member.id} (contacted)` : member.id,
        member.number,
        member.incarnation,
        member.role,
        member.state,
        member.weight,
        `${(member.share * 100).toFixed(1)} %`,
        member.relay,
        member.self ? '-' : member.reachable ? 'yes' : 'no',
        member.version,
        ...orderOf(member),
      ]),
      ...absent.map((one) => [
        one.id,
        one.number ?? '-',
        '-',
        '-',
        one.state,
        '-',
        '-',
        '-',
        '-',
        '-',
        ...orderOf(one),
      ]),
    ],
  );
}

function nameMember(member: OwnerMember | null): string {
  return member ? `${member.id} (number ${member.number})` : 'none';
}

/** Characters shown in a table of a text from an untrusted party. */
const MAX_SHOWN = 60;

function clipped(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN - 3)}...`;
}

function showLegs({ legs }: CallSummary): string {
  return legs.map(({ from, remote, answered }) => `${from} ${remote}${answered ? ' answered' : ''}`).join(', ');
}

/** Returns for each relayed stream the public port of the party, the place in its description, and its way if known. */
function showStreams({ media = [] }: CallSummary): string {
  return media
    .flatMap(({ streams }) =>
      streams.map(({ public: port, target, way }) => `${port} for ${target || 'nobody'}${way ? ` (${way})` : ''}`),
    )
    .join(', ');
}

function ownerOf({ owner, incarnation, epoch }: CallSummary): string {
  return `${owner.id || 'no seat'} (number ${owner.number}), incarnation ${incarnation}, epoch ${epoch}`;
}

/** Returns one line per call. */
export function showCalls({ calls, more }: CallList): string {
  const relayed = calls.some(({ media }) => media);
  const headings = ['CALL-ID', 'METHOD', 'STATE', 'SINCE', 'OWNER', 'FROM', 'TO', 'LEGS'];
  if (relayed) headings.push('MEDIA');
  const rows = calls.map((call) => {
    const { callId, method, state, since, owner, from, to } = call;
    return [callId, method, state, since, owner.id || String(owner.number), from, to]
      .map(clipped)
      .concat(showLegs(call), relayed ? [showStreams(call)] : []);
  });
  return [table(headings, rows), ...(more ? ['There are more: --limit shows them.'] : [])].join('\n');
}

function showRecord({ record, recordKnown }: OwnerReport): [string, string][] {
  if (!record) return [['record', recordKnown ? 'none' : 'unknown: the store does not answer']];
  const { method, state, since, from, to } = record;
  return [
    ['record', `${method} ${state} since ${since}`],
    ['recorded by', ownerOf(record)],
    ['from', from],
    ['to', to],
    ['legs', showLegs(record)],
    ...(record.media ? [['media', showStreams(record)] as [string, string]] : []),
  ];
}

/** Returns the owner of a Call-ID, the values that decide it, and its record. */
export function showOwner(answer: OwnerReport): string {
  return pairs([
    ['call-id', answer.callId],
    ['slot', answer.slot],
    ['epoch', answer.epoch],
    ['owner', nameMember(answer.owner)],
    ['before', nameMember(answer.previous)],
    ['held here', answer.heldHere ? 'yes' : 'no'],
    ...showRecord(answer),
  ]);
}

function verdictOf(verified: boolean | null): string {
  if (verified === null) return 'not checked: no farm key given, the fields may be forged';
  return verified ? 'good' : 'WRONG: from another farm or with another key, truncated or changed';
}

/** Returns the fields of a token or frame, and every line of a message in printable form. */
export function showDecoded(decoded: Decoded): string {
  if (decoded.what === 'frame') {
    const fields = Object.entries(decoded.fields).map(([name, value]): [string, string | number] => [name, value]);
    const lines = decoded.message === '' ? [] : decoded.message.split('\r\n').map(printable);
    return [pairs([['what', 'relay frame'], ['MAC', verdictOf(decoded.verified)], ...fields]), ...lines].join('\n');
  }
  const { flow } = decoded;
  return pairs([
    ['what', decoded.what === 'branch' ? 'Via branch' : 'token'],
    ['MAC', verdictOf(decoded.verified)],
    ['kind', decoded.kind],
    ['member', decoded.member],
    ['incarnation', decoded.incarnation],
    ['key id', decoded.keyId],
    ...(decoded.value === '' ? [] : [['value', decoded.value] as const]),
    ...(flow ? [['listener', flow.listener] as const] : []),
    ...(flow && flow.connection !== 0 ? [['connection', flow.connection] as const] : []),
    ...(flow && flow.connection === 0 ? [['remote', formatEndpoint(flow)] as const] : []),
    ...(decoded.behindNat === undefined ? [] : [['behind a NAT', decoded.behindNat ? 'yes' : 'no'] as const]),
  ]);
}
