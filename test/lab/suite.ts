// The calls that every balancer must carry, in one description: each kind by the ways that the balancer has. All kinds run at the same time.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { it } from 'node:test';
import { clientAddress, clientAddress6, entrance, entrance6 } from './addresses.ts';
import { type Farm, sumOf } from './farm.ts';
import type { Lab } from './lab.ts';
import { Sipp, type SippOptions, type SippResult } from './sipp.ts';
import { until } from './until.ts';

/** Messages that the client sends in one good call of each kind. A kind is the name of a scenario, uac-<kind>, and the user it calls. */
const SENT = { invite: 5, cancel: 3, reject: 2, auth: 5, prack: 4, hangup: 3, subscribe: 4 } as const;
type Kind = keyof typeof SENT;
const KINDS = Object.keys(SENT) as readonly Kind[];
/** What a further way must carry besides the first: dialogs from both ends, and the request that shares nothing with its call but headers. */
const FURTHER: readonly Kind[] = ['invite', 'cancel', 'hangup'];

const SAYS: Readonly<Record<Kind, string>> = {
  invite: 'carries calls with re-INVITE and BYE',
  cancel: 'brings a CANCEL to the call it means, and the ACK of the 487 after it',
  reject: 'brings the ACK of an error to the server that sent it',
  auth: 'brings the retry with credentials to the server that asked for them',
  prack: 'brings PRACK to the server whose provisional answer it acknowledges',
  hangup: 'brings the BYE of the server to the client',
  subscribe: 'keeps a subscription: NOTIFY to the client, refresh to the server that holds it',
};

/** By what calls come to the balancer. By TCP each call of kind invite has a connection of its own, those of another kind share one. */
export type Way = 'udp' | 'tcp' | 'udp6' | 'tcp6';
const BY: Readonly<Record<Way, string>> = {
  udp: 'UDP',
  tcp: 'TCP',
  udp6: 'UDP over IPv6',
  tcp6: 'TCP over IPv6',
};
export const ALL_WAYS: readonly Way[] = ['udp', 'tcp', 'udp6', 'tcp6'];

export interface SuiteOptions {
  /** The first carries all kinds. */
  readonly ways: readonly Way[];
  /** Calls of kind invite by the first way, and of each other kind and way. */
  readonly calls: number;
  readonly others: number;
  /** All calls of a kind begin within this time, evenly spread. */
  readonly seconds: number;
  /** Clients ask for symmetric answers (RFC 3581), as they must towards a proxy that has ports of its own. */
  readonly rport?: boolean;
}

interface Run {
  readonly kind: Kind;
  readonly calls: number;
  readonly result: SippResult;
}

/** What came out of a suite. */
export interface Outcome {
  readonly farm: Farm;
  /** By name of the run: kind and way. */
  readonly runs: ReadonlyMap<string, Run>;
  /** Calls of all runs together. */
  readonly calls: number;
  /** /metrics of each member, read after the last call. */
  readonly metrics: readonly string[];
  /** What the clients saw: source address and port, without repetition. */
  readonly sources: readonly string[];
}

/** All calls of a SIPp were made and all were good. */
export function assertGood(result: SippResult, calls: number, who: string, farm?: Farm): void {
  const { exit, created, successful, failed, errors } = result;
  const expected = { exit: 0, created: calls, successful: calls, failed: 0 };
  const logs = [...(farm?.servers.keys() ?? [])].map((k) => `\nmember ${k}: ${farm?.logTail(k)}`).join('');
  assert.deepEqual({ exit, created, successful, failed }, expected, `${who}: ${errors}${logs}`);
}

/** The SIP servers behind the members have had so many calls together, each once, and none failed. Hands back the calls of each. */
export async function eachCallOnce(farm: Farm, calls: number): Promise<number[]> {
  const results = (): SippResult[] => [...farm.servers.values()].map((server) => server.result());
  const sum = (of: (result: SippResult) => number): number =>
    results().reduce((total, result) => total + of(result), 0);
  await until(
    () => sum(({ created }) => created) === calls && sum(({ successful }) => successful) === calls,
    () => `the servers had other calls than ${calls} good ones: ${JSON.stringify(results(), null, 1)}`,
    10,
  );
  assert.equal(
    sum(({ failed }) => failed),
    0,
  );
  return results().map(({ created }) => created);
}

