// Finds confirmed calls whose media is silent: no leg of a stream has had a packet for `media.idleSeconds`, and no
// stream is on hold. Logs and counts each, and ends it if the configuration has it so.
import type { Logger } from 'pino';
import { BoundedMap } from '../../base/bounded-map.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import type { CallRecord } from '../../calls/records/call-record.ts';
import { type Cell, type CellFamily, cellsBy } from '../../metrics/counters.ts';
import type { ServiceContext } from '../shared/context.ts';

export interface IdleSettings {
  /** 0: silent calls are not looked for. */
  readonly idleSeconds: number;
  readonly onIdle: 'log' | 'end';
}

export interface IdleCallsOptions {
  readonly context: ServiceContext;
  readonly clock: Clock;
  readonly log: Logger;
  readonly settings: () => IdleSettings;
  readonly end: (entry: number, record: CallRecord) => void;
  readonly found: CellFamily<'outcome'>;
}

/** Interval of the search, and calls that one looks at: a few milliseconds. */
const SEARCH_MS = 200;
const MAX_SEARCHED = 2000;
/** Calls that one search ends, 50 in two seconds: a fault of the network does not cause a flood of BYE. */
const MAX_ENDED = 5;
/** Silent calls that are remembered, so that each is logged once. */
const MAX_NOTED = 50_000;
const OUTCOMES = ['logged', 'ended'] as const;

export class IdleCalls {
  readonly #options: IdleCallsOptions;
  readonly #found: Readonly<Record<(typeof OUTCOMES)[number], Cell>>;
  readonly #noted = new BoundedMap<number, true>(MAX_NOTED);
  /** Place of the search in the calls. */
  #cursor: Iterator<number> | undefined;
  #timer: Timer | undefined;

  constructor(options: IdleCallsOptions) {
    this.#options = options;
    this.#found = cellsBy(options.found, 'outcome', OUTCOMES);
  }

  start(): void {
    const { context, clock } = this.#options;
    if (context.anchor) this.#timer = clock.every(SEARCH_MS, () => this.#search());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #search(): void {
    const { context, settings } = this.#options;
    const { anchor } = context;
    if (!anchor || settings().idleSeconds === 0) return;
    this.#cursor ??= anchor.calls[Symbol.iterator]();
    let ended = 0;
    for (let i = 0; i < MAX_SEARCHED && ended < MAX_ENDED; i++) {
      const { value, done } = this.#cursor.next();
      if (done) {
        this.#cursor = undefined;
        return;
      }
      if (this.#check(value)) ended++;
    }
  }

  /** Handles the call if it is silent. Returns true when it has been ended. */
  #check(key: number): boolean {
    const { context, clock, settings, log, end } = this.#options;
    const { idleSeconds, onIdle } = settings();
    const last = context.anchor?.lastPacketAt(key);
    const entry = [key, -key].find((each) => context.calls.stateOf(each) === 'confirmed');
    if (last === undefined || entry === undefined || clock.now() - last < idleSeconds * 1000) {
      this.#noted.delete(key);
      return false;
    }
    const record = context.journal?.recordOf(entry);
    const ends = onIdle === 'end' && record !== undefined;
    if (this.#noted.has(key) && !ends) return false;
    this.#noted.set(key, true);
    this.#found[ends ? 'ended' : 'logged'].n++;
    log.warn({ callId: record?.callId, idleSeconds, ended: ends }, 'no media packet of a call for this time');
    if (ends) end(entry, record);
    return ends;
  }
}
