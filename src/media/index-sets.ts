// Two collections of the integers 0 to n - 1 in flat arrays that never grow. Every operation takes constant time.

/** A set from which an element can be drawn by its position. */
export class IndexSet {
  readonly #elements: Int32Array;
  /** Position of each integer in `#elements`; -1 = not in the set. */
  readonly #positions: Int32Array;
  #size = 0;

  constructor(n: number) {
    this.#elements = new Int32Array(n);
    this.#positions = new Int32Array(n).fill(-1);
  }

  get size(): number {
    return this.#size;
  }

  /** Returns the element at `position`, from 0 to `size` - 1. The order changes with every deletion. */
  at(position: number): number {
    return this.#elements[position]!;
  }

  /** Adds or deletes `element`. */
  set(element: number, member: boolean): void {
    const position = this.#positions[element]!;
    if (position >= 0 === member) return;
    if (member) {
      this.#positions[element] = this.#size;
      this.#elements[this.#size++] = element;
      return;
    }
    const last = this.#elements[--this.#size]!;
    this.#elements[position] = last;
    this.#positions[last] = position;
    this.#positions[element] = -1;
  }
}

/** First in, first out. Each integer is in it at most once. */
export class IndexQueue {
  readonly #elements: Int32Array;
  #head = 0;
  #size = 0;

  constructor(n: number) {
    this.#elements = new Int32Array(n);
  }

  get size(): number {
    return this.#size;
  }

  /** Returns the first element; undefined when there is none. */
  get first(): number | undefined {
    return this.#size === 0 ? undefined : this.#elements[this.#head];
  }

  push(element: number): void {
    this.#elements[(this.#head + this.#size++) % this.#elements.length] = element;
  }

  /** Deletes the first element. */
  shift(): void {
    this.#head = (this.#head + 1) % this.#elements.length;
    this.#size--;
  }
}
