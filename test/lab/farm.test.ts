// A farm of three members behind a stateless balancer: every UDP packet of a client goes to another member, every TCP connection to any.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { FARM, Farm, sumOf } from './farm.ts';
import { startSharedServer } from './kamailio.ts';
import { clientAddress, clientAddress6, Lab, type Mode, memberAddress, memberAddress6, VIP, VIP6 } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { type PhonesResult, startPhones } from './phones.ts';
import { Sipp, type SippOptions, type SippResult } from './sipp.ts';
import { until } from './until.ts';

/** What the client sends towards: the VIP, or member 1 when there is no balancer. */
const entrance = (mode: Mode): string => (mode === 'none' ? memberAddress(1) : VIP);
const entrance6 = (mode: Mode): string => (mode === 'none' ? memberAddress6(1) : VIP6);

/** A client in the laboratory; `i` picks its address. */
function client(lab: Lab, i: number, options: Omit<SippOptions, 'host' | 'address' | 'port' | 'remote'>): Sipp {
  const to = { remote: `${entrance(lab.mode)}:5060`, address: clientAddress(i) };
  return Sipp.start(lab, { host: 'c', port: 5060, timeoutSeconds: 50, load: true, ...to, ...options });
}

/** All calls were made and all were good. */
function assertGood(result: SippResult, calls: number, who: string, farm?: Farm): void {
  const { exit, created, successful, failed, errors } = result;
  const expected = { exit: 0, created: calls, successful: calls, failed: 0 };
  const logs = farm ? [1, 2, 3].map((k) => `\nmember ${k}: ${farm.logTail(k)}`).join('') : '';
  assert.deepEqual({ exit, created, successful, failed }, expected, `${who}: ${errors}${logs}`);
}

/** Stops the SIP servers behind the members; together they had each call once, and none failed. */
async function assertEachCallOnce(farm: Farm, calls: number): Promise<SippResult[]> {
  const results = await Promise.all([...farm.servers.values()].map((server) => server.stop()));
  const told = results.map(({ created, successful, failed, errors }) => ({ created, successful, failed, errors }));
  const sum = (of: (result: SippResult) => number): number => results.reduce((total, result) => total + of(result), 0);
  const sums = { created: sum((r) => r.created), successful: sum((r) => r.successful), failed: sum((r) => r.failed) };
  assert.deepEqual(sums, { created: calls, successful: calls, failed: 0 }, JSON.stringify(told, null, 1));
  return results;
}

const KINDS = ['cancel', 'reject', 'auth', 'prack', 'hangup', 'subscribe'] as const;
/** No set-up and no test of these takes longer when the farm works, ms. */
const LIMIT = { timeout: 120_000 };
const NEEDS = [...LAB_TOOLS, 'etcd', 'etcdctl'];

