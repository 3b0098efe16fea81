// The calls that every balancer must carry: each kind by all transports of the balancer. All kinds run at the same
// time.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { it } from 'node:test';
import { clientAddress, clientAddress6, entrance, entrance6 } from './addresses.ts';
import { type Farm, sumOf } from './farm.ts';
import type { Lab } from './lab.ts';
import { Sipp, type SippOptions, type SippResult } from './sipp.ts';
import { until } from './until.ts';

/**
 * Messages that the client sends in one successful call of each kind. A kind is the name of a scenario, uac-<kind>, and
 * of the called user.
 */
const SENT = { invite: 5, cancel: 3, reject: 2, auth: 5, prack: 4, hangup: 3, subscribe: 4 } as const;
type Kind = keyof typeof SENT;
const KINDS = Object.keys(SENT) as readonly Kind[];
/**
 * Kinds that each further transport must carry: dialogs from both ends, and CANCEL, which shares only headers with its
 * call.
 */
const FURTHER: readonly Kind[] = ['invite', 'cancel', 'hangup'];

const SAYS: Readonly<Record<Kind, string>> = {
  invite: 'carries calls with re-INVITE and BYE',
  cancel: 'routes a CANCEL to its call, and the ACK of the 487, too',
  reject: 'routes the ACK of an error to the server that sent it',
  auth: 'routes the retry with credentials to the server that sent the challenge',
  prack: 'routes PRACK to the server whose provisional answer it acknowledges',
  hangup: 'routes the BYE of the server to the client',
  subscribe: 'keeps a subscription: NOTIFY to the client, refresh to its server',
};

/**
 * Transport of calls to the balancer. By TCP each call of kind invite has its own connection, those of another kind
 * share one.
 */
export type Way = 'udp' | 'tcp' | 'udp6' | 'tcp6';
const BY: Readonly<Record<Way, string>> = {
  udp: 'UDP',
  tcp: 'TCP',
  udp6: 'UDP over IPv6',
  tcp6: 'TCP over IPv6',
};
export const ALL_WAYS: readonly Way[] = ['udp', 'tcp', 'udp6', 'tcp6'];

export interface SuiteOptions {
  /** Transports; the first carries all kinds. */
  readonly ways: readonly Way[];
  /** `calls`: calls of kind invite by the first transport. `others`: calls of each other kind and transport. */
  readonly calls: number;
  readonly others: number;
  /** Seconds in which all calls of a kind begin, at equal intervals. */
  readonly seconds: number;
  /** True: clients use rport (RFC 3581), which a proxy with its own ports needs. */
  readonly rport?: boolean;
}

interface Run {
  readonly kind: Kind;
  readonly calls: number;
  readonly result: SippResult;
}

/** Result of a suite. */
export interface Outcome {
  readonly farm: Farm;
  /** Runs by name: kind and transport. */
  readonly runs: ReadonlyMap<string, Run>;
  /** Number of calls of all runs together. */
  readonly calls: number;
  /** /metrics of each member, read after the last call. */
  readonly metrics: readonly string[];
  /** Source addresses and ports of packets at the clients, without repetition. */
  readonly sources: readonly string[];
}

/** Asserts that a SIPp made all calls and all succeeded. */
export function assertGood(result: SippResult, calls: number, who: string, farm?: Farm): void {
  const { exit, created, successful, failed, errors } = result;
  const expected = { exit: 0, created: calls, successful: calls, failed: 0 };
  const logs = [...(farm?.servers.keys() ?? [])].map((k) => `\nmember ${k}: ${farm?.logTail(k)}`).join('');
  assert.deepEqual({ exit, created, successful, failed }, expected, `${who}: ${errors}${logs}`);
}

/**
 * Asserts that the SIP servers behind the members had that many calls together, each once, and none failed. Returns the
 * number of calls of each server.
 */
export async function eachCallOnce(farm: Farm, calls: number): Promise<number[]> {
  const results = (): SippResult[] => [...farm.servers.values()].map((server) => server.result());
  const sum = (of: (result: SippResult) => number): number =>
    results().reduce((total, result) => total + of(result), 0);
  await until(
    () => sum(({ created }) => created) === calls && sum(({ successful }) => successful) === calls,
    () => `the servers had other calls than ${calls} good ones: ${JSON.stringify(results(), null, 1)}`,
  );
  assert.equal(
    sum(({ failed }) => failed),
    0,
  );
  return results().map(({ created }) => created);
}

/** Writes the scenario with rport in its Via headers (RFC 3581); returns its path for `Sipp.start`. */
function withRport(lab: Lab, scenario: string): string {
  const folder = join(import.meta.dirname, 'scenarios');
  const text = readFileSync(join(folder, `${scenario}.xml`), 'utf8');
  const path = join(lab.dir, `${scenario}-rport`);
  writeFileSync(`${path}.xml`, text.replaceAll(/branch=\[branch(?:-\d)?\]/g, '$&;rport'));
  return relative(folder, path);
}