/** The scenario with rport in its Via headers (RFC 3581), as a path for `Sipp.start`. */
function withRport(lab: Lab, scenario: string): string {
  const folder = join(import.meta.dirname, 'scenarios');
  const text = readFileSync(join(folder, `${scenario}.xml`), 'utf8');
  const path = join(lab.dir, `${scenario}-rport`);
  writeFileSync(`${path}.xml`, text.replaceAll(/branch=\[branch(?:-\d)?\]/g, '$&;rport'));
  return relative(folder, path);
}

/** A client of the laboratory that calls through the balancer; `i` picks its address, 0 to 19. */
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
    // 180 and 200 of a call may overtake each other; all other kinds are strict, so that one message too many fails the call.
    const load = kind === 'invite';
    const run = client(lab, i, { name, scenario, user: kind, calls, rate, pauseMs: 300, load, transport, ...to });
    return { name, kind, calls, done: run.done };
  });
  const runs = new Map<string, Run>();
  for (const { name, kind, calls, done } of started) runs.set(name, { kind, calls, result: await done });
  const calls = started.reduce((sum, run) => sum + run.calls, 0);
  return { farm, runs, calls, metrics: await farm.metrics(), sources: [...lab.sources().keys()] };
}

/** One test for each kind and way of a suite, then those for what is true of all calls together. The farm must have carried no calls but these. */
export function itCarries(ways: readonly Way[], outcome: () => Outcome): void {
  for (const { name, way, kind } of runsOf(ways)) {
    it(`${SAYS[kind]}, by ${BY[way]}`, () => {
      const { runs, farm } = outcome();
      const { result, calls } = runs.get(name)!;
      assertGood(result, calls, name, farm);
    });
  }

  const sum = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
    outcome().metrics.reduce((total, text) => total + sumOf(text, `sipfarm_${name}`, labels), 0);

  it('shows the client no other source than the address it talks to', () => {
    const { farm, sources } = outcome();
    const { mode } = farm.lab;
    const allowed = [
      ...(ways.some((way) => !way.endsWith('6')) ? [`${entrance(mode)}:5060`] : []),
      ...(ways.some((way) => way.endsWith('6')) ? [`${entrance6(mode)}:5060`] : []),
    ];
    assert.deepEqual([...sources].sort(), allowed.sort());
  });

  it('relays what spreading without regard to owners must give', (t) => {
    const { runs, calls, metrics } = outcome();
    // Without what the balancer itself asks for, which is nobody's to relay.
    const received =
      sum('received_packets_total', { class: 'sip' }) - sum('requests_answered_total', { status: '200' });
    const relayed = sum('verdicts_total', { verdict: 'relay' });
    const [inward, outward] = (['in', 'out'] as const).map((direction) => sum('relayed_packets_total', { direction }));
    t.diagnostic(`received ${received}, relayed ${relayed}, frames out ${outward}, in ${inward}`);
    const sent = [...runs.values()].reduce((total, run) => total + SENT[run.kind] * run.calls, 0);
    assert.ok(received >= sent, `received ${received} of ${sent}`);
    const [share, expected] = [relayed / received, 1 - 1 / metrics.length];
    // Five standard deviations, if each call had but one packet to count.
    const margin = 2.4 / Math.sqrt(calls);
    assert.ok(share > expected - margin, `${share} is less than ${expected}`);
    // On a host that is busy with other things a member may be missed for a moment: what its slots' heirs do not know they offer to it.
    assert.ok(share < 1, `${share} is far more than ${expected}: packets go from member to member`);
    assert.ok(inward! >= relayed * 0.99, `${inward} frames in for ${relayed} relayed packets`);
  });

  it('trusts every token it meets', () => {
    assert.equal(sum('forged_tokens_total'), 0);
    assert.equal(sum('verdicts_total', { verdict: 'drop', reason: 'stray-response' }), 0);
  });

  it('gives each call to one member', async (t) => {
    const { farm, calls } = outcome();
    const counts = await eachCallOnce(farm, calls);
    t.diagnostic(`calls by member: ${counts.join(', ')}`);
    for (const count of counts) assert.ok(count > (calls / counts.length) * 0.6, `a member got ${count} of ${calls}`);
  });
}
