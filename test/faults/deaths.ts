// Members that die and hang while calls run: the actions of each case, and its assertions.
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { until } from '../lab/until.ts';
import { fate, type History, phase } from './histories.ts';
import { ANSWERED, type Kind, type Rig } from './rig.ts';

/** The default lease of the members, in seconds. */
const LEASE = 5;

/**
 * Asserts that a member's end at `at` hurt only the calls that it may hurt. No ringing or established call is lost.
 * Calls that had only begun, or that began until the others noticed the death, end normally or are answered in time.
 * All other calls end normally.
 */
export function assertSurvived(rig: Rig, calls: readonly History[], at: number, noticed: number): void {
  const wrong = calls.filter((call) => fate(call) !== 'complete');
  const lost = (which: ReturnType<typeof phase>): History[] => wrong.filter((call) => phase(call, at) === which);
  assert.deepEqual(rig.describe(lost('established')), [], 'established calls were lost');
  assert.deepEqual(rig.describe(lost('ringing')), [], 'ringing calls were lost');
  const inTime = ({ refused, invited }: History): boolean =>
    refused !== undefined && refused.at <= Math.max(at, invited) + ANSWERED * 1000;
  const young = wrong.filter((call) => phase(call, at) === 'trying' || call.invited > at);
  assert.deepEqual(rig.describe(young.filter((call) => !inTime(call))), [], 'calls failed without an answer in time');
  const late = young.filter(({ invited }) => invited > at + noticed * 1000);
  assert.deepEqual(rig.describe(late), [], 'calls failed that began after the member was known to be gone');
}

/**
 * Returns the calls that only one member may ever have begun: those past their begin at `at`, and those that began
 * after `over`.
 */
const settled = (calls: readonly History[], at: number, over: number): History[] =>
  calls.filter((call) => phase(call, at) !== 'trying' && (call.invited <= at || call.invited > over));

export interface Span {
  /** Calls per second. */
  readonly rate: number;
  /** Length of the load; the event comes in the middle. */
  readonly seconds: number;
  readonly kinds?: readonly Kind[];
}

/** A host that died. */
interface Death {
  readonly at: number;
  /** Time at which the host was certainly dead. */
  readonly dead: number;
  /** Seconds until the others used a view without it. */
  readonly noticed: number;
}

async function die(rig: Rig): Promise<Death> {
  const at = Date.now();
  rig.farm.die(2);
  const dead = Date.now();
  return { at, dead, noticed: await rig.noticed(2, at) };
}

export async function assertDeath(
  t: TestContext,
  rig: Rig,
  { at, dead, noticed }: Death,
  calls: readonly History[],
): Promise<void> {
  const phases = (['trying', 'ringing', 'established'] as const).map((each) => {
    const mine = calls.filter((call) => rig.owners().get(call.callId)?.[0] === 2 && phase(call, at) === each);
    return `${each} there ${mine.length}`;
  });
  rig.tell(
    t,
    'host death',
    calls,
    ...phases,
    `noticed after ${noticed.toFixed(2)} s`,
    rig.adoptions(),
    await rig.left(),
  );
  assertSurvived(rig, calls, at, noticed);
  rig.assertOnce(settled(calls, at, dead));
  assert.ok(noticed < LEASE, `noticed after ${noticed} s: by the end of the lease, not by probes`);
}

export async function hostDeath(t: TestContext, rig: Rig, options: Span): Promise<void> {
  const load = rig.load(options);
  await wait((options.seconds * 1000) / 2);
  const death = await die(rig);
  await wait((options.seconds * 1000) / 2);
  const calls = await load.stop();
  await rig.revive(2);
  await assertDeath(t, rig, death, calls);
}

