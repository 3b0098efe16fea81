// The order commands, against an admin server whose member answers as the test sets.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { Registry } from 'prom-client';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import type { Endpoint } from '../../../src/base/endpoint.ts';
import { SipfarmError } from '../../../src/base/errors.ts';
import { makeLog } from '../../../src/base/log.ts';
import { AdminClient } from '../../../src/cli/admin-client.ts';
import { OrderCommands } from '../../../src/cli/orders.ts';
import { type ProgramDeps, runProgram } from '../../../src/cli/program.ts';
import type { DrainProgress } from '../../../src/membership/order.ts';
import type { OrderStatus } from '../../../src/orders/order-status.ts';
import { type FakeApi, newFakeApi } from '../admin/fake-api.ts';

interface Operator {
  readonly api: FakeApi;
  /**
   * Runs a command line; `steps` run one by one where the command waits for its next poll; `terminal` collects the
   * terminal output.
   */
  run(argv: readonly string[], steps?: readonly (() => void)[], terminal?: string[]): Promise<Ran>;
}

interface Ran {
  readonly code: number;
  readonly out: readonly string[];
  readonly err: readonly string[];
}

/** Starts the admin server of a member. */
async function member(t: TestContext): Promise<{ readonly api: FakeApi; readonly bind: Endpoint }> {
  const api = newFakeApi();
  const bind = { address: '127.0.0.1', port: 0 };
  const log = makeLog({ level: 'silent' });
  const server = new AdminServer({ bind, token: undefined, api, registry: new Registry(), log });
  const at = await server.start();
  t.after(() => server.stop());
  return { api, bind: { address: '127.0.0.1', port: at.port } };
}

async function operator(t: TestContext): Promise<Operator> {
  const { api, bind } = await member(t);
  const never = () => Promise.reject(new Error('not asked for'));
  return {
    api,
    run: async (argv, steps = [], terminal) => {
      const out: string[] = [];
      const err: string[] = [];
      const left = [...steps];
      const interrupt = Promise.withResolvers<void>();
      const deps: ProgramDeps = {
        version: '1.2.3',
        environment: {},
        out: (text) => void out.push(text),
        err: (text) => void err.push(text),
        ...{ runNode: never, runDemo: never, runWorker: never, runDoctor: never },
        following: {
          pause: async () => {
            const step = left.shift();
            if (step) step();
            else interrupt.resolve();
            // Ctrl-C comes after the last step.
            if (!step) await new Promise(() => {});
          },
          interrupted: () => interrupt.promise,
          ...(terminal && { terminal: (text: string) => void terminal.push(text) }),
        },
      };
      const code = await runProgram([...argv, '--admin', `127.0.0.1:${bind.port}`], deps);
      return { code, out, err };
    },
  };
}

/** Returns a step in which the member reports the progress of its drain. */
function told(api: FakeApi, more: Partial<DrainProgress>): () => void {
  return () => {
    const { order } = api.status;
    const since = order?.since ?? '';
    const progress = { v: 1, state: 'draining', since, calls: 0, oldestSeconds: 0, leftSeconds: 9, ...more } as const;
    api.status = { ...api.status, progress };
  };
}

function now(api: FakeApi, more: Partial<OrderStatus>): () => void {
  return () => {
    api.status = { ...api.status, ...more };
  };
}

