// A process with one real member: FarmNode on the sockets of this host. The load generator's sink is the other member
// of the farm.
//
//    node member.ts PLACE CONFIG      both JSON: Place, and sections that replace those of farm.ts
//
// Writes `ready` and runs until its standard input ends. A line there starts a V8 profile. The next one ends it and
// writes it as one line.
import { Session } from 'node:inspector/promises';
import { createInterface } from 'node:readline';
import { systemClock } from '../src/base/clock.ts';
import { batchCells } from '../src/batch/batch-socket.ts';
import { hostNetwork } from '../src/batch/host-network.ts';
import { memberConfig, type Place, startMember } from './farm.ts';

/** Between two samples. */
const PROFILE_MICROS = 200;

const [placeText = '{}', changesText = '{}'] = process.argv.slice(2);
const place = JSON.parse(placeText) as Place;
const config = memberConfig(place, JSON.parse(changesText) as Record<string, unknown>);
const node = await startMember({
  config,
  members: 2,
  place,
  clock: systemClock,
  network: (log, metrics) => hostNetwork({ batch: config.transport.batch, log, cells: batchCells(metrics) }),
});
process.stdout.write('ready\n');

const profiler = new Session();
profiler.connect();
let profiling = false;
for await (const _line of createInterface({ input: process.stdin })) {
  if (!profiling) {
    await profiler.post('Profiler.enable');
    await profiler.post('Profiler.setSamplingInterval', { interval: PROFILE_MICROS });
    await profiler.post('Profiler.start');
  }
  const done = profiling ? (await profiler.post('Profiler.stop')).profile : {};
  profiling = !profiling;
  process.stdout.write(`${JSON.stringify(done)}\n`);
}
await node.stop();
process.exit();