for (const mode of ['nat', 'dsr', 'none'] as const) {
  describe(`a farm of three in ${mode} mode`, { skip: without(...NEEDS) }, () => {
    let lab: Lab;
    let farm: Farm;
    let metrics: string[] = [];
    const results = new Map<string, SippResult>();
    const calls = new Map<string, number>();

    before(async () => {
      lab = Lab.open(mode);
      farm = await Farm.start(lab);
      lab.forgetSources();
      const runs = new Map<string, Sipp>();
      const add = (i: number, name: string, count: number, options: Partial<SippOptions> = {}): void => {
        const rate = count / 10;
        const common = { name, scenario: `uac-${name}`, user: name, calls: count, rate, pauseMs: 300 };
        calls.set(name, count);
        runs.set(name, client(lab, i, { ...common, ...options }));
      };
      add(0, 'invite', 1000);
      for (const [i, kind] of KINDS.entries()) add(i + 1, kind, 50, { load: false });
      add(10, 'tcp-invite', 50, { scenario: 'uac-invite', user: 'invite', transport: 'tn' });
      add(11, 'tcp-hangup', 50, { scenario: 'uac-hangup', user: 'hangup', transport: 't1' });
      const six = { remote: `[${entrance6(mode)}]:5060`, address: clientAddress6(0) };
      add(0, 'ipv6-hangup', 50, { scenario: 'uac-hangup', user: 'hangup', ...six });
      for (const [name, run] of runs) results.set(name, await run.done);
      metrics = await farm.metrics();
    }, LIMIT);
    after(() => lab?.close());

    const good = (name: string): void => assertGood(results.get(name)!, calls.get(name)!, name, farm);
    const sum = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
      metrics.reduce((total, text) => total + sumOf(text, `sipfarm_${name}`, labels), 0);

    it('carries 1,000 calls at 100 a second with re-INVITE and BYE, and none fails', () => good('invite'));
    it('brings a CANCEL to the call it means, and the ACK of the 487 after it', () => good('cancel'));
    it('brings the ACK of an error to the server that sent it', () => good('reject'));
    it('brings the retry with credentials to the server that asked for them', () => good('auth'));
    it('brings PRACK to the server whose provisional answer it acknowledges', () => good('prack'));
    it('brings the BYE of the server to the client', () => good('hangup'));
    it('keeps a subscription: NOTIFY to the client, refresh to the server that holds it', () => good('subscribe'));
    it('carries calls with a TCP connection for each', () => good('tcp-invite'));
    it('sends requests to the client on its TCP connection, whichever member holds it', () => good('tcp-hangup'));
    it('carries calls over IPv6', () => good('ipv6-hangup'));

    it('shows the client no other source than the address it talks to', () => {
      const allowed = new Set([`${entrance(mode)}:5060`, `${entrance6(mode)}:5060`]);
      const strangers = [...lab.sources()].filter(([source]) => !allowed.has(source));
      assert.deepEqual(strangers, []);
      assert.ok(lab.sources().size > 0);
    });

    it('relays what per-packet spraying must give: two of three packets', (t) => {
      const received = sum('received_packets_total', { class: 'sip', listener: 'edge' });
      const relayed = sum('verdicts_total', { verdict: 'relay' });
      const [inward, outward] = (['in', 'out'] as const).map((direction) =>
        sum('relayed_packets_total', { direction }),
      );
      t.diagnostic(`received ${received}, relayed ${relayed}, frames out ${outward}, in ${inward}`);
      // What the clients sent by UDP over IPv4, retransmissions apart. The share of 2/3 has a standard deviation of 0.6 % then.
      assert.ok(received >= 6050, `received ${received}`);
      const share = relayed / sum('received_packets_total', { class: 'sip' });
      assert.ok(share > 0.6 && share < 0.73, `share ${share}`);
      assert.ok(inward! >= relayed * 0.99, `${inward} frames in for ${relayed} relayed packets`);
    });

    it('trusts every token it meets', () => {
      assert.equal(sum('forged_tokens_total'), 0);
      assert.equal(sum('verdicts_total', { verdict: 'drop', reason: 'stray-response' }), 0);
    });

    it('has readable JSON in etcd under the keys an operator expects', async () => {
      const { stdout } = await farm.etcdctl('get', '--prefix', '/sipfarm/', '-w', 'json');
      const { kvs } = JSON.parse(stdout) as { kvs: { key: string; value: string }[] };
      const text = (base64: string): string => Buffer.from(base64, 'base64').toString();
      const entries = new Map(kvs.map(({ key, value }) => [text(key), JSON.parse(text(value)) as { epoch?: unknown }]));
      const prefix = `/sipfarm/${FARM}/v1/`;
      const shape = /^(?:members|numbers|calls|aor|keys|ports)\/[^/]+$|^view$|^config$/;
      for (const [key, value] of entries) {
        assert.ok(key.startsWith(prefix) && shape.test(key.slice(prefix.length)), key);
        assert.equal(typeof value, 'object', key);
      }
      for (const k of [1, 2, 3]) assert.ok(entries.has(`${prefix}members/m${k}`), `members/m${k}`);
      assert.ok(Number(entries.get(`${prefix}view`)?.epoch) >= 1);
    });

    it('gives each call to one member', async (t) => {
      const total = [...calls.values()].reduce((a, b) => a + b);
      const servers = await assertEachCallOnce(farm, total);
      t.diagnostic(`calls by member: ${servers.map(({ created }) => created).join(', ')}`);
      for (const { created } of servers) assert.ok(created > total / 5, `a member got ${created} of ${total}`);
    });
  });
}