describe('drain', () => {
  test('shows the number and age of the remaining calls, and ends with 0 when there are none', async (t) => {
    const { api, run } = await operator(t);
    const { code, out, err } = await run(
      ['drain', 'fe1', '--deadline', '10m'],
      [
        told(api, { calls: 12, oldestSeconds: 200, leftSeconds: 580 }),
        told(api, { calls: 1, oldestSeconds: 3700, leftSeconds: 60 }),
        told(api, { state: 'drained' }),
      ],
    );
    assert.deepEqual(api.asked, ['drain fe1 600']);
    assert.deepEqual([code, err], [0, []]);
    assert.deepEqual(out, [
      'fe1: order given',
      'fe1: 12 calls left, the oldest 3m20s, 9m40s to the deadline',
      'fe1: 1 call left, the oldest 1h1m40s, 1m to the deadline',
      'fe1 has drained: no calls are left',
    ]);
  });

  test('rewrites one line on a terminal, and prints nothing twice elsewhere', async (t) => {
    const { api, run } = await operator(t);
    const steps = [...Array(5).fill(told(api, { calls: 2, leftSeconds: 9 })), told(api, { state: 'drained' })];
    const lines: string[] = [];
    const live = await run(['drain', 'fe1'], steps, lines);
    assert.deepEqual(live.out, ['fe1 has drained: no calls are left']);
    assert.deepEqual(
      new Set(lines),
      new Set(
        ['fe1: order given', 'fe1: 2 calls left, the oldest 0s, 9s to the deadline', ''].map(
          (line) => `\r\x1b[K${line}`,
        ),
      ),
    );
    const plain = await run(['drain', 'fe1'], steps);
    assert.equal(plain.out.length, 3);
  });

  test('prints a line of JSON for each poll with --json, and nothing for a terminal', async (t) => {
    const { api, run } = await operator(t);
    const lines: string[] = [];
    const { out } = await run(
      ['drain', 'fe1', '--json'],
      [told(api, { calls: 2 }), told(api, { state: 'drained' })],
      lines,
    );
    const looks = out.map((line) => JSON.parse(line) as OrderStatus & { drained?: boolean });
    assert.deepEqual(
      looks.map(({ progress }) => progress?.calls ?? null),
      [null, 2, 0],
    );
    assert.equal(looks.at(-1)?.drained, true);
    assert.deepEqual(lines, []);
  });

  test('ends at the deadline with 1 when calls are left, and with 0 when there are none', async (t) => {
    const { api, run } = await operator(t);
    const some = await run(['drain', 'fe1'], [told(api, { state: 'handed-over', calls: 3 })]);
    assert.deepEqual([some.code, some.out.at(-1)], [1, 'fe1 has reached its deadline; it hands over 3 calls']);
    const none = await run(['drain', 'fe1'], [told(api, { state: 'handed-over' })]);
    assert.equal(none.code, 0);
    const kept = await run(['drain', 'fe1'], [told(api, { calls: 3, leftSeconds: 0 })]);
    assert.deepEqual(
      [kept.code, kept.out.at(-1)],
      [1, 'fe1 has reached its deadline and keeps 3 calls: no other member takes calls'],
    );
  });

  test('tolerates a member that does not answer for a short time, repeatedly, then prints the reason', async (t) => {
    const { api, run } = await operator(t);
    const { status } = api.orders;
    const silent = async (): Promise<OrderStatus> => {
      throw new SipfarmError('SF_STORE_UNREACHABLE', 'no answer');
    };
    const silence = (): void => void Object.assign(api.orders, { status: silent });
    const answer = (): void => void Object.assign(api.orders, { status });
    const wait = (): void => {};
    const away = [silence, ...Array(9).fill(wait), answer];
    const patient = await run(['drain', 'fe1'], [...away, ...away, told(api, { state: 'drained' })]);
    assert.equal(patient.code, 0);
    const given = await run(['drain', 'fe1'], [silence, ...Array(20).fill(wait)]);
    assert.equal(given.code, 1);
    assert.match(given.err.join(), /^SF_STORE_UNREACHABLE: answer of http:\/\/127\.0\.0\.1:\d+: no answer$/);
  });

  test('goes on after the operator has stopped the command, and the command prints so', async (t) => {
    const { api, run } = await operator(t);
    const { code, out } = await run(['drain', 'fe1'], [told(api, { calls: 2 })]);
    assert.deepEqual([code, out.at(-1)], [1, 'the drain of fe1 goes on; sipfarm resume fe1 ends it']);
    assert.deepEqual(api.asked, ['drain fe1 -']);
  });

  test('does not wait with --no-wait', async (t) => {
    const { run } = await operator(t);
    const { code, out } = await run(['drain', 'fe1', '--no-wait']);
    assert.deepEqual([code, out], [0, ['fe1 drains; sipfarm resume fe1 ends it']]);
  });

  test('ends when another order comes or the member leaves the farm', async (t) => {
    const { api, run } = await operator(t);
    const resumed = await run(['drain', 'fe1'], [now(api, { order: null })]);
    assert.deepEqual([resumed.code, resumed.out.at(-1)], [1, 'another order has ended the drain of fe1: resume']);
    const left = await run(['drain', 'fe1'], [told(api, { calls: 2 }), now(api, { alive: false })]);
    assert.deepEqual([left.code, left.out.at(-1)], [1, 'fe1 has left the farm, with 2 calls']);
    api.status = { ...api.status, alive: true, progress: null };
    const empty = await run(['drain', 'fe1'], [told(api, {}), now(api, { alive: false })]);
    assert.equal(empty.code, 0);
    api.status = { ...api.status, alive: true, progress: null };
    const unheard = await run(['drain', 'fe1'], [now(api, { alive: false })]);
    assert.deepEqual([unheard.code, unheard.out.at(-1)], [1, 'fe1 left the farm before it reported its calls']);
    api.status = { ...api.status, alive: true };
    const since = '2026-02-02T00:00:00.000Z';
    const other = await run(
      ['drain', 'fe1'],
      [now(api, { order: { v: 1, order: 'drain', since, by: 'fe2' } }), now(api, { alive: false })],
    );
    assert.deepEqual([other.code, other.out.at(-1)], [1, 'another order has ended the drain of fe1: drain']);
    api.status = { ...api.status, alive: false };
    api.status = { ...api.status, progress: null };
    const absent = await run(['drain', 'fe1']);
    assert.deepEqual([absent.code, absent.out.at(-1)], [0, 'fe1 is not in the farm: it has no calls']);
    assert.deepEqual(absent.err, ['warning: fe1 is not in the farm now; the order applies when it joins']);
  });

  test('prints a warning when no other member takes new calls', async (t) => {
    const { api, run } = await operator(t);
    api.status = { ...api.status, othersTakeCalls: false };
    const { err } = await run(['drain', 'fe1', '--no-wait']);
    assert.deepEqual(err, ['warning: no other member takes new calls now; fe1 takes them until another member does']);
    const banned = await run(['ban', 'fe1']);
    assert.deepEqual(banned.err, ['warning: no other member takes new calls now']);
  });
});

