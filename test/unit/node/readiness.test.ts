// Conditions under which a member is ready for packets of the balancer.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemberStatus, type MemberStatusOptions } from '../../../src/admin/member-status.ts';
import { nextView } from '../../../src/ownership/view.ts';

const VIEW = nextView(
  undefined,
  [{ id: 'a', number: 1, incarnation: 1, weight: 100, state: 'active' }],
  '00'.repeat(16),
);

/** Returns the reasons of a ready member with the given changes. Readiness reads only these parts. */
function reasons(change: {
  storeUp?: boolean;
  outrunFor?: number;
  trouble?: string;
  number?: number;
  fenced?: boolean;
  stoodStill?: boolean;
}): readonly string[] {
  const { storeUp = true, outrunFor = 0, trouble, number = 1, stoodStill = false, fenced = stoodStill } = change;
  const parts = {
    state: () => 'active',
    view: () => VIEW,
    identity: () => ({ number, incarnation: 1 }),
    service: { status: { trouble } },
    store: { up: storeUp },
    link: { outrunFor: () => outrunFor },
    fence: { up: fenced, stoodStill },
  };
  return new MemberStatus(parts as unknown as MemberStatusOptions).ready().reasons;
}

describe('readiness', () => {
  test('stays with a store that is down, and with a newer view that the store will deliver', () => {
    assert.deepEqual(reasons({}), []);
    assert.deepEqual(reasons({ storeUp: false }), []);
    assert.deepEqual(reasons({ outrunFor: 60_000 }), []);
    assert.deepEqual(reasons({ storeUp: false, outrunFor: 1000 }), []);
  });

  test('is lost when only this member is cut off from the store while the farm goes on', () => {
    assert.match(reasons({ storeUp: false, outrunFor: 3000 }).join(), /newer view/);
  });

  test('is lost with the seat and with the service, each with its own reason', () => {
    assert.match(reasons({ number: 2 }).join(), /no seat/);
    assert.deepEqual(reasons({ trouble: 'no answer' }), ['no answer']);
  });

  test('is lost while it is uncertain whether the member has its seat', () => {
    assert.match(reasons({ stoodStill: true }).join(), /stood still/);
    assert.match(reasons({ fenced: true }).join(), /have removed its seat/);
  });
});
