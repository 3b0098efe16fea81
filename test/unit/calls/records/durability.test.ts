// The durability of a call: each row of the transition table, for each possible value, and the plan of its write.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  Action,
  actionOf,
  BEGUN,
  type Durability,
  type DurabilityEvent,
  Flag,
  next,
  packedFlags,
  planOf,
  RESTING,
  Stored,
  storedAs,
  storedAt,
  storedOf,
  valueAfter,
  valueOfPacked,
  wantedOf,
  writingOf,
} from '../../../../src/calls/records/durability.ts';

interface Fields {
  readonly wanted: Stored;
  readonly stored: Stored;
  /** -1: none. */
  readonly writing: Stored | -1;
  readonly dirty: boolean;
  readonly inDoubt: boolean;
  readonly maybeStale: boolean;
  readonly open: boolean;
  readonly unseen: boolean;
}

function fieldsOf(value: Durability): Fields {
  return {
    wanted: wantedOf(value),
    stored: storedOf(value),
    writing: writingOf(value),
    dirty: (value & Flag.dirty) !== 0,
    inDoubt: (value & Flag.inDoubt) !== 0,
    maybeStale: (value & Flag.maybeStale) !== 0,
    open: (value & Flag.ownershipOpen) !== 0,
    unseen: (value & Flag.unseen) !== 0,
  };
}

/** All values: each combination of the fields, made by events and flags. */
const VALUES: readonly Durability[] = (() => {
  const places = [Stored.nowhere, Stored.pending, Stored.dialog];
  const found = ['foundNowhere', 'foundPending', 'foundDialog'] as const;
  const values = new Set<Durability>();
  for (const wanted of places)
    for (const event of found)
      for (const target of [undefined, ...places])
        for (let flags = 0; flags < 32; flags++) {
          const stored = valueAfter(next(storedAt(wanted), event));
          const writing = target === undefined ? 0 : valueAfter(next(storedAt(target), 'started')) - storedAt(target);
          values.add(stored | writing | flags);
        }
  return [...values];
})();

interface Row {
  readonly title: string;
  readonly event: DurabilityEvent;
  readonly when: (fields: Fields) => boolean;
  readonly then: (fields: Fields) => Partial<Fields>;
  readonly action: Action;
}

const { none, queue, drop, pack, taken, kept, regained } = Action;
const always = (): boolean => true;
const same = (): Partial<Fields> => ({});
const possible = ({ stored, inDoubt }: Fields): boolean => stored !== Stored.nowhere || inDoubt;
const begun = (): Partial<Fields> => ({ wanted: Stored.pending, dirty: true, open: false });
const seen = { unseen: false } as const;

function row(
  event: DurabilityEvent,
  title: string,
  when: (fields: Fields) => boolean,
  then: (fields: Fields) => Partial<Fields>,
  action: Action = none,
): Row {
  return { title: `${event}: ${title}`, event, when, then, action };
}

