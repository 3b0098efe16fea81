// Reads the YAML file into a checked configuration. Every problem has line, column, field and fix; all are reported at
// once.

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import { type Document, isMap, isNode, isScalar, LineCounter, type Node, type Pair, parseDocument, visit } from 'yaml';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { type ErrorCode, SipfarmError } from '../base/errors.ts';
import { isReliable } from '../packet/transport-kind.ts';
import { clusterFieldsOf } from './media-section.ts';
import { ConfigError, complaints, type FieldPath, fieldText, type Problem } from './problems.ts';
import {
  adminSchema,
  type ClusterSettings,
  type Config,
  clusterSchema,
  configSchema,
  isLoopback,
  settle,
} from './schema.ts';
import { Secret } from './secret.ts';
import { transparentPorts } from './transparent-ports.ts';

export const DEFAULT_CONFIG_PATH = '/etc/sipfarm/sipfarm.yaml';

export interface Loaded {
  readonly config: Config;
  /** Settings that work but are probably not intended. */
  readonly warnings: readonly string[];
}

export interface Environment {
  readonly SIPFARM_KEY?: string | undefined;
  readonly SIPFARM_ADMIN_TOKEN?: string | undefined;
  readonly [name: string]: string | undefined;
}

/** The file as plain values, before the checks. */
interface Plain {
  readonly admin?: unknown;
  readonly [name: string]: unknown;
}

/** Parts of the host that loading uses. Left out: the host itself. */
export interface LoadOptions {
  readonly hostName?: string;
  readonly readFile?: (path: string) => string;
}

/** A configuration has some kilobytes; a larger file is no configuration. */
const MAX_FILE_CHARACTERS = 1024 * 1024;
/** Most characters of a member name with workers, because `.63` is appended. */
const LONGEST_OF_WORKERS = 61;
const KEY = /^[0-9a-fA-F]{64}$/;
const KEY_FIX = 'is not 64 hexadecimal digits; make a key with: openssl rand -hex 32';

const readText = (path: string): string => readFileSync(path, 'utf8');

/** Finds positions in the file. */
class Places {
  readonly #document: Document;
  readonly #lines: LineCounter;

  constructor(document: Document, lines: LineCounter) {
    this.#document = document;
    this.#lines = lines;
  }

  at(offset: number): { line: number; column: number } {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  /** Returns the position of the value at `path`, or of its name. A missing value has the position of its section. */
  of(path: FieldPath, onKey: boolean): { line: number; column: number } {
    for (let length = path.length; length > 0; length--) {
      const node = onKey && length === path.length ? this.#key(path) : this.#value(path.slice(0, length));
      if (node?.range) return this.at(node.range[0]);
    }
    return this.at(0);
  }

  #value(path: FieldPath): Node | undefined {
    const node = this.#document.getIn(path, true);
    return isNode(node) ? node : undefined;
  }

  #key(path: FieldPath): Node | undefined {
    const parent = path.length === 1 ? this.#document.contents : this.#document.getIn(path.slice(0, -1), true);
    if (!isMap(parent)) return undefined;
    const pair = parent.items.find((item) => isScalar(item.key) && String(item.key.value) === String(path.at(-1)));
    return isNode(pair?.key) ? pair.key : undefined;
  }
}

function problem(code: ErrorCode, places: Places, path: FieldPath, message: string, onKey = false): Problem {
  return { code, ...places.of(path, onKey), field: fieldText(path), message };
}

function pathOf(document: Document, ancestors: readonly (Document | Node | Pair)[], key: unknown): FieldPath {
  const path: (string | number)[] = [];
  for (const [index, ancestor] of ancestors.entries()) {
    if (ancestor === document) continue;
    const below = ancestors[index + 1];
    if (isNode(ancestor) && 'items' in ancestor && !isMap(ancestor)) {
      path.push(below ? ancestor.items.indexOf(below as never) : Number(key));
    } else if (!isNode(ancestor) && 'key' in ancestor && isScalar(ancestor.key)) path.push(String(ancestor.key.value));
  }
  return path;
}

/** Inserts the environment's values into the texts of the document. Returns a problem for each missing variable. */
function expand(document: Document, environment: Environment, places: Places): Problem[] {
  const problems: Problem[] = [];
  visit(document, {
    Scalar(key, node, ancestors) {
      if (key === 'key' || typeof node.value !== 'string' || !node.value.includes('${')) return;
      node.value = node.value.replace(/\$\{([^}]*)\}/g, (whole, name: string) => {
        const value = environment[name];
        if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && value !== undefined && value !== '') return value;
        const path = pathOf(document, ancestors, key);
        const message = `names the environment variable ${name}, which is not set; set it before the start`;
        problems.push(problem('SF_CONFIG_SECRET', places, path, message));
        return whole;
      });
    },
  });
  return problems;
}

