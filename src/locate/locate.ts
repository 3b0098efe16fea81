// Where a request goes (RFC 3263 section 4): from host, port and transport of a SIP URI to addresses, in the order in which to try them.
// Literals and names asked before are answered at once; another name costs one wait, shared by all who ask for it meanwhile.

import { promises as dns, type NaptrRecord, type RecordWithTtl, type SrvRecord } from 'node:dns';
import net from 'node:net';
import type { Clock } from '../base/clock.ts';
import { SIP_PORT } from '../base/endpoint.ts';
import type { CellFamily } from '../metrics/counters.ts';
import { LISTENER_KINDS, type ListenerKind, TRANSPORT_KINDS } from '../packet/transport-kind.ts';
import { orderTargets, type Ranking, type Server, type SrvTarget } from './srv-order.ts';

export type { SrvTarget as Target } from './srv-order.ts';

/** What is asked of DNS; `dns.promises.Resolver` of Node is one. A rejection carries a `code` of node:dns. */
export interface DnsResolver {
  resolve4(name: string, options: { readonly ttl: true }): Promise<RecordWithTtl[]>;
  resolve6(name: string, options: { readonly ttl: true }): Promise<RecordWithTtl[]>;
  resolveSrv(name: string): Promise<SrvRecord[]>;
  resolveNaptr(name: string): Promise<NaptrRecord[]>;
}

/** The resolver of this host, or one that asks `servers` (`192.0.2.53`, `[2001:db8::53]:5353`). Two tries of a second each per question. */
export function nodeResolver(servers: readonly string[] = []): DnsResolver {
  const resolver = new dns.Resolver({ timeout: 1000, tries: 2 });
  if (servers.length > 0) resolver.setServers(servers);
  return resolver;
}

export interface LocatorOptions {
  readonly resolver: DnsResolver;
  readonly clock: Clock;
  /** What the node can send by, the preferred one first. */
  readonly transports: readonly ListenerKind[];
  /** Address families the node has sockets of, the preferred one first. */
  readonly families: readonly (4 | 6)[];
  /** Counts lookups by how they ended: found, nothing, failed, busy. Answers from memory are not counted. */
  readonly lookups: CellFamily<'result'>;
  /** Names remembered, default 4,096; the one looked up longest ago is forgotten first. */
  readonly maxNames?: number;
  /** Names being looked up at one time, default 64. Each costs some ten questions at most. */
  readonly maxLookups?: number;
  /** How long a lookup may take, default 4,000. Later it counts as failed. */
  readonly timeoutMs?: number;
}

/** Bounds of a time to live in memory: below, a name of TTL 0 would be asked for each packet; above, a change would go unseen for too long. */
const MIN_TTL_SECONDS = 1;
const MAX_TTL_SECONDS = 3600;
/** Node does not tell the TTL of SRV and NAPTR records. */
const SERVICE_TTL_SECONDS = 60;
/** How long "no such name" and "no answer" are believed. */
const NEGATIVE_MS = 5000;
/** How long targets outlive their time while DNS does not answer (in the spirit of RFC 8767). */
const STALE_MS = 3_600_000;
// Bounds on what one name may cost.
const MAX_SERVICES = 4;
const MAX_SERVERS = 8;
const MAX_ADDRESSES = 8;

/** Codes of node:dns that mean "there is no such record". The last two come from servers that do not know NAPTR or SRV. */
const NO_RECORD = new Set(['ENOTFOUND', 'ENODATA', 'ENOTIMP', 'EFORMERR']);
const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?$/;

const NOTHING: readonly SrvTarget[] = [];
/** RFC 6761 6.3: the name is not asked of DNS. */
const LOCALHOST = '127.0.0.1';

/** What is remembered of a name. */
interface CachedLookup {
  readonly ranking: Ranking;
  /** The order itself when there is only one. */
  readonly only: readonly SrvTarget[] | undefined;
  /** Until when it holds, and until when it may be used when DNS does not answer. */
  until: number;
  readonly staleUntil: number;
}

/** What happened while one name was looked up. */
interface Progress {
  failed: boolean;
  ttlSeconds: number;
}

export class Locator {
  readonly #options: LocatorOptions;
  readonly #maxNames: number;
  readonly #maxLookups: number;
  readonly #timeoutMs: number;
  readonly #known = new Map<string, CachedLookup>();
  readonly #running = new Map<string, Promise<void>>();

  constructor(options: LocatorOptions) {
    this.#options = options;
    this.#maxNames = options.maxNames ?? 4096;
    this.#maxLookups = options.maxLookups ?? 64;
    this.#timeoutMs = options.timeoutMs ?? 4000;
  }