/** The rows of the table. The first row of an event whose condition holds decides. */
const ROWS: readonly Row[] = [
  row('begun', 'a call begins under the entry of an earlier one', always, begun, queue),
  row(
    'begunUnread',
    'without the seat, a record in doubt counts as not stored',
    ({ inDoubt }) => inDoubt,
    () => ({ ...begun(), stored: Stored.nowhere }),
    queue,
  ),
  row('begunUnread', 'a certain record stays', always, begun, queue),
  row('changed', 'a changed call is written', always, () => ({ dirty: true }), queue),
  row('confirmed', 'a dialog is written', always, () => ({ wanted: Stored.dialog, dirty: true }), queue),
  row(
    'over',
    'a call without any trace in the store is forgotten',
    (fields) => !possible(fields) && !fields.maybeStale && fields.writing === -1,
    () => ({ wanted: Stored.nowhere }),
    drop,
  ),
  row('over', 'a possible record is deleted', always, () => ({ wanted: Stored.nowhere, dirty: true }), queue),
  row('seatLost', 'the owner is open', always, () => ({ open: true })),
  row('picked', 'a picked call is no longer dirty', always, () => ({ dirty: false })),
  row('started', 'the wanted place is being written', always, ({ wanted }) => ({ writing: wanted })),
  row(
    'written',
    'the record is where it was written, whatever the call wants meanwhile',
    ({ writing }) => writing !== -1,
    ({ writing }) => ({ stored: writing as Stored, writing: -1, maybeStale: false }),
  ),
  row('written', 'a call outside of the commit stays', always, same),
  row(
    'notWritten',
    'a refused call waits again',
    ({ writing }) => writing !== -1,
    () => ({ writing: -1, dirty: true }),
    queue,
  ),
  row('notWritten', 'a call outside of the commit stays', always, same),
  row(
    'unanswered',
    'a call without an answer is in doubt',
    ({ writing }) => writing !== -1,
    () => ({ writing: -1, dirty: true, inDoubt: true }),
    queue,
  ),
  row('unanswered', 'a call outside of the commit stays', always, same),
  row(
    'missing',
    'with the seat, a missing record is written again',
    always,
    () => ({ stored: Stored.nowhere, writing: -1, dirty: true }),
    queue,
  ),
  row(
    'missingSeatLost',
    'without the seat, a missing record has been adopted',
    always,
    () => ({ stored: Stored.nowhere, writing: -1 }),
    taken,
  ),
  row('foundNowhere', 'there is no record', always, () => ({ stored: Stored.nowhere })),
  row('foundPending', 'the record is pending', always, () => ({ stored: Stored.pending })),
  row('foundDialog', 'the record is a dialog', always, () => ({ stored: Stored.dialog })),
  row('certain', 'nothing is in doubt', always, () => ({ inDoubt: false })),
  row(
    'certainSeatLost',
    'without the seat, a missing record has been adopted',
    ({ stored }) => stored === Stored.nowhere,
    () => ({ inDoubt: false }),
    taken,
  ),
  row('certainSeatLost', 'a found record is still of this member', always, () => ({ inDoubt: false })),
  row('wiped', 'the deletion of an ended call goes on', ({ wanted }) => wanted === Stored.nowhere, same),
  row('wiped', 'the record is written again', always, ({ stored, maybeStale }) => ({
    maybeStale: maybeStale || stored !== Stored.nowhere,
    stored: Stored.nowhere,
    inDoubt: false,
    dirty: true,
  })),
  row(
    'reading',
    'a possible record, or one with an open owner, is expected',
    (fields) => fields.open || possible(fields),
    () => ({ unseen: true }),
  ),
  row('reading', 'no other record is expected', always, () => seen),
  ...(['seenPending', 'seenDialog'] as const).flatMap((event) => [
    row(
      event,
      'the place of a certain record stays',
      ({ stored, inDoubt }) => stored !== Stored.nowhere && !inDoubt,
      () => seen,
    ),
    row(event, 'the place is certain now', always, () => ({
      ...seen,
      inDoubt: false,
      stored: event === 'seenPending' ? Stored.pending : Stored.dialog,
    })),
  ]),
  ...(['read', 'readWiped'] as const).flatMap((event) => [
    row(
      event,
      'a call that was never written was given up with the seat',
      (fields) => fields.open && !possible(fields) && !fields.maybeStale,
      () => seen,
      drop,
    ),
    row(
      event,
      'a call whose owner was open is still of this member',
      ({ unseen, open, wanted }) => (event === 'readWiped' || !unseen) && open && wanted !== Stored.nowhere,
      () => ({ ...seen, open: false }),
      regained,
    ),
    row(
      event,
      'a call that was found, or that nobody can have adopted, stays',
      ({ unseen }) => event === 'readWiped' || !unseen,
      () => ({ ...seen, open: false }),
      kept,
    ),
  ]),
  row(
    'read',
    'an ended call without record is forgotten',
    ({ wanted }) => wanted === Stored.nowhere,
    () => seen,
    drop,
  ),
  row(
    'read',
    'a lost record that was not written again before the loss of the seat is given up',
    (fields) => !possible(fields) && fields.open,
    () => seen,
    drop,
  ),
  row(
    'read',
    'a lost record that still has to be written again stays',
    (fields) => !possible(fields),
    () => seen,
  ),
  row(
    'read',
    'a first write that the store never received is repeated',
    ({ stored, open }) => stored === Stored.nowhere && !open,
    () => ({ ...seen, inDoubt: false, dirty: true }),
    queue,
  ),
  row('read', 'another member has adopted a call whose record is missing', always, () => seen, taken),
  row('settled', 'a dirty call waits for its write', ({ dirty }) => dirty, same),
  row('settled', 'an ended call is forgotten', ({ wanted }) => wanted === Stored.nowhere, same, drop),
  row(
    'settled',
    'a confirmed call with nothing open rests',
    ({ wanted, stored, writing, inDoubt, maybeStale, open }) =>
      wanted === Stored.dialog && stored === wanted && writing === -1 && !inDoubt && !maybeStale && !open,
    same,
    pack,
  ),
  row('settled', 'any other call stays', always, same),
];

