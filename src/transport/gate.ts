// A limit on how many may be inside, with hysteresis: full at the limit, open again at nine tenths, so that it does not flap.

export class Gate {
  readonly #limit: number;
  readonly #reopenAt: number;
  #inside = 0;
  #full = false;

  constructor(limit: number) {
    this.#limit = limit;
    this.#reopenAt = Math.floor(limit * 0.9);
  }

  get inside(): number {
    return this.#inside;
  }

  get open(): boolean {
    return !this.#full;
  }

  enter(): void {
    this.#inside++;
    if (this.#inside >= this.#limit) this.#full = true;
  }

  leave(): void {
    this.#inside--;
    if (this.#inside <= this.#reopenAt) this.#full = false;
  }
}
