// Common start of all fault cases: a farm whose members have a stateful proxy each, three servers of etcd, a caller and
// a callee that record all messages, and the evaluation.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { clientAddress, VIP } from '../lab/addresses.ts';
import { Farm, type FarmOptions, sumOf } from '../lab/farm.ts';
import { proxyLog } from '../lab/kamailio.ts';
import { Lab } from '../lab/lab.ts';
import { Sipp } from '../lab/sipp.ts';
import { until } from '../lab/until.ts';
import { fate, type History, histories, type Leg, legs, type Sight, sights } from './histories.ts';
import { hasReturned, recordOwners } from './record-owners.ts';

/** Tools that every case needs. */
export const FAULT_TOOLS = ['etcd', 'etcdctl', 'kamailio'] as const;
/** Seconds within which a dead member is noticed. */
export const NOTICED = 2;
/** Seconds within which a caller gets an answer when its call cannot go on. */
export const ANSWERED = 10;
const CALLEE = `${clientAddress(5)}:5060`;

/**
 * A kind of call. `callee`: milliseconds from 100 to 180, from there to 200, and from the re-INVITE to its 200.
 * `caller`: milliseconds before ACK, re-INVITE and BYE.
 */
export interface Kind {
  readonly kind: string;
  readonly callee: readonly [number, number, number];
  readonly caller: readonly [number, number, number];
}

export interface LoadOptions {
  readonly kinds?: readonly Kind[];
  /** Number of calls; by default until `stop`. */
  readonly calls?: number;
  /** Calls per second. */
  readonly rate: number;
}

/**
 * Calls of some seconds that ring for a second, with a re-INVITE: the ordinary load. SIPp handles only the message that
 * it waits for: a lost ACK is repaired during a pause, but not after the next request is sent. So each pause is longer
 * than three retransmissions of a 200 take.
 */
export const LOAD: readonly Kind[] = [
  { kind: 'load', callee: [20, 1000, 20], caller: [10, 4000, 4000] },
  { kind: 'load', callee: [20, 2000, 200], caller: [10, 5000, 6000] },
  { kind: 'load', callee: [200, 700, 20], caller: [200, 4000, 5000] },
];

/** The same, as short as that allows. */
export const SHORT: readonly Kind[] = [
  { kind: 'load', callee: [20, 500, 20], caller: [10, 3700, 3700] },
  { kind: 'load', callee: [100, 900, 100], caller: [200, 3700, 3700] },
];

/** Running calls. */
export interface Load {
  /** Resolves when `calls` have been made and have ended. */
  readonly done: Promise<readonly History[]>;
  /** Starts no more calls, and waits for the end of the running ones, up to `patience` milliseconds. */
  stop(patience?: number): Promise<readonly History[]>;
}

/** Number of messages and events of a failed call in the message of an assertion. */
const TRACED = 30;
/** Longest time before a caller gives up a hanging call, ms. */
const PATIENCE = 45_000;

export class Rig {
  readonly lab: Lab;
  readonly farm: Farm;
  readonly members: readonly number[];

  #loads = 0;
  #closed = false;

  private constructor(lab: Lab, farm: Farm, members: readonly number[]) {
    this.lab = lab;
    this.farm = farm;
    this.members = members;
  }

  static async start(members: readonly number[] = [1, 2, 3], options: Partial<FarmOptions> = {}): Promise<Rig> {
    const lab = Lab.open('nat', members);
    try {
      const adjust: Farm['adjust'] = (_, config) => ({ ...config, log: { level: 'debug' } });
      const farm = await Farm.start(lab, { members, etcd: 3, proxiesTo: CALLEE, adjust, ...options });
      const rig = new Rig(lab, farm, members);
      rig.#startCallee();
      rig.#probe().catch(() => undefined);
      return rig;
    } catch (error) {
      lab.close();
      throw error;
    }
  }

  close(): void {
    this.#closed = true;
    this.lab.close();
  }

