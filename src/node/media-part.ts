// The media relay of a member: address plan, claim of the ports, the relay itself, and the anchor that writes its
// addresses into the descriptions.
import type { Logger } from 'pino';
import type { Clock, Timer } from '../base/clock.ts';
import type { Endpoint } from '../base/endpoint.ts';
import type { Guard } from '../base/guard.ts';
import { localAddresses } from '../base/local-addresses.ts';
import type { CallRecord } from '../calls/records/call-record.ts';
import type { Config } from '../config/schema.ts';
import { type Anchor, makeAnchor } from '../media/anchor.ts';
import { MediaPorts } from '../media/media-ports.ts';
import { type MediaRelay, Side, type Way } from '../media/media-relay.ts';
import { type LocalAddresses, type PlanSettings, sideOf } from '../media/plan.ts';
import { PortClaims, sizeOf } from '../media/port-claims.ts';
import { type PortCounts, PortStatus } from '../media/port-status.ts';
import { type KernelAccess, type RunningOffload, startOffload } from '../media/start-offload.ts';
import { showRelay } from '../media/user-relay/relay-metrics.ts';
import { UserRelay, type UserRelayOptions } from '../media/user-relay/user-relay.ts';
import type { Membership } from '../membership/membership.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { View } from '../ownership/view.ts';
import type { Store } from '../store/store.ts';
import type { CallRecovery } from './call-recovery.ts';
import { ownEndpoints } from './from-config.ts';

/** A relay whose thread has ended is started again after this time, ms. */
const RESTART_MS = 1000;
/** Time between two log lines about missing ports, ms. */
const SILENT_MS = 60_000;
/** Counts without paths in the kernel. */
const NOTHING = { packets: 0, octets: 0 };
/** The last of 32 pairs is for streams of calls that run already. */
const RESERVED_SHARE = 32;

/** A relay in service. */
export type RunningRelay = MediaRelay & Pick<UserRelay, 'total' | 'ports' | 'ways' | 'wayOf' | 'stop'>;
export type StartRelay = (options: UserRelayOptions) => Promise<RunningRelay>;

/** Returns the settings of the address plan; undefined without a section `media`. */
export function planSettings(config: Config): PlanSettings | undefined {
  const { media, given, worker, workers } = config;
  return (
    media && { media, ownWan: given.media?.wan, worker: { index: worker?.index ?? 0, count: worker ? workers : 1 } }
  );
}

/** Returns the name of the host in the file: a worker has its number after it. */
function hostOf({ member, worker }: Config): string {
  return worker ? member.replace(/\.\d+$/, '') : member;
}

interface MediaPartOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly store: Store;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly guard: Guard;
  readonly random?: (() => number) | undefined;
  readonly localAddresses?: (() => LocalAddresses) | undefined;
  readonly startRelay?: StartRelay | undefined;
  readonly kernel?: KernelAccess | undefined;
}

/** Parts of the running node that this one reads. */
interface AroundMedia {
  readonly settings: { readonly now: Config };
  readonly view: () => View | undefined;
  readonly membership: Pick<Membership, 'commit'>;
  /** The calls of this member by their records; undefined when none are recorded. */
  readonly callRecovery:
    | (Pick<CallRecovery, 'unread'> & { readonly journal: Pick<CallRecovery['journal'], 'mediaChanged'> })
    | undefined;
}

export class MediaPart {
  readonly ports: MediaPorts;
  readonly status: PortStatus;
  /** undefined without a section `media`. */
  readonly anchor: Anchor | undefined;
  readonly #options: MediaPartOptions;
  readonly #settings: AroundMedia['settings'];
  readonly #log: Logger;
  readonly #callRecovery: AroundMedia['callRecovery'];
  #relay: RunningRelay | undefined;
  /** Only with paths in the kernel. */
  #kernel: RunningOffload | undefined;
  /** Records that were read before the relay was in service, by the key of the Call-ID. */
  readonly #early = new Map<number, CallRecord>();
  #restart: Timer | undefined;
  #stopped = false;
  #silentUntil = 0;

