// The media ports of the running member.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MediaFacts } from '../../../src/doctor/facts.ts';
import { checkMedia } from '../../../src/doctor/media-checks.ts';
import { facts, shown } from './facts.ts';

const GOOD: MediaFacts = {
  member: 'fe1',
  trouble: '',
  sides: [
    { address: '10.0.0.11', free: 100, all: 1000 },
    { address: '127.0.0.1', free: 900, all: 1000 },
  ],
};
const check = (...media: Partial<MediaFacts>[]) =>
  checkMedia(facts({ member: { ...facts().member!, media: media.map((each) => ({ ...GOOD, ...each })) } }));

describe('media ports', () => {
  const few = { sides: [{ address: '10.0.0.11', free: 99, all: 1000 }] };
  for (const [title, found, expected] of [
    ['are enough when a tenth is free', check({}), []],
    ['are few below a tenth, at one side', check(few), ['warning DR_MEDIA_PORTS fe1 (10.0.0.11)']],
    [
      'are judged for each worker',
      check({}, { ...few, member: 'fe1.1' }),
      ['warning DR_MEDIA_PORTS fe1.1 (10.0.0.11)'],
    ],
    ['are not judged before a relay counts them', check({ sides: [] }), []],
    ['cannot be used in trouble', check({ trouble: 'overlap' }), ['fault DR_MEDIA_TROUBLE fe1']],
    ['are not judged when no member runs', checkMedia(facts({ member: undefined })), []],
  ] as const)
    it(title, () => assert.deepEqual(shown(found), expected));
});
