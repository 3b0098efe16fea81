// A process that stands still, as after SIGSTOP: its events wait. When it continues, packets come first, then due
// timers, then answers of the store.
import type { Clock, Timer } from '../../src/base/clock.ts';
import type { Lease, PrefixWatch, Store, Write } from '../../src/store/store.ts';

export class Ice {
  frozen = false;
  #packets: (() => void)[] = [];
  #timers = new Map<object, () => void>();
  #answers: (() => void)[] = [];

  freeze(): void {
    this.frozen = true;
  }

  thaw(): void {
    this.frozen = false;
    const waiting = [...this.#packets, ...this.#timers.values(), ...this.#answers];
    this.#packets = [];
    this.#timers = new Map();
    this.#answers = [];
    for (const run of waiting) run();
  }

  /** The process is killed: waiting packets and timers are dropped. Waiting answers of the store still resolve. */
  melt(): void {
    this.#packets = [];
    this.#timers = new Map();
    this.thaw();
  }

  packet(run: () => void): void {
    if (this.frozen) this.#packets.push(run);
    else run();
  }

  /** Runs a timer once, even if it became due several times meanwhile. */
  timer(timer: object, run: () => void): void {
    if (this.frozen) this.#timers.set(timer, run);
    else run();
  }

  forget(timer: object): void {
    this.#timers.delete(timer);
  }

  async answer<T>(promise: Promise<T>): Promise<T> {
    const settled = promise.then(
      (value) => () => value,
      (error: unknown) => () => {
        throw error;
      },
    );
    const outcome = await settled;
    if (this.frozen) await new Promise<void>((resolve) => this.#answers.push(resolve));
    return outcome();
  }
}

/** The clock of a process that may stand still: its time goes on, its timers wait. */
export class IcyClock implements Clock {
  readonly #clock: Clock;
  readonly #ice: Ice;

  constructor(clock: Clock, ice: Ice) {
    this.#clock = clock;
    this.#ice = ice;
  }
  now(): number {
    return this.#clock.now();
  }
  wall(): number {
    return this.#clock.wall();
  }
  after(ms: number, run: () => void): Timer {
    return this.#hold((held) => this.#clock.after(ms, held), run);
  }
  every(ms: number, run: () => void): Timer {
    return this.#hold((held) => this.#clock.every(ms, held), run);
  }

  #hold(set: (run: () => void) => Timer, run: () => void): Timer {
    const key = {};
    const timer = set(() => this.#ice.timer(key, run));
    return {
      cancel: () => {
        timer.cancel();
        this.#ice.forget(key);
      },
    };
  }
}

/** The store of a process that may stand still. */
export class IcyStore implements Store {
  readonly #store: Store;
  readonly #ice: Ice;

  constructor(store: Store, ice: Ice) {
    this.#store = store;
    this.#ice = ice;
  }

  get kind(): Store['kind'] {
    return this.#store.kind;
  }
  get places(): Store['places'] {
    return this.#store.places;
  }
  get up(): boolean {
    return this.#store.up;
  }
  get(key: string): ReturnType<Store['get']> {
    return this.#ice.answer(this.#store.get(key));
  }
  list(prefix: string): ReturnType<Store['list']> {
    return this.#ice.answer(this.#store.list(prefix));
  }
  page(...of: Parameters<Store['page']>): ReturnType<Store['page']> {
    return this.#ice.answer(this.#store.page(...of));
  }
  commit(writes: readonly Write[]): Promise<boolean> {
    return this.#ice.answer(this.#store.commit(writes));
  }
  async grantLease(seconds: number): Promise<Lease> {
    return this.#ice.answer(this.#store.grantLease(seconds));
  }
  watch(prefix: string, onChange: Parameters<Store['watch']>[1], onStale?: () => void): PrefixWatch {
    const key = {};
    return this.#store.watch(
      prefix,
      (entries) => this.#ice.timer(key, () => onChange(entries)),
      () => this.#ice.timer(key, () => onStale?.()),
    );
  }
  follow(prefix: string, onEvent: Parameters<Store['follow']>[1]): PrefixWatch {
    // Each event has a key of its own: none takes the place of another.
    return this.#store.follow(prefix, (event) => this.#ice.timer({}, () => onEvent(event)));
  }
  close(): Promise<void> {
    return this.#store.close();
  }
}
