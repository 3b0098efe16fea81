// `npm run test:fuzz`: the long run. SIPFARM_FUZZ_INPUTS (ten million by default), SIPFARM_FUZZ_SEED (by default from
// the clock) and SIPFARM_FUZZ_MINUTES (no limit by default) change it.
import { fuzz, told } from './run.ts';

const { SIPFARM_FUZZ_INPUTS = '10000000', SIPFARM_FUZZ_SEED, SIPFARM_FUZZ_MINUTES } = process.env;
const PER_FARM = 250_000;
/** Octets by which the heap may grow during the second half of a farm's inputs, when its tables are full. */
const GROWTH = 64_000_000;

const report = await fuzz({
  seed: Number(SIPFARM_FUZZ_SEED ?? Date.now() % 1_000_000),
  inputs: Number(SIPFARM_FUZZ_INPUTS),
  perFarm: PER_FARM,
  ...(SIPFARM_FUZZ_MINUTES && { mostMs: Number(SIPFARM_FUZZ_MINUTES) * 60_000 }),
  onFarm: (sofar) => console.log(`${told(sofar)}\n`),
});
const most = Math.max(...report.heaps.map(({ half, end }) => end - half));
if (most > GROWTH) throw new Error(`a farm's heap has grown by ${most} octets between its middle and its end`);
console.log(`${report.inputs} inputs, no crash`);
