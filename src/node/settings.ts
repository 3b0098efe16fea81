// The settings in force: the member's own file, with the cluster-wide settings from the store.
import type { Logger } from 'pino';
import { AddressList } from '../base/address-list.ts';
import { type Changes, effective, liveDiff, parseClusterSettings } from '../config/live.ts';
import { withLiveMedia } from '../config/media-section.ts';
import type { ClusterSettings, Config } from '../config/schema.ts';
import type { PrefixWatch, Store } from '../store/store.ts';

export interface SettingsOptions {
  readonly config: Config;
  readonly log: Logger;
  /** Called with the settings that are in force from now on. */
  readonly onApply: (now: Config, before: Config) => void;
}

export class Settings {
  readonly #options: SettingsOptions;
  #own: Config;
  #now: Config;
  #cluster: ClusterSettings = {};
  #probes: AddressList;
  #trusted: AddressList;
  #watch: PrefixWatch | undefined;
  readonly #followed = Promise.withResolvers<void>();

  constructor(options: SettingsOptions) {
    this.#options = options;
    this.#own = options.config;
    this.#now = options.config;
    this.#probes = new AddressList(options.config.balancer.probes);
    this.#trusted = new AddressList(options.config.balancer.trusted);
  }

  /** In force. */
  get now(): Config {
    return this.#now;
  }

  /** The settings of the member's own file. */
  get own(): Config {
    return this.#own;
  }

  /** Sources of the balancer's health requests. */
  get probes(): AddressList {
    return this.#probes;
  }

  /** Proxies whose PROXY headers are accepted. */
  get trusted(): AddressList {
    return this.#trusted;
  }

  /** Resolves when the cluster-wide settings have been read for the first time, or at `close`. */
  get followed(): Promise<void> {
    return this.#followed.promise;
  }

  /** Takes a new file: applies the fields that may change live, and returns those that need a restart. */
  reload(config: Config): Changes {
    const before = this.#own;
    const changes = liveDiff(before, config);
    // Fields that need a restart keep their value, so that the next reload reports them again.
    const { weight, names, keys, given, log, drain, ownership } = config;
    const balancer = { ...config.balancer, mode: before.balancer.mode };
    const limits = { ...config.limits, messageBytes: before.limits.messageBytes };
    const media = before.media && config.media && withLiveMedia(before.media, config.media);
    this.#own = { ...before, weight, names, keys, given, log, drain, ownership, balancer, limits };
    if (media) this.#own = { ...this.#own, media };
    this.#apply(effective(this.#own, this.#cluster));
    return changes;
  }

  /** Follows the cluster-wide settings in the store until `close`. */
  follow(store: Store): void {
    const { log } = this.#options;
    this.#watch = store.watch('config', (entries) => {
      const value = entries.find(({ key }) => key === 'config')?.value ?? {};
      try {
        this.#cluster = parseClusterSettings(value);
      } catch (error) {
        log.error({ err: error }, 'the cluster-wide settings in the store are not valid; the last valid ones stay');
        this.#followed.resolve();
        return;
      }
      const next = effective(this.#own, this.#cluster);
      const { live } = liveDiff(this.#now, next);
      this.#apply(next);
      if (live.length > 0) log.info({ changed: live }, 'cluster-wide settings applied');
      this.#followed.resolve();
    });
  }

  close(): void {
    this.#watch?.close();
    this.#followed.resolve();
  }

  #apply(next: Config): void {
    const before = this.#now;
    this.#now = next;
    this.#probes = new AddressList(next.balancer.probes);
    this.#trusted = new AddressList(next.balancer.trusted);
    this.#options.onApply(next, before);
  }
}
