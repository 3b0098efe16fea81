// Finds the targets of a request (RFC 3263 4): from host, port and transport of a SIP URI to addresses, in the order of
// trial. Literals and cached names are answered at once. Another name costs one wait, which all requests for it share.

import { promises as dns, type NaptrRecord, type RecordWithTtl, type SrvRecord } from 'node:dns';
import net from 'node:net';
import { BoundedMap } from '../base/bounded-map.ts';
import type { Clock } from '../base/clock.ts';
import { SIP_PORT } from '../base/endpoint.ts';
import { LATE, within } from '../base/within.ts';
import type { CellFamily } from '../metrics/counters.ts';
import { LISTENER_KINDS, type ListenerKind, TRANSPORT_KINDS } from '../packet/transport-kind.ts';
import { orderTargets, type Ranking, type Server, type SrvTarget } from './srv-order.ts';

export type { SrvTarget as Target } from './srv-order.ts';

/** Queries sent to DNS; `dns.promises.Resolver` of Node.js fits. A rejection carries a `code` of node:dns. */
export interface DnsResolver {
  resolve4(name: string, options: { readonly ttl: true }): Promise<RecordWithTtl[]>;
  resolve6(name: string, options: { readonly ttl: true }): Promise<RecordWithTtl[]>;
  resolveSrv(name: string): Promise<SrvRecord[]>;
  resolveNaptr(name: string): Promise<NaptrRecord[]>;
}

/**
 * Returns the resolver of this host, or one that queries `servers` (`192.0.2.53`, `[2001:db8::53]:5353`). It makes two
 * tries of one second each per query.
 */
export function nodeResolver(servers: readonly string[] = []): DnsResolver {
  const resolver = new dns.Resolver({ timeout: 1000, tries: 2 });
  if (servers.length > 0) resolver.setServers(servers);
  return resolver;
}

export interface LocatorOptions {
  readonly resolver: DnsResolver;
  readonly clock: Clock;
  /** Transports that the node can send by, the preferred one first. */
  readonly transports: readonly ListenerKind[];
  /** Address families that the node has sockets of, the preferred one first. */
  readonly families: readonly (4 | 6)[];
  /** Counts lookups by result: found, nothing, failed, busy. Answers from memory are not counted. */
  readonly lookups: CellFamily<'result'>;
  /** Names cached, default 4,096. The name with the oldest lookup is forgotten first. */
  readonly maxNames?: number;
  /** Concurrent lookups, default 64. Each costs about ten queries at most. */
  readonly maxLookups?: number;
  /** Milliseconds that a lookup may take, default 4,000. Then it counts as failed. */
  readonly timeoutMs?: number;
}

/**
 * Bounds of a time to live in the cache. Below, a name of TTL 0 would be queried for each packet. Above, a change would
 * stay unnoticed for too long.
 */
const MIN_TTL_SECONDS = 1;
const MAX_TTL_SECONDS = 3600;
/** Seconds for SRV and NAPTR records: Node.js does not return their TTL. */
const SERVICE_TTL_SECONDS = 60;
/** Milliseconds that "no such name" and "no answer" are cached. */
const NEGATIVE_MS = 5000;
/** Milliseconds that expired targets stay usable while DNS does not answer (in the spirit of RFC 8767). */
const STALE_MS = 3_600_000;
// Bounds on the cost of one name.
const MAX_SERVICES = 4;
const MAX_SERVERS = 8;
const MAX_ADDRESSES = 8;

/**
 * Codes of node:dns that mean "there is no such record". The last two come from servers that do not support NAPTR or
 * SRV.
 */
const NO_RECORD = new Set(['ENOTFOUND', 'ENODATA', 'ENOTIMP', 'EFORMERR']);
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?$/;

const NOTHING: readonly SrvTarget[] = [];
/** RFC 6761 6.3: DNS is not queried for this name. */
const LOCALHOST = '127.0.0.1';

/** The cached result for a name. */
interface CachedLookup {
  readonly ranking: Ranking;
  /** The order itself, when only one is possible. */
  readonly only: readonly SrvTarget[] | undefined;
  /** End of its validity, and end of its use while DNS does not answer. Monotonic milliseconds. */
  until: number;
  readonly staleUntil: number;
}

/** Events during the lookup of one name. */
interface Progress {
  failed: boolean;
  ttlSeconds: number;
}

export class Locator {
  readonly #options: LocatorOptions;
  readonly #maxLookups: number;
  readonly #timeoutMs: number;
  readonly #known: BoundedMap<string, CachedLookup>;
  readonly #running = new Map<string, Promise<void>>();

  constructor(options: LocatorOptions) {
    this.#options = options;
    this.#known = new BoundedMap(options.maxNames ?? 4096);
    this.#maxLookups = options.maxLookups ?? 64;
    this.#timeoutMs = options.timeoutMs ?? 4000;
  }

