// The section `service` of the configuration: one schema for each kind of service, with its own checks.

import { isIP } from 'node:net';
import { z } from 'zod';
import { type Endpoint, SIP_PORT } from '../base/endpoint.ts';
import { endpoint, plainNetwork } from './fields.ts';

/** The SIP server behind a member: host is an IP literal without brackets, or a name. */
interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Reads `sip:host:port`, `sip:host` (port 5060), IPv6 in brackets (RFC 3261 19.1). Returns undefined for anything else,
 * also for a user part or parameters.
 */
function parseServer(text: string): ServerAddress | undefined {
  const match = /^sip:(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? SIP_PORT);
  if (!host || port < 1 || port > 65535 || (match?.[1] && isIP(host) !== 6)) return undefined;
  if (/^[\d.]+$/.test(host) && isIP(host) !== 4) return undefined;
  return { host, port };
}

const server = z.string().transform((text, context): ServerAddress => {
  const value = parseServer(text);
  if (value) return value;
  const message = /transport=/i.test(text)
    ? 'takes no parameters: the SIP server is reached by UDP; write sip:127.0.0.1:5070'
    : 'is not a SIP URI of host and port; write sip:127.0.0.1:5070 or sip:server.example.org';
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
});

const health = z.strictObject({
  method: z
    .enum(['options', 'keepalive', 'none'])
    .default('options')
    .describe(
      'Health check of the server: `options` sends OPTIONS; `keepalive` sends CRLF and detects only a closed port; ' +
        '`none` treats it as always up.',
    ),
  intervalSeconds: z.number().min(0.1).max(300).default(2).describe('Seconds between two health checks.'),
  failures: z
    .int()
    .min(1)
    .max(100)
    .default(3)
    .describe(
      'Unanswered health checks in a row until the server counts as down. A larger value tolerates short gaps, and ' +
        'detects a death later.',
    ),
});

export const upstreamService = z.strictObject({
  kind: z.literal('upstream').describe('Handling of a packet by its owner: it goes to a SIP server.'),
  server: server.describe('The SIP server, by UDP: sip:host:port. host is an IP address or a name.'),
  bind: endpoint(5062).describe(
    'Address and port towards the SIP server; the server sends its own requests and its answers here.',
  ),
  advertise: endpoint(5062)
    .optional()
    .describe(
      'Address and port of bind for the SIP server, written into Via and Record-Route towards it. Default: bind.',
    ),
  allow: z
    .array(plainNetwork)
    .min(1)
    .max(64)
    .optional()
    .describe('Networks that may send to bind. Default: the address of the server.'),
  dialogs: z
    .enum(['own', 'shared'])
    .default('own')
    .describe(
      "`own`: a dialog lives in one member's server (a B2BUA). `shared`: any member's server can serve any dialog " +
        '(a record-routing proxy), so dialogs outlive their member.',
    ),
  path: z
    .enum(['supported', 'always', 'never'])
    .default('supported')
    .describe(
      'REGISTER requests that get a Path (RFC 3327), which leads the registrar to the client: `supported` those ' +
        'with path in Supported; `always` all, and path is added to Supported; `never` none. Without a Path the ' +
        'registrar must send requests for the client to bind. See sip-server.md.',
    ),
  nat: z
    .enum(['detect', 'rport', 'never'])
    .default('detect')
    .describe(
      'Detection of a NAT in front of a client, which is then reached by its flow: `detect` a source that differs ' +
        'from Via or Contact, or a private Contact with a public source; `rport` only a Via with rport that differs ' +
        'from the source; `never` no detection.',
    ),
  health: health.prefault({}).describe('Health check of the SIP server.'),
});

export const answerService = z.strictObject({
  kind: z
    .literal('answer')
    .describe(
      'Answers every call itself, for tests and demos. With a section `media` it sends the audio of anchored calls ' +
        'back; else it takes audio and sends none.',
    ),
  holdSeconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(0)
    .describe('Seconds after the answer until the service hangs up. 0: only callers hang up.'),
});

/** The section as it stands in the file, every default filled in. */
export type ParsedService = z.output<typeof upstreamService> | z.output<typeof answerService>;

type UpstreamConfig = Omit<z.output<typeof upstreamService>, 'advertise'> & { readonly advertise: Endpoint };
type AnswerConfig = z.output<typeof answerService>;

/** The section in force. */
export type ServiceConfig = UpstreamConfig | AnswerConfig;
export type ServiceConfigOf<Kind extends ServiceConfig['kind']> = Extract<ServiceConfig, { readonly kind: Kind }>;

/** The ports that a service opens on its inner side, and the server behind it; a kind that has none leaves them out. */
export interface ServiceEndpoints {
  readonly bind?: Endpoint | undefined;
  readonly advertise?: Endpoint | undefined;
  readonly server?: ServerAddress | undefined;
}

export function endpointsOf(service: ParsedService | ServiceConfig): ServiceEndpoints {
  if (service.kind !== 'upstream') return {};
  const { bind, advertise, server: target } = service;
  return { bind, advertise, server: target };
}

/** Returns the section with `change` applied to each of its own ports. */
export function withPorts(service: ServiceConfig, change: (at: Endpoint) => Endpoint): ServiceConfig {
  if (service.kind !== 'upstream') return service;
  return { ...service, bind: change(service.bind), advertise: change(service.advertise) };
}

/** Fills in the defaults that depend on other fields of the section. */
export function settleService(service: ParsedService): ServiceConfig {
  if (service.kind !== 'upstream') return service;
  const allow = service.allow ?? (isIP(service.server.host) ? [service.server.host] : undefined);
  return { ...service, advertise: service.advertise ?? service.bind, allow };
}
