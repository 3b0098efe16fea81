// A short run of the fuzzer (`npm run test:fuzz` runs it for long): mutated messages with valid tokens of every kind
// enter live members at every entrance, and calls must still work. SIPFARM_FUZZ_SEED sets another seed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ENTRANCES } from '../../fuzz/fuzz-farm.ts';
import { fuzz, told } from '../../fuzz/run.ts';
import { VARIANTS } from '../../fuzz/variants.ts';

const PER_FARM = 1_500;

test('no input makes a member throw, and calls work meanwhile', async (t) => {
  const { SIPFARM_FUZZ_SEED = '1' } = process.env;
  const seed = Number(SIPFARM_FUZZ_SEED);
  const report = await fuzz({ seed, inputs: VARIANTS * PER_FARM, perFarm: PER_FARM });
  t.diagnostic(told(report));
  assert.equal(report.inputs, VARIANTS * PER_FARM);
  assert.ok(ENTRANCES.every((entrance) => report.counts[entrance] > 200));
  // About six of ten frames have a packet of an accepted sender for an existing receiver. If one link refused all of
  // them, it would be three of ten.
  const frames = report.counts['relay datagram'] + report.counts['relay stream'];
  assert.ok(report.taken > 0.4 * frames, `${report.taken} packets taken of ${frames} frames`);
  assert.ok(report.calls > 8, `${report.calls} calls worked`);
});
