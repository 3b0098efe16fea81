// The table on the demo's terminal: one line per member, from the counters that /metrics shows.
import type { Clock, Timer } from '../base/clock.ts';
import type { CellFamily } from '../metrics/counters.ts';
import type { Metrics } from '../metrics/metrics.ts';

export interface Scored {
  readonly id: string;
  readonly metrics: Metrics;
  readonly node: {
    readonly ownedCalls: number;
    readonly state: string;
    readonly service: { readonly status: { readonly answered: number } };
  };
}

/** Milliseconds between two pictures on a terminal, and between two on a pipe. */
const LIVE_MS = 500;
const PIPE_MS = 5000;
const HEAD = ['member', 'state', 'received', 'relayed', 'taken over', 'handled', 'calls now', 'calls'];
const WIDTHS = [8, 10, 10, 10, 11, 10, 10, 10];

/** Returns the sum over the cells of a family whose labels agree with `labels`. */
function sum<L extends string>(family: CellFamily<L>, labels: Partial<Record<L, string>> = {}): number {
  let total = 0;
  for (const entry of family.entries()) {
    const agrees = Object.entries(labels).every(([label, value]) => entry.labels[label as L] === value);
    if (agrees) total += entry.value;
  }
  return total;
}

export class Scoreboard {
  readonly #members: readonly Scored[];
  readonly #write: (text: string) => void;
  readonly #live: boolean;
  #timer: Timer | undefined;
  #shown = '';

  constructor(members: readonly Scored[], write: (text: string) => void, live: boolean) {
    this.#members = members;
    this.#write = write;
    this.#live = live;
  }

  start(clock: Clock): void {
    this.#show();
    this.#timer = clock.every(this.#live ? LIVE_MS : PIPE_MS, () => this.#show());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Returns the table as text. */
  picture(): string {
    const rows = this.#members.map(({ id, node, metrics }) => [
      id,
      node.state,
      sum(metrics.received),
      sum(metrics.relayed, { direction: 'out' }),
      sum(metrics.relayed, { direction: 'in' }),
      sum(metrics.handled),
      node.ownedCalls,
      node.service.status.answered,
    ]);
    return [HEAD, ...rows]
      .map((row) =>
        row.map((cell, i) => (i < 2 ? String(cell).padEnd(WIDTHS[i]!) : String(cell).padStart(WIDTHS[i]!))).join(' '),
      )
      .join('\n');
  }

  #show(): void {
    const picture = this.picture();
    if (picture === this.#shown) return;
    // On a terminal the table replaces the last one: the cursor goes up by its lines.
    const up = this.#live && this.#shown !== '' ? `\x1b[${this.#shown.split('\n').length}A\x1b[J` : '';
    this.#shown = picture;
    this.#write(`${up}${picture}\n`);
  }
}
