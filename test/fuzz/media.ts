// `npm run test:fuzz:media`: the long run of the fuzzers of media. SIPFARM_FUZZ_INPUTS (a million of each kind by
// default) and SIPFARM_FUZZ_SEED (by default from the clock) change it.
import { fuzzDescriptions } from './description-run.ts';
import { fuzzPackets } from './packet-run.ts';

const { SIPFARM_FUZZ_INPUTS = '1000000', SIPFARM_FUZZ_SEED } = process.env;
/** Inputs for one relay. */
const PER_RELAY = 20_000;

const seed = Number(SIPFARM_FUZZ_SEED ?? Date.now() % 1_000_000);
for (const [name, fuzz] of Object.entries({ fuzzDescriptions, fuzzPackets })) {
  const began = performance.now();
  const sums: Record<string, number> = {};
  for (let left = Number(SIPFARM_FUZZ_INPUTS), i = 0; left > 0; left -= PER_RELAY, i++)
    for (const [key, count] of Object.entries(await fuzz(seed * 1000 + i, Math.min(left, PER_RELAY))))
      sums[key] = (sums[key] ?? 0) + count;
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  const resident = (process.memoryUsage.rss() / 1e6).toFixed(0);
  console.log(`${name}, seed ${seed}: ${JSON.stringify(sums)} in ${seconds} s; the process has ${resident} MB`);
}
