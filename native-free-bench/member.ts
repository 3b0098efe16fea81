// A process with one real member: FarmNode on the sockets of this host, in a farm of two whose other member is the load generator's sink.
//
//    node member.ts PLACE CONFIG      both JSON: Place, and sections that replace those of farm.ts
//
// Writes `ready` and runs until its standard input ends.
import { systemClock } from '../src/base/clock.ts';
import { batchCells } from '../src/batch/batch-socket.ts';
import { hostNetwork } from '../src/batch/host-network.ts';
import { memberConfig, type Place, startMember } from './farm.ts';

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
process.stdin.resume().once('end', () => void node.stop().then(() => process.exit()));
