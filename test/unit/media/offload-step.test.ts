import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nextStep, type OffloadFacts, pauseAfter } from '../../../src/media/offload-step.ts';

const NOW = 1000;
const USER: OffloadFacts = {
  state: 'user',
  locks: { own: 1, far: 2 },
  tried: { own: 0, far: 0 },
  barred: false,
  quiet: 0,
  packets: 5,
  packetsBefore: 0,
  notBefore: 0,
};
const TRIED = { tried: USER.locks } as const;
const KERNEL = { ...TRIED, state: 'kernel' } as const;

describe('a port', () => {
  for (const [title, given, step] of [
    ['goes into the kernel once both sources are locked', {}, 'add'],
    ['stays in user space without a source', { locks: { own: 0, far: 2 } }, 'stay'],
    ['stays while the other party has no source', { locks: { own: 1, far: 0 } }, 'stay'],
    ['stays while the kernel may still forward', { state: 'leaving' }, 'stay'],
    ['stays until its party sends again', { packetsBefore: 5 }, 'stay'],
    ['stays until the next try', { ...TRIED, notBefore: NOW + 1 }, 'stay'],
    ['is tried again at that time', { ...TRIED, notBefore: NOW }, 'add'],
    ['is not tried again with sources that cannot be in the kernel', { ...TRIED, barred: true }, 'stay'],
    ['is tried again with another source', { barred: true, tried: { own: 9, far: 2 } }, 'add'],
    ['is tried again with another source of the other party', { barred: true, tried: { own: 1, far: 9 } }, 'add'],
    ['stays in the kernel while its party sends', { ...KERNEL, packetsBefore: 5 }, 'stay'],
    [
      'stays in the kernel through a quiet reading, which may have begun with its path',
      { ...KERNEL, quiet: 1 },
      'stay',
    ],
    ['leaves the kernel when its party is silent', { ...KERNEL, quiet: 2 }, 'remove'],
    ['leaves the kernel with its lock', { ...KERNEL, locks: { own: 0, far: 2 } }, 'remove'],
    ['leaves the kernel with another lock', { ...KERNEL, locks: { own: 3, far: 2 } }, 'remove'],
    ['leaves the kernel with another lock of the other party', { ...KERNEL, locks: { own: 1, far: 3 } }, 'remove'],
  ] as const)
    test(title, () => assert.equal(nextStep({ ...USER, ...given }, NOW), step));
});

test('the time between two tries doubles from a second to 32 seconds', () => {
  const pauses = [1, 2, 3, 4, 5, 6, 7, 1000].map(pauseAfter);
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, 32_000, 32_000]);
});
