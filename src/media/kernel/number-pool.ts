// Hands out the numbers 1 to `capacity`. Every operation takes constant time.

export class NumberPool {
  readonly #capacity: number;
  readonly #free: number[] = [];
  #next = 1;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Returns a number that is not in use; undefined when all are. */
  take(): number | undefined {
    return this.#free.pop() ?? (this.#next <= this.#capacity ? this.#next++ : undefined);
  }

  /** Takes back a number. It must be in use. */
  release(number: number): void {
    this.#free.push(number);
  }
}
