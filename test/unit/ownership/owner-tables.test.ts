// Tables of the owner lookup: owners, and previous owners for the second chance.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { sipKey } from '../../../src/base/siphash.ts';
import { aloneTables, buildOwnerTables, earlierOwner, type OwnerTables } from '../../../src/ownership/owner-tables.ts';
import { buildSlots, SLOTS } from '../../../src/ownership/slots.ts';
import { generationOf, nextView, type Seat, type View } from '../../../src/ownership/view.ts';
import { previousOf } from './lookups.ts';

const SEED = '000102030405060708090a0b0c0d0e0f';

function seat(number: number, change: Partial<Seat> = {}): Seat {
  return { id: `fe${number}`, number, incarnation: 1, weight: 100, state: 'active', ...change };
}

/** Returns every view of a history in order. */
function views(...steps: readonly (readonly Seat[])[]): View[] {
  const all: View[] = [];
  for (const seats of steps) all.push(nextView(all.at(-1), seats, SEED));
  return all;
}

function tables(...steps: readonly (readonly Seat[])[]): OwnerTables {
  return buildOwnerTables(views(...steps).at(-1)!, 1, 1);
}

/** Returns all previous owners of slots. */
function previousOwners(built: OwnerTables): number[] {
  const owners = new Set(Array.from({ length: SLOTS }, (_, slot) => previousOf(built, slot).owner));
  owners.delete(0);
  return [...owners];
}

describe('owner tables', () => {
  test('differ for two views that differ only in weights', () => {
    const share = (weight: number): number =>
      tables([seat(1), seat(2, { weight })]).slots.filter((owner) => owner === 2).length;
    assert.ok(share(100) > share(50) && share(50) > share(10));
  });

  test('name the seats, this member and the owners', () => {
    const view = views([seat(1), seat(2, { state: 'draining' })]).at(-1)!;
    const built = buildOwnerTables(view, 2, 1);
    assert.deepEqual([built.epoch, built.self, built.incarnation], [1, 2, 1]);
    assert.deepEqual(built.slotKey, sipKey(Buffer.from(SEED, 'hex')));
    assert.deepEqual([...built.seats.values()], view.seats);
    assert.ok(
      built.slots.every((owner) => owner === 1),
      'a draining member owns no slot',
    );
  });

  test('give no second chance in a farm without changes', () => {
    assert.deepEqual(previousOwners(tables([seat(1), seat(2)])), []);
  });

  test('give the slots of a joined member a second chance at their earlier owners', () => {
    const [before, after] = views([seat(1), seat(2)], [seat(1), seat(2), seat(3)]) as [View, View];
    const earlier = buildSlots(generationOf(before));
    const built = buildOwnerTables(after, 1, 1);
    for (let slot = 0; slot < SLOTS; slot++) {
      const expected = built.slots[slot] === 3 ? [earlier[slot], 1] : [0, 0];
      const { owner, until } = previousOf(built, slot);
      assert.deepEqual([owner, until], expected);
    }
  });

  test('give no second chance at a member without a seat', () => {
    const built = tables([seat(1), seat(2)], [seat(1)]);
    assert.deepEqual(previousOwners(built), []);
  });

  test('give a second chance at a draining member', () => {
    const built = tables([seat(1), seat(2)], [seat(1), seat(2, { state: 'draining' })]);
    assert.ok(built.slots.every((owner) => owner === 1));
    const earlier = buildSlots({ epoch: 1, shares: [1, 2].map((number) => ({ number, weight: 100 })) });
    for (let slot = 0; slot < SLOTS; slot++) assert.equal(previousOf(built, slot).owner, earlier[slot] === 2 ? 2 : 0);
  });

  test('skip a departed member and give the second chance at the owner before it', () => {
    const all = views([seat(1), seat(2)], [seat(1), seat(2), seat(3)], [seat(1), seat(2), seat(4)]);
    const [first, second, last] = all.map((view) => buildSlots(generationOf(view))) as [
      Uint16Array,
      Uint16Array,
      Uint16Array,
    ];
    const built = buildOwnerTables(all.at(-1)!, 1, 1);
    for (let slot = 0; slot < SLOTS; slot++) {
      const expected = last[slot] === first[slot] ? [0, 0] : [first[slot], second[slot] === 3 ? 1 : 2];
      const { owner, until } = previousOf(built, slot);
      assert.deepEqual([owner, until], expected);
    }
    assert.ok(
      last.some((owner, slot) => owner === 4 && second[slot] === 3),
      'the case is there',
    );
  });

  test('name each earlier owner once, in its newest generation', () => {
    const slots = (owner: number) => new Uint16Array(SLOTS).fill(owner);
    const earlier = [2, 3, 2].map((owner, age) => ({ epoch: 9 - age, slots: slots(owner) }));
    const built: OwnerTables = { ...tables([seat(1), seat(2), seat(3)]), slots: slots(1), earlier };
    const found = { generation: -1 };
    assert.deepEqual([earlierOwner(built, 7, 0, found), found.generation], [2, 0]);
    assert.deepEqual([earlierOwner(built, 7, 1, found), found.generation], [3, 1]);
    assert.equal(earlierOwner(built, 7, 2, found), 0);
  });

  test('give no second chance after a member has joined and left, because its slots are back', () => {
    const built = tables([seat(1), seat(2)], [seat(1), seat(2), seat(3)], [seat(1), seat(2)]);
    assert.deepEqual(previousOwners(built), []);
  });

  test('name the newest other owner with a seat and its last epoch, after any history of changes', () => {
    const crowd = fc
      .array(fc.constantFrom<'active' | 'draining' | undefined>('active', 'active', 'draining', undefined), {
        minLength: 5,
        maxLength: 5,
      })
      .map((states) => states.flatMap((state, i) => (state ? [seat(i + 1, { state })] : [])));
    fc.assert(
      fc.property(
        fc.array(crowd, { minLength: 1, maxLength: 5 }),
        fc.array(fc.nat(SLOTS - 1), { minLength: 20 }),
        (steps, sample) => {
          const all = views(...steps).filter((view, i, list) => view !== list[i - 1]);
          const last = all.at(-1)!;
          const built = buildOwnerTables(last, 1, 1);
          const owners = all.map((view) => ({ epoch: view.epoch, slots: buildSlots(generationOf(view)) }));
          for (const slot of sample) {
            const now = owners.at(-1)!.slots[slot]!;
            const earlier = owners.findLast(({ slots }) => {
              const owner = slots[slot]!;
              return owner !== 0 && owner !== now && built.seats.has(owner);
            });
            assert.equal(built.slots[slot], now);
            const { owner, until } = previousOf(built, slot);
            assert.deepEqual([owner, until], [earlier?.slots[slot] ?? 0, earlier?.epoch ?? 0]);
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  test('make a single member the owner of every slot', () => {
    const built = aloneTables(9, 3, SEED);
    assert.ok(built.slots.every((owner) => owner === 9));
    assert.deepEqual([built.epoch, built.self, built.incarnation, built.seats.get(9)?.incarnation], [0, 9, 3, 3]);
  });
});
