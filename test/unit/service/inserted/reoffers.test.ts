// How fast a member begins with the re-INVITEs of many adopted calls, and with how many at one time.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { NO_GUARD } from '../../../../src/base/guard.ts';
import type { CallRecord } from '../../../../src/calls/records/call-record.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { OwnVias } from '../../../../src/service/inserted/own-vias.ts';
import { Reoffers } from '../../../../src/service/inserted/reoffers.ts';
import type { ServiceContext } from '../../../../src/service/shared/context.ts';
import { compose } from '../../../fake/sip.ts';
import { contextRig } from '../shared/context-rig.ts';

/** Members of a farm that adopt thousands of calls, each with one client. */
async function many(t: TestContext) {
  const rig = await contextRig(t);
  const flow = { ...rig.member.flow(0, { address: '192.0.2.7', port: 5060 }), target: -1, nat: false };
  const ids = ['From: <sip:a@x>;tag=a', 'Call-ID: c', 'CSeq: 5 INVITE', 'Contact: <sip:a@192.0.2.7>'];
  const request = compose('INVITE sip:b@x SIP/2.0', [...ids, 'To: <sip:b@x>']);
  const answer = compose('SIP/2.0 200 OK', [...ids, 'To: <sip:b@x>;tag=b']);
  const leg = { from: 'client', flow, request, answer, shift: [1000, 1000] } as const;
  const media = [{ names: ['ta'], facing: 1, untold: true, streams: [] }] as const;
  const record = { state: 'confirmed', callId: 'c', legs: [leg], media } as unknown as CallRecord;
  const told: number[] = [];
  const anchor = { offer: () => 'v=0\r\n', told: (call: number) => void told.push(call), answered: () => {} };
  const journal = { recordOf: () => record };
  const context = { ...rig.context, anchor, journal } as unknown as ServiceContext;
  const outcomes = new CellFamily({ name: 'outcomes', help: '', labels: ['outcome'] });
  const toServer: Buffer[] = [];
  const reoffers = new Reoffers({
    ...{ context, clock: rig.farm.clock, guard: NO_GUARD, vias: new OwnVias(context), outcomes },
    reach: async () => undefined,
    inward: (message) => message,
    toServer: (message) => void toServer.push(message),
  });
  t.after(() => reoffers.clear());
  return { rig, reoffers, toServer, told, outcomes };
}

test('400 calls a second begin, and no more while 2,000 re-INVITEs have no final response', async (t) => {
  const { rig, reoffers, toServer } = await many(t);
  const { clock } = rig.farm;
  for (let entry = 1; entry <= 5000; entry++) reoffers.begin(entry);
  const begun = new Set<string>();
  const count = (): number => {
    for (const message of toServer.splice(0)) begun.add(/branch=(\S+)/.exec(message.toString('latin1'))![1]!);
    return begun.size;
  };
  assert.equal(count(), 0);
  await clock.pass(1000, 50);
  assert.equal(count(), 400);
  await clock.pass(9000, 50);
  assert.equal(count(), 2000);
  // Timer B of the first ones.
  await clock.pass(23_000, 50);
  assert.ok(count() > 2000);
});

test('a call is told when all its readers have a result, and a cleared one is not', async (t) => {
  const { rig, reoffers, told, outcomes } = await many(t);
  const { clock } = rig.farm;
  reoffers.begin(7);
  await clock.pass(1000, 50);
  assert.deepEqual([told, outcomes.cell({ outcome: 'no-way' }).n], [[], 1], 'nothing leads to the client');
  await clock.pass(33_000, 50);
  assert.deepEqual([told, outcomes.cell({ outcome: 'no-answer' }).n], [[7], 1]);
  reoffers.begin(8);
  await clock.pass(1000, 50);
  reoffers.clear();
  await clock.pass(33_000, 50);
  assert.deepEqual(told, [7]);
});
