// Figures of a row: median, least and most of its rounds, ratios round by round, and the comparison with a stored run.

export interface Figure {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** One line of the result. With a `unit` per second higher is better, else lower. */
export interface Row extends Figure {
  readonly group: string;
  readonly name: string;
  readonly unit: Unit;
}

export const UNITS = {
  'ns/op': 'lower',
  'B/op': 'lower',
  'packets/s': 'higher',
  'requests/s': 'higher',
  'us/packet': 'lower',
  'us/request': 'lower',
  us: 'lower',
  ms: 'lower',
  ratio: 'higher',
  /** Cost now by cost there. */
  'cost ratio': 'lower',
  B: 'lower',
  'B/call': 'lower',
  'B/min': 'lower',
  '/min': 'lower',
  share: 'lower',
} as const satisfies Record<string, 'lower' | 'higher'>;
export type Unit = keyof typeof UNITS;

/** Median, least and most. Throws RangeError without values. */
export function figure(values: readonly number[]): Figure {
  if (values.length === 0) throw new RangeError('no values');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Returns the ratios of two columns, round by round: a slow moment of the machine affects both. */
export function ratios(values: readonly number[], against: readonly number[]): number[] {
  const rounds = Math.min(values.length, against.length);
  return Array.from({ length: rounds }, (_, round) => values[round]! / against[round]!).filter(Number.isFinite);
}

function digits(value: number): string {
  const size = Math.abs(value);
  if (size >= 1000)
    return Math.round(value)
      .toString()
      .replace(/\B(?=(\d{3})+$)/g, ',');
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 4);
}

/** `12.3 (11.9-13.0)`. */
export function showFigure({ median, min, max }: Figure): string {
  return min === max ? digits(median) : `${digits(median)} (${digits(min)}-${digits(max)})`;
}

export interface Compared {
  readonly row: Row;
  /** Median now by median then; undefined: the stored run has no such row. */
  readonly ratio: number | undefined;
  /** True when the two ranges do not touch and the present one is better. */
  readonly verdict: 'better' | 'worse' | 'same' | 'new';
}

/** A smaller difference of two medians proves nothing. Needed for rows measured once, which have no range. */
const NEAR = 0.02;

/** Compares each row with the row of the same group, name and unit of an earlier run. */
export function compare(rows: readonly Row[], earlier: readonly Row[]): Compared[] {
  return rows.map((row) => {
    const then = earlier.find(({ group, name, unit }) => group === row.group && name === row.name && unit === row.unit);
    if (!then) return { row, ratio: undefined, verdict: 'new' };
    const ratio = then.median === 0 ? (row.median === 0 ? 1 : undefined) : row.median / then.median;
    const near = ratio !== undefined && Math.abs(ratio - 1) < NEAR;
    const apart = near ? undefined : row.min > then.max ? 'higher' : row.max < then.min ? 'lower' : undefined;
    const verdict = apart === undefined ? 'same' : apart === UNITS[row.unit] ? 'better' : 'worse';
    return { row, ratio, verdict };
  });
}

/** Lines of a table: columns as wide as their widest cell, the first to the left, the others to the right. */
export function table(head: readonly string[], body: readonly (readonly string[])[]): string {
  const lines = [head, ...body];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) =>
      widths
        .map((width, column) => (column === 0 ? (line[0] ?? '').padEnd(width) : (line[column] ?? '').padStart(width)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