  constructor(options: MediaPartOptions, { settings, view, membership, callRecovery }: AroundMedia) {
    const { config, clock, store, metrics, random = Math.random, localAddresses: local = localAddresses } = options;
    const { member } = config;
    this.#options = options;
    this.#settings = settings;
    this.#callRecovery = callRecovery;
    this.#log = options.log.child({ room: 'media' });
    this.ports = new MediaPorts({
      ...{ clock, random, local, log: this.#log },
      settings: () => planSettings(settings.now),
      claims: new PortClaims({
        ...{ store, member, host: hostOf(config) },
        commit: (writes) => membership.commit(writes),
        hostPorts: config.media ? sizeOf(config.media.ports) : 0,
      }),
    });
    this.status = new PortStatus({
      ...{ member, store, ports: this.ports },
      members: () => (view()?.seats ?? []).filter(({ role = 'member' }) => role === 'member').map(({ id }) => id),
      counts: () => this.#counts(),
    });
    const { media } = config;
    if (!media) return;
    const { ports } = this;
    const parts = {
      relay: this.#seam(),
      now: () => clock.now(),
      addresses: () => {
        const { advertised, inside } = ports.plan ?? { advertised: media.bind, inside: media.inside };
        return [advertised, inside] as const;
      },
      sideOf: (address: string) => sideOf(ports.plan ?? media, address),
      settings: () => settings.now.media ?? media,
      describes: config.service.kind === 'upstream' && config.service.dialogs === 'shared',
      onChanged: (call: number) => callRecovery?.journal.mediaChanged(call),
    };
    this.anchor = makeAnchor(parts, this.#log, metrics.mediaDescriptions);
  }

  /** Proves the plan, claims the ports and starts the relay. Rejects with SF_MEDIA_* and SF_STORE_REFUSED. */
  async start(): Promise<void> {
    await this.ports.start();
    await this.#startOffload();
    await this.#startRelay();
  }

  /** Returns the way of the packets of the stream with this outer port; undefined when there is no such stream. */
  wayOf(port: number): Way | undefined {
    return this.#relay?.wayOf(port);
  }

  /** Takes the ports of a call back by its record. At once, or before the relay opens any other. */
  restore(entry: number, record: CallRecord): void {
    const call = Math.abs(entry);
    if (!record.media || !this.anchor) return;
    if (this.#relay) this.anchor.restore(call, record.callId, record.media);
    else this.#early.set(call, record);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#restart?.cancel();
    this.ports.stop();
    this.anchor?.clear();
    await this.#kernel?.stop();
    await this.#relay?.stop();
  }

  /**
   * The relay as sessions have it. New calls open no stream without a relay, while the plan has a fault, and until the
   * records have been read: a port that is free now may be that of a living call.
   */
  #seam(): MediaRelay {
    const usable = (): RunningRelay | undefined =>
      this.ports.trouble || this.#callRecovery?.unread ? undefined : this.#relay;
    return {
      open: (options) => {
        const stream = (options.ofNewCall ? usable() : this.#relay)?.open(options);
        if (!stream) this.#noteShortage();
        return stream;
      },
      reopen: (options, ports) => this.#relay?.reopen(options, ports),
    };
  }

  /** Returns null while there is no relay. */
  #counts(): PortCounts | null {
    const relay = this.#relay;
    return relay ? { outside: relay.ports(Side.outside), inside: relay.ports(Side.inside) } : null;
  }

  /** Logs at most once a minute that calls get no ports. Not while they only have to wait for the records. */
  #noteShortage(): void {
    const now = this.#options.clock.now();
    if (now < this.#silentUntil || this.#callRecovery?.unread) return;
    this.#silentUntil = now + SILENT_MS;
    this.#log.warn({ ports: this.#counts() }, 'no media ports for a new stream; new calls are answered 503');
  }

  async #startOffload(): Promise<void> {
    const { plan } = this.ports;
    const { config, clock, kernel } = this.#options;
    const { media } = this.#settings.now;
    if (!plan || !media || this.#stopped) return;
    const { member } = config;
    const { offload: mode, dscp } = media;
    const addresses = [plan.bind, plan.inside];
    const log = this.#log;
    const started = await startOffload({ mode, member, ports: 2 * sizeOf(plan), dscp, addresses, clock, log, kernel });
    if (typeof started === 'string') this.#log.info({ reason: started }, 'all media is relayed in user space');
    // The node may have stopped meanwhile.
    else if (this.#stopped) await started.stop();
    else this.#kernel = started;
  }

  async #startRelay(): Promise<void> {
    const { plan } = this.ports;
    const { config, clock, guard, metrics, startRelay = (options) => UserRelay.start(options) } = this.#options;
    // Cluster-wide settings are in force by now.
    const { media } = this.#settings.now;
    if (!plan || !media || this.#stopped) return;
    const { first, last, bind, inside } = plan;
    const relay = await startRelay({
      sides: [
        { address: bind, first, last, advertised: plan.advertised },
        { address: inside, first, last },
      ],
      own: ownMediaEndpoints(config),
      dscp: media.dscp,
      restMs: media.restSeconds * 1000,
      reservedPairs: Math.ceil((last + 1 - first) / 2 / RESERVED_SHARE),
      ...{ clock, guard, log: this.#log, offload: this.#kernel?.offload },
      onFailure: () => this.#fail(),
    });
    // The node may have stopped meanwhile, and has not stopped this relay.
    if (this.#stopped) return relay.stop();
    this.#relay = relay;
    this.#restoreEarly();
    showRelay(metrics, relay, () => this.#kernel?.total ?? NOTHING);
    const { kind, advertised } = plan;
    const where = { plan: kind, bind, advertised, inside, ports: `${first}-${last}` };
    this.#log.info(where, 'media relay started');
  }

  #restoreEarly(): void {
    for (const [call, record] of this.#early) {
      try {
        this.restore(call, record);
      } catch (error) {
        this.#options.guard.caught('records', error);
      }
    }
    this.#early.clear();
  }

  /** The streams of the thread are gone: the calls go on without media until they describe it again. */
  #fail(): void {
    this.#relay = undefined;
    this.anchor?.clear();
    if (this.#stopped) return;
    this.#restart = this.#options.clock.after(RESTART_MS, () => {
      this.#startRelay().catch((error: unknown) => {
        this.#log.error({ err: error }, 'the media relay cannot be started again');
        this.#fail();
      });
    });
  }
}

/** Returns the endpoints of this node to which no media may be sent. */
function ownMediaEndpoints(config: Config): readonly Endpoint[] {
  return [...ownEndpoints(config), ...config.listeners.map(({ bind }) => bind)];
}
