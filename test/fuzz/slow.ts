// The inputs whose handlers took longest, and how long each of them takes when nothing else counts.

export interface SlowInput {
  readonly where: string;
  readonly bytes: Buffer;
  microseconds: number;
}

/** Most are slow by a pause of the garbage collector or by a neighbour, which the second measuring shows. */
const KEPT = 300;
const ROUNDS = 7;

export class SlowInputs {
  #kept: SlowInput[] = [];
  #measuring = false;

  /** The handler of `bytes` has begun at `began` (performance.now) and is done. */
  note(where: string, bytes: Buffer, began: number): void {
    const microseconds = (performance.now() - began) * 1000;
    if (this.#measuring || (this.#kept.length === KEPT && microseconds <= this.#kept[KEPT - 1]!.microseconds)) return;
    this.#kept.push({ where, bytes: Buffer.from(bytes), microseconds });
    this.#kept.sort((a, b) => b.microseconds - a.microseconds);
    this.#kept.length = Math.min(this.#kept.length, KEPT);
  }

  /** Gives each to `handle` once more in some rounds, between which `rest` is awaited; the one whose best time is the longest. */
  async slowest(
    handle: (where: string, bytes: Buffer) => void,
    rest: () => Promise<void>,
  ): Promise<SlowInput | undefined> {
    this.#measuring = true;
    for (const input of this.#kept) input.microseconds = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS; round++) {
      for (const input of this.#kept) {
        const bytes = Buffer.from(input.bytes);
        const began = performance.now();
        handle(input.where, bytes);
        input.microseconds = Math.min(input.microseconds, (performance.now() - began) * 1000);
      }
      await rest();
    }
    return this.#kept.sort((a, b) => b.microseconds - a.microseconds)[0];
  }
}
