// Paths in the kernel for the bench, in the namespace of the router. Adds `count` of them, and writes a line when they
// are there. The first one needs packets. Each further line of its input is a number of seconds: for so long it removes
// 1,000 paths a second and adds as many, and writes the processor time of all of its processes.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import { pino } from 'pino';
import { systemClock } from '../src/base/clock.ts';
import { kernelHost } from '../src/media/kernel/host.ts';
import { KernelPaths, type PathHandle } from '../src/media/kernel/kernel-paths.ts';
import { NftShell } from '../src/media/kernel/nft.ts';
import { FROM, outerPort, ROUTER, SINK_PORT, sinkAddress } from './rtp-kernel.ts';

/** 500 calls a second begin and end: two paths each. */
const CHANGES_PER_SECOND = 1000;
const STEP_MS = 10;
/** Ticks of /proc/PID/stat. */
const TICKS = 100;

const count = Number(process.argv[2]);
const clock = systemClock;
const paths = await KernelPaths.start({
  member: 'bench',
  capacity: 2 * count + 10_000,
  addresses: Object.values(ROUTER),
  host: kernelHost(clock),
  clock,
  log: pino({ enabled: false }),
  openNft: () => new NftShell(clock),
});
if (typeof paths === 'string') throw new Error(paths);

/** Adds the path of stream `i`, as soon as it may be. `generation`: distinguishes a path from one that was removed. */
async function add(i: number, generation = 0): Promise<PathHandle> {
  const path = {
    from: { ...FROM, port: FROM.port + generation },
    at: { address: ROUTER.outside, port: outerPort(i) },
    by: { address: ROUTER.inside, port: outerPort(i) },
    to: { address: sinkAddress(i), port: SINK_PORT },
  };
  for (;;) {
    const handle = (paths as KernelPaths).add(path, (reason) => {
      throw new Error(reason);
    });
    if (typeof handle !== 'string') return handle;
    if (handle !== 'unproven') throw new Error(handle);
    await wait(50);
  }
}

/** Seconds of processor time of this process, its shells, and all nft that have ended. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  const tasks = readdirSync('/proc/self/task');
  const shells = tasks.flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' '));
  const ticks = shells
    .filter((pid) => pid !== '')
    .flatMap(
      (pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ').slice(11, 15).map(Number) ?? [],
    );
  return (user + system) / 1e6 + ticks.reduce((sum, one) => sum + one, 0) / TICKS;
}

const handles: PathHandle[] = [];
for (let i = 0; i < count; i++) handles.push(await add(i));
const LIST = ['-j', 'list', 'map', 'inet', 'sipfarm_media_bench', 'arrivals4'];
const inKernel = (): number =>
  execFileSync('nft', LIST, { encoding: 'utf8', maxBuffer: 2 ** 26 }).split('"concat"').length - 1;
while (inKernel() < count) await wait(100);
process.stdout.write('ready\n');

let generation = 1;
for await (const line of createInterface(process.stdin)) {
  const [before, begun] = [cpuSeconds(), clock.now()];
  const perStep = (CHANGES_PER_SECOND * STEP_MS) / 1000;
  let at = 0;
  let changed = 0;
  while (clock.now() - begun < Number(line) * 1000) {
    while (changed < ((clock.now() - begun) / STEP_MS) * perStep) {
      void handles[at]?.remove();
      handles[at] = await add(at, generation);
      changed++;
      if (++at === handles.length) {
        at = 0;
        generation++;
      }
    }
    await wait(STEP_MS);
  }
  const seconds = (clock.now() - begun) / 1000;
  process.stdout.write(`${JSON.stringify({ share: (cpuSeconds() - before) / seconds, changes: changed / seconds })}\n`);
  generation++;
}
await paths.stop();
