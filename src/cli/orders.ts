// Defines `sipfarm drain`, `pause`, `resume`, `ban`, `unban`, `remove`. Any member accepts orders for every member.
import { type Command, InvalidArgumentError } from 'commander';
import { SipfarmError } from '../base/errors.ts';
import { MAX_DEADLINE_SECONDS, type OrderKind } from '../membership/order.ts';
import type { OrderRequest, OrderStatus } from '../orders/order-status.ts';
import type { AdminClient } from './admin-client.ts';
import { parseDuration, showDuration } from './duration.ts';
import { printable } from './table.ts';

/** Parts that following a drain needs. */
export interface OrderDeps {
  out(text: string): void;
  err(text: string): void;
  /** Writes to a terminal whose last line can be overwritten; left out when the standard output is no terminal. */
  readonly terminal?: (text: string) => void;
  /** Resolves after so many milliseconds. */
  pause(ms: number): Promise<void>;
  /** Resolves when the operator stops the command (Ctrl-C). */
  interrupted(): Promise<void>;
}

interface OrderOptions {
  readonly json?: boolean;
}

export interface DrainOptions extends OrderOptions {
  /** Seconds. */
  readonly deadline?: number;
  readonly wait: boolean;
}

const LOOK_MS = 1000;
/** Failed polls that are tolerated: the polled member may be restarting, or the store briefly unreachable. */
const PATIENT_LOOKS = 10;
/** Without a terminal a line with an unchanged number of calls is printed once in so many polls. */
const SAME_LOOKS = 10;
const CLEAR_LINE = '\r\x1b[K';

export class OrderCommands {
  readonly #client: AdminClient;
  readonly #deps: OrderDeps;
  readonly #json: boolean;

  constructor(client: AdminClient, deps: OrderDeps, { json = false }: OrderOptions) {
    this.#client = client;
    this.#deps = deps;
    this.#json = json;
  }

  /**
   * Drains the member. With `wait` resolves to true when it has drained. False: calls were left at the deadline,
   * another order came, or the operator stopped the command. Without `wait` resolves to true once the order is given.
   */
  async drain(id: string, { deadline, wait }: DrainOptions): Promise<boolean> {
    const given = await this.#give(id, { order: 'drain', deadlineSeconds: deadline });
    if (wait) return this.#follow(id, given);
    this.#print(given, `${id} drains; sipfarm resume ${id} ends it`);
    return true;
  }

  async pause(id: string): Promise<void> {
    const given = await this.#give(id, { order: 'pause' });
    this.#print(given, `${id} takes no new calls; sipfarm resume ${id} ends it`);
  }

  async ban(id: string): Promise<void> {
    const given = await this.#give(id, { order: 'ban' });
    this.#print(given, `${id} has no seat from now on; sipfarm unban ${id} ends it`);
  }

  resume(id: string): Promise<void> {
    return this.#lift(id, ['drain', 'pause']);
  }

  unban(id: string): Promise<void> {
    return this.#lift(id, ['ban']);
  }

  async remove(id: string, force: boolean): Promise<void> {
    const answer = await this.#client.delete(`/v1/members/${encodeURIComponent(id)}${force ? '?force=true' : ''}`);
    this.#print(answer, `${id} is removed: its record, its number and its order`);
  }

  async #give(id: string, request: OrderRequest): Promise<OrderStatus> {
    const given = (await this.#client.post(`/v1/orders/${encodeURIComponent(id)}`, request)) as OrderStatus;
    if (!given.othersTakeCalls) {
      const until = request.order === 'ban' ? '' : `; ${printable(id)} takes them until another member does`;
      this.#deps.err(`warning: no other member takes new calls now${until}`);
    }
    if (!given.alive)
      this.#deps.err(`warning: ${printable(id)} is not in the farm now; the order applies when it joins`);
    return given;
  }

  async #lift(id: string, kinds: readonly OrderKind[]): Promise<void> {
    const path = `/v1/orders/${encodeURIComponent(id)}?order=${kinds.join(',')}`;
    const answer = (await this.#client.delete(path)) as OrderStatus;
    this.#print(
      answer,
      answer.lifted ? `${id} has no order any more: ${answer.lifted} has ended` : `${id} had no order`,
    );
  }

  async #follow(id: string, given: OrderStatus): Promise<boolean> {
    const { pause, interrupted } = this.#deps;
    const screen = new DrainScreen(id, this.#deps, this.#json);
    let stopped = false;
    const stop = interrupted().then(() => {
      stopped = true;
    });
    let last = given;
    for (let failures = 0; ; ) {
      const status = await this.#poll(id, failures === PATIENT_LOOKS);
      failures = status ? 0 : failures + 1;
      if (status) {
        const end = endOf(id, given, last, status);
        last = status;
        if (end) return screen.end(status, end.words, end.drained);
        screen.show(status);
      }
      await Promise.race([pause(LOOK_MS), stop]);
      if (stopped) return screen.end(last, `the drain of ${id} goes on; sipfarm resume ${id} ends it`, false);
    }
  }

  /** Returns the state of the order. Without an answer it returns undefined, or rejects if `last` is set. */
  async #poll(id: string, last: boolean): Promise<OrderStatus | undefined> {
    try {
      return (await this.#client.get(`/v1/orders/${encodeURIComponent(id)}`)) as OrderStatus;
    } catch (error) {
      if (last || !(error instanceof SipfarmError)) throw error;
      return undefined;
    }
  }

  #print(answer: unknown, words: string): void {
    this.#deps.out(this.#json ? JSON.stringify(answer) : printable(words));
  }
}

