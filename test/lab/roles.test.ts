// Four nodes, two of them in the farm. One is disabled, and one has role relay: a SIP server behind it makes calls
// through the members.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { clientAddress, entrance, VIP } from './addresses.ts';
import { Farm, type LabConfig, sumOf } from './farm.ts';
import { Lab } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { Sipp, type SippResult } from './sipp.ts';
import { assertGood } from './suite.ts';
import { until } from './until.ts';

const CALLS = 50;
const MEMBERS = [1, 2] as const;
const DISABLED = 3;
const RELAY = 4;
/**
 * Users that the server behind the relay node calls. The callee of the first kind sends requests in the dialog, so that
 * kind uses the server's own port.
 */
const KINDS = ['hangup', 'invite'] as const;
/** Upper limit of the set-up, ms. */
const LIMIT = { timeout: 240_000 };

function roleOf(k: number, config: LabConfig): object {
  if (k === DISABLED) return { ...config, role: 'disabled' };
  if (k !== RELAY) return config;
  // Its SIP server is replaced during the test.
  const { service, ...rest } = config;
  return { ...rest, role: 'auto', listeners: [], service: { ...(service as object), health: { method: 'none' } } };
}

describe('a farm of two with a disabled node and one of role relay', {
  skip: without(...LAB_TOOLS, 'etcd', 'etcdctl'),
}, () => {
  let lab: Lab;
  let farm: Farm;
  let callee: Sipp;
  let inward: SippResult;
  const outward = new Map<string, SippResult>();
  let sources: string[] = [];
  let metrics: string[] = [];

  before(async () => {
    lab = Lab.open('nat', MEMBERS);
    farm = await Farm.start(lab, { members: [...MEMBERS, DISABLED, RELAY], counted: MEMBERS.length, adjust: roleOf });
    callee = Sipp.start(lab, {
      name: 'callee',
      host: 'c',
      scenario: 'uas',
      address: clientAddress(5),
      port: 5060,
      trace: true,
    });
    const caller = {
      host: 'c',
      scenario: 'uac-invite',
      user: 'invite',
      calls: CALLS,
      rate: 50,
      // Long enough for the switch of the balancer on a busy machine.
      pauseMs: 5000,
    } as const;
    const to = { address: clientAddress(0), port: 5060, remote: `${entrance('nat')}:5060` };
    const run = Sipp.start(lab, { name: 'caller', ...caller, ...to });
    // Every call has begun at a member; its later requests come in at the disabled node.
    await until(
      () => run.result().created === CALLS,
      () => 'the caller has not begun all calls',
    );
    lab.pool([DISABLED]);
    inward = await run.done;
    lab.pool(MEMBERS);
    await farm.servers.get(RELAY)!.stop();
    lab.forgetSources();
    const server = {
      host: `m${RELAY}`,
      address: '127.0.0.1',
      remote: `${clientAddress(5)}:5060`,
      through: '127.0.0.1:5062',
    } as const;
    const runs = KINDS.map((user, i) => {
      const call = {
        name: `out-${user}`,
        scenario: `uac-${user}`,
        user,
        calls: CALLS,
        rate: 25,
        pauseMs: 100,
        port: 5070 + i,
      };
      return [user, Sipp.start(lab, { ...server, ...call })] as const;
    });
    for (const [user, { done }] of runs) outward.set(user, await done);
    sources = [...lab.sources().keys()];
    metrics = await farm.metrics();
  }, LIMIT);
  after(() => lab?.close());

  it('has only members own calls, and packets that name them pass through the disabled node', () => {
    assertGood(inward, CALLS, 'caller', farm);
    const created = [...farm.servers].sort(([a], [b]) => a - b).map(([, server]) => server.result().created);
    assert.equal(created[0]! + created[1]!, CALLS);
    assert.deepEqual(created.slice(2), [0, 0]);
    const entered = sumOf(metrics[DISABLED - 1]!, 'sipfarm_received_packets_total', { class: 'sip' });
    assert.ok(entered >= 2 * CALLS, `the disabled node has received ${entered} packets`);
  });

  for (const user of KINDS)
    it(`carries the calls of the server behind the relay node to ${user}`, () =>
      assertGood(outward.get(user)!, CALLS, user, farm));

  it('has only the VIP at the callee, as source and in the top Via', () => {
    assert.deepEqual(sources, [`${VIP}:5060`]);
    const invites = callee.messages().match(/^INVITE .*\r?\nVia: .*/gm) ?? [];
    assert.ok(invites.length >= KINDS.length * CALLS, `${invites.length} INVITEs`);
    for (const text of invites) assert.ok(text.includes(`Via: SIP/2.0/UDP ${VIP}:5060;`), text);
  });

  it('has the relay node send through both members', () => {
    const [one, two] = MEMBERS.map((k) =>
      sumOf(metrics[RELAY - 1]!, 'sipfarm_relayed_packets_total', { direction: 'out', peer: `m${k}` }),
    );
    assert.ok(one! > CALLS && two! > CALLS, `${one} and ${two}`);
  });

  it('reports all four nodes, and gives no slot to nodes outside the farm', async () => {
    for (const text of metrics)
      for (const [state, count] of Object.entries({ active: 2, draining: 0, disabled: 1, relay: 1 }))
        assert.equal(sumOf(text, 'sipfarm_members', { state }), count, state);
    const { stdout } = await farm.command(RELAY, 'members');
    assert.match(stdout, /^m3 .* disabled +active +0 +0\.0 %/m);
    assert.match(stdout, /^m4 \(contacted\) .* relay +active +0 +0\.0 %/m);
  });
});