function parseYaml(file: string, text: string): { document: Document; places: Places } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const places = new Places(document, lines);
  if (document.errors.length > 0)
    throw new ConfigError(
      file,
      document.errors.map((error) => ({
        code: 'SF_CONFIG_SYNTAX',
        ...places.at(error.pos[0]),
        field: '',
        message:
          `${error.message.split('\n')[0]?.replace(/: ".*$/, '')}; ` +
          'check the indentation, and put text with : { [ # in quotes',
      })),
    );
  return { document, places };
}

/** Returns the cluster-wide fields that the file sets. */
function givenOf(value: Plain): ClusterSettings {
  const { log, balancer, limits, drain, ownership, media } = value as ClusterSettings;
  const probes = balancer?.probes;
  const shared = media && clusterFieldsOf(media);
  const sections = { log, balancer: probes && { probes }, limits, drain, ownership, media: shared };
  return clusterSchema.parse(Object.fromEntries(Object.entries(sections).filter(([, section]) => section)));
}

function readKeyFile(path: string, read: (path: string) => string): Secret[] | string {
  let text: string;
  try {
    text = read(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown reason';
    return `cannot be read (${reason}); check the path and its permissions`;
  }
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .map((line) => new Secret(line));
}

function collectKeys(
  parsed: { readonly keys?: readonly Secret[] | undefined; readonly keyFile?: string | undefined },
  folder: string,
  places: Places,
  read: (path: string) => string,
): { keys: readonly Secret[]; problems: Problem[] } {
  const { keys, keyFile } = parsed;
  if (keyFile !== undefined) {
    const found = readKeyFile(resolve(folder, keyFile), read);
    if (typeof found === 'string')
      return { keys: [], problems: [problem('SF_CONFIG_SECRET', places, ['keyFile'], found)] };
    const wrong = found.findIndex((key) => !KEY.test(key.reveal()));
    if (wrong >= 0) {
      const message = `holds a key (number ${wrong + 1}) that ${KEY_FIX}`;
      return { keys: [], problems: [problem('SF_KEY_INVALID', places, ['keyFile'], message)] };
    }
    if (found.length > 0 && found.length <= 8) return { keys: found, problems: [] };
    const message = found.length === 0 ? 'holds no key; write one a line' : 'holds more than 8 keys; remove old ones';
    return { keys: [], problems: [problem('SF_KEYS_MISSING', places, ['keyFile'], message)] };
  }
  if (!keys) {
    const message = 'is missing; set keys or keyFile, the same on every member. Make a key with: openssl rand -hex 32';
    return { keys: [], problems: [problem('SF_KEYS_MISSING', places, ['keys'], message)] };
  }
  const problems = keys.flatMap((key, index) =>
    KEY.test(key.reveal()) ? [] : [problem('SF_KEY_INVALID', places, ['keys', index], KEY_FIX)],
  );
  return { keys, problems };
}

function warningsOf(config: Config): string[] {
  const warnings: string[] = [];
  if (config.store.kind === 'memory')
    warnings.push('store.kind is memory: this process is a farm of its own; use etcd for a farm of several');
  for (const { name, bind, transport, answer } of config.listeners) {
    if (bind.port === 0) warnings.push(`listener ${name} binds ${formatEndpoint(bind)}: the system picks a free port`);
    if (isReliable(transport) && answer === 'direct' && config.balancer.mode !== 'dsr')
      warnings.push(`listener ${name} is tcp: answer direct has no effect there`);
  }
  if (config.relay.mode === 'transparent' && config.role === 'member' && transparentPorts(config).length === 0)
    warnings.push(
      'relay.mode is transparent, and no UDP listener of the address family of relay.bind has answer direct: all ' +
        'packets go in frames',
    );
  if (config.balancer.trusted.some((text) => /^[^!].*\/0$/.test(text.trim())))
    warnings.push('balancer.trusted holds a network /0: anybody may claim any source address by a PROXY header');
  if (config.balancer.mode === 'nat' && config.balancer.probes.length === 0)
    warnings.push(
      'balancer.mode is nat and balancer.probes is empty: health requests of the balancer cannot be recognized',
    );
  return warnings;
}

function plainValue(file: string, document: Document): Plain | null {
  try {
    return document.toJS({ maxAliasCount: 100 }) as Plain | null;
  } catch {
    const message = 'holds too many aliases (*name); write the values out';
    throw new ConfigError(file, [{ code: 'SF_CONFIG_SYNTAX', line: 1, column: 1, field: '', message }]);
  }
}

/**
 * Checks a configuration given as text. Throws ConfigError. `file` is shown in messages; a relative keyFile is resolved
 * against its folder.
 */
export function parseConfig(file: string, text: string, environment: Environment, options: LoadOptions = {}): Loaded {
  const { document, places } = parseYaml(file, text);
  const missing = expand(document, environment, places);
  const value = plainValue(file, document);
  const checked = configSchema.safeParse(value ?? {});
  const told = new Set(missing.map((entry) => entry.field));
  if (!checked.success) {
    const found = complaints(configSchema, value ?? {}, checked.error)
      .map(({ path, message, onKey }) => problem('SF_CONFIG_INVALID', places, path, message, onKey))
      .filter((entry) => !told.has(entry.field));
    throw new ConfigError(file, inOrder([...missing, ...found]));
  }
  const { keys, problems } = collectKeys(checked.data, dirname(file), places, options.readFile ?? readText);
  problems.push(...missing);
  const own = problems.filter((entry) => entry.code === 'SF_CONFIG_SECRET' || !told.has(entry.field));
  const name = checked.data.member ?? options.hostName ?? hostname();
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(name))
    own.push(
      problem('SF_CONFIG_INVALID', places, ['member'], 'is not set and the host name is not valid for it; set member'),
    );
  else if (checked.data.workers > 1 && name.length > LONGEST_OF_WORKERS)
    own.push(
      problem(
        'SF_CONFIG_INVALID',
        places,
        ['member'],
        `is longer than ${LONGEST_OF_WORKERS} characters, and each worker adds its number; shorten it`,
      ),
    );
  const { bind, token } = checked.data.admin;
  if (!isLoopback(bind.address) && !token) {
    const message = 'is missing: admin.bind is not a loopback address; set admin.token, or bind to 127.0.0.1';
    own.push(problem('SF_ADMIN_TOKEN_REQUIRED', places, ['admin', 'token'], message));
  }
  if (own.length > 0) throw new ConfigError(file, inOrder(own));
  const config = settle(checked.data, name, keys, givenOf(value ?? {}));
  return { config, warnings: warningsOf(config) };
}