describe('a row of the transition table', () => {
  const deciding = (event: DurabilityEvent, fields: Fields): Row | undefined =>
    ROWS.find((each) => each.event === event && each.when(fields));

  for (const each of ROWS)
    test(each.title, () => {
      const matching = VALUES.filter((value) => deciding(each.event, fieldsOf(value)) === each);
      assert.ok(matching.length > 0, 'some value matches');
      for (const value of matching) {
        const before = fieldsOf(value);
        const result = next(value, each.event);
        assert.deepEqual(fieldsOf(valueAfter(result)), { ...before, ...each.then(before) });
        assert.equal(actionOf(result), each.action);
      }
    });
});

test('the table has 3 x 3 x 4 x 32 values', () => assert.equal(VALUES.length, 1152));

test('a packed call has the value of a resting one, and after a loss of the store that of a tracked one', () => {
  assert.equal(valueOfPacked(0), RESTING);
  assert.equal(valueOfPacked(Flag.maybeStale), valueAfter(next(RESTING, 'wiped')));
  const packable = VALUES.filter((value) => packedFlags(value) >= 0);
  assert.deepEqual(packable.map(packedFlags).sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
  for (const value of packable) assert.equal(valueOfPacked(packedFlags(value)), value);
});

test('no event of a reading but one leads a packed call to a value that only a tracked call can have', () => {
  for (let flags = 0; flags < 8; flags++)
    for (const event of ['seatLost', 'wiped', 'seenPending', 'seenDialog', 'read', 'readWiped'] as const) {
      const unpacks = event.startsWith('seen') && (flags & Flag.maybeStale) !== 0;
      const result = next(valueOfPacked(flags), event);
      assert.equal(packedFlags(valueAfter(result)) < 0, unpacks, `${event} with flags ${flags}`);
    }
});

test('the planned write depends on the wanted and the stored place', () => {
  const { pending, dialog, nowhere } = Stored;
  const at = (wanted: Stored, stored: Stored, flags = 0): Durability => {
    const event = (['foundNowhere', 'foundPending', 'foundDialog'] as const)[stored];
    return valueAfter(next(storedAt(wanted), event)) | flags;
  };
  const plans = [pending, dialog, nowhere].map((wanted) =>
    [nowhere, pending, dialog].map((stored) => planOf(at(wanted, stored), true)),
  );
  assert.deepEqual(plans, [
    ['put', 'replace', 'move'],
    ['put', 'move', 'replace'],
    ['none', 'delete', 'delete'],
  ]);
  assert.equal(planOf(BEGUN, false), 'none', 'a ringing call that is not to be written');
  assert.equal(planOf(at(pending, pending), false), 'replace', 'a pending record stays up to date');
  for (const stored of [nowhere, pending, dialog]) {
    assert.equal(planOf(at(pending, stored, Flag.maybeStale), false), 'putOver');
    assert.equal(planOf(at(nowhere, stored, Flag.maybeStale), true), 'deleteBoth');
    for (const wanted of [pending, dialog, nowhere])
      assert.equal(planOf(at(wanted, stored, Flag.inDoubt | Flag.maybeStale), true), 'read');
  }
});

test('a record belongs under the key of its state', () => {
  assert.deepEqual((['trying', 'early', 'confirmed'] as const).map(storedAs), [1, 1, 2]);
});
