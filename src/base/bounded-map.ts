// A map with a bound: a new key beyond it replaces the key that was set longest ago.

export class BoundedMap<K, V> extends Map<K, V> {
  readonly #most: number;

  /** `most`: entries at most, 1 or more. */
  constructor(most: number) {
    super();
    this.#most = most;
  }

  /** Sets the value, and makes the key the newest. A key that is new in a full map replaces the oldest key. */
  override set(key: K, value: V): this {
    if (!this.delete(key)) this.makeRoom();
    return super.set(key, value);
  }

  /** Deletes the oldest key of a full map and returns its value; undefined while there is room. */
  makeRoom(): V | undefined {
    if (this.size < this.#most) return undefined;
    const [oldest, value] = this.entries().next().value!;
    this.delete(oldest);
    return value;
  }
}
