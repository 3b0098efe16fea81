// A farm of members on one memory store and one clock: seats over time, and the right to act.
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { pino } from 'pino';
import { SipfarmError } from '../../../src/base/errors.ts';
import { type MemberRecord, parseMemberRecord } from '../../../src/membership/member-record.ts';
import { Membership } from '../../../src/membership/membership.ts';
import type { OrderKind } from '../../../src/membership/order.ts';
import { generationOf, type View } from '../../../src/ownership/view.ts';
import { MemoryFarm, type MemoryStore } from '../../../src/store/memory-store.ts';
import { FakeClock } from '../../fake/clock.ts';
import { LEASE_SECONDS, Member } from './farm.ts';
import { memberRecord } from './records.ts';

const coded = (code: string) => (error: { code?: string }) => error.code === code;
const SETTLE_MS = 1200;
const LEASE_MS = LEASE_SECONDS * 1000;

describe('membership', () => {
  let clock: FakeClock;
  let farm: MemoryFarm;
  let members: Member<MemoryStore>[];

  beforeEach(() => {
    clock = new FakeClock();
    farm = new MemoryFarm(clock);
    members = [];
  });
  afterEach(async () => {
    farm.up();
    for (const { store, membership } of members) {
      store.heal();
      const left = membership.leave();
      await clock.pass(50);
      await left;
      await store.close();
    }
    await clock.pass(10_000, 100);
    assert.equal(clock.timers, 0, 'a timer is left running');
  });

  const make = (id: string, more?: ConstructorParameters<typeof Member>[3]): Member<MemoryStore> => {
    const member = new Member(clock, farm.open(), id, more);
    members.push(member);
    return member;
  };
  /** Starts members one after the other, so that their numbers rise, but all within the damping time. */
  const start = async (...ids: string[]): Promise<Member<MemoryStore>[]> => {
    const started = ids.map((id) => make(id));
    for (const { membership } of started) {
      const joined = membership.join();
      while (!membership.given) await clock.pass(20);
      await joined;
    }
    await clock.pass(SETTLE_MS, 50);
    return started;
  };
  /** Adds a node of another role to an existing farm. */
  const joinAs = async (id: string, role: 'disabled' | 'relay'): Promise<Member<MemoryStore>> => {
    const member = make(id);
    member.parts = { ...member.parts, role };
    await member.membership.join();
    await clock.pass(SETTLE_MS, 50);
    return member;
  };
  /** Kills the process as SIGKILL does; its lease lasts on. */
  const kill = (member: Member<MemoryStore>): void => {
    member.store.cut();
    members.splice(members.indexOf(member), 1);
    void member.membership.leave();
    void member.store.close();
  };
  const stored = (): View => farm.read('view')?.value as View;

  it('gives one view to all members of a starting farm', async () => {
    const started = await start('fe1', 'fe2', 'fe3', 'fe4', 'fe5');
    for (const member of started) {
      assert.deepEqual(member.view, stored());
      assert.equal(member.membership.isolated, false);
      assert.equal(member.records.length, 5);
    }
    assert.deepEqual(
      stored()
        .seats.map((seat) => seat.id)
        .sort(),
      ['fe1', 'fe2', 'fe3', 'fe4', 'fe5'],
    );
    assert.deepEqual(
      stored().seats.map((seat) => seat.incarnation),
      [1, 1, 1, 1, 1],
    );
    assert.equal(new Set(stored().seats.map((seat) => seat.number)).size, 5);
    assert.ok(stored().epoch <= 3, `${stored().epoch} views for one start`);
  });

  it('gives the lowest free number, and the same number with a higher incarnation after a restart', async () => {
    const [fe1] = await start('fe1');
    const [fe2] = await start('fe2');
    assert.deepEqual(
      [fe1!.membership.given, fe2!.membership.given],
      [
        { number: 1, incarnation: 1 },
        { number: 2, incarnation: 1 },
      ],
    );
    await fe1!.membership.leave();
    await start('fe3');
    const [again] = await start('fe1');
    assert.deepEqual(again!.membership.given, { number: 1, incarnation: 2 });
    assert.equal(fe2!.seats, 'fe1/2 fe2/1 fe3/1');
  });

  it('raises the epoch in each new view at every member', async () => {
    const started = await start('fe1', 'fe2', 'fe3');
    await started[1]!.membership.setState('draining');
    await clock.pass(SETTLE_MS, 50);
    await start('fe4');
    kill(started[2]!);
    await clock.pass(LEASE_MS + SETTLE_MS, 50);
    await start('fe3');
    for (const { views } of members) {
      for (let i = 1; i < views.length; i++) assert.ok(views[i]!.epoch > views[i - 1]!.epoch);
      assert.deepEqual(views.at(-1), stored());
    }
    assert.equal(new Set(members.map((member) => member.view?.seed)).size, 1);
  });

  it('removes a leaving member from the view at once', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    const leaving = fe2!.membership.leave();
    await clock.pass(10);
    await leaving;
    assert.equal(fe1!.seats, 'fe1/1');
    assert.equal(farm.read('members/fe2'), undefined);
    assert.equal(fe2!.membership.isolated, true);
    assert.deepEqual(fe2!.events, []);
  });

  it('leaves an empty view when the last member leaves, and goes on with the next epoch', async () => {
    const [fe1] = await start('fe1');
    const { epoch, seed } = stored();
    await fe1!.membership.leave();
    assert.deepEqual([stored().seats, stored().epoch], [[], epoch + 1]);
    await start('fe2');
    assert.equal(stored().epoch, epoch + 2);
    assert.equal(stored().seed, seed);
  });

  it('removes a dead member when its lease has expired, not before', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    kill(fe2!);
    await clock.pass(2000, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/1');
    await clock.pass(LEASE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1');
    assert.equal(generationOf(stored()).shares.length, 1);
    assert.equal(stored().history[0]?.shares.length, 2);
  });

  it('lets a killed member come back at once, because relay address and machine are the same', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    kill(fe2!);
    await start('fe2');
    assert.equal(fe1!.seats, 'fe1/1 fe2/2');
  });

  it('refuses a member id of another process, after twice the lease', async () => {
    const [fe1] = await start('fe1');
    const second = make('fe1', { host: 'another-machine' });
    const refused = assert.rejects(second.membership.join(), coded('SF_MEMBER_ID_TAKEN'));
    await clock.pass(2 * LEASE_MS - 1000, 100);
    assert.equal(second.membership.given, undefined);
    await clock.pass(3000, 100);
    await refused;
    assert.equal(fe1!.seats, 'fe1/1');
    assert.deepEqual(fe1!.events, []);
  });

  it('lets another machine take over a member id when its lease has expired', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    kill(fe2!);
    const moved = make('fe2', { host: 'another-machine' });
    const joined = moved.membership.join();
    await clock.pass(LEASE_MS + SETTLE_MS + 1000, 50);
    assert.deepEqual(await joined, { number: 2, incarnation: 2 });
    assert.equal(fe1!.seats, 'fe1/1 fe2/2');
  });

  it('leaves a draining member its seat and takes its share', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    await fe2!.membership.setState('draining');
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/1*');
    assert.deepEqual(
      generationOf(stored()).shares.map((share) => share.number),
      [1],
    );
    await fe2!.membership.setState('active');
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/1');
  });

  it('puts a changed record into the view', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    fe2!.parts = { ...fe2!.parts, weight: 50 };
    await fe2!.membership.publish();
    await clock.pass(SETTLE_MS, 50);
    assert.deepEqual(
      fe1!.view?.seats.map((seat) => seat.weight),
      [100, 50],
    );
  });

  it('puts a change during the join into the view, too', async () => {
    const fe1 = make('fe1');
    let now = fe1.parts;
    Object.defineProperty(fe1, 'parts', {
      get() {
        // The change comes after the claim is built and before the store has answered.
        queueMicrotask(() => {
          if (now.weight !== 100) return;
          now = { ...now, weight: 50 };
          void fe1.membership.publish();
        });
        return now;
      },
    });
    const joined = fe1.membership.join();
    while (!fe1.membership.given) await clock.pass(20);
    await joined;
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1.view?.seats[0]?.weight, 50);
  });

  it('gives a node outside the farm a seat without weight that has its role', async () => {
    const [fe1] = await start('fe1');
    const fe2 = await joinAs('fe2', 'disabled');
    const seats = fe1!.view!.seats.map(({ id, weight, role }) => ({ id, weight, role }));
    assert.deepEqual(seats, [
      { id: 'fe1', weight: 100, role: undefined },
      { id: 'fe2', weight: 0, role: 'disabled' },
    ]);
    assert.deepEqual(fe2.view, fe1!.view);
    assert.deepEqual(stored(), fe1!.view);
  });

  it('lets only the lease end the seat of a node outside the farm', async () => {
    const [fe1] = await start('fe1', 'fe2', 'fe3');
    await joinAs('fe4', 'relay');
    fe1!.membership.suspect(new Set([3, 4]));
    await clock.pass(500, 50);
    // The living member may already be back with a new incarnation.
    assert.match(fe1!.seats, /^fe1\/1 fe2\/1 (fe3\/2 )?fe4\/1$/);
  });

  it('does not count nodes outside the farm for a majority', async () => {
    const [fe1] = await start('fe1', 'fe2');
    for (const id of ['fe3', 'fe4', 'fe5']) await joinAs(id, 'disabled');
    fe1!.membership.suspect(new Set([2]));
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/1 fe3/1 fe4/1 fe5/1');
  });

  it('lets no node outside the farm change the view while a member is there', async () => {
    const [fe1] = await start('fe1', 'fe2', 'fe3');
    const fe4 = await joinAs('fe4', 'relay');
    const before = stored();
    fe4.membership.suspect(new Set([1]));
    await clock.pass(SETTLE_MS, 50);
    assert.deepEqual(stored(), before);
    await fe4.membership.leave();
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/1 fe3/1');
  });

  it('lets a node outside the farm write the view while no member is there', async () => {
    const fe1 = await joinAs('fe1', 'relay');
    assert.equal(fe1.seats, 'fe1/1');
    const [fe2] = await start('fe2');
    assert.equal(fe1.seats, 'fe1/1 fe2/1');
    await fe2!.membership.leave();
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1.seats, 'fe1/1');
    assert.equal(stored().epoch, fe1.view!.epoch);
  });

  it('keeps the view while the store is down, and all members go on with it afterwards', async () => {
    const started = await start('fe1', 'fe2', 'fe3');
    const before = stored();
    farm.down();
    await clock.pass(60_000, 100);
    for (const member of started) {
      assert.equal(member.membership.isolated, true);
      assert.deepEqual(member.view, before);
      assert.deepEqual(member.events, ['isolated']);
    }
    farm.up();
    await clock.pass(2 * LEASE_MS, 50);
    assert.deepEqual(stored(), before);
    for (const member of started) {
      assert.equal(member.membership.isolated, false);
      assert.deepEqual(member.events, ['isolated', 'rejoined 1']);
    }
  });

  it('isolates a member without the store before the store ends its lease', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    fe2!.store.cut();
    for (let waited = 0; farm.read('members/fe2') && waited < 2 * LEASE_MS; waited += 10) {
      await clock.pass(10);
      if (fe2!.membership.isolated) break;
    }
    assert.ok(farm.read('members/fe2'), 'the store was faster');
    assert.deepEqual(fe2!.events, ['isolated']);
    await clock.pass(LEASE_MS + SETTLE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1');
    fe2!.store.heal();
    await clock.pass(3000, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/2');
    assert.equal(fe2!.events.at(-1), 'rejoined 2');
    assert.equal(fe2!.membership.isolated, false);
    assert.deepEqual(fe2!.membership.given, { number: 2, incarnation: 2 });
  });

  it('detects the isolation immediately after the process was frozen', async () => {
    const [, fe2] = await start('fe1', 'fe2');
    // The clock has moved, and no timer has run yet, as after SIGSTOP and SIGCONT.
    const now = clock.now.bind(clock);
    clock.now = () => now() + 2 * LEASE_MS;
    const seen = fe2!.membership.isolated;
    clock.now = now;
    assert.equal(seen, true);
    assert.equal(fe2!.membership.isolated, false);
  });

  it('takes the seat of a member that a majority cannot reach, and the member comes back with a new incarnation', async () => {
    const [fe1, fe2, fe3] = await start('fe1', 'fe2', 'fe3');
    const { number } = fe3!.membership.given!;
    fe1!.membership.suspect(new Set([number]));
    fe2!.membership.suspect(new Set([number]));
    await clock.pass(400, 10);
    assert.equal(fe1!.seats.includes('fe3'), false);
    assert.deepEqual(fe3!.events.slice(0, 2), ['seat-lost', 'isolated']);
    await clock.pass(4000, 50);
    assert.equal(fe3!.events.at(-1), 'rejoined 2');
    assert.ok(fe1!.seats.includes('fe3/2'));
    assert.deepEqual(fe3!.view, fe1!.view);
  });

  it('waits longer after each loss of the seat within a minute, and briefly again after it has kept the seat longer', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    const fe3 = make('fe3', { random: () => 0 });
    await fe3.membership.join();
    await clock.pass(SETTLE_MS, 10);
    const judges = [fe1!, fe2!];
    const seated = (): boolean => fe1!.seats.includes(`fe3/${fe3.membership.given?.incarnation}`);
    const untilIt = async (holds: () => boolean): Promise<void> => {
      while (!holds()) await clock.pass(10);
    };
    /**
     * Takes its seat; resolves to the milliseconds until its new claim. `isolated`: it learns of the loss only when it
     * is back at the store.
     */
    const loss = async (isolated = false): Promise<number> => {
      await untilIt(seated);
      const { number, incarnation } = fe3.membership.given!;
      if (isolated) fe3.store.cut();
      for (const { membership } of judges) membership.suspect(new Set([number]));
      await untilIt(() => !seated() && fe3.membership.isolated);
      if (isolated) fe3.store.heal();
      const lostAt = clock.now();
      await untilIt(() => fe3.membership.given!.incarnation > incarnation);
      return clock.now() - lostAt;
    };
    const about = (ms: number, pause: number): void =>
      assert.ok(ms >= pause - 20 && ms <= pause + 100, `${ms}, not ${pause}`);
    for (const pause of [500, 1000, 2000]) about(await loss(), pause);
    about(await loss(true), 4000);
    await untilIt(seated);
    await clock.pass(50_000, 50);
    about(await loss(), 8000);
    await untilIt(seated);
    await clock.pass(61_000, 50);
    about(await loss(), 500);
    for (const { membership } of judges) membership.suspect(new Set());
  });

  describe('keys', () => {
    const [ours, next, theirs] = ['a', 'b', 'c'].map((digit) => digit.repeat(16)) as [string, string, string];
    const withKeys = (id: string, keys: readonly string[] | undefined, more?: Parameters<typeof make>[1]) => {
      const member = make(id, more);
      member.parts = { ...member.parts, ...(keys && { keys }) };
      return member;
    };
    const join = async (id: string, keys: readonly string[] | undefined): Promise<Member<MemoryStore>> => {
      const member = withKeys(id, keys);
      await member.membership.join();
      await clock.pass(SETTLE_MS, 50);
      return member;
    };

    it('without a match among living members keep a member out, which writes nothing and names the others', async () => {
      const fe1 = await join('fe1', [ours]);
      await join('fe2', [ours, next]);
      const before = farm.readAll('');
      const stranger = withKeys('fe3', [theirs]);
      await assert.rejects(stranger.membership.join(), {
        code: 'SF_KEY_MISMATCH',
        message: new RegExp(
          `^fe3 \\(${theirs}\\) has no farm key in common .*fe1 \\(${ours}\\), fe2 \\(${ours}, ${next}\\)`,
        ),
      });
      await clock.pass(SETTLE_MS, 50);
      assert.deepEqual(farm.readAll(''), before);
      assert.equal(fe1.seats, 'fe1/1 fe2/1');
    });

    it('that match one member let a member in, during a rotation or beside older versions', async () => {
      await join('fe1', [ours]);
      await join('fe2', [ours, next]);
      await join('fe3', [next]);
      const fe4 = await join('fe4', undefined);
      assert.equal(fe4.seats, 'fe1/1 fe2/1 fe3/1 fe4/1');
    });

    it('keep no member out that is alone or among members whose records have no keys', async () => {
      await join('fe1', undefined);
      const fe2 = await join('fe2', [theirs]);
      assert.equal(fe2.seats, 'fe1/1 fe2/1');
    });

    it('are compared again at a rejoin: the member stays out with a log line every 30 s, and joins when they match', async () => {
      const lines: string[] = [];
      const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(JSON.parse(line).err.code) });
      const fe1 = await join('fe1', [ours]);
      const fe2 = withKeys('fe2', [ours], { log });
      await fe2.membership.join();
      await clock.pass(SETTLE_MS, 50);
      fe2.parts = { ...fe2.parts, keys: [theirs] };
      fe2.store.cut();
      await clock.pass(LEASE_MS + SETTLE_MS, 50);
      const { epoch } = stored();
      fe2.store.heal();
      await clock.pass(29_000, 100);
      assert.deepEqual([fe1.seats, stored().epoch, lines], ['fe1/1', epoch, ['SF_KEY_MISMATCH']]);
      await clock.pass(3000, 100);
      assert.equal(lines.length, 2);
      fe2.parts = { ...fe2.parts, keys: [ours] };
      await clock.pass(3000, 100);
      assert.equal(fe1.seats, 'fe1/1 fe2/2');
    });
  });

  it('does not give a seat back because one member disagrees with its loss', async () => {
    const [fe1, fe2, fe3, fe4] = await start('fe1', 'fe2', 'fe3', 'fe4');
    const { number } = fe4!.membership.given!;
    fe1!.membership.suspect(new Set([number]));
    await clock.pass(600, 10);
    const { epoch } = fe2!.view!;
    assert.equal(fe2!.seats.includes('fe4/1'), false);
    await clock.pass(5000, 50);
    assert.equal(fe3!.seats.includes('fe4/1'), false);
    assert.ok(stored().epoch <= epoch + 1);
  });

  it('gives no seat back to a sleeping member, even if a newer member without suspects proposes the view', async () => {
    const [fe1, fe2, fe3] = await start('fe1', 'fe2', 'fe3');
    const { number } = fe3!.membership.given!;
    for (const { membership } of [fe1!, fe2!]) membership.suspect(new Set([number]));
    while (fe1!.seats.includes('fe3')) await clock.pass(10);
    fe3!.store.cut();
    const [fe4] = await start('fe4');
    for (const { membership } of [fe1!, fe2!]) membership.suspect(new Set());
    await clock.pass(1000, 10);
    assert.deepEqual([fe1!.seats.includes('fe3'), fe4!.seats.includes('fe3')], [false, false]);
  });

  it('gives a new incarnation to a member that lost its seat during isolation, although its lease still lasted', async () => {
    const [fe1, fe2, fe3] = await start('fe1', 'fe2', 'fe3');
    const cutAt = clock.now();
    fe3!.store.cut();
    while (!fe3!.membership.isolated) await clock.pass(10);
    for (const { membership } of [fe1!, fe2!]) membership.suspect(new Set([fe3!.membership.given!.number]));
    while (fe1!.seats.includes('fe3')) await clock.pass(10);
    assert.ok(clock.now() < cutAt + LEASE_MS, 'the lease has run out: this test shows nothing');
    assert.ok(farm.read('members/fe3'), 'its record lives on: who looks for it finds it');
    fe3!.store.heal();
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe3!.events.at(-1), 'rejoined 2');
    assert.ok(fe1!.seats.includes('fe3/2'));
  });

  it('does not take its seat back from a process that has taken it over', async () => {
    const [old] = await start('fe1');
    const [next] = await start('fe1');
    await clock.pass(60_000, 100);
    assert.equal(stored().seats[0]?.incarnation, 2);
    assert.equal(next!.membership.isolated, false);
    assert.equal(old!.membership.isolated, true);
    assert.deepEqual([old!.events, next!.events], [['seat-lost', 'isolated'], []]);
  });

  it('takes no seat by suspicion in a farm of two, from a majority, or from itself', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    fe1!.membership.suspect(new Set([fe2!.membership.given!.number]));
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1!.view?.seats.length, 2);
    await start('fe3', 'fe4');
    for (const suspects of [[2, 3, 4], [2, 3], [1]]) {
      fe1!.membership.suspect(new Set(suspects));
      await clock.pass(SETTLE_MS, 50);
      assert.equal(fe1!.view?.seats.length, 4);
    }
    assert.deepEqual(fe1!.events, []);
  });

  it('deletes only the record of the suspected incarnation', async () => {
    const [fe1, fe2, fe3] = await start('fe1', 'fe2', 'fe3');
    for (const { membership } of [fe1!, fe2!]) membership.suspect(new Set([3]));
    while (fe3!.events.at(-1) !== 'rejoined 2') await clock.pass(50);
    await fe3!.membership.setState('away');
    await clock.pass(SETTLE_MS, 50);
    await fe1!.membership.setState('draining');
    await clock.pass(SETTLE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1* fe2/1');
    assert.notEqual(farm.read('members/fe3'), undefined);
  });

  it('does not claim again before it has read whether the seat was lost', async () => {
    const [fe1, fe2, fe3] = await start('fe1', 'fe2', 'fe3');
    const get = fe3!.store.get.bind(fe3!.store);
    let mute = true;
    fe3!.store.get = async (key) => {
      if (key === 'view' && mute) throw new SipfarmError('SF_STORE_UNREACHABLE', 'not this key');
      return get(key);
    };
    fe3!.store.cut();
    while (!fe3!.membership.isolated) await clock.pass(10);
    for (const { membership } of [fe1!, fe2!]) membership.suspect(new Set([3]));
    await clock.pass(LEASE_MS, 50);
    fe3!.store.heal();
    await clock.pass(5000, 50);
    assert.equal(fe3!.events.includes('rejoined 2'), false);
    mute = false;
    await clock.pass(5000, 50);
    assert.ok(fe3!.events.includes('seat-lost'));
    assert.equal(fe3!.events.at(-1), 'rejoined 2');
  });

  describe('orders', () => {
    const order = (id: string, kind: OrderKind): void => {
      const value = { v: 1, order: kind, since: '2026-01-01T00:00:00.000Z', by: 'fe1' };
      farm.apply([{ key: `orders/${id}`, value }]);
    };
    const shares = (member: Member): string =>
      generationOf(member.view!)
        .shares.map(({ number, weight }) => `${number}:${weight}`)
        .join(' ');

    it('take the weight with pause, but not from the last members for calls, so that each call still has one owner', async () => {
      const [fe1] = await start('fe1', 'fe2', 'fe3');
      for (const [id, left] of [
        ['fe1', '2:100 3:100'],
        ['fe2', '3:100'],
        ['fe3', '1:100 2:100 3:100'],
      ] as const) {
        order(id, 'pause');
        await clock.pass(SETTLE_MS, 50);
        assert.equal(shares(fe1!), left);
      }
      order('fe2', 'drain');
      await clock.pass(SETTLE_MS, 50);
      assert.equal(shares(fe1!), '1:100 3:100', 'rather the paused than those that drain');
      order('fe2', 'ban');
      await clock.pass(SETTLE_MS, 50);
      assert.equal(shares(fe1!), '1:100 3:100');
      farm.apply([{ key: 'orders/fe3', value: undefined }]);
      await clock.pass(SETTLE_MS, 50);
      assert.equal(shares(fe1!), '3:100');
    });

    it('with ban leave the banned members out of a majority', async () => {
      const [fe1, fe2] = await start('fe1', 'fe2', 'fe3', 'fe4');
      order('fe4', 'ban');
      await clock.pass(SETTLE_MS, 50);
      assert.equal(fe1!.seats, 'fe1/1 fe2/1 fe3/1');
      for (const { membership } of [fe1!, fe2!]) membership.suspect(new Set([3]));
      await clock.pass(400, 10);
      assert.equal(fe1!.seats, 'fe1/1 fe2/1');
    });

    it('that keep a member out cost it no incarnation when the store is down', async () => {
      await start('fe1', 'fe2');
      order('fe3', 'ban');
      const [fe3] = await start('fe3');
      farm.down();
      await clock.pass(2 * LEASE_MS, 50);
      farm.up();
      await clock.pass(SETTLE_MS, 50);
      assert.deepEqual(fe3!.events, ['isolated', 'rejoined 1']);
    });
  });

  it('waits with joining while the store is down, and rejects when it must leave', async () => {
    farm.down();
    const [fe1, fe2] = [make('fe1'), make('fe2')];
    const joined = fe1.membership.join();
    const given = assert.rejects(fe2.membership.join(), coded('SF_STORE_UNREACHABLE'));
    await clock.pass(30_000, 100);
    const left = fe2.membership.leave();
    await clock.pass(100);
    await Promise.all([left, given]);
    farm.up();
    await clock.pass(SETTLE_MS + 1000, 50);
    assert.deepEqual(await joined, { number: 1, incarnation: 1 });
    assert.equal(fe1.seats, 'fe1/1');
  });

  it('logs the store and the reason of its wait at the first attempt and every half minute', async () => {
    const lines: Record<string, unknown>[] = [];
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    farm.down();
    const { membership, store } = make('fe1', { log });
    Object.assign(store, { places: ['http://10.0.0.31:2379'] });
    const joined = membership.join();
    const told = (): unknown[] => lines.map(({ msg, store: at, reason }) => [msg, at, reason]);
    const line = ['cannot join the farm yet; trying on', ['http://10.0.0.31:2379'], 'the memory store is out of reach'];
    await clock.pass(29_000, 100);
    assert.deepEqual(told(), [line]);
    await clock.pass(3000, 100);
    assert.deepEqual(told(), [line, line]);
    await clock.pass(60_000, 100);
    assert.deepEqual(told(), [line, line, line, line]);
    farm.up();
    await clock.pass(2000, 100);
    await joined;
    await clock.pass(60_000, 100);
    assert.equal(lines.length, 4);
  });

  it('leaves within two seconds when the store does not answer', async () => {
    const [fe1] = await start('fe1');
    farm.down();
    let left = false;
    void fe1!.membership.leave().then(() => {
      left = true;
    });
    await clock.pass(2000, 50);
    assert.equal(left, true);
  });

  it('publishes an unwritten state as soon as it can', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    fe2!.store.cut();
    await assert.rejects(fe2!.membership.setState('draining'), coded('SF_STORE_UNREACHABLE'));
    fe2!.store.heal();
    await clock.pass(LEASE_MS, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/1*');
  });

  it('rejoins with a new incarnation when its record was removed', async () => {
    const [fe1, fe2] = await start('fe1', 'fe2');
    farm.apply([{ key: 'members/fe2', value: undefined }]);
    await clock.pass(5000, 50);
    assert.equal(fe1!.seats, 'fe1/1 fe2/2');
    assert.deepEqual(fe2!.events, ['seat-lost', 'isolated', 'rejoined 2']);
  });

  it('comes back under its number with a higher incarnation when the store has lost everything, in any order', async () => {
    const started = await start('fe1', 'fe2', 'fe3');
    const [, , last] = started;
    assert.equal(last!.membership.given?.number, 3);
    farm.apply(['numbers/1', 'numbers/2', 'numbers/3', 'members/fe3'].map((key) => ({ key, value: undefined })));
    await clock.pass(LEASE_MS, 50);
    assert.deepEqual(last!.membership.given, { number: 3, incarnation: 2 });
    farm.apply([{ key: 'members/fe1', value: undefined }]);
    await clock.pass(LEASE_MS, 50);
    assert.deepEqual(started[0]!.membership.given, { number: 1, incarnation: 2 });
  });

  it('reports to a joining member whether others are at work, without those that start with it or are gone', async () => {
    const told: string[] = [];
    const joining = (id: string) => ({ onJoining: (atWork: boolean) => void told.push(`${id} ${atWork}`) });
    const together = ['fe1', 'fe2', 'fe3'].map((id) => make(id, joining(id)));
    const joins = together.map(({ membership }) => membership.join());
    await clock.pass(SETTLE_MS, 10);
    await Promise.all(joins);
    assert.deepEqual(new Set(told), new Set(['fe1 false', 'fe2 false', 'fe3 false']));
    const late = make('fe4', joining('fe4'));
    void late.membership.join();
    await clock.pass(SETTLE_MS, 10);
    assert.equal(told.at(-1), 'fe4 true');
  });

  it('does not count the seat of its own earlier incarnation as a member at work', async () => {
    const [old] = await start('fe1');
    kill(old!);
    const told: boolean[] = [];
    const [fe1, fe2] = [make('fe1'), make('fe2', { onJoining: (atWork) => void told.push(atWork) })];
    await fe1.membership.join();
    assert.equal(stored().seats[0]?.incarnation, 1, 'the view has moved on: this test shows nothing');
    await fe2.membership.join();
    assert.deepEqual(told, [false]);
  });

  it('updates its last-seen time regularly', async () => {
    await start('fe1');
    const first = farm.read('numbers/1')?.value as { lastSeen: string };
    await clock.pass(7 * 3_600_000, 1000);
    const later = farm.read('numbers/1')?.value as { lastSeen: string };
    assert.ok(Date.parse(later.lastSeen) - Date.parse(first.lastSeen) >= 6 * 3_600_000);
  });

  it('lets many members start at once, each with its own number', async () => {
    const ids = Array.from({ length: 40 }, (_, n) => `m${n}`);
    const started = ids.map((id) => make(id));
    const joined = Promise.all(started.map((member) => member.membership.join()));
    await clock.pass(4000, 20);
    const given = await joined;
    assert.equal(new Set(given.map(({ number }) => number)).size, 40);
    await clock.pass(SETTLE_MS, 50);
    assert.equal(started[0]!.view?.seats.length, 40);
  });
});

