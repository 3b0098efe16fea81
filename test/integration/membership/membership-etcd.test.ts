// The farm on a real etcd in real time: start, leave, death, and an etcd that stops and comes back.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { systemClock } from '../../../src/base/clock.ts';
import { EtcdStore } from '../../../src/store/etcd-store.ts';
import { FakeEtcd, Wire, withoutEtcd } from '../../fake/etcd.ts';
import { until } from '../../fake/until.ts';
import { Member } from '../../unit/membership/farm.ts';

const LEASE_SECONDS = 2;

describe('membership on etcd', { skip: withoutEtcd(), timeout: 240_000 }, () => {
  let etcd: FakeEtcd;
  let hold: NodeJS.Timeout;
  const members: Member[] = [];
  const wires: Wire[] = [];
  let farms = 0;

  before(async () => {
    hold = setInterval(() => {}, 1000);
    etcd = await FakeEtcd.start();
  });
  afterEach(async () => {
    await Promise.all(members.map((member) => member.membership.leave()));
    await Promise.all(members.splice(0).map((member) => member.store.close()));
    for (const wire of wires.splice(0)) await wire.close();
    farms++;
  });
  after(async () => {
    clearInterval(hold);
    await etcd.close();
  });

  const make = async (id: string): Promise<{ member: Member; wire: Wire }> => {
    const wire = await Wire.to(etcd.port);
    wires.push(wire);
    const store = new EtcdStore({ farm: `f${farms}`, hosts: [wire.url], clock: systemClock });
    const member = new Member(systemClock, store, id, { leaseSeconds: LEASE_SECONDS });
    members.push(member);
    return { member, wire };
  };
  const start = async (...ids: string[]) => {
    const made = await Promise.all(ids.map(make));
    await Promise.all(made.map(({ member }) => member.membership.join()));
    await until(() => made.every(({ member }) => member.view?.seats.length === ids.length));
    return made;
  };

  it('gives one view to five members, and the next when one leaves', async () => {
    const made = await start('fe1', 'fe2', 'fe3', 'fe4', 'fe5');
    const views = made.map(({ member }) => member.view);
    for (const view of views) assert.deepEqual(view, views[0]);
    await made[4]!.member.membership.leave();
    await until(() => made.slice(0, 4).every(({ member }) => member.view?.seats.length === 4));
    const shown = await etcd.ctl('get', '--prefix', `/sipfarm/f${farms}/v1/`);
    const lines = shown.trim().split('\n');
    assert.deepEqual(
      lines.filter((_, i) => i % 2 === 0).map((key) => key.slice(`/sipfarm/f${farms}/v1/`.length).split('/')[0]),
      [...Array(4).fill('members'), ...Array(5).fill('numbers'), 'view'],
    );
    for (const value of lines.filter((_, i) => i % 2 === 1)) assert.equal(JSON.parse(value).v, 1);
  });

  it('isolates a member that is cut off, takes its seat, and gives it back with a new incarnation', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    fe2!.wire.cut();
    await until(() => fe2!.member.membership.isolated);
    assert.equal(fe1!.member.view?.seats.length, 2, 'the seat was gone before its member knew');
    await until(() => fe1!.member.view?.seats.length === 1);
    fe2!.wire.mend();
    await until(() => fe1!.member.view?.seats.length === 2);
    await until(() => !fe2!.member.membership.isolated);
    assert.equal(fe2!.member.membership.given?.incarnation, 2);
    assert.equal(fe1!.member.view?.seats.find((seat) => seat.id === 'fe2')?.incarnation, 2);
  });

  it('keeps view and incarnations when etcd was down for longer than the lease', async () => {
    const made = await start('fe1', 'fe2', 'fe3');
    const before = made[0]!.member.view;
    await etcd.down();
    await until(() => made.every(({ member }) => member.membership.isolated));
    await wait(LEASE_SECONDS * 1000);
    await etcd.up();
    await until(() => made.every(({ member }) => !member.membership.isolated));
    for (const { member } of made) {
      assert.deepEqual(member.view, before);
      assert.deepEqual(member.events, ['isolated', 'rejoined 1']);
    }
  });

  it('lets a killed member come back while its old lease still lasts', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    fe2!.wire.cut();
    await fe2!.member.store.close();
    const { member } = await make('fe2');
    assert.equal((await member.membership.join()).incarnation, 2);
    await until(() => fe1!.member.seats === 'fe1/1 fe2/2' || fe1!.member.seats === 'fe2/2 fe1/1');
  });
});
