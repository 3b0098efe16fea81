// A call of a running member whose RTP goes into the kernel and comes back: every packet at both ends, a stranger, a
// re-INVITE, the stop of the member, and its death.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Finding } from '../../src/doctor/finding.ts';
import { Farm, sumOf } from './farm.ts';
import { clientAddress, Lab, memberAddress, SHARED_SERVER, VIP } from './lab.ts';
import { MediaCall } from './media-call.ts';
import { MediaHost } from './media-hosts.ts';
import { PLANS, shell, withMedia } from './media-plans.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

const LIMIT = { timeout: 120_000 };
const PLAN = PLANS['multi-ip']!;
const TABLE = 'sipfarm_media_m1';
const FARM = { address: VIP, port: 5060 };
const CLIENT_SIP = { address: clientAddress(0), port: 5060 };
const SERVER_SIP = { address: SHARED_SERVER, port: 5070 };
const clientPlace = (port: number) => ({ address: clientAddress(0), port });
const serverPlace = (port: number) => ({ address: SHARED_SERVER, port });

describe('the media of a member with media.offload on', { skip: without(...LAB_TOOLS) }, () => {
  let lab: Lab;
  let farm: Farm;
  let client: MediaHost;
  let server: MediaHost;
  let call: MediaCall;

  before(async () => {
    lab = Lab.open('nat', [1]);
    await PLAN.prepare(lab);
    const media = withMedia(PLAN, 'multi-ip', { inside: memberAddress(1), offload: 'on' });
    farm = await Farm.start(lab, {
      ...{ bare: true, members: [] },
      adjust: (k, config) => ({
        ...media(k, config),
        service: {
          ...{ kind: 'upstream', dialogs: 'own', health: { method: 'none' } },
          ...{ server: `sip:${SHARED_SERVER}:5070`, bind: `${memberAddress(1)}:5062` },
        },
        drain: { deadlineSeconds: 1 },
      }),
    });
    [client, server] = await Promise.all([MediaHost.start(lab, 'c'), MediaHost.start(lab, 'k')]);
    await Promise.all([client.bind(CLIENT_SIP), server.bind(SERVER_SIP)]);
  }, LIMIT);
  after(() => lab?.close());

  const nft = async (...args: string[]): Promise<string> => (await lab.run('m1', 'nft', args)).stdout;
  /** Returns source and destination of each path in the kernel. */
  async function arrivals(): Promise<string[]> {
    const listed = await nft('list', 'map', 'inet', TABLE, 'arrivals4');
    return [...listed.matchAll(/(\S+) \. (\d+) \. (\S+) \. (\d+) : /g)].map(
      ([, from, port, at, number]) => `${from}:${port} > ${at}:${number}`,
    );
  }
  /** Returns the number of packets that one way has forwarded. */
  const forwarded = async (way: string): Promise<number> =>
    sumOf((await farm.get(1, '/metrics')).body, 'sipfarm_media_packets_total', { way, outcome: 'forwarded' });

  /** Begins a call with places of its own. */
  async function begin(callId: string, port: number): Promise<MediaCall> {
    const places = { clientSip: CLIENT_SIP, serverSip: SERVER_SIP, farm: FARM };
    const made = new MediaCall({ callId, client, server, ...places });
    await Promise.all([made.caller.move(clientPlace(port)), made.callee.move(serverPlace(port + 1000))]);
    await made.invite();
    return made;
  }

  /** The parties talk until the kernel has both of their paths. */
  async function offloaded({ caller, callee }: MediaCall): Promise<void> {
    const paths = [caller, callee].map(({ places }) => `${places.at(-1)!.address}:${places.at(-1)!.port} > `);
    await until(
      async () => {
        await Promise.all([caller.talk(2), callee.talk(2)]);
        const now = await arrivals();
        return now.length === 2 && paths.every((path) => now.some((each) => each.startsWith(path)));
      },
      () => `the media is not in the kernel: ${farm.logTail(1)}`,
      40,
    );
  }

  it('does not start on a host that does not forward, and starts after the commands of the doctor', LIMIT, async () => {
    await assert.rejects(farm.startMember(1), /SF_MEDIA_OFFLOAD.*net\/ipv4\/conf\/eth0\/forwarding is not 1/);
    const { stdout } = await farm.command(1, 'doctor', '--json');
    const { findings } = JSON.parse(stdout) as { findings: (Finding & { fix: string[] })[] };
    const found = findings.find(({ code }) => code === 'DR_OFFLOAD_FORWARDING');
    assert.equal(found?.severity, 'fault', stdout);
    // A minimal host has no program sysctl.
    const writes = found.fix.map((line) => line.replace(/^sysctl -w (\S+)=(\S+)$/, 'echo $2 > /proc/sys/$1'));
    await shell(lab, 'm1', writes.map((line) => line.replaceAll(/(?<=sys\/\S*)\./g, '/')).join('\n'));
    await farm.startMember(1);
    assert.match(await nft('list', 'tables'), new RegExp(`^table inet ${TABLE}$`, 'm'));
  });

  it(
    'passes in user space at first, then in the kernel, and no packet is lost, repeated or changed',
    LIMIT,
    async () => {
      call = await begin('one', 6000);
      const { caller, callee } = call;
      assert.equal(caller.to.address, PLAN.place(1).address);
      assert.equal(callee.to.address, memberAddress(1));
      // The server has sent nothing, so its source is not locked.
      await caller.talk(50);
      await callee.hears(caller);
      assert.deepEqual([await forwarded('user'), await arrivals()], [50, []]);

      await offloaded(call);
      await Promise.all([callee.hears(caller), caller.hears(callee)]);
      const user = await forwarded('user');
      await Promise.all([caller.talk(100), callee.talk(100)]);
      await Promise.all([callee.hears(caller), caller.hears(callee)]);
      assert.equal(await forwarded('user'), user, 'all packets have passed in the kernel');
      await until(
        async () => (await forwarded('user')) + (await forwarded('kernel')) === caller.sent + callee.sent,
        () => 'the counters of the kernel are not read',
      );
      const { stdout } = await farm.command(1, 'calls');
      assert.match(stdout, /198\.51\.100\.101:20\d+ for 203\.0\.113\.10:6000 \(kernel\)/);
    },
  );

  it('lets no packet of a stranger pass', LIMIT, async () => {
    const { caller, callee } = call;
    const stranger = { address: clientAddress(7), port: 6666 };
    await client.bind(stranger);
    const header = `\x80\0${'\0'.repeat(10)}`;
    await client.send(stranger, caller.to, ...Array.from({ length: 20 }, (_, i) => `${header}stranger ${i}`));
    await until(
      async () =>
        sumOf((await farm.get(1, '/metrics')).body, 'sipfarm_media_packets_total', { outcome: 'foreign' }) === 20,
      () => 'the packets of the stranger have not reached the socket',
    );
    await caller.talk(10);
    await callee.hears(caller);
  });

  it('follows a re-INVITE to another place: first in user space, then in the kernel', LIMIT, async () => {
    const { caller, callee } = call;
    const before = await forwarded('user');
    await caller.move(clientPlace(6100));
    await call.invite();
    await until(
      async () => !(await arrivals()).some((path) => path.includes(':6000 ')),
      () => 'the old path is in the kernel',
    );
    await caller.talk(1);
    await Promise.all([caller.talk(20), callee.talk(20)]);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
    assert.ok((await forwarded('user')) > before);
    await offloaded(call);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
    const late = await client.received(clientPlace(6100), 0);
    assert.ok(late.length >= 20, 'the new place gets the packets');
  });

  it('leaves no table when the member stops', LIMIT, async () => {
    farm.signal(1, 'SIGTERM');
    assert.equal(await farm.ended(1), 0, farm.logTail(1));
    assert.equal(await nft('list', 'tables'), '');
    const line = lab
      .log('m1')
      .split('\n')
      .find((each) => each.includes('media of a party has ended'));
    const [{ client: one, server: other }] = JSON.parse(line ?? '{}').streams;
    assert.deepEqual([one.packets, other.packets], [call.caller.sent, call.callee.sent]);
  });

  it('passes on after the death of the member, and after its restart with a new table', LIMIT, async () => {
    await farm.startMember(1);
    const handle = async (): Promise<string> =>
      / # handle \d+/.exec(await nft('-a', 'list', 'table', 'inet', TABLE))![0];
    const second = await begin('two', 6200);
    const { caller, callee } = second;
    await offloaded(second);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
    await until(
      async () => JSON.stringify((await farm.get(1, '/v1/calls?limit=10')).body).includes('two'),
      () => 'the call is not recorded',
    );
    farm.signal(1, 'SIGKILL');
    await farm.ended(1);
    const [before, paths] = [await handle(), await arrivals()];
    assert.equal(paths.length, 2);
    await Promise.all([caller.talk(20), callee.talk(20)]);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);

    await farm.startMember(1);
    assert.notEqual(await handle(), before, 'the table is a new one');
    await offloaded(second);
    await Promise.all([callee.hears(caller), caller.hears(callee)]);
  });
});