export async function restart(t: TestContext, rig: Rig, options: Span): Promise<void> {
  const load = rig.load(options);
  await wait((options.seconds * 1000) / 2);
  rig.farm.signal(2, 'SIGKILL');
  await rig.farm.ended(2);
  const at = Date.now();
  await rig.farm.startMember(2);
  const took = (Date.now() - at) / 1000;
  await wait((options.seconds * 1000) / 2);
  const calls = await load.stop();
  await rig.whole();
  t.diagnostic(await rig.left());
  rig.assertAllGood(t, `sipfarm killed, back after ${took.toFixed(2)} s`, calls);
}

/** A member that stood still. */
interface Standstill extends Death {
  readonly woke: number;
}

/** Stops the member for some seconds, and waits until it has joined again. */
async function standStill(rig: Rig, seconds: number): Promise<Standstill> {
  const at = Date.now();
  rig.farm.signal(2, 'SIGSTOP');
  const dead = Date.now();
  let noticed = Number.NaN;
  try {
    noticed = await rig.noticed(2, at);
    await wait(seconds * 1000 - (Date.now() - at));
  } finally {
    rig.farm.signal(2, 'SIGCONT');
  }
  const woke = Date.now();
  await until(
    () => rig.logged(2, woke).some(({ msg }) => /^(?:re)?joined/.test(msg)),
    () => `member 2 does not join anew: ${rig.farm.logTail(2)}`,
    30,
  );
  return { at, dead, noticed, woke };
}

export async function assertStandstill(
  t: TestContext,
  rig: Rig,
  { at, dead, noticed, woke }: Standstill,
  calls: readonly History[],
): Promise<void> {
  const seconds = ((woke - at) / 1000).toFixed(1);
  rig.tell(
    t,
    `stopped for ${seconds} s`,
    calls,
    `noticed after ${noticed.toFixed(2)} s`,
    rig.adoptions(),
    await rig.left(),
  );
  rig.assertOnce(settled(calls, at, dead));
  assertSurvived(rig, calls, at, noticed);
}

export async function standstill(t: TestContext, rig: Rig, options: Span): Promise<void> {
  const load = rig.load(options);
  await wait((options.seconds * 1000) / 2);
  const still = await standStill(rig, 2 * LEASE);
  await wait((options.seconds * 1000) / 2);
  const calls = await load.stop();
  await rig.whole();
  await assertStandstill(t, rig, still, calls);
}

export interface Both {
  readonly rig: Rig;
  readonly death: Death;
  readonly still: Standstill;
  /** Calls that the death can have hurt, and the others. */
  readonly before: readonly History[];
  readonly later: readonly History[];
}

/** Under one load, kills a host, starts it again, and then stops its member for some seconds. */
export async function dieAndStandStill(rig: Rig, options: Omit<Span, 'seconds'>): Promise<Both> {
  const load = rig.load(options);
  await wait(2000);
  const death = await die(rig);
  await wait(1000);
  await rig.revive(2);
  const until = Date.now() - 2000;
  const still = await standStill(rig, 4);
  await wait(500);
  const calls = await load.stop();
  const before = calls.filter(({ invited }) => invited < until);
  return { rig, death, still, before, later: calls.filter((call) => !before.includes(call)) };
}

export async function rollingRestart(t: TestContext, rig: Rig, options: { rate: number }): Promise<void> {
  const load = rig.load({ rate: options.rate });
  await wait(2000);
  const took: string[] = [];
  for (const k of rig.members) {
    const at = Date.now();
    rig.farm.signal(k, 'SIGTERM');
    assert.equal(await rig.farm.ended(k), 0, rig.farm.logTail(k));
    took.push(((Date.now() - at) / 1000).toFixed(1));
    await rig.farm.startMember(k);
    await rig.whole();
  }
  const calls = await load.stop();
  rig.assertAllGood(t, `rolling restart, drained in ${took.join(', ')} s`, calls);
}

const UNHEARD: Omit<Kind, 'kind'> = { callee: [20, 500, 20], caller: [10, 10, 10] };
/** Milliseconds for which a call waits at its point, until some seconds after the death. */
const HOLD = 9000;
export const POINTS: Readonly<
  Record<string, { readonly says: string; readonly kind: Omit<Kind, 'kind'>; readonly may?: number }>
