// Exports the counts of the relay in user space. The thread counts in shared memory, which is read on scrape.
import type { Metrics } from '../../metrics/metrics.ts';
import type { PathCounts } from '../kernel/kernel-paths.ts';
import { Side } from '../media-relay.ts';
import { Outcome } from './relay-memory.ts';
import type { UserRelay } from './user-relay.ts';

const WAY = 'user';
const KERNEL = 'kernel';

/** `kernel`: counts of the paths in the kernel. */
export function showRelay(
  metrics: Metrics,
  relay: Pick<UserRelay, 'total' | 'ports' | 'ways'>,
  kernel: () => PathCounts,
): void {
  const { mediaPackets, mediaOctets, mediaLatches, sources } = metrics;
  for (const outcome of Object.keys(Outcome) as (keyof typeof Outcome)[])
    mediaPackets.show({ way: WAY, outcome }, () => relay.total(outcome));
  mediaOctets.show({ way: WAY }, () => relay.total('octets'));
  mediaPackets.show({ way: KERNEL, outcome: 'forwarded' }, () => kernel().packets);
  mediaOctets.show({ way: KERNEL }, () => kernel().octets);
  sources.mediaStreams = () => Object.entries(relay.ways).map(([way, value]) => ({ labels: { way }, value }));
  mediaLatches.show({ way: WAY }, () => relay.total('latches'));
  sources.mediaPorts = () =>
    Object.entries(Side).flatMap(([side, index]) =>
      Object.entries(relay.ports(index)).map(([state, value]) => ({ labels: { side, state }, value })),
    );
}
