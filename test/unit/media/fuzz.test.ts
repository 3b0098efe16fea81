// Short runs of the fuzzers of media (`npm run test:fuzz:media` runs them for long): mutated session descriptions, and
// packets of any source. SIPFARM_FUZZ_SEED sets another seed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzDescriptions } from '../../fuzz/description-run.ts';
import { fuzzPackets } from '../../fuzz/packet-run.ts';

const { SIPFARM_FUZZ_SEED = '1' } = process.env;
const seed = Number(SIPFARM_FUZZ_SEED);

test('no description makes the anchor throw, and a relayed one leads to the relay alone', async (t) => {
  const report = await fuzzDescriptions(seed, 1500);
  t.diagnostic(JSON.stringify(report));
  assert.ok(report.relayed > 400, `${report.relayed} descriptions were relayed`);
  assert.ok(report.sent > 20, `${report.sent} packets have left`);
});

test('no packet makes the relay throw, and each leaves only as the rules allow', async (t) => {
  const report = await fuzzPackets(seed, 15_000);
  t.diagnostic(JSON.stringify(report));
  assert.ok(report.forwarded > 1000, `${report.forwarded} packets were forwarded`);
  assert.ok(report.latches > 200, `${report.latches} sources were locked`);
});
