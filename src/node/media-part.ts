// The media relay of a member, as far as it stands beside the calls: address plan, claim of the ports, report.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { localAddresses } from '../base/local-addresses.ts';
import type { Config } from '../config/schema.ts';
import { MediaPorts } from '../media/media-ports.ts';
import type { LocalAddresses, PlanSettings } from '../media/plan.ts';
import { PortClaims, sizeOf } from '../media/port-claims.ts';
import { PortStatus } from '../media/port-status.ts';
import type { Membership } from '../membership/membership.ts';
import type { View } from '../ownership/view.ts';
import type { Store } from '../store/store.ts';

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
  readonly random?: (() => number) | undefined;
  readonly localAddresses?: (() => LocalAddresses) | undefined;
}

/** What the part reads of the running node. */
interface AroundMedia {
  readonly settings: { readonly now: Config };
  readonly view: () => View | undefined;
  readonly membership: Pick<Membership, 'commit'>;
}

export function buildMedia(options: MediaPartOptions, { settings, view, membership }: AroundMedia) {
  const { config, clock, store, log, random = Math.random, localAddresses: local = localAddresses } = options;
  const { member } = config;
  const ports = new MediaPorts({
    ...{ clock, random, local },
    log: log.child({ room: 'media' }),
    settings: () => planSettings(settings.now),
    claims: new PortClaims({
      ...{ store, member, host: hostOf(config) },
      commit: (writes) => membership.commit(writes),
      hostPorts: config.media ? sizeOf(config.media.ports) : 0,
    }),
  });
  const status = new PortStatus({
    ...{ member, ports, store },
    members: () => (view()?.seats ?? []).filter(({ role = 'member' }) => role === 'member').map(({ id }) => id),
    counts: () => null,
  });
  return { ports, status };
}
