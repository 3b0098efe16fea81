// A rolling restart while many calls have relayed media: `npm run test:faults`. test/lab/media-calls.test.ts has a
// short one.
import { it } from 'node:test';
import { assertRtp, MediaFarm } from '../lab/media-load.ts';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { FAULT_TOOLS } from './rig.ts';

const CALLS = 2000;

it('2,000 calls with RTP at 50 a second survive the restart of every member, and no port stays in use', {
  skip: without(...LAB_TOOLS, ...FAULT_TOOLS),
  timeout: 240_000,
}, async (t) => {
  const media = await MediaFarm.start();
  t.after(() => media.close());
  const result = await media.load({ calls: CALLS, rate: 50, lengthMs: 1000, restart: [1, 2, 3] });
  await media.idle();
  const ended = media.ended();
  const sum = (of: (call: (typeof ended)[number]) => number): number => ended.reduce((n, call) => n + of(call), 0);
  t.diagnostic(`${ended.length} calls; RTP: ${sum(({ client }) => client)} in, ${sum(({ server }) => server)} back`);
  assertRtp(ended, CALLS, result);
});
