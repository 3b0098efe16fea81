// Writes the pages of docs/ that are generated from the code: configuration, errors, metrics and the JSON Schema. Run
// by `npm run docs`; a test compares them.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Registry } from 'prom-client';
import { z } from 'zod';
import { ERRORS } from '../src/base/errors.ts';
import { appliesLive } from '../src/config/live.ts';
import { clusterSchema, configSchema } from '../src/config/schema.ts';
import { makeHostMetrics, makeMetrics } from '../src/metrics/metrics.ts';
import { DROP_REASONS } from '../src/packet/verdict.ts';
import { REFUSE_REASONS } from '../src/relay/refuse-reason.ts';
import { SCAN_FAULTS } from '../src/sip/scan.ts';
import { CLOSE_REASONS } from '../src/transport/close-reason.ts';
import { FRAME_FAULTS } from '../src/transport/framer.ts';
import { PROXY_OUTCOMES } from '../src/transport/proxy-protocol.ts';

interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly items?: Node;
  readonly oneOf?: readonly Node[];
}

const GENERATED = '<!-- Written by `npm run docs` from the code. Do not edit. -->';

/** A complete configuration behind a balancer that keeps the destination address. */
export const DSR_SAMPLE = `farm: lab                            # the same on every member
member: fe1                          # different on each
store: { kind: etcd, hosts: [http://10.0.0.31:2379] }
listeners:                           # the VIP, on loopback of every member
  - { name: edge, transport: udp, bind: 198.51.100.1:5060 }
  - { name: edge-tcp, transport: tcp, bind: 198.51.100.1:5060 }
balancer: { mode: dsr, probes: [198.51.100.254/32] }
keys: ["\${SIPFARM_KEY}"]             # openssl rand -hex 32, the same on every member
relay: { bind: 10.0.0.11:5064 }      # for the other members
service: { kind: upstream, server: "sip:127.0.0.1:5070", bind: 127.0.0.1:5062 }
`;

/** The same behind a balancer that rewrites the destination address. */
export const NAT_SAMPLE = `farm: lab
member: fe1
store: { kind: etcd, hosts: [http://10.0.0.31:2379] }
listeners:                           # this host's own address; clients use the balancer's
  - { name: edge, transport: udp, bind: 10.0.0.11:5060, advertise: 198.51.100.1:5060, answer: ingress }
  - { name: edge-tcp, transport: tcp, bind: 10.0.0.11:5060, advertise: 198.51.100.1:5060 }
balancer: { mode: nat, probes: [10.0.0.1/32] }
keys: ["\${SIPFARM_KEY}"]
relay: { bind: 10.0.0.11:5064 }
service: { kind: upstream, server: "sip:127.0.0.1:5070", bind: 127.0.0.1:5062 }
limits: { tcpConnectionsPerSource: 1000 }
log: { level: info }
`;

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function markdownTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(headings), line(headings.map(() => '---')), ...rows.map(line)].join('\n');
}

function jsonSchema(schema: z.ZodType): Node {
  return z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Node;
}

function typeText(node: Node): string {
  if (node.const !== undefined) return `\`${String(node.const)}\``;
  if (node.enum) return node.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (node.type === 'array') return `list of ${node.items ? typeText(node.items) : 'anything'}`;
  if (node.type === 'string') return 'text';
  const range = node.minimum === undefined ? '' : ` ${node.minimum} to ${node.maximum}`;
  return `${node.type === 'integer' ? 'whole number' : node.type}${range}`;
}

function defaultText(node: Node, required: boolean): string {
  if (required) return '(required)';
  return node.default === undefined ? '' : `\`${JSON.stringify(node.default).replaceAll('"', '')}\``;
}

/** Returns the names of the cluster-wide fields, such as `limits.idleSeconds`. */
function clusterFields(): ReadonlySet<string> {
  const sections = Object.entries(jsonSchema(clusterSchema).properties ?? {});
  return new Set(
    sections.flatMap(([name, node]) => Object.keys(node.properties ?? {}).map((field) => `${name}.${field}`)),
  );
}

function rowsOf(node: Node, prefix: string, cluster: ReadonlySet<string>): string[][] {
  return Object.entries(node.properties ?? {}).flatMap(([name, field]) => {
    const path = `${prefix}${name}`;
    if (field.properties) return rowsOf(field, `${path}.`, cluster);
    const applies = `${appliesLive(path) ? 'live' : 'restart'}${cluster.has(path) ? ', cluster-wide' : ''}`;
    const required = node.required?.includes(name) ?? false;
    return [[`\`${path}\``, typeText(field), defaultText(field, required), applies, field.description ?? '']];
  });
}

const COLUMNS = ['Field', 'Value', 'Default', 'Applies', 'What it is'];

