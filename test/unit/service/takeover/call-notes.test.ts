// The notes about calls that are not adopted yet: each is read once, belongs to one call, and makes room for newer
// ones.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CallNotes, MAX_NOTED } from '../../../../src/service/takeover/call-notes.ts';

const KINDS = {
  bye: {
    note: (notes: CallNotes, key: number): void => notes.noteBye(key, `tag${key}`),
    take: (notes: CallNotes, key: number): unknown => notes.takeBye(key),
    found: (key: number): unknown => `tag${key}`,
    none: undefined,
  },
  ringing: {
    note: (notes: CallNotes, key: number): void => notes.noteRinging(key),
    take: (notes: CallNotes, key: number): unknown => notes.takeRinging(key),
    found: (): unknown => true,
    none: false,
  },
  confirmed: {
    note: (notes: CallNotes, key: number): void => notes.noteConfirmed(key),
    take: (notes: CallNotes, key: number): unknown => notes.takeConfirmed(key),
    found: (): unknown => true,
    none: false,
  },
} as const;

for (const [kind, { note, take, found, none }] of Object.entries(KINDS))
  describe(`a note of the kind ${kind}`, () => {
    test('is taken once, for its call', () => {
      const notes = new CallNotes();
      for (const key of [1, 2]) note(notes, key);
      assert.deepEqual([take(notes, 1), take(notes, 1), take(notes, 3)], [found(1), none, none]);
      assert.equal(take(notes, 2), found(2));
    });

    test('belongs to no other kind', () => {
      const notes = new CallNotes();
      note(notes, 1);
      for (const [other, { take: takeOther, none: noneOther }] of Object.entries(KINDS))
        if (other !== kind) assert.equal(takeOther(notes, 1), noneOther);
    });

    test('replaces the oldest one when there are too many', () => {
      const notes = new CallNotes();
      for (let key = 0; key <= MAX_NOTED; key++) note(notes, key);
      assert.deepEqual([take(notes, 0), take(notes, 1), take(notes, MAX_NOTED)], [none, found(1), found(MAX_NOTED)]);
    });

    test('is forgotten with all others', () => {
      const notes = new CallNotes();
      note(notes, 1);
      notes.clear();
      assert.equal(take(notes, 1), none);
    });
  });

test('a call is ringing until the note is taken, and the last BYE counts', () => {
  const notes = new CallNotes();
  notes.noteRinging(1);
  assert.deepEqual([notes.isRinging(1), notes.isRinging(1), notes.isRinging(2)], [true, true, false]);
  notes.takeRinging(1);
  assert.equal(notes.isRinging(1), false);
  for (const tag of ['a', 'b']) notes.noteBye(1, tag);
  assert.equal(notes.takeBye(1), 'b');
});
