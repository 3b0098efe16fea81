// A short run of the fuzzer that `npm run test:fuzz` runs for long: messages with valid tokens of every kind, mutated, at every entrance of live members, in
// front of which calls must work. SIPFARM_FUZZ_SEED gives it another seed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ENTRANCES } from '../../fuzz/fuzz-farm.ts';
import { fuzz, told } from '../../fuzz/run.ts';
import { VARIANTS } from '../../fuzz/variants.ts';

const PER_FARM = 10_000;

test('no input makes a member throw, and calls work meanwhile', async (t) => {
  const { SIPFARM_FUZZ_SEED = '1' } = process.env;
  const seed = Number(SIPFARM_FUZZ_SEED);
  const report = await fuzz({ seed, inputs: VARIANTS * PER_FARM, perFarm: PER_FARM });
  t.diagnostic(told(report));
  assert.equal(report.inputs, VARIANTS * PER_FARM);
  assert.ok(ENTRANCES.every((entrance) => report.counts[entrance] > 1000));
  // Some six of ten frames carry a packet of a sender that is known to a receiver that is; were those of one link refused, it would be three.
  const frames = report.counts['relay datagram'] + report.counts['relay stream'];
  assert.ok(report.taken > 0.4 * frames, `${report.taken} packets taken of ${frames} frames`);
  assert.ok(report.calls > 40, `${report.calls} calls worked`);
});