describe('one membership', () => {
  const ID = 'fe1';
  const KEY = `members/${ID}`;
  let clock: FakeClock;
  let farm: MemoryFarm;
  let store: MemoryStore;
  let made: Membership[];

  beforeEach(() => {
    clock = new FakeClock();
    farm = new MemoryFarm(clock);
    store = farm.open();
    made = [];
  });
  afterEach(async () => {
    for (const membership of made) await membership.leave();
    assert.equal(clock.timers, 0);
  });

  /** Returns a membership with none of the options that may be left out. */
  const open = (onSeatLost = (): void => {}, more: { readonly badEntries?: { n: number } } = {}): Membership => {
    const { role, weight, relay, listeners, versions, startedAt } = memberRecord(ID, 1);
    const membership = new Membership({
      ...{ store, clock, id: ID, leaseSeconds: LEASE_SECONDS, onSeatLost },
      log: pino({ level: 'silent' }),
      record: () => ({ role, weight, relay, listeners, versions, startedAt }),
      ...{ onView: () => {}, onMembers: () => {}, onIsolated: () => {}, onRejoined: () => {}, ...more },
    });
    made.push(membership);
    return membership;
  };
  const join = async (membership = open()): Promise<Membership> => {
    await membership.join();
    await clock.pass(SETTLE_MS, 50);
    return membership;
  };
  const record = (): MemberRecord | undefined => parseMemberRecord(ID, farm.read(KEY)?.value);

  it('is isolated before it has joined, and then writes only what joins with it', async () => {
    const membership = open();
    await membership.setState('draining');
    await membership.publish();
    await membership.note('drains/fe1', {});
    const { isolated, given, view, state } = membership;
    assert.deepEqual([isolated, given, view, state], [true, undefined, undefined, 'draining']);
    assert.deepEqual(farm.readAll(''), []);
    await join(membership);
    assert.deepEqual([membership.isolated, membership.given], [false, { number: 1, incarnation: 1 }]);
    assert.deepEqual(membership.view, farm.read('view')?.value);
    assert.deepEqual([record()?.state, record()?.host], ['draining', hostname()]);
  });

  it('publishes into its own record alone: one that another process has written stays', async () => {
    const earlier = await join();
    await earlier.setState('draining');
    assert.equal(record()?.state, 'draining');
    const later = open();
    await later.join();
    const written = record();
    assert.deepEqual([written?.incarnation, written?.state], [2, 'active']);
    await earlier.setState('away');
    assert.deepEqual(record(), written);
  });

  it('binds a note to its lease, deletes it on request, and writes none while it is isolated', async () => {
    const membership = await join();
    await membership.note('drains/fe1', { left: 3 });
    assert.deepEqual(farm.read('drains/fe1')?.value, { left: 3 });
    await membership.note('drains/fe1', undefined);
    assert.equal(farm.read('drains/fe1'), undefined);
    await membership.note('drains/fe1', { left: 2 });
    await membership.leave();
    assert.equal(farm.read('drains/fe1'), undefined, 'it ends with the lease');
    await membership.note('drains/fe1', { left: 1 });
    assert.equal(farm.read('drains/fe1'), undefined);
  });

  it('commits writes with its lease, reports a failed expectation, and commits none while it is isolated', async () => {
    const membership = await join();
    const key = 'ports/fe1';
    const commit = (value: number, expect: bigint) => membership.commit((lease) => [{ key, value, expect, lease }]);
    assert.equal(await commit(1, 0n), true);
    assert.equal(await commit(2, 0n), false);
    assert.equal(farm.read(key)?.value, 1);
    await membership.leave();
    assert.equal(farm.read(key), undefined, 'it ends with the lease');
    assert.equal(await membership.commit(() => [{ key, value: 3 }]), undefined);
    assert.equal(farm.read(key), undefined);
  });

  it('confirms its seat by the store, and reports the loss before it returns', async () => {
    const lost: (boolean | undefined)[] = [];
    const membership = await join(open(() => void lost.push(membership.isolated)));
    assert.equal(await membership.confirmSeat(), true);
    const view = membership.view!;
    farm.apply([{ key: 'view', value: { ...view, epoch: view.epoch + 1, seats: [] } }]);
    assert.equal(await membership.confirmSeat(), false);
    assert.deepEqual([lost, membership.isolated], [[false], true]);
    farm.down();
    await assert.rejects(membership.confirmSeat(), coded('SF_STORE_UNREACHABLE'));
    farm.up();
  });

  it('reads the view at once after a report of a newer one, even if its watch is late', async () => {
    const watch = store.watch.bind(store);
    let late = false;
    store.watch = (prefix, onChange, onStale) => watch(prefix, (entries) => late || onChange(entries), onStale);
    const membership = await join();
    late = true;
    const newer = { ...membership.view!, epoch: membership.view!.epoch + 5 };
    farm.apply([{ key: 'view', value: newer }]);
    membership.refetch();
    await clock.pass(1, 1);
    assert.deepEqual(membership.view, newer);
  });

  it('counts the entries of the store that it cannot read', async () => {
    const badEntries = { n: 0 };
    await join(open(undefined, { badEntries }));
    farm.apply([{ key: 'members/evil', value: 'nonsense' }]);
    await clock.pass(1, 1);
    assert.equal(badEntries.n, 1);
  });

  it('does not join once it has left, and leaves nothing behind', async () => {
    const membership = await join();
    await Promise.all([membership.leave(), membership.leave()]);
    await assert.rejects(membership.join(), coded('SF_STORE_UNREACHABLE'));
    assert.deepEqual([membership.isolated, record()], [true, undefined]);
    assert.deepEqual((farm.read('view')!.value as View).seats, []);
  });
});