/** Sorts problems by position and keeps the first of each field and code: later ones follow from it. */
function inOrder(problems: readonly Problem[]): Problem[] {
  const byField = new Map<string, Problem>();
  for (const [index, entry] of problems.entries()) {
    const key = entry.field === '' ? String(index) : `${entry.field} ${entry.code}`;
    if (!byField.has(key)) byField.set(key, entry);
  }
  return [...byField.values()].sort((a, b) => a.line - b.line || a.column - b.column);
}

/** Returns the text of the file at `path`. Throws SF_CONFIG_UNREADABLE. */
export function readConfigText(path: string, options: LoadOptions = {}): string {
  let text: string;
  try {
    text = (options.readFile ?? readText)(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown reason';
    throw new SipfarmError('SF_CONFIG_UNREADABLE', `${path} cannot be read (${reason}); name another file with -c`);
  }
  if (text.length <= MAX_FILE_CHARACTERS) return text;
  throw new SipfarmError('SF_CONFIG_UNREADABLE', `${path} is larger than 1 MiB, so it is no configuration of sipfarm`);
}

/** Reads and checks the file at `path`. Throws SF_CONFIG_UNREADABLE, or ConfigError with every problem found. */
export function loadConfig(path: string, environment: Environment, options: LoadOptions = {}): Loaded {
  return parseConfig(path, readConfigText(path, options), environment, options);
}

/**
 * Reads cluster-wide settings from a YAML or JSON file, for `sipfarm config put`. Throws ConfigError with line and
 * column.
 */
export function parseClusterFile(file: string, text: string): ClusterSettings {
  const { document, places } = parseYaml(file, text);
  const value = plainValue(file, document) ?? {};
  const checked = clusterSchema.safeParse(value);
  if (checked.success) return checked.data;
  const found = complaints(clusterSchema, value, checked.error);
  throw new ConfigError(
    file,
    inOrder(found.map(({ path, message, onKey }) => problem('SF_CONFIG_INVALID', places, path, message, onKey))),
  );
}

/** Address of the admin server of the member that the file configures. */
export interface AdminAddress {
  readonly bind: Endpoint;
  readonly token?: Secret;
}

/**
 * Reads the admin section alone: a client of a running member needs no other section. The rest of the file may be
 * wrong, and its secrets absent. Throws ConfigError or SF_CONFIG_UNREADABLE.
 */
export function loadAdminAddress(path: string, environment: Environment, options: LoadOptions = {}): AdminAddress {
  const { document, places } = parseYaml(path, readConfigText(path, options));
  const missing = expand(document, environment, places);
  const section = adminSchema.safeParse(plainValue(path, document)?.admin ?? {});
  const found = section.success
    ? []
    : complaints(adminSchema, {}, section.error).map((complaint) =>
        problem('SF_CONFIG_INVALID', places, ['admin', ...complaint.path], complaint.message, complaint.onKey),
      );
  const problems = [...missing.filter((entry) => entry.field.startsWith('admin')), ...found];
  if (!section.success || problems.length > 0) throw new ConfigError(path, inOrder(problems));
  const { bind, token } = section.data;
  return { bind, ...(token && { token }) };
}
