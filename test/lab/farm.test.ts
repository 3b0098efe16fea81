// A farm of three members behind balancers of all modes. Stateless: every UDP packet of a client goes to another
// member, every TCP connection to any. With sessions: all packets of one client port go to one member, whichever owns
// the calls.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { clientAddress, type Mode, VIP } from './addresses.ts';
import { FARM, Farm, sumOf } from './farm.ts';
import { startSharedServer } from './kamailio.ts';
import { Lab } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { type PhonesResult, startPhones } from './phones.ts';
import type { SippResult } from './sipp.ts';
import { ALL_WAYS, assertGood, client, eachCallOnce, itCarries, type Outcome, runSuite } from './suite.ts';
import { until } from './until.ts';

/** Upper limit of a set-up or test while the farm works, ms. */
const LIMIT = { timeout: 240_000 };
const NEEDS = [...LAB_TOOLS, 'etcd', 'etcdctl'];
/** 100 calls per second and all other kinds, for the three modes that differ most; the others get fewer calls. */
const FULL = { calls: 1000, others: 50, seconds: 10 };
const SMALL = { calls: 100, others: 20, seconds: 5 };
const SIZES: Partial<Record<Mode, typeof FULL>> = { nat: FULL, dsr: FULL, none: FULL };

for (const mode of ['nat', 'session', 'dsr', 'tunnel', 'none'] as const) {
  describe(`a farm of three in ${mode} mode`, { skip: without(...NEEDS) }, () => {
    let lab: Lab;
    let farm: Farm;
    let outcome: Outcome;

    before(async () => {
      lab = Lab.open(mode);
      farm = await Farm.start(lab);
      const size = SIZES[mode] ?? SMALL;
      outcome = await runSuite(lab, farm, { ways: ALL_WAYS, ...size });
    }, LIMIT);
    after(() => lab?.close());

    itCarries(ALL_WAYS, () => outcome);

    if (mode === 'session') {
      it('sends all packets through the sessions of the balancer', () => assert.equal(lab.outsideSessions(), 0));
    }

    it('has readable JSON in etcd under the documented keys', async () => {
      const { stdout } = await farm.etcdctl('get', '--prefix', '/sipfarm/', '-w', 'json');
      const { kvs } = JSON.parse(stdout) as { kvs: { key: string; value: string }[] };
      const text = (base64: string): string => Buffer.from(base64, 'base64').toString();
      const entries = new Map(kvs.map(({ key, value }) => [text(key), JSON.parse(text(value)) as { epoch?: unknown }]));
      const prefix = `/sipfarm/${FARM}/v1/`;
      const shape =
        /^(?:members|numbers|orders|drains)\/[^/]+$|^calls\/\d+\/(?:mark|(?:pending|dialog)\/-?[0-9a-z]+)$|^view$|^config$/;
      for (const [key, value] of entries) {
        assert.ok(key.startsWith(prefix) && shape.test(key.slice(prefix.length)), key);
        assert.equal(typeof value, 'object', key);
      }
      for (const k of [1, 2, 3]) assert.ok(entries.has(`${prefix}members/m${k}`), `members/m${k}`);
      assert.ok(Number(entries.get(`${prefix}view`)?.epoch) >= 1);
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

  it('carries calls to a phone by the TCP connection of its registration, through any member', () => {
    assertGood(caller, 100, 'caller', farm);
    assert.deepEqual(phones, { answered: 100, ended: 100, faults: [] });
  });

  it('sends to phone and caller only from the VIP', () => assert.deepEqual(sources, [`${VIP}:5060`]));

  it('has phones at several members, so that calls had to pass between members', async () => {
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
    assert.equal(caller.result().exit, null, 'calls run when the member begins to leave');
    await until(
      async () => !(await farm.isReady(2)),
      () => `member 2 is still ready after SIGTERM: ${farm.logTail(2)}`,
    );
    lab.pool([1, 3, 4]);
    assert.equal(await farm.ended(2), 0, farm.logTail(2));
    assertGood(await caller.done, 2000, 'caller', farm);
    const counts = await eachCallOnce(farm, 2000);
    t.diagnostic(`calls by member: ${counts.join(', ')}`);
    for (const count of counts) assert.ok(count > 0);
  });

  it('accepts a killed member again', LIMIT, async (t) => {
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
    await eachCallOnce(farm, 100);
  });
});