describe('a farm with one registrar behind all members', { skip: without(...NEEDS, 'kamailio') }, () => {
  const PHONES = 20;
  let lab: Lab;
  let farm: Farm;
  let phones: PhonesResult;
  let caller: SippResult;
  let sources: string[] = [];

  before(async () => {
    lab = Lab.open('nat');
    await startSharedServer(lab);
    farm = await Farm.start(lab, { shared: true });
    lab.forgetSources();
    const registered = await startPhones(lab, VIP, 5060, clientAddress(1), PHONES);
    const options = {
      name: 'caller',
      scenario: 'uac-user',
      users: registered.users,
      calls: 100,
      rate: 20,
      pauseMs: 300,
    };
    caller = await client(lab, 0, options).done;
    phones = await registered.stop();
    sources = [...lab.sources().keys()];
  }, LIMIT);
  after(() => lab?.close());

  it('brings calls to a phone on the TCP connection it registered by, through whichever member', () => {
    assertGood(caller, 100, 'caller', farm);
    assert.deepEqual(phones, { answered: 100, ended: 100, faults: [] });
  });

  it('shows phone and caller only the VIP', () => assert.deepEqual(sources, [`${VIP}:5060`]));

  it('has phones at several members, so that calls had to cross', async () => {
    const connections = (await farm.metrics()).map((text) =>
      sumOf(text, 'sipfarm_received_packets_total', { listener: 'edge-tcp', class: 'sip' }),
    );
    assert.ok(connections.filter((n) => n > 0).length >= 2, `messages by TCP at the members: ${connections}`);
  });
});

describe('a farm whose members change while calls run', { skip: without(...NEEDS) }, () => {
  it('loses no call when a member joins and another leaves by SIGTERM', LIMIT, async (t) => {
    const lab = Lab.open('nat');
    t.after(() => lab.close());
    const farm = await Farm.start(lab);
    const options = { name: 'caller', scenario: 'uac-invite', user: 'invite', calls: 2000, rate: 100, pauseMs: 1000 };
    const caller = client(lab, 0, options);
    await wait(3000);
    await farm.startMember(4);
    lab.pool([1, 2, 3, 4]);
    await farm.seesMembers(4);
    await wait(4000);
    farm.signal(2, 'SIGTERM');
    await until(
      async () => !(await farm.isReady(2)),
      () => `member 2 is still ready after SIGTERM: ${farm.logTail(2)}`,
    );
    lab.pool([1, 3, 4]);
    assert.equal(await farm.ended(2), 0, farm.logTail(2));
    assert.equal(caller.result().exit, null, 'the member was gone before the calls had ended');
    assertGood(await caller.done, 2000, 'caller', farm);
    const servers = await assertEachCallOnce(farm, 2000);
    t.diagnostic(`calls by member: ${servers.map(({ created }) => created).join(', ')}`);
    for (const { created } of servers) assert.ok(created > 0);
  });

  it('takes a member back that was killed', LIMIT, async (t) => {
    const lab = Lab.open('nat');
    t.after(() => lab.close());
    const farm = await Farm.start(lab);
    farm.signal(3, 'SIGKILL');
    assert.equal(await farm.ended(3), null);
    lab.pool([1, 2]);
    await farm.startMember(3);
    await farm.seesMembers(3);
    lab.pool([1, 2, 3]);
    const options = { name: 'caller', scenario: 'uac-invite', user: 'invite', calls: 100, rate: 50, pauseMs: 100 };
    assertGood(await client(lab, 0, options).done, 100, 'caller', farm);
    await assertEachCallOnce(farm, 100);
  });
});