  /**
   * The targets in the order in which to try them, when that takes no question: undefined says to call `locate`, an empty list that there are none.
   * `host`: literal (brackets or not) or name; `port` 0 = none given; `transport`: the URI's parameter;
   * `choice`: decides among equals, and must be equal for all retransmissions of a request (a hash of its branch).
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
      // RFC 3263 4.1: a literal without transport is reached by UDP.
      if (!this.#options.families.includes(family as 4 | 6)) return NOTHING;
      return [{ transport: by ?? this.#fallback(), address: literal, port: port || SIP_PORT }];
    }
    const known = this.#known.get(questionKey(host, port, by));
    if (known === undefined || known.until <= this.#options.clock.now()) return undefined;
    return known.only ?? orderTargets(known.ranking, choice);
  }

  /**
   * As `locateNow`, asking DNS where needed. Never rejects: an empty list says that there is no target, or that DNS does not answer;
   * 'busy' that too many lookups are under way.
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
        // A known trunk must not fall because strangers' names are slow.
        const known = this.#known.get(key);
        const usable = known !== undefined && known.staleUntil > this.#options.clock.now();
        return usable ? (known.only ?? orderTargets(known.ranking, choice)) : 'busy';
      }
      running = this.#lookUp(key, name, port, by).finally(() => this.#running.delete(key));
      this.#running.set(key, running);
    }
    await this.#atMost(running, key);
    return this.locateNow(host, port, transport, choice) ?? NOTHING;
  }

  /** Waits for a lookup, but not for ever: past the deadline the name counts as failed. The lookup itself goes on and holds its place until it ends. */
  #atMost(running: Promise<void>, key: string): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#options.clock.after(this.#timeoutMs, () => {
        this.#fail(key);
        resolve();
      });
      void running.finally(() => {
        timer.cancel();
        resolve();
      });
    });
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
    // What was found in part only is asked again soon.
    const believed = targets.length === 0 || progress.failed;
    const until = now + (believed ? NEGATIVE_MS : 1000 * Math.max(progress.ttlSeconds, MIN_TTL_SECONDS));
    this.#remember(key, {
      ranking,
      only: targets.length <= 1 || !hasChoice(ranking) ? targets : undefined,
      until,
      staleUntil: targets.length === 0 ? until : until + STALE_MS,
    });
  }

  /** DNS gave no answer: goes on with what was known, if that is not too old. */
  #fail(key: string): void {
    const now = this.#options.clock.now();
    const known = this.#known.get(key);
    if (known && known.staleUntil > now) known.until = Math.max(known.until, now + NEGATIVE_MS);
    else this.#remember(key, { ranking: [], only: NOTHING, until: now + NEGATIVE_MS, staleUntil: now });
  }

  #remember(key: string, known: CachedLookup): void {
    this.#known.delete(key);
    if (this.#known.size >= this.#maxNames) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(key, known);
  }

  /** RFC 3263 4.1 and 4.2. */
  async #rank(name: string, port: number, transport: ListenerKind | undefined, progress: Progress): Promise<Ranking> {
    if (port !== 0) return this.#host(name, transport ?? this.#fallback(), port, progress);
    const services = transport ? [] : await this.#services(name);
    if (services.length === 0)
      for (const by of transport ? [transport] : this.#options.transports)
        services.push({ by, name: `${TRANSPORT_KINDS[by].srvPrefix}${name}` });
    const found = await Promise.all(services.map((service) => this.#servers(service.name, service.by, progress)));
    if (found.some((ranking) => ranking !== undefined)) return found.flatMap((ranking) => ranking ?? []);
    // Without an answer about SRV nobody knows that the name itself is meant.
    if (progress.failed) return [];
    return this.#host(name, transport ?? this.#fallback(), SIP_PORT, progress);
  }

  /** The services that NAPTR names and this node can use. A NAPTR question without an answer counts as none: many servers do not know the type. */
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

  /** The servers that the SRV records of `service` name, by priority; undefined when there are no such records. */
  async #servers(service: string, by: ListenerKind, progress: Progress): Promise<Ranking | undefined> {
    const records = await answer(() => this.#options.resolver.resolveSrv(service), progress);
    if (records.length === 0) return undefined;
    progress.ttlSeconds = Math.min(progress.ttlSeconds, SERVICE_TTL_SECONDS);
    const usable = records
      // The target "." says that the service is not offered (RFC 2782).
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

  /** The addresses of one host. */
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

  /** The transport a URI asks for; undefined = it leaves the choice to us, null = we have no such thing. */
  #transport(parameter: string | undefined): ListenerKind | undefined | null {
    if (parameter === undefined) return undefined;
    const by = parameter.toLowerCase();
    return this.#options.transports.find((kind) => kind === by) ?? null;
  }

  /** UDP, where nothing says otherwise (RFC 3263 4.1). */
  #fallback(): ListenerKind {
    return LISTENER_KINDS.find((kind) => this.#options.transports.includes(kind)) ?? LISTENER_KINDS[0];
  }
}

function questionKey(host: string, port: number, transport: ListenerKind | undefined): string {
  return `${transport ?? ''} ${port} ${host.toLowerCase()}`;
}

/** Could the order differ from one request to another? */
function hasChoice(ranking: Ranking): boolean {
  return ranking.some((group) => group.length > 1 || group[0]!.families.some((family) => family.length > 1));
}

/** The records, none when there are none, and none with `failed` set when the question was not answered. */
async function answer<T>(ask: () => Promise<T[]>, progress: Progress): Promise<T[]> {
  try {
    return await ask();
  } catch (error) {
    if (!NO_RECORD.has((error as NodeJS.ErrnoException).code ?? '')) progress.failed = true;
    return [];
  }
}
