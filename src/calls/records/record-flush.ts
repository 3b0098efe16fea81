// When are waiting calls written? Every 20 ms, one commit at a time. A call whose write had no answer is read first. A
// call whose key is gone has been adopted if this member's seat is gone, too.
import { SipfarmError } from '../../base/errors.ts';
import { Flag } from './durability.ts';
import type { HeldCalls } from './held-calls.ts';
import type { PendingWrite, RecordWriter } from './record-writer.ts';
import type { TrackedCall } from './tracked-call.ts';

/** Commits in one step: some milliseconds. */
const COMMITS_PER_STEP = 10;

export interface FlushOptions {
  readonly held: HeldCalls;
  readonly writer: RecordWriter;
  /** True while nothing may be written: this member has no seat, or its records are being read. */
  readonly blocked: () => boolean;
  /** Returns whether calls that ring are written, too. */
  readonly writePending: () => boolean;
  /** The store has lost all records of this member. */
  readonly wiped: () => void;
}

export class RecordFlush {
  readonly #options: FlushOptions;
  #flushing: Promise<void> | undefined;

  constructor(options: FlushOptions) {
    this.#options = options;
  }

  /** The commits under way; never rejects. */
  get running(): Promise<void> | undefined {
    return this.#flushing;
  }

  /** Makes texts, of `texts` calls, and starts the commits. */
  work(texts?: number): void {
    const { held, blocked } = this.#options;
    held.queue.prepare(held.prepare, texts);
    if (!this.#flushing && held.queue.isDue && !blocked())
      this.#flushing = this.#flush().finally(() => {
        this.#flushing = undefined;
        held.queue.arm();
      });
    held.queue.arm();
  }

  /** Writes all that waits and that the store accepts. Never rejects. */
  async all(): Promise<void> {
    const { queue } = this.#options.held;
    queue.hurry();
    let waiting: number;
    do {
      await this.#flushing;
      ({ waiting } = queue);
      this.work(waiting);
      await this.#flushing;
    } while (queue.waiting > 0 && queue.waiting < waiting);
  }

  async #flush(): Promise<void> {
    const { held, writer, blocked, writePending } = this.#options;
    const { queue } = held;
    try {
      for (let left = COMMITS_PER_STEP; left > 0; left--) {
        if (queue.ready.size === 0 || blocked()) return;
        const moves = writer.take(queue.ready, queue.most, writePending(), held.settle);
        if (moves.length > 0) await this.#write(moves);
      }
    } catch (error) {
      queue.pause();
      writer.noteTrouble(error);
    }
  }

  /** Writes one commit. Rejects when a pause is needed. Calls that were not written are in the queue again. */
  async #write(moves: readonly PendingWrite[]): Promise<void> {
    const { held, writer } = this.#options;
    try {
      const inDoubt = moves.map(({ tracked }) => tracked).filter((tracked) => tracked.is(Flag.inDoubt));
      if (inDoubt.length > 0) {
        await this.#makeSure(inDoubt);
        for (const { tracked } of moves) held.apply(tracked, 'notWritten');
        return;
      }
      const missing = await writer.commit(moves);
      for (const { tracked } of moves) if (!tracked.writing) held.settle(tracked);
      if (missing.length > 0) await this.#judge(missing);
      held.queue.accepted();
    } catch (error) {
      const refused = error instanceof SipfarmError && error.code === 'SF_STORE_REFUSED';
      for (const { tracked } of moves) held.apply(tracked, refused ? 'notWritten' : 'unanswered');
      if (refused && held.queue.refuse(moves.map(({ tracked }) => tracked))) held.drops.size.n++;
      writer.outcomes.failed.n++;
      throw error;
    }
  }

  /** Reads where the records of calls in doubt are. Rejects as Store.get does. */
  async #makeSure(inDoubt: readonly TrackedCall[]): Promise<void> {
    const { held, writer } = this.#options;
    await writer.lookUp(inDoubt);
    const seatLost = await this.#seatLost();
    for (const tracked of inDoubt) held.apply(tracked, seatLost ? 'certainSeatLost' : 'certain');
  }

  /** Decides about calls whose stored keys are gone. Rejects as Store.get does. */
  async #judge(missing: readonly TrackedCall[]): Promise<void> {
    const seatLost = await this.#seatLost();
    for (const tracked of missing) this.#options.held.apply(tracked, seatLost ? 'missingSeatLost' : 'missing');
  }

  async #seatLost(): Promise<boolean> {
    const state = await this.#options.writer.storedState();
    if (state === 'wiped') this.#options.wiped();
    return state === 'lost';
  }
}