test('pause, resume, ban, unban and remove send their own orders', async (t) => {
  const { api, run } = await operator(t);
  const outs: string[] = [];
  for (const argv of [['pause'], ['resume'], ['ban'], ['unban'], ['remove'], ['remove', '--force']])
    outs.push(...(await run([argv[0]!, 'fe1', ...argv.slice(1)])).out);
  assert.deepEqual(api.asked, [
    'pause fe1 -',
    'lift fe1 drain,pause',
    'ban fe1 -',
    'lift fe1 ban',
    'remove fe1 false',
    'remove fe1 true',
  ]);
  assert.equal(outs.length, 6);
  assert.equal(outs[1], 'fe1 has no order any more: pause has ended');
  const json = await run(['pause', 'fe1', '--json']);
  assert.equal((JSON.parse(json.out[0]!) as OrderStatus).order?.order, 'pause');
});

test('an unknown name ends with its code and 1; wrong times and names are wrong usage', async (t) => {
  const { run } = await operator(t);
  for (const command of ['drain', 'pause', 'resume', 'ban', 'unban', 'remove']) {
    const { code, err, out } = await run([command, 'fe7']);
    assert.deepEqual([code, err, out], [1, ['SF_MEMBER_UNKNOWN: there is no member fe7'], []], command);
    assert.equal((await run([command])).code, 2);
  }
  for (const time of ['10', 'm', '-5s', '1.5h', '10m5', '5s10m', '25h', '10 m', '1e2s', ''])
    assert.equal((await run(['drain', 'fe1', '--deadline', time])).code, 2, time);
});

test('members shows orders and members without a seat only when there are some', async (t) => {
  const { api, run } = await operator(t);
  const some = await run(['members']);
  assert.match(some.out[0]!, /VERSION +ORDER\n/);
  assert.match(some.out[0]!, /\nfe9 +- +- +- +gone .* ban$/);
  api.absent = () => [];
  const none = await run(['members']);
  assert.match(none.out[0]!, /VERSION\n/);
});

