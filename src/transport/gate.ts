// Limits how many may be inside. It closes at the limit and opens again at nine tenths, so that it does not flap.

export class Gate {
  /** Called each time, because a limit may change while the gate is in use. */
  readonly #limit: () => number;
  #inside = 0;
  #full = false;

  constructor(limit: () => number) {
    this.#limit = limit;
  }

  get inside(): number {
    return this.#inside;
  }

  get open(): boolean {
    this.#update();
    return !this.#full;
  }

  enter(): void {
    this.#inside++;
    this.#update();
  }

  leave(): void {
    this.#inside--;
    this.#update();
  }

  #update(): void {
    const limit = this.#limit();
    if (this.#inside >= limit) this.#full = true;
    else if (this.#inside <= Math.floor(limit * 0.9)) this.#full = false;
  }
}
