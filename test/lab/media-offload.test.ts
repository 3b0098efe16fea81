// A call of a running member whose RTP goes into the kernel and comes back: every packet at both ends, in each address
// plan; a stranger, a re-INVITE, the stop of the member, and its death.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Finding } from '../../src/doctor/finding.ts';
import { type Farm, sumOf } from './farm.ts';
import { clientAddress, Lab, memberAddress, SHARED_SERVER, VIP } from './lab.ts';
import { MediaCall } from './media-call.ts';
import { MediaHost } from './media-hosts.ts';
import { FORWARD, PLANS, type Plan, shell, startWithPlan, withMedia } from './media-plans.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

const LIMIT = { timeout: 240_000 };
const TABLE = 'sipfarm_media_m1';
const FARM = { address: VIP, port: 5060 };
const CLIENT_SIP = { address: clientAddress(0), port: 5060 };
const SERVER_SIP = { address: SHARED_SERVER, port: 5070 };
const clientPlace = (port: number) => ({ address: clientAddress(0), port });
const serverPlace = (port: number) => ({ address: SHARED_SERVER, port });

/** A farm of one member with a plan, its SIP server at another host, and the hosts of the two parties. */
class OffloadFarm {
  readonly lab: Lab;
  readonly plan: Plan;
  farm!: Farm;
  client!: MediaHost;
  server!: MediaHost;

  constructor(name: string) {
    this.plan = PLANS[name]!;
    this.lab = Lab.open(this.plan.mode, [1]);
  }

  /** Starts the hosts of the parties, and `members`. */
  async start(name: string, members: readonly number[]): Promise<void> {
    const { lab, plan } = this;
    await plan.prepare(lab);
    const media = withMedia(plan, name, { inside: memberAddress(1), offload: 'on' });
    const adjust = (k: number, config: object): object => ({
      ...media(k, config),
      service: {
        ...{ kind: 'upstream', dialogs: 'own', health: { method: 'none' } },
        ...{ server: `sip:${SHARED_SERVER}:5070`, bind: `${memberAddress(1)}:5062` },
      },
      drain: { deadlineSeconds: 1 },
    });
    this.farm = await startWithPlan(lab, plan, adjust, members);
    [this.client, this.server] = await Promise.all([MediaHost.start(lab, 'c'), MediaHost.start(lab, 'k')]);
    await Promise.all([this.client.bind(CLIENT_SIP), this.server.bind(SERVER_SIP)]);
  }

  async nft(...args: string[]): Promise<string> {
    return (await this.lab.run('m1', 'nft', args)).stdout;
  }

  /** Returns source and destination of each path in the kernel. */
  async arrivals(): Promise<string[]> {
    const listed = await this.nft('list', 'map', 'inet', TABLE, 'arrivals4');
    return [...listed.matchAll(/(\S+) \. (\d+) \. (\S+) \. (\d+) : /g)].map(
      ([, from, port, at, number]) => `${from}:${port} > ${at}:${number}`,
    );
  }

  /** Returns the number of packets that one way has forwarded. */
  async forwarded(way: string): Promise<number> {
    const text = (await this.farm.get(1, '/metrics')).body;
    return sumOf(text, 'sipfarm_media_packets_total', { way, outcome: 'forwarded' });
  }

  /** Begins a call with places of its own. */
  async begin(callId: string, port: number): Promise<MediaCall> {
    const places = { clientSip: CLIENT_SIP, serverSip: SERVER_SIP, farm: FARM };
    const made = new MediaCall({ callId, client: this.client, server: this.server, ...places });
    await Promise.all([made.caller.move(clientPlace(port)), made.callee.move(serverPlace(port + 1000))]);
    await made.invite();
    return made;
  }

  /** The parties talk until the kernel has both of their paths. */
  async offloaded({ caller, callee }: MediaCall): Promise<void> {
    const paths = [caller, callee].map(({ places }) => `${places.at(-1)!.address}:${places.at(-1)!.port} > `);
    await until(
      async () => {
        await Promise.all([caller.talk(2), callee.talk(2)]);
        const now = await this.arrivals();
        return now.length === 2 && paths.every((path) => now.some((each) => each.startsWith(path)));
      },
      () => `the media is not in the kernel: ${this.farm.logTail(1)}`,
      40,
    );
  }

  /** Both parties send packets, and get each of the other's once. */
  async talk({ caller, callee }: MediaCall, count: number): Promise<void> {
    await Promise.all([caller.talk(count), callee.talk(count)]);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
  }
}

for (const name of ['single-ip', 'direct'])
  it(`in plan ${name} each packet of a call passes in the kernel`, {
    ...LIMIT,
    skip: without(...LAB_TOOLS),
  }, async (t) => {
    const at = new OffloadFarm(name);
    t.after(() => at.lab.close());
    await shell(at.lab, 'm1', FORWARD);
    await at.start(name, [1]);
    const call = await at.begin(name, 6000);
    assert.equal(call.caller.to.address, at.plan.place(1).address);
    await at.offloaded(call);
    await at.talk(call, 1);
    const user = await at.forwarded('user');
    await at.talk(call, 100);
    assert.equal(await at.forwarded('user'), user, 'all packets have passed in the kernel');
  });