describe('a drain that is followed', () => {
  const FIRST = '2026-01-01T00:00:00.000Z';
  const state = (of: 'draining' | 'drained' | 'handed-over', calls: number, leftSeconds = 9): Partial<OrderStatus> => ({
    progress: { v: 1, state: of, since: FIRST, calls, oldestSeconds: 0, leftSeconds },
  });
  const order = (kind: 'drain' | 'pause', since: string): Partial<OrderStatus> => ({
    order: { v: 1, order: kind, since, by: 'fe2' },
  });

  /** Follows a drain with one of these changes before each look but the first. `ended`: undefined while it goes on. */
  async function follow(t: TestContext, changes: readonly Partial<OrderStatus>[]) {
    const { api, bind } = await member(t);
    const waits: number[] = [];
    const left = [...changes];
    const interrupt = Promise.withResolvers<void>();
    let stopped = false;
    const pause = async (ms: number): Promise<void> => {
      waits.push(ms);
      const change = left.shift();
      if (change) api.status = { ...api.status, ...change };
      else {
        stopped = true;
        interrupt.resolve();
        await new Promise(() => {});
      }
    };
    const deps = { out: () => {}, err: () => {}, pause, interrupted: () => interrupt.promise };
    const ended = await new OrderCommands(new AdminClient({ bind }), deps, {}).drain('fe1', { wait: true });
    return { ended: stopped ? undefined : ended, waits };
  }

  for (const [title, changes, ended] of [
    ['goes on while calls are left', [state('draining', 2), state('draining', 1)], undefined],
    ['succeeds when no calls are left', [state('draining', 1), state('drained', 0)], true],
    ['succeeds at the deadline without calls', [state('handed-over', 0)], true],
    ['fails at the deadline with calls', [state('handed-over', 1)], false],
    ['fails at the deadline when no other member takes the calls', [state('draining', 1, 0)], false],
    ['succeeds when its member leaves without calls', [state('draining', 0), { alive: false }], true],
    ['fails when its member leaves with calls', [state('draining', 1), { alive: false }], false],
    ['fails when its member leaves before it has reported', [{ alive: false }], false],
    ['fails when the order is lifted', [{ order: null }], false],
    ['fails when another order comes', [order('pause', '2026-01-02T00:00:00.000Z')], false],
    ['fails when another drain comes', [order('drain', '2026-01-02T00:00:00.000Z'), state('drained', 0)], false],
  ] as const)
    test(title, async (t) => assert.equal((await follow(t, changes)).ended, ended));

  test('is looked at once per second, the first time at once', async (t) => {
    const { waits } = await follow(t, [state('draining', 2), state('draining', 2), state('drained', 0)]);
    assert.deepEqual(waits, [1000, 1000, 1000]);
  });
});

test('the name of a member reaches the admin server whole, and no control character of it reaches a terminal', async (t) => {
  const id = 'a/b?c=d%\u001b[2J';
  const { api, bind } = await member(t);
  const named: string[] = [];
  const known = async (name: string): Promise<OrderStatus> => {
    named.push(name);
    return { ...api.status, alive: false, othersTakeCalls: false };
  };
  Object.assign(api.orders, { give: known, lift: known, remove: known });
  const shown: string[] = [];
  const show = (text: string): void => void shown.push(text);
  const never = (): Promise<never> => Promise.reject(new Error('not asked for'));
  const deps = { out: show, err: show, pause: never, interrupted: never };
  const commands = new OrderCommands(new AdminClient({ bind }), deps, {});
  await commands.drain(id, { wait: false });
  await commands.pause(id);
  await commands.ban(id);
  await commands.resume(id);
  await commands.unban(id);
  await commands.remove(id, false);
  assert.deepEqual(named, Array(6).fill(id));
  assert.equal(shown.length, 6 + 3 * 2, 'an answer to each, and two warnings to each given order');
  for (const text of shown) assert.ok(!text.includes('\u001b'), JSON.stringify(text));
});
