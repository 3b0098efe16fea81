// The fault suite's verdict on the owners of a call.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hasReturned, type RecordEvent, recordOwners } from '../../faults/record-owners.ts';

/** Events in the order of time, such as `2w 3a`: member 2 wrote the record, then member 3 adopted it. */
const events = (text: string): RecordEvent[] =>
  text.split(' ').map((word, at) => {
    const what = ({ w: 'written', d: 'deleted', a: 'adopted' } as const)[word[1] as 'w' | 'd' | 'a'];
    return { k: Number(word[0]), at, what };
  });

const CASES: readonly (readonly [name: string, events: string, owners: readonly number[], returned: boolean])[] = [
  ['one owner to the end', '2w 2w 2d', [], false],
  ['an heir', '2w 3a 3w', [2, 3], false],
  ['an owner that goes on after its heir', '2w 3a 2w', [2, 3, 2], true],
  ['an owner that deletes after its heir', '2w 3a 2d', [2, 3, 2], true],
  ['a first owner that inherits the call again', '2w 3a 2a 2d', [], false],
  ['an heir that goes on after that', '2w 3a 2a 3w', [3, 2, 3], true],
  ['a call that was returned and taken by another', '2w 2d 3w 3w', [3], false],
  ['a fault that later events do not hide', '2w 3a 2w 2d 3w', [2, 3, 2], true],
];

describe('the owners of a call record', () => {
  for (const [name, text, owners, returned] of CASES)
    it(`are found for ${name}`, () => {
      assert.deepEqual([recordOwners(events(text).reverse()), hasReturned(owners)], [owners, returned]);
    });
});