interface End {
  readonly words: string;
  readonly drained: boolean;
}

/** Returns how the drain has ended; undefined while it goes on. */
function endOf(id: string, given: OrderStatus, before: OrderStatus, now: OrderStatus): End | undefined {
  const { order, alive, progress } = now;
  if (order?.order !== 'drain' || order.since !== given.order?.since)
    return { words: `another order has ended the drain of ${id}: ${order?.order ?? 'resume'}`, drained: false };
  if (!alive && !before.alive) return { words: `${id} is not in the farm: it has no calls`, drained: true };
  const reported = progress ?? before.progress;
  if (!alive && !reported) return { words: `${id} left the farm before it reported its calls`, drained: false };
  const left = reported?.calls ?? 0;
  if (!alive) return { words: `${id} has left the farm, with ${callsOf(left)}`, drained: left === 0 };
  if (progress?.state === 'drained') return { words: `${id} has drained: no calls are left`, drained: true };
  if (progress?.state === 'draining' && progress.leftSeconds === 0)
    return {
      words: `${id} has reached its deadline and keeps ${callsOf(left)}: no other member takes calls`,
      drained: false,
    };
  if (progress?.state !== 'handed-over') return undefined;
  return { words: `${id} has reached its deadline; it hands over ${callsOf(left)}`, drained: left === 0 };
}

function callsOf(count: number): string {
  return count === 1 ? '1 call' : `${count} calls`;
}

/**
 * Shows the progress of a drain. A terminal gets one overwritten line, other outputs a line per change. With --json the
 * output is one line of JSON per poll.
 */
class DrainScreen {
  readonly #id: string;
  readonly #out: OrderDeps['out'];
  readonly #terminal: OrderDeps['terminal'];
  readonly #json: boolean;
  #shown = '';
  #same = 0;

  constructor(id: string, deps: OrderDeps, json: boolean) {
    this.#id = id;
    this.#out = deps.out;
    this.#terminal = json ? undefined : deps.terminal;
    this.#json = json;
  }

  show(status: OrderStatus): void {
    const { progress } = status;
    if (this.#json) {
      this.#out(JSON.stringify(status));
      return;
    }
    const calls = progress ? `${callsOf(progress.calls)} left` : 'order given';
    const oldest = progress && progress.calls > 0 ? `, the oldest ${showDuration(progress.oldestSeconds)}` : '';
    const deadline = progress ? `, ${showDuration(progress.leftSeconds)} to the deadline` : '';
    const line = printable(`${this.#id}: ${calls}${oldest}${deadline}`);
    if (this.#terminal) {
      this.#terminal(CLEAR_LINE + line);
      return;
    }
    this.#same = calls === this.#shown ? this.#same + 1 : 0;
    this.#shown = calls;
    if (this.#same % SAME_LOOKS === 0) this.#out(line);
  }

  end(status: OrderStatus, words: string, drained: boolean): boolean {
    this.#terminal?.(CLEAR_LINE);
    this.#out(this.#json ? JSON.stringify({ ...status, drained, end: words }) : printable(words));
    return drained;
  }
}

function deadline(text: string): number {
  const seconds = parseDuration(text);
  if (seconds !== undefined && seconds <= MAX_DEADLINE_SECONDS) return seconds;
  throw new InvalidArgumentError('a time up to a day is required, like 90s, 10m or 1h30m');
}

/**
 * Adds the commands that give and lift orders. `asking` adds the common options for requests to a member. `commandsFor`
 * is called when a command runs.
 */
export function addOrderCommands<O extends OrderOptions>(
  program: Command,
  asking: (command: Command) => Command,
  commandsFor: (options: O) => OrderCommands,
  onFailed: () => void,
): void {
  const add = (name: string, description: string): Command =>
    asking(program.command(name).description(description).argument('<member>'));
  add('drain', 'drain a member: it takes no new calls; shows progress until its calls have ended')
    .option(
      '--deadline <time>',
      'hand over the remaining calls after this time, like 10m (default: its drain.deadlineSeconds)',
      deadline,
    )
    .option('--no-wait', 'show no progress')
    .action(async (id: string, options: O & DrainOptions) => {
      if (!(await commandsFor(options).drain(id, options))) onFailed();
    });
  add('pause', 'pause a member: it takes no new calls, and nothing else changes').action((id: string, options: O) =>
    commandsFor(options).pause(id),
  );
  add('resume', 'end a drain or pause').action((id: string, options: O) => commandsFor(options).resume(id));
  add('ban', 'take the seat of a member until unban').action((id: string, options: O) => commandsFor(options).ban(id));
  add('unban', 'end a ban').action((id: string, options: O) => commandsFor(options).unban(id));
  add('remove', 'delete the data of a member that will not come back')
    .option('--force', 'also a living member: it comes back under another number')
    .action((id: string, options: O & { readonly force?: boolean }) =>
      commandsFor(options).remove(id, options.force === true),
    );
}