/** Starts a client of the laboratory that calls through the balancer; `i` selects its address, 0 to 19. */
export function client(lab: Lab, i: number, options: Partial<SippOptions> & Pick<SippOptions, 'name'>): Sipp {
  const to = { remote: `${entrance(lab.mode)}:5060`, address: clientAddress(i), port: 5060 };
  const plain = { host: 'c', scenario: 'uac-invite', user: 'invite', timeoutSeconds: 50, load: true } as const;
  return Sipp.start(lab, { ...plain, ...to, ...options });
}

const runsOf = (ways: readonly Way[]): readonly { name: string; way: Way; kind: Kind }[] =>
  ways.flatMap((way, i) => (i === 0 ? KINDS : FURTHER).map((kind) => ({ name: `${kind}-${way}`, way, kind })));

/** Makes all calls of a suite. They begin at once and end together. */
export async function runSuite(lab: Lab, farm: Farm, options: SuiteOptions): Promise<Outcome> {
  lab.forgetSources();
  const started = runsOf(options.ways).map(({ name, way, kind }) => {
    const isMain = kind === 'invite' && way === options.ways[0];
    const calls = isMain ? options.calls : options.others;
    const i = KINDS.indexOf(kind);
    const to = way.endsWith('6')
      ? { remote: `[${entrance6(lab.mode)}]:5060`, address: clientAddress6(i) }
      : { remote: `${entrance(lab.mode)}:5060`, address: clientAddress(i) };
    const isStream = way.startsWith('tcp');
    const transport = isStream ? (kind === 'invite' ? 'tn' : 't1') : 'u1';
    const scenario = options.rport && !isStream ? withRport(lab, `uac-${kind}`) : `uac-${kind}`;
    const rate = Math.max(1, Math.round(calls / options.seconds));
    // 180 and 200 of these calls may overtake each other. All other kinds are strict: one unexpected message fails the
    // call.
    const load = kind === 'invite';
    const run = client(lab, i, { name, scenario, user: kind, calls, rate, pauseMs: 300, load, transport, ...to });
    return { name, kind, calls, done: run.done };
  });
  const runs = new Map<string, Run>();
  for (const { name, kind, calls, done } of started) runs.set(name, { kind, calls, result: await done });
  const calls = started.reduce((sum, run) => sum + run.calls, 0);
  return { farm, runs, calls, metrics: await farm.metrics(), sources: [...lab.sources().keys()] };
}

/**
 * Adds one test for each kind and transport of a suite, then tests of all calls together. The farm must have carried no
 * other calls.
 */
export function itCarries(ways: readonly Way[], outcome: () => Outcome): void {
  for (const { name, way, kind } of runsOf(ways)) {
    it(`${SAYS[kind]} by ${BY[way]}`, () => {
      const { runs, farm } = outcome();
      const { result, calls } = runs.get(name)!;
      assertGood(result, calls, name, farm);
    });
  }

  const sum = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
    outcome().metrics.reduce((total, text) => total + sumOf(text, `sipfarm_${name}`, labels), 0);

  it('sends to the client only from the address that the client uses', () => {
    const { farm, sources } = outcome();
    const { mode } = farm.lab;
    const allowed = [
      ...(ways.some((way) => !way.endsWith('6')) ? [`${entrance(mode)}:5060`] : []),
      ...(ways.some((way) => way.endsWith('6')) ? [`${entrance6(mode)}:5060`] : []),
    ];
    assert.deepEqual([...sources].sort(), allowed.sort());
  });

  it('relays the share of packets that follows from a balancer without regard to owners', (t) => {
    const { runs, calls, metrics } = outcome();
    // Without the probes of the balancer, which are never relayed.
    const received =
      sum('received_packets_total', { class: 'sip' }) - sum('requests_answered_total', { status: '200' });
    const relayed = sum('verdicts_total', { verdict: 'relay' });
    const [inward, outward] = (['in', 'out'] as const).map((direction) => sum('relayed_packets_total', { direction }));
    t.diagnostic(`received ${received}, relayed ${relayed}, frames out ${outward}, in ${inward}`);
    const sent = [...runs.values()].reduce((total, run) => total + SENT[run.kind] * run.calls, 0);
    assert.ok(received >= sent, `received ${received} of ${sent}`);
    const [share, expected] = [relayed / received, 1 - 1 / metrics.length];
    // Five standard deviations, as if each call had only one packet.
    const margin = 2.4 / Math.sqrt(calls);
    assert.ok(share > expected - margin, `${share} is less than ${expected}`);
    // On a busy host a member may look dead for a moment; the new owners of its slots then offer it the packets of
    // unknown calls.
    assert.ok(share < 1, `${share} is far more than ${expected}: packets go from member to member`);
    assert.ok(inward! >= relayed * 0.99, `${inward} frames in for ${relayed} relayed packets`);
  });

  it('finds every token valid', () => {
    assert.equal(sum('forged_tokens_total'), 0);
    assert.equal(sum('verdicts_total', { verdict: 'drop', reason: 'stray-response' }), 0);
  });

  it('routes each call to one member', async (t) => {
    const { farm, calls } = outcome();
    const counts = await eachCallOnce(farm, calls);
    t.diagnostic(`calls by member: ${counts.join(', ')}`);
    for (const count of counts) assert.ok(count > (calls / counts.length) * 0.6, `a member got ${count} of ${calls}`);
  });
}