> = {
  unheard: {
    says: 'after INVITE, before any answer: the retransmission starts a call at the successor',
    kind: UNHEARD,
  },
  late: {
    says: 'after 100, before any callee got an INVITE: the caller gets 500 within ten seconds',
    kind: { callee: [20, 500, 20], caller: [10, 10, 10] },
    may: 500,
  },
  trying: {
    says: 'after the 100 of the callee: 180 and 200 arrive',
    kind: { callee: [HOLD, 500, 20], caller: [10, 10, 10] },
  },
  ringing: {
    says: 'after 180: the 200 arrives',
    kind: { callee: [20, HOLD, 20], caller: [10, 10, 10] },
  },
  answered: {
    says: 'after 200: the ACK goes to the callee',
    kind: { callee: [20, 20, 20], caller: [HOLD, 10, 10] },
  },
  acked: {
    says: 'after ACK: re-INVITE and BYE go to the callee',
    kind: { callee: [20, 20, 20], caller: [10, HOLD, 10] },
  },
  renewing: {
    says: 'after the re-INVITE: its 200 arrives',
    kind: { callee: [20, 20, HOLD], caller: [10, 10, 10] },
  },
  renewed: {
    says: 'before BYE: the BYE goes to the callee',
    kind: { callee: [20, 20, 20], caller: [10, 10, HOLD] },
  },
};
const CANCELS: readonly Kind[] = [
  { kind: 'cancel', callee: [20, 0, 0], caller: [5000, 0, 0] },
  { kind: 'cancel', callee: [20, 0, 0], caller: [HOLD, 0, 0] },
];

export interface Points {
  readonly at: number;
  readonly calls: readonly History[];
  /** Calls of the dead member. */
  readonly orphans: readonly History[];
  /** The rig. `unheard` calls have no owner before they begin. */
  readonly rig: Rig;
}

/** Starts calls that wait at every point, kills their owner, and lets them go on. */
export async function dieAtEveryPoint(rig: Rig): Promise<Points> {
  const each = 24;
  const held = Object.entries(POINTS).filter(([name]) => name !== 'unheard');
  const kinds = [...held.map(([kind, { kind: how }]) => ({ kind, ...how })), ...CANCELS];
  // All calls of `load` wait at their points when the `unheard` ones begin, whose INVITEs the member has just received.
  const load = rig.load({ kinds, calls: each * kinds.length, rate: 80 });
  await wait(((each * kinds.length) / 80) * 1000 + 800);
  const unheard = rig.load({ kinds: [{ kind: 'unheard', ...UNHEARD }], calls: each, rate: 100 });
  await wait(400);
  const at = Date.now();
  rig.farm.die(2);
  await rig.noticed(2, at);
  await wait(at + ANSWERED * 1000 + HOLD - Date.now());
  const calls = (await Promise.all([load.stop(1000), unheard.stop(1000)])).flat();
  const owners = rig.owners();
  return {
    rig,
    at,
    calls,
    orphans: calls.filter(({ callId, kind }) => kind === 'unheard' || owners.get(callId)?.[0] === 2),
  };
}

/** Asserts the results of the calls that waited at one point. */
export function assertPoint(t: TestContext, { rig, at, calls, orphans }: Points, kind: string): void {
  const mine = orphans.filter((call) => call.kind === kind);
  rig.tell(t, kind, mine);
  assert.ok(mine.length > 0, 'the member that died had none of these');
  const { may } = POINTS[kind] ?? {};
  const isGood = (call: History): boolean => {
    if (may === undefined || !orphans.includes(call)) return fate(call) === 'complete';
    return call.refused?.status === may && call.refused.at <= at + ANSWERED * 1000;
  };
  assert.deepEqual(rig.describe(calls.filter((call) => call.kind === kind && !isGood(call))), []);
}
