// Programs that cannot work in their farm: the farm does not notice them.
import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { View } from '../../src/ownership/view.ts';
import { FakeEtcd, withoutEtcd } from '../fake/etcd.ts';
import { until } from '../lab/until.ts';
import { Place, type Program, sipfarm } from './program.ts';
import { Phone, SipServer } from './sip-peers.ts';

/** A documentation address (RFC 5737), which no host has. */
const MISSING = '192.0.2.1';

describe('a program that cannot work in the farm', { skip: withoutEtcd(), timeout: 240_000 }, () => {
  let etcd: FakeEtcd;
  const first = new Place();
  const second = new Place();
  const programs: Program[] = [];
  const servers: SipServer[] = [];

  before(async () => {
    etcd = await FakeEtcd.start();
    for (const [here, name] of [
      [first, 'fe1'],
      [second, 'fe2'],
    ] as const) {
      servers.push(await SipServer.start(here.address));
      here.write({ member: name, store: { kind: 'etcd', hosts: [etcd.url] } });
      programs.push(await here.member({ env: first.env }));
    }
    await programs[0]!.until(() => seatsIn(programs[0]!) === 2, 'saw no view of two');
  });
  after(async () => {
    for (const program of programs) await program.close();
    for (const server of servers) await server.stop();
    for (const here of [first, second]) here.remove();
    await etcd.close();
  });

  const seatsIn = (program: Program): number | undefined =>
    program.log.findLast(({ msg }) => msg === 'new view')?.seats?.length;
  const view = async (): Promise<View> => (JSON.parse((await first.get('/v1/view')).body) as { view: View }).view;

  /** Runs `what` while calls are made. Asserts that the view stays the same and no call fails. */
  async function unnoticed(t: TestContext, what: () => Promise<void>): Promise<void> {
    const before = await view();
    const phone = await Phone.udp(first.address, first.client);
    t.after(() => phone.close());
    let over = false;
    const calling = (async () => {
      let made = 0;
      for (; !over; made++) assert.equal(await (await phone.call()).hangUp(), 200);
      return made;
    })();
    await what().finally(() => {
      over = true;
    });
    assert.ok((await calling) > 0);
    await until(
      async () => (await view()).seats.length === 2,
      () => 'a member is gone',
    );
    const after = await view();
    // A busy host can fence a member. It then joins again with a new incarnation, which makes new views.
    const rejoined = after.seats.some(({ incarnation }, i) => incarnation !== before.seats[i]?.incarnation);
    const shown = ({ epoch, seats, ...rest }: View): object => ({
      ...rest,
      epoch: rejoined ? 0 : epoch,
      seats: seats.map(({ incarnation, ...seat }) => seat),
    });
    assert.deepEqual(shown(after), shown(before));
    const stored = await etcd.ctl('get', '--prefix', '/sipfarm/lab/v1/members/', '--keys-only');
    assert.ok(!stored.includes('fe3'), stored);
    assert.equal(before.seats.length, 2);
  }

  it('because of its key ends with SF_KEY_MISMATCH, which names the members, and exit code 1', async (t) => {
    const here = new Place();
    t.after(() => here.remove());
    here.write({ member: 'fe3', store: { kind: 'etcd', hosts: [etcd.url] } });
    await unnoticed(t, async () => {
      const { code, err } = await here.sipfarm('run');
      assert.equal(code, 1, err);
      assert.match(err, /^SF_KEY_MISMATCH: fe3 \([0-9a-f]{16}\) .*: fe1 \([0-9a-f]{16}\), fe2 \([0-9a-f]{16}\)\. /);
    });
  });

  it('because the host lacks a listener address ends six times with SF_BIND_FAILED and exit code 1', async (t) => {
    const here = new Place();
    t.after(() => here.remove());
    const listeners = [{ name: 'vip', transport: 'udp', bind: `${MISSING}:5060` }];
    here.write({ member: 'fe3', store: { kind: 'etcd', hosts: [etcd.url] }, listeners });
    await unnoticed(t, async () => {
      for (let i = 0; i < 6; i++) {
        const { code, err } = await sipfarm(['run', '-c', here.file], { env: first.env });
        assert.equal(code, 1, err);
        assert.match(err, /^SF_BIND_FAILED: listener vip: cannot bind udp 192\.0\.2\.1:5060: EADDRNOTAVAIL/);
      }
    });
  });
});
