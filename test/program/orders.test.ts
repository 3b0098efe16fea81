// Orders in a farm of three processes on a real etcd, by the operators' commands; and a process that stands still.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { AbsentSummary, MemberSummary } from '../../src/admin/status.ts';
import { FakeEtcd } from '../fake/etcd.ts';
import { without } from '../lab/missing.ts';
import { until } from '../lab/until.ts';
import { Place, Program, type Ran } from './program.ts';
import { Phone, SipServer } from './sip-peers.ts';

const LIMIT = { timeout: 240_000, skip: without('etcd', 'etcdctl') };

describe('a farm of three processes', LIMIT, () => {
  const places = [new Place(), new Place(), new Place()] as const;
  const [first, second, third] = places;
  const { env } = first;
  const programs: Program[] = [];
  const servers: SipServer[] = [];
  let etcd: FakeEtcd | undefined;

  /** Runs a command through fe1, for any member. */
  const ask = (...args: readonly string[]): Promise<Ran> => first.sipfarm(...args);
  const members = async (): Promise<(MemberSummary | AbsentSummary)[]> => {
    const { body } = await first.get('/v1/members');
    const { members: seated, absent } = JSON.parse(body) as { members: MemberSummary[]; absent: AbsentSummary[] };
    return [...seated, ...absent];
  };
  const incarnationOf = async (id: string): Promise<number> => {
    const found = (await members()).find((member) => member.id === id);
    return found && 'incarnation' in found ? found.incarnation : 0;
  };
  const memberIs = (id: string, what: (member: { state: string }) => boolean, words: string): Promise<void> =>
    until(
      async () => (await members()).some((member) => member.id === id && what(member)),
      () => `${id} ${words}`,
    );

  before(async () => {
    etcd = await FakeEtcd.start();
    const store = { kind: 'etcd', hosts: [etcd.url] };
    for (const [index, place] of places.entries()) {
      servers.push(await SipServer.start(place.address));
      place.write({ farm: `orders-${process.pid}`, member: `fe${index + 1}`, store });
    }
    programs.push(...(await Promise.all(places.map((place) => place.member({ env })))));
    await until(
      async () => (await members()).length === 3,
      () => 'three seats',
    );
  });
  after(async () => {
    for (const program of programs) await program.close();
    for (const server of servers) await server.stop();
    await etcd?.close();
    for (const place of places) place.remove();
  });

  it('shows the progress of a drain until its call has ended, and resume brings the member back', async () => {
    const caller = await Phone.udp(second.address, second.client);
    const call = await caller.call();
    const { owner } = JSON.parse((await ask('owner', call.id, '--json')).out) as { owner: { id: string } };
    const index = Number(owner.id.slice(2)) - 1;
    const looked = new Program(['drain', owner.id, '--deadline', '5m', '--admin', `${third.address}:8060`]);
    await looked.until(() => /fe\d: 1 call left, the oldest \d+s, [45]m/.test(looked.stdout), 'tells of no call');
    await places[index]!.readyIs(503, programs[index]!);
    looked.kill('SIGINT');
    assert.equal(await looked.ended, 1);
    assert.match(looked.stdout, /the drain of fe\d goes on; sipfarm resume fe\d ends it\n$/);
    const again = new Program(['drain', owner.id, '--admin', `${first.address}:8060`]);
    await again.until(() => again.stdout.includes('1 call left'), 'tells of no call');
    assert.equal(await call.hangUp(), 200);
    assert.equal(await again.ended, 0, again.tail());
    assert.match(again.stdout, /has drained: no calls are left\n$/);
    assert.equal((await ask('resume', owner.id)).code, 0);
    await places[index]!.readyIs(200, programs[index]!);
    caller.close();
  });

  it('takes the seat of a banned member, whose process logs it, and gives it back after unban', async () => {
    const { code, out } = await ask('ban', 'fe2');
    assert.deepEqual([code, out], [0, 'fe2 has no seat from now on; sipfarm unban fe2 ends it\n']);
    await programs[1]!.line('an operator has banned this member');
    await memberIs('fe2', ({ state }) => state === 'banned', 'is banned');
    await second.readyIs(503, programs[1]!);
    assert.equal((await ask('resume', 'fe2')).err.split(':')[0], 'SF_ORDER_REFUSED');
    assert.equal((await ask('unban', 'fe2')).code, 0);
    await second.readyIs(200, programs[1]!);
  });

  it('has taken the seat of a process that stood still for seconds and returns with a new incarnation', async () => {
    const sleeper = programs[2]!;
    const incarnation = await incarnationOf('fe3');
    sleeper.kill('SIGSTOP');
    await until(
      async () => (await incarnationOf('fe3')) === 0,
      () => 'fe3 has lost its seat',
    );
    sleeper.kill('SIGCONT');
    await sleeper.line('this process stood still');
    await sleeper.line('this member has lost its seat');
    await sleeper.line('no longer fenced');
    await until(
      async () => (await incarnationOf('fe3')) > incarnation,
      () => 'fe3 is back',
    );
    await third.readyIs(200, sleeper);
  });

  it('refuses to remove a living member, and names the members when the name is unknown', async () => {
    assert.match((await ask('remove', 'fe3')).err, /^SF_ORDER_REFUSED: fe3 lives/);
    assert.match((await ask('remove', 'fe9')).err, /^SF_MEMBER_UNKNOWN: there is no member "fe9"; the members are: fe/);
  });
});