  /**
   * Returns the targets in the order of trial, without a query. Undefined: call `locate`. Empty list: there are no
   * targets.
   * - `host`: literal (brackets optional) or name.
   * - `port`: 0 = none given.
   * - `transport`: the URI's parameter.
   * - `choice`: decides among equals. All retransmissions of a request need the same value (a hash of its branch).
   */
  locateNow(
    host: string,
    port: number,
    transport: string | undefined,
    choice: number,
  ): readonly SrvTarget[] | undefined {
    const by = this.#transport(transport);
    if (by === null) return NOTHING;
    const literal = host === 'localhost' ? LOCALHOST : host.charCodeAt(0) === 0x5b ? host.slice(1, -1) : host;
    const family = net.isIP(literal);
    if (family !== 0) {
      // RFC 3263 4.1: a literal without a transport is reached by UDP.
      if (!this.#options.families.includes(family as 4 | 6)) return NOTHING;
      return [{ transport: by ?? this.#fallback(), address: literal, port: port || SIP_PORT }];
    }
    const known = this.#known.get(questionKey(host, port, by));
    if (known === undefined || known.until <= this.#options.clock.now()) return undefined;
    return known.only ?? orderTargets(known.ranking, choice);
  }

  /**
   * Returns the targets like `locateNow`, and queries DNS where needed. Never rejects. Empty list: there is no target,
   * or DNS does not answer. 'busy': too many lookups are running.
   */
  async locate(
    host: string,
    port: number,
    transport: string | undefined,
    choice: number,
  ): Promise<readonly SrvTarget[] | 'busy'> {
    const now = this.locateNow(host, port, transport, choice);
    if (now) return now;
    const name = host.toLowerCase();
    if (!HOST_NAME.test(name)) return NOTHING;
    const by = this.#transport(transport) ?? undefined;
    const key = questionKey(host, port, by);
    let running = this.#running.get(key);
    if (!running) {
      if (this.#running.size >= this.#maxLookups) {
        this.#options.lookups.cell({ result: 'busy' }).n++;
        // A cached trunk must not fail because names of strangers are slow.
        const known = this.#known.get(key);
        const usable = known !== undefined && known.staleUntil > this.#options.clock.now();
        return usable ? (known.only ?? orderTargets(known.ranking, choice)) : 'busy';
      }
      running = this.#lookUp(key, name, port, by).finally(() => this.#running.delete(key));
      this.#running.set(key, running);
    }
    // After the deadline the name counts as failed. The lookup itself continues and keeps its place.
    if ((await within(this.#options.clock, this.#timeoutMs, running)) === LATE) this.#fail(key);
    return this.locateNow(host, port, transport, choice) ?? NOTHING;
  }

  async #lookUp(key: string, name: string, port: number, transport: ListenerKind | undefined): Promise<void> {
    const progress: Progress = { failed: false, ttlSeconds: MAX_TTL_SECONDS };
    const ranking = await this.#rank(name, port, transport, progress);
    const targets = orderTargets(ranking, 0);
    if (targets.length === 0 && progress.failed) {
      this.#options.lookups.cell({ result: 'failed' }).n++;
      this.#fail(key);
      return;
    }
    this.#options.lookups.cell({ result: targets.length > 0 ? 'found' : 'nothing' }).n++;
    const now = this.#options.clock.now();
    // A partial result is queried again soon.
    const believed = targets.length === 0 || progress.failed;
    const until = now + (believed ? NEGATIVE_MS : 1000 * Math.max(progress.ttlSeconds, MIN_TTL_SECONDS));
    this.#known.set(key, {
      ranking,
      only: targets.length <= 1 || !hasChoice(ranking) ? targets : undefined,
      until,
      staleUntil: targets.length === 0 ? until : until + STALE_MS,
    });
  }

  /** Handles a missing DNS answer: continues with the cached result while it is not too old. */
  #fail(key: string): void {
    const now = this.#options.clock.now();
    const known = this.#known.get(key);
    if (known && known.staleUntil > now) known.until = Math.max(known.until, now + NEGATIVE_MS);
    else this.#known.set(key, { ranking: [], only: NOTHING, until: now + NEGATIVE_MS, staleUntil: now });
  }

  /** Returns the servers of a name by rank (RFC 3263 4.1, 4.2). */
  async #rank(name: string, port: number, transport: ListenerKind | undefined, progress: Progress): Promise<Ranking> {
    if (port !== 0) return this.#host(name, transport ?? this.#fallback(), port, progress);
    const services = transport ? [] : await this.#services(name);
    if (services.length === 0)
      for (const by of transport ? [transport] : this.#options.transports)
        services.push({ by, name: `${TRANSPORT_KINDS[by].srvPrefix}${name}` });
    const found = await Promise.all(services.map((service) => this.#servers(service.name, service.by, progress)));
    if (found.some((ranking) => ranking !== undefined)) return found.flatMap((ranking) => ranking ?? []);
    // Only a definite "no SRV records" selects the addresses of the name itself.
    if (progress.failed) return [];
    return this.#host(name, transport ?? this.#fallback(), SIP_PORT, progress);
  }

  /**
   * Returns the services that NAPTR names and this node can use. A NAPTR query without an answer counts as no record:
   * many servers do not support the type.
   */
  async #services(name: string): Promise<{ by: ListenerKind; name: string }[]> {
    const unheard: Progress = { failed: false, ttlSeconds: 0 };
    const records = await answer(() => this.#options.resolver.resolveNaptr(name), unheard);
    const services: { by: ListenerKind; name: string }[] = [];
    for (const record of records.sort((a, b) => a.order - b.order || a.preference - b.preference)) {
      const service = record.service.toUpperCase();
      const by = this.#options.transports.find((kind) => TRANSPORT_KINDS[kind].naptrService === service);
      if (!by || record.flags.toLowerCase() !== 's') continue;
      const replacement = record.replacement.toLowerCase();
      if (HOST_NAME.test(replacement)) services.push({ by, name: replacement });
      if (services.length === MAX_SERVICES) break;
    }
    return services;
  }

  /** Returns the servers in the SRV records of `service`, by priority; undefined when there are no such records. */
  async #servers(service: string, by: ListenerKind, progress: Progress): Promise<Ranking | undefined> {
    const records = await answer(() => this.#options.resolver.resolveSrv(service), progress);
    if (records.length === 0) return undefined;
    progress.ttlSeconds = Math.min(progress.ttlSeconds, SERVICE_TTL_SECONDS);
    const usable = records
      // The target "." means that the service is not offered (RFC 2782).
      .filter((record) => record.port > 0 && HOST_NAME.test(record.name.toLowerCase()))
      .sort((a, b) => a.priority - b.priority)
      .slice(0, MAX_SERVERS);
    const servers = await Promise.all(
      usable.map((record) => this.#server(record.name, by, record.port, record.weight, progress)),
    );
    const groups = new Map<number, Server[]>();
    usable.forEach(({ priority }, i) => {
      const group = groups.get(priority);
      if (group) group.push(servers[i]!);
      else groups.set(priority, [servers[i]!]);
    });
    return [...groups.values()];
  }

  async #host(name: string, by: ListenerKind, port: number, progress: Progress): Promise<Ranking> {
    return [[await this.#server(name, by, port, 0, progress)]];
  }

  /** Returns the addresses of one host. */
  async #server(name: string, by: ListenerKind, port: number, weight: number, progress: Progress): Promise<Server> {
    const { resolver } = this.#options;
    const families = await Promise.all(
      this.#options.families.map(async (family) => {
        const ask = (): Promise<RecordWithTtl[]> =>
          family === 4 ? resolver.resolve4(name, { ttl: true }) : resolver.resolve6(name, { ttl: true });
        const records = (await answer(ask, progress)).slice(0, MAX_ADDRESSES);
        for (const { ttl } of records) progress.ttlSeconds = Math.min(progress.ttlSeconds, ttl);
        return records.map(({ address }): SrvTarget => ({ transport: by, address, port }));
      }),
    );
    return { weight, families };
  }

  /**
   * Returns the transport that a URI requires. Undefined: the URI leaves the choice open. Null: this node has none
   * such.
   */
  #transport(parameter: string | undefined): ListenerKind | undefined | null {
    if (parameter === undefined) return undefined;
    const by = parameter.toLowerCase();
    return this.#options.transports.find((kind) => kind === by) ?? null;
  }

  /** Returns the default transport: UDP (RFC 3263 4.1), or TCP on a node without UDP. */
  #fallback(): ListenerKind {
    return LISTENER_KINDS.find((kind) => this.#options.transports.includes(kind)) ?? LISTENER_KINDS[0];
  }
}

function questionKey(host: string, port: number, transport: ListenerKind | undefined): string {
  return `${transport ?? ''} ${port} ${host.toLowerCase()}`;
}

/** Returns true when the order may differ between requests. */
function hasChoice(ranking: Ranking): boolean {
  return ranking.some((group) => group.length > 1 || group[0]!.families.some((family) => family.length > 1));
}

/** Returns the records: none when there are none. Returns none and sets `failed` when the query was not answered. */
async function answer<T>(ask: () => Promise<T[]>, progress: Progress): Promise<T[]> {
  try {
    return await ask();
  } catch (error) {
    if (!NO_RECORD.has((error as NodeJS.ErrnoException).code ?? '')) progress.failed = true;
    return [];
  }
}