describe('the media of a member with media.offload on', { skip: without(...LAB_TOOLS) }, () => {
  let at: OffloadFarm;
  let call: MediaCall;

  before(async () => {
    at = new OffloadFarm('multi-ip');
    await at.start('multi-ip', []);
  }, LIMIT);
  after(() => at?.lab.close());

  it('does not start on a host that does not forward, and starts after the commands of the doctor', LIMIT, async () => {
    await assert.rejects(at.farm.startMember(1), /SF_MEDIA_OFFLOAD.*net\/ipv4\/conf\/eth0\/forwarding is not 1/);
    const { stdout } = await at.farm.command(1, 'doctor', '--json');
    const { findings } = JSON.parse(stdout) as { findings: (Finding & { fix: string[] })[] };
    const found = findings.find(({ code }) => code === 'DR_OFFLOAD_FORWARDING');
    assert.equal(found?.severity, 'fault', stdout);
    // A minimal host has no program sysctl.
    const writes = found.fix.map((line) => line.replace(/^sysctl -w (\S+)=(\S+)$/, 'echo $2 > /proc/sys/$1'));
    await shell(at.lab, 'm1', writes.map((line) => line.replaceAll(/(?<=sys\/\S*)\./g, '/')).join('\n'));
    await at.farm.startMember(1);
    assert.match(await at.nft('list', 'tables'), new RegExp(`^table inet ${TABLE}$`, 'm'));
  });

  it(
    'passes in user space at first, then in the kernel, and no packet is lost, repeated or changed',
    LIMIT,
    async () => {
      call = await at.begin('one', 6000);
      const { caller, callee } = call;
      assert.equal(caller.to.address, at.plan.place(1).address);
      assert.equal(callee.to.address, memberAddress(1));
      // The server has sent nothing, so its source is not locked.
      await caller.talk(50);
      await callee.hears(caller);
      assert.deepEqual([await at.forwarded('user'), await at.arrivals()], [50, []]);

      await at.offloaded(call);
      await Promise.all([callee.hears(caller), caller.hears(callee)]);
      const user = await at.forwarded('user');
      await at.talk(call, 100);
      assert.equal(await at.forwarded('user'), user, 'all packets have passed in the kernel');
      await until(
        async () => (await at.forwarded('user')) + (await at.forwarded('kernel')) === caller.sent + callee.sent,
        () => 'the counters of the kernel are not read',
      );
      const { stdout } = await at.farm.command(1, 'calls');
      assert.match(stdout, /198\.51\.100\.101:20\d+ for 203\.0\.113\.10:6000 \(kernel\)/);
    },
  );

  it('lets no packet of a stranger pass', LIMIT, async () => {
    const { caller, callee } = call;
    const stranger = { address: clientAddress(7), port: 6666 };
    await at.client.bind(stranger);
    const header = `\x80\0${'\0'.repeat(10)}`;
    await at.client.send(stranger, caller.to, ...Array.from({ length: 20 }, (_, i) => `${header}stranger ${i}`));
    await until(
      async () =>
        sumOf((await at.farm.get(1, '/metrics')).body, 'sipfarm_media_packets_total', { outcome: 'foreign' }) === 20,
      () => 'the packets of the stranger have not reached the socket',
    );
    await caller.talk(10);
    await callee.hears(caller);
  });

  it('follows a re-INVITE to another place: first in user space, then in the kernel', LIMIT, async () => {
    const { caller, callee } = call;
    const before = await at.forwarded('user');
    await caller.move(clientPlace(6100));
    await call.invite();
    await until(
      async () => !(await at.arrivals()).some((path) => path.includes(':6000 ')),
      () => 'the old path is in the kernel',
    );
    await caller.talk(1);
    await at.talk(call, 20);
    assert.ok((await at.forwarded('user')) > before);
    await at.offloaded(call);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
    const late = await at.client.received(clientPlace(6100), 0);
    assert.ok(late.length >= 20, 'the new place gets the packets');
  });

  it('leaves no table when the member stops', LIMIT, async () => {
    at.farm.signal(1, 'SIGTERM');
    assert.equal(await at.farm.ended(1), 0, at.farm.logTail(1));
    assert.equal(await at.nft('list', 'tables'), '');
    const line = at.lab
      .log('m1')
      .split('\n')
      .find((each) => each.includes('media of a party has ended'));
    const [{ client: one, server: other }] = JSON.parse(line ?? '{}').streams;
    assert.deepEqual([one.packets, other.packets], [call.caller.sent, call.callee.sent]);
  });

  it('passes on after the death of the member, and after its restart with a new table', LIMIT, async () => {
    await at.farm.startMember(1);
    const handle = async (): Promise<string> =>
      / # handle \d+/.exec(await at.nft('-a', 'list', 'table', 'inet', TABLE))![0];
    const second = await at.begin('two', 6200);
    const { caller, callee } = second;
    await at.offloaded(second);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
    await until(
      async () => JSON.stringify((await at.farm.get(1, '/v1/calls?limit=10')).body).includes('two'),
      () => 'the call is not recorded',
    );
    at.farm.signal(1, 'SIGKILL');
    await at.farm.ended(1);
    const [before, paths] = [await handle(), await at.arrivals()];
    assert.equal(paths.length, 2);
    await at.talk(second, 20);

    await at.farm.startMember(1);
    assert.notEqual(await handle(), before, 'the table is a new one');
    await at.offloaded(second);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
  });
});