function sectionOf(name: string, node: Node, cluster: ReadonlySet<string>): string {
  const bodies = (node.oneOf ?? [node.items ?? node]).map((body) => {
    const { kind } = body.properties ?? {};
    const title = node.oneOf ? `\`kind: ${String(kind?.const)}\`\n\n` : '';
    return `${title}${markdownTable(COLUMNS, rowsOf(body, `${name}${node.items ? '[]' : ''}.`, cluster))}`;
  });
  return `## ${name}\n\n${node.description ?? ''}\n\n${bodies.join('\n\n')}`;
}

function configurationPage(): string {
  const root = jsonSchema(configSchema);
  const cluster = clusterFields();
  const entries = Object.entries(root.properties ?? {});
  const isSection = (node: Node): boolean => Boolean(node.properties ?? node.oneOf ?? node.items?.properties);
  const single = { ...root, properties: Object.fromEntries(entries.filter(([, node]) => !isSection(node))) };
  return `${GENERATED}
# Configuration

One YAML file, by default \`/etc/sipfarm/sipfarm.yaml\`. \`sipfarm check -c FILE\` prints line, column, field and fix of each
fault. Unknown fields are errors. \`\${NAME}\` in a text is replaced by the environment variable of that name. Secrets (keys,
tokens, passwords) are never shown. The JSON Schema is [sipfarm.schema.json](sipfarm.schema.json).

"live" fields apply with SIGHUP, "restart" fields need a restart of the member. "cluster-wide" fields may also be set for the whole
farm by \`sipfarm config put FILE\`; a member whose own file sets the field keeps its own.

Behind a balancer in DSR mode:

\`\`\`yaml
${DSR_SAMPLE}\`\`\`

Behind a balancer that rewrites the destination address:

\`\`\`yaml
${NAT_SAMPLE}\`\`\`

## Top level

${markdownTable(COLUMNS, rowsOf(single, '', cluster))}

${entries
  .filter(([, node]) => isSection(node))
  .map(([name, node]) => sectionOf(name, node, cluster))
  .join('\n\n')}
`;
}

function meanings(words: Readonly<Record<string, string>>): string[][] {
  return Object.entries(words).map(([word, meaning]) => [`\`${word}\``, meaning]);
}

function errorsPage(): string {
  const faults = Object.entries(SCAN_FAULTS).map(([fault, { answer, meaning }]) => [
    `\`${fault}\``,
    String(answer),
    meaning,
  ]);
  return `${GENERATED}
# Errors

## Codes

On the command line and in the log. Codes are never reused.

${markdownTable(['Code', 'What it means, what to do'], meanings(ERRORS))}

## Why a packet is dropped

Label \`reason\` of \`sipfarm_verdicts_total{verdict="drop"}\`.

${markdownTable(['Reason', 'The packet is'], meanings(DROP_REASONS))}

## Messages refused before any state exists

A request gets the answer, statelessly; a response or an ACK is dropped.

${markdownTable(['Fault', 'Answer', 'The message has'], faults)}

## Framing faults that close a TCP connection

${markdownTable(['Fault', 'Meaning'], meanings(FRAME_FAULTS))}

## Why a TCP connection is closed

Label \`reason\` of \`sipfarm_closed_connections_total\`.

${markdownTable(['Reason', 'Meaning'], meanings(CLOSE_REASONS))}

## Outcomes of a PROXY header

Label \`outcome\` of \`sipfarm_proxy_headers_total\`; a refused header is a dropped datagram or a closed
connection. See [proxy-protocol.md](proxy-protocol.md).

${markdownTable(['Outcome', 'Meaning'], meanings(PROXY_OUTCOMES))}

## Frames that the relay link refuses or loses

Label \`reason\` of \`sipfarm_relay_refused_total\`.

${markdownTable(['Reason', 'Meaning'], meanings(REFUSE_REASONS))}
`;
}

interface Described {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
}

function metricsPage(): string {
  const registry = new Registry();
  makeMetrics(registry, { version: '', dropReasons: [] });
  makeHostMetrics(registry, () => []);
  const rows = (registry.getMetricsAsArray() as unknown as Described[]).map(({ name, help, type, labelNames }) => [
    `\`${name}\``,
    type,
    labelNames.map((label) => `\`${label}\``).join(', '),
    help,
  ]);
  return `${GENERATED}
# Metrics

\`GET /metrics\` on the admin port, Prometheus text format. There are also the \`process_*\` and \`nodejs_*\` metrics of
prom-client. Every drop reason exists as a 0 from the start; the reasons are explained in [errors.md](errors.md).

${markdownTable(['Metric', 'Type', 'Labels', 'What it counts'], rows)}
`;
}

/** Returns every generated file by its path in the repository. */
export function renderDocs(): ReadonlyMap<string, string> {
  const schema = { ...jsonSchema(configSchema), title: 'Configuration of sipfarm' };
  return new Map([
    ['docs/configuration.md', configurationPage()],
    ['docs/errors.md', errorsPage()],
    ['docs/metrics.md', metricsPage()],
    ['docs/sipfarm.schema.json', `${JSON.stringify(schema, null, 2)}\n`],
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [path, text] of renderDocs()) writeFileSync(new URL(`../${path}`, import.meta.url), text);
