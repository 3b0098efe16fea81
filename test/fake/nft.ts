// An nft that runs nothing, for paths in the kernel.
import type { Nft } from '../../src/media/kernel/nft.ts';
import type { KernelAccess } from '../../src/media/start-offload.ts';
import type { FakeClock } from './clock.ts';

/** An nft with the counters that the test sets. */
export class FakeNft {
  /** Transactions in order, each with its time. */
  readonly runs: { readonly at: number; readonly text: string }[] = [];
  /** Fault of the next transactions; '' = none. */
  fault = '';
  /** Counters by number. */
  left = new Map<number, number>();
  came = new Map<number, number>();
  /** Transactions wait while true. */
  slow = false;
  underway = 0;
  most = 0;
  closed = 0;
  readonly #clock: FakeClock;
  #waiting: (() => void)[] = [];

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  go(): void {
    this.slow = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  open = (): Nft => ({
    run: async (args, text, onOutput) => {
      if (args.startsWith('-n -j list')) {
        const counters = args.endsWith('by_port4') ? this.left : args.endsWith('to_port4') ? this.came : new Map();
        for (const [number, packets] of counters)
          onOutput?.(`{"val": ${number}, "counter": {"packets": ${packets}, "bytes": ${packets * 200}}}`);
        return '';
      }
      this.runs.push({ at: this.#clock.now(), text });
      this.most = Math.max(this.most, ++this.underway);
      const { fault } = this;
      if (this.slow) await new Promise<void>((resolve) => void this.#waiting.push(resolve));
      this.underway--;
      return fault;
    },
    close: () => void this.closed++,
  });
}

/** A host without nft: all media stays in user space. */
export const NO_KERNEL: KernelAccess = {
  host: { isLocal: () => false, lacks: () => '' },
  openNft: () => ({ run: async () => 'nft: not found', close: () => {} }),
};
