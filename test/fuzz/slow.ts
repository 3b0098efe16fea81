// The inputs with the slowest handlers, and the time of each one without other load.

export interface SlowInput {
  readonly where: string;
  readonly bytes: Buffer;
  microseconds: number;
}

/** Most are slow because of a garbage collection or another process, which the second measurement shows. */
const KEPT = 300;
const ROUNDS = 7;

export class SlowInputs {
  #kept: SlowInput[] = [];
  #measuring = false;

  /** Records the handler of `bytes` that began at `began` (performance.now) and has just ended. */
  note(where: string, bytes: Buffer, began: number): void {
    const microseconds = (performance.now() - began) * 1000;
    if (this.#measuring || (this.#kept.length === KEPT && microseconds <= this.#kept[KEPT - 1]!.microseconds)) return;
    this.#kept.push({ where, bytes: Buffer.from(bytes), microseconds });
    this.#kept.sort((a, b) => b.microseconds - a.microseconds);
    this.#kept.length = Math.min(this.#kept.length, KEPT);
  }

  /**
   * Calls `handle` with each input again in some rounds, and awaits `rest` between them. Returns the input with the
   * longest best time.
   */
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
