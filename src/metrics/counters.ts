// Counters of the hot path: plain numbers that prom-client reads on scrape. Cold code creates a cell once; afterwards
// only `n` changes.
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** One labelled value. The hot path holds the cell and executes `cell.n++`. */
export interface Cell {
  n: number;
}

interface Definition<L extends string> {
  /** Without the prefix `sipfarm_`. */
  readonly name: string;
  readonly help: string;
  readonly labels: readonly L[];
}

/**
 * A family of cells, one per combination of labels. `cell` searches by text: call it at construction, not per packet.
 */
export class CellFamily<L extends string> {
  readonly definition: Definition<L>;
  readonly #cells = new Map<string, { readonly cell: Cell; readonly labels: Record<L, string> }>();

  constructor(definition: Definition<L>) {
    this.definition = definition;
  }

  cell(labels: Record<L, string>): Cell {
    const key = this.#keyOf(labels);
    let entry = this.#cells.get(key);
    if (!entry) {
      entry = { cell: { n: 0 }, labels };
      this.#cells.set(key, entry);
    }
    return entry.cell;
  }

  /** Exports a value that another part counts: `read` is called on scrape. It takes the place of a cell. */
  show(labels: Record<L, string>, read: () => number): void {
    const cell = Object.defineProperty({ n: 0 }, 'n', { get: read });
    this.#cells.set(this.#keyOf(labels), { cell, labels });
  }

  /**
   * Ends all values with `value` in this label. Holders of such a cell still count in it, but it is not exported any
   * more.
   */
  forget(label: L, value: string): void {
    for (const [key, { labels }] of this.#cells) if (labels[label] === value) this.#cells.delete(key);
  }

  *entries(): Iterable<{ readonly labels: Record<L, string>; readonly value: number }> {
    for (const { cell, labels } of this.#cells.values()) yield { labels, value: cell.n };
  }

  #keyOf(labels: Record<L, string>): string {
    return this.definition.labels.map((label) => labels[label]).join('\0');
  }
}

/**
 * Returns the cells of `family` for each of `values` in `label`, all created now. `others` holds the remaining labels,
 * the same for each cell. Call it at construction, not per packet.
 */
export function cellsBy<L extends string, const B extends L, K extends string>(
  family: CellFamily<L>,
  label: B,
  values: readonly K[],
  ...[others]: Exclude<L, B> extends never ? [] : [others: Readonly<Record<Exclude<L, B>, string>>]
): Readonly<Record<K, Cell>> {
  const cells = values.map(
    (value) => [value, family.cell({ ...others, [label]: value } as Record<L, string>)] as const,
  );
  return Object.fromEntries(cells) as Record<K, Cell>;
}

/** Registers a counter with cells as values. */
export function counter<const L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labels: readonly L[],
): CellFamily<L> {
  const family = new CellFamily<L>({ name, help, labels });
  new Counter({
    name: `sipfarm_${name}`,
    help,
    labelNames: [...labels],
    registers: [registry],
    collect() {
      this.reset();
      for (const { labels: own, value } of family.entries()) this.inc(own, value);
    },
  });
  return family;
}

/** Registers a gauge that is read on scrape. */
export function gauge<const L extends string>(
  registry: Registry,
  name: string,
  help: string,
  labels: readonly L[],
  read: () => Iterable<{ readonly labels: Record<L, string>; readonly value: number }>,
): void {
  new Gauge({
    name: `sipfarm_${name}`,
    help,
    labelNames: [...labels],
    registers: [registry],
    collect() {
      this.reset();
      for (const { labels: own, value } of read()) this.set(own, value);
    },
  });
}

/** Registers a histogram of seconds. `observe` costs about one microsecond: sample it on the packet path. */
export function histogram(registry: Registry, name: string, help: string, buckets: readonly number[]): Histogram {
  return new Histogram({ name: `sipfarm_${name}`, help, buckets: [...buckets], registers: [registry] });
}