  #startCallee(): void {
    const [address = '', port] = CALLEE.split(':');
    const at = { address, port: Number(port) };
    Sipp.start(this.lab, {
      name: 'callee',
      host: 'c',
      scenario: 'uas-long',
      load: true,
      trace: true,
      ...at,
    });
  }

  /** Starts to make calls, of all kinds in turn. */
  load({ kinds = LOAD, calls, rate }: LoadOptions): Load {
    const share = (some: readonly Kind[], of: number): number =>
      Math.max(1, Math.round((of * some.length) / kinds.length));
    const runs = [kinds.filter(({ kind }) => kind !== 'cancel'), kinds.filter(({ kind }) => kind === 'cancel')]
      .filter((some) => some.length > 0)
      .map((some) => this.#run(some, share(some, rate), calls === undefined ? undefined : share(some, calls)));
    const done = Promise.all(runs.map((run) => run.done)).then((parts) => parts.flat());
    return {
      done,
      stop: (patience = PATIENCE) => {
        for (const { sipp } of runs) void sipp.stop(patience);
        return done;
      },
    };
  }

  #run(kinds: readonly Kind[], rate: number, calls: number | undefined): { sipp: Sipp; done: Promise<History[]> } {
    this.#loads += 1;
    const name = `caller-${this.#loads}`;
    const users = join(this.lab.dir, `${name}.csv`);
    const lines = kinds.map(({ kind, callee, caller }) => `${kind}-${callee.join('-')};${caller.join(';')};`);
    writeFileSync(users, `SEQUENTIAL\n${lines.join('\n')}\n`);
    const scenario = kinds[0]?.kind === 'cancel' ? 'uac-late-cancel' : 'uac-long';
    const to = { remote: `${VIP}:5060`, address: clientAddress(0), port: 5060 + this.#loads };
    const count = calls === undefined ? {} : { calls };
    const plain = {
      host: 'c',
      scenario,
      users,
      rate,
      trace: true,
      load: true,
      timeoutSeconds: 600,
    } as const;
    const sipp = Sipp.start(this.lab, { name, ...plain, ...to, ...count });
    const done = sipp.done.then(({ created, errors }) => {
      // A killed SIPp had hanging calls; their results are in the trace.
      assert.ok(calls === undefined ? created > 0 : created === calls, `${name}: ${errors}`);
      return histories(join(this.lab.dir, name, 'messages.log'));
    });
    return { sipp, done };
  }

  /** Returns all calls so far at the callee. */
  legs(): Map<string, Leg> {
    return legs(join(this.lab.dir, 'callee', 'messages.log'));
  }

  /** Returns the members whose proxies began a call, by Call-ID; several when several did. */
  owners(): Map<string, readonly number[]> {
    const owners = new Map<string, number[]>();
    for (const k of this.members)
      for (const [, callId] of this.lab.log(proxyLog(k)).matchAll(/began (\S+)/g))
        owners.set(callId!, [...(owners.get(callId!) ?? []), k]);
    return owners;
  }

  /** Returns the lines of a member's log since a moment (milliseconds of the wall clock). */
  logged(k: number, since = 0): LogLine[] {
    return this.lab
      .log(`m${k}`)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as LogLine)
      .filter(({ time }) => Date.parse(time) >= since);
  }

  /**
   * Checks the readiness of each member every second for the balancer, which sends no packets to unready members. Ends
   * with `close`.
   */
  async #probe(): Promise<void> {
    let before = this.members.join();
    while (!this.#closed) {
      const ready = await Promise.all(this.members.map((k) => this.#isReady(k)));
      const pool = this.members.filter((_, i) => ready[i]);
      if (this.#closed) return;
      // A balancer without a ready member sends to all.
      const next = pool.length > 0 ? pool : this.members;
      if (next.join() !== before) this.lab.pool(next);
      before = next.join();
      await wait(1000);
    }
  }

  async #isReady(k: number): Promise<boolean> {
    const ask = "exec 3<>/dev/tcp/127.0.0.1/8060 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3";
    const { stdout } = await this.lab.run(`m${k}`, 'timeout', ['1', 'bash', '-c', ask]);
    return / 200 /.test(stdout);
  }

  /** Starts a dead host again, and waits until the farm is whole. */
  async revive(k: number): Promise<void> {
    await this.farm.revive(k);
    await this.whole();
  }

  /** Waits until all members are ready and have the same view, and the balancer has checked them. */
  async whole(): Promise<void> {
    await this.farm.seesMembers(this.members.length);
    for (const k of this.members)
      await until(
        () => this.#isReady(k),
        () => `member ${k} is not ready: ${this.farm.logTail(k)}`,
        30,
      );
    await wait(1500);
  }

  /** Returns the number of calls that each member still counts, for the test's output after all calls have ended. */
  async left(): Promise<string> {
    const counts = (await this.farm.metrics()).map((text) => sumOf(text, 'sipfarm_owned_calls'));
    return `still counted by members ${counts.join(', ')}`;
  }

  /** Returns the drops and refusals so far by reason, for the test's output. */
  async drops(): Promise<string> {
    const sums = new Map<string, number>();
    const lines = (await this.farm.metrics()).flatMap((text) => text.split('\n'));
    for (const line of lines) {
      const match =
        /^sipfarm_(?:verdicts_total\{.*verdict="drop"|relay_refused_total\{).*reason="([^"]+)".* (\d+)$/.exec(line);
      if (match && match[2] !== '0') sums.set(match[1]!, (sums.get(match[1]!) ?? 0) + Number(match[2]));
    }
    return `dropped so far: ${[...sums].map(([reason, n]) => `${reason} ${n}`).join(', ') || 'nothing'}`;
  }

  /** Returns the epoch of each member's current view, from its log. */
  epochs(): number[] {
    return this.members.map((k) => this.logged(k).findLast(({ msg }) => msg === 'new view')?.epoch ?? 0);
  }

  /** Returns the seconds from `since` until all other members use a view without member k. */
  async noticed(k: number, since: number): Promise<number> {
    let last = 0;
    for (const other of this.members.filter((each) => each !== k)) {
      const isWithout = ({ msg, seats }: LogLine): boolean =>
        msg === 'new view' && !seats!.some((seat) => seat.startsWith(`m${k} `));
      await until(
        () => this.logged(other, since).some(isWithout),
        () => `member ${other} does not notice that ${k} is gone: ${this.farm.logTail(other)}`,
        15,
      );
      const line = this.logged(other, since).find(isWithout)!;
      last = Math.max(last, (Date.parse(line.time) - since) / 1000);
    }
    return last;
  }

  /** Writes the number of calls by result to the test's output. */
  tell(t: TestContext, what: string, calls: readonly History[], ...more: readonly string[]): void {
    const fates: Record<string, number> = {};
    for (const call of calls) {
      const word = fate(call) === 'refused' ? `refused ${call.refused!.status}` : fate(call);
      fates[word] = (fates[word] ?? 0) + 1;
    }
    t.diagnostic(
      [`${what}: ${calls.length} calls`, ...Object.entries(fates).map(([word, n]) => `${word} ${n}`), ...more].join(
        ', ',
      ),
    );
  }

  /**
   * Asserts that no call failed, that each was begun by one member, and that the callee got each once and saw its end.
   */
  assertAllGood(t: TestContext, what: string, calls: readonly History[]): void {
    this.tell(t, what, calls);
    this.assertOnce(calls);
    assert.deepEqual(this.describe(calls.filter((call) => fate(call) !== 'complete')), []);
  }

  /**
   * Asserts that no call was handled by two members: one proxy began it, the callee got one INVITE, and no member wrote
   * its record after another one.
   */
  assertOnce(calls: readonly History[]): void {
    const owners = this.owners();
    const legs = this.legs();
    const twice = calls.filter(
      ({ callId }) => (owners.get(callId)?.length ?? 0) > 1 || (legs.get(callId)?.branches.size ?? 0) > 1,
    );
    const by = ({ callId }: History): string =>
      `members ${owners.get(callId)}, INVITEs ${[...(legs.get(callId)?.branches ?? [])]}`;
    assert.deepEqual(twice.map((call) => `${call.callId}: ${by(call)}`).slice(0, 5), []);
    const writers = this.writers();
    const taken = calls.filter(({ callId }) => hasReturned(writers.get(callId) ?? []));
    const writersOf = ({ callId }: History): string => `${callId}: records by ${writers.get(callId)}`;
    assert.deepEqual([...taken.map(writersOf).slice(0, 5), ...this.describe(taken)], []);
  }

  /** Returns the members that had the record of each call, by Call-ID (`recordOwners`). */
  writers(): Map<string, number[]> {
    const events = this.members.flatMap((k) =>
      this.logged(k)
        .filter(({ msg, callId }) => callId !== undefined && (msg === 'call record written' || msg === 'call adopted'))
        .map(({ time, tookMs = 0, callId, msg, state }) => {
          const what = msg === 'call adopted' ? 'adopted' : state === 'gone' ? 'deleted' : 'written';
          return { callId, event: { k, at: Date.parse(time) - tookMs, what } as const };
        }),
    );
    const calls = Map.groupBy(events, ({ callId }) => callId!);
    return new Map([...calls].map(([callId, own]) => [callId, recordOwners(own.map(({ event }) => event))]));
  }

  /** Returns the number of adoptions so far by the number of the earlier owner, for the test's output. */
  adoptions(): string {
    const lines = this.members.flatMap((k) => this.logged(k).filter(({ msg }) => msg === 'call adopted'));
    const counts = Map.groupBy(lines, ({ from }) => from);
    return `adopted ${[...counts].map(([from, { length }]) => `${length} of number ${from}`).join(', ') || 'none'}`;
  }

  /** Returns the last messages of a call at both ends, and the events of the members' logs. */
  #trace({ callId, invited }: History): string[] {
    const ends = ['callee', ...Array.from({ length: this.#loads }, (_, i) => `caller-${i + 1}`)];
    const seen: Sight[] = ends.flatMap((end) => sights(join(this.lab.dir, end, 'messages.log'), end, callId));
    for (const k of this.members)
      for (const { time, callId: logged, msg, ...rest } of this.logged(k, invited))
        if (logged === callId)
          seen.push({
            at: Date.parse(time),
            text: `m${k} ${msg} ${rest.record ?? rest.outcome ?? ''} ${rest.state ?? ''}`,
          });
    seen.sort((a, b) => a.at - b.at);
    return seen.slice(-TRACED).map(({ at, text }) => `  +${at - invited} ${text}`);
  }

  /** Returns the first five of `calls` for the message of an assertion; the first two with their trace. */
  describe(calls: readonly History[]): string[] {
    const owners = this.owners();
    return calls.slice(0, 5).flatMap((call, i) => {
      const { callId, kind, refused, faults, invited, finals: _, ...times } = call;
      const since = Object.entries(times).map(([name, at]) => `${name} +${(at as number) - invited}`);
      const wrong = refused ? [`refused ${refused.status} +${refused.at - invited}`] : [];
      const line = [
        `${kind} ${callId} at ${new Date(invited).toISOString()} by ${owners.get(callId) ?? '-'}`,
        ...since,
        ...wrong,
        ...faults,
      ].join(', ');
      return i < 2 ? [line, ...this.#trace(call)] : [line];
    });
  }

  /** Cuts member k off from some servers of etcd, in both directions. */
  cutFromEtcd(k: number, addresses: readonly string[]): void {
    const set = `{ ${addresses.join(', ')} }`;
    this.lab.filter(
      `m${k}`,
      `chain in { type filter hook input priority -10; ip saddr ${set} drop; }
       chain out { type filter hook output priority -10; ip daddr ${set} drop; }`,
    );
  }

  /** Cuts the relay link of member k, in both directions. */
  cutFromPeers(k: number): void {
    this.lab.filter(
      `m${k}`,
      `chain in { type filter hook input priority -10; iifname != "lo" meta l4proto { tcp, udp } th dport 5064 drop; iifname != "lo" meta l4proto { tcp, udp } th sport 5064 drop; }
       chain out { type filter hook output priority -10; oifname != "lo" meta l4proto { tcp, udp } th dport 5064 drop; oifname != "lo" meta l4proto { tcp, udp } th sport 5064 drop; }`,
    );
  }
}

export interface LogLine {
  readonly time: string;
  readonly level: string;
  readonly msg: string;
  readonly epoch?: number;
  readonly seats?: readonly string[];
  readonly callId?: string;
  readonly record?: string;
  readonly outcome?: string;
  readonly state?: string;
  readonly tookMs?: number;
  /** Number of the earlier owner of an adopted call. */
  readonly from?: number;
}
