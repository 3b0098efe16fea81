// A rolling restart while many calls have relayed media: `npm run test:faults`. test/lab/media-calls.test.ts has a
// short one.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { assertRtp, MediaFarm } from '../lab/media-load.ts';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { FAULT_TOOLS } from './rig.ts';

const CALLS = 2000;

for (const [way, offload, lengthMs] of [
  ['media.offload off', false, 1000],
  // SIPp sends the RTP of all calls from one port, so the kernel has few of them at a time: paths of other calls are
  // those of the same packets.
  ['media.offload on', true, 2000],
] as const)
  it(`2,000 calls with RTP and ${way}, 50 a second, survive the restart of every member; no port and no table is left`, {
    skip: without(...LAB_TOOLS, ...FAULT_TOOLS),
    timeout: 240_000,
  }, async (t) => {
    const media = await MediaFarm.start(offload);
    t.after(() => media.close());
    const result = await media.load({ calls: CALLS, rate: 50, lengthMs, restart: [1, 2, 3] });
    await media.idle();
    await media.hasEnded(CALLS);
    const ended = media.ended();
    const sum = (of: (call: (typeof ended)[number]) => number): number => ended.reduce((n, call) => n + of(call), 0);
    const inKernel = await media.inKernel();
    assert.equal(inKernel > 0, offload);
    const packets = `${sum(({ client }) => client)} in, ${sum(({ server }) => server)} back`;
    t.diagnostic(`${ended.length} calls; RTP: ${packets}; ${inKernel} in the kernel since the restarts`);
    assertRtp(ended, CALLS, result);
    assert.equal(await media.stop(), '');
  });
