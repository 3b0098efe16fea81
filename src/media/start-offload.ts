// Starts the offload of media into the kernel, as `media.offload` has it.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import { type KernelHost, kernelHost } from './kernel/host.ts';
import { KernelPaths, type PathCounts } from './kernel/kernel-paths.ts';
import { type Nft, NftShell } from './kernel/nft.ts';
import { Offload } from './offload.ts';

/** auto: where the host can do it. on: the start fails where it cannot. off: all media stays in user space. */
type OffloadMode = 'auto' | 'on' | 'off';

/** Access to the kernel. Seam of tests. */
export interface KernelAccess {
  readonly host: KernelHost;
  openNft(): Nft;
}

/** A running offload. */
export interface RunningOffload {
  readonly offload: Offload;
  /** Packets that the kernel has forwarded since the start. */
  readonly total: PathCounts;
  /** Takes all packets back into user space. Never rejects. */
  stop(): Promise<void>;
}

interface StartOptions {
  readonly mode: OffloadMode;
  readonly member: string;
  /** Media ports of all sides. */
  readonly ports: number;
  readonly dscp: number;
  /** Local addresses of the media ports. */
  readonly addresses: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly kernel?: KernelAccess | undefined;
}

/**
 * Deletes the table of an earlier process, and makes a new one. Returns the reason why all media stays in user space.
 * Rejects with SF_MEDIA_OFFLOAD for a host without the means, in mode `on`.
 */
export async function startOffload(options: StartOptions): Promise<RunningOffload | string> {
  const { mode, member, ports, dscp, addresses, clock, log } = options;
  const kernel = options.kernel ?? { host: kernelHost(clock), openNft: () => new NftShell(clock) };
  if (mode === 'off') {
    await KernelPaths.removeTable(member, kernel.openNft());
    return 'media.offload is off';
  }
  let offload: Offload | undefined;
  const paths = await KernelPaths.start({
    ...{ member, dscp, addresses, clock, log, host: kernel.host },
    // Paths that have stopped keep their place for some seconds.
    capacity: 2 * ports,
    openNft: () => kernel.openNft(),
    onCounted: () => offload?.counted(),
  });
  if (typeof paths === 'string') {
    if (mode === 'on') throw new SipfarmError('SF_MEDIA_OFFLOAD', `the kernel cannot forward media: ${paths}`);
    return paths;
  }
  offload = new Offload(paths, clock);
  return {
    offload,
    get total() {
      return paths.total;
    },
    async stop() {
      offload.stop();
      await paths.stop();
    },
  };
}
