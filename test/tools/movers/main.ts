// Parties that move during a call, in the client's namespace of a laboratory: callers of each kind, and a callee that
// answers, hangs up and notifies. Prints a line of JSON per case: its name and its observations. After a line with
// `pause` it waits for SIGUSR2: its parent checks the farm, or kills the owner of the Call-IDs meanwhile.
//
//   node main.ts SCENE: JSON, see wire.ts
import { startApplication } from './application.ts';
import { Callee } from './callee.ts';
import { CASES, type Stage } from './cases.ts';
import { SURVIVORS } from './survivors.ts';
import type { Scene } from './wire.ts';

const scene = JSON.parse(process.argv[2] ?? '{}') as Scene;
/** Call-IDs of the last member, which dies; the first is the door where there is no balancer. */
const [, , doomed = []] = scene.owned;

const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
let go = (): void => {};
process.on('SIGUSR2', () => go());
const stage: Stage = {
  scene,
  callee: await Callee.start(scene.callee, scene.door),
  application: await startApplication(scene.application, scene.door),
  pause: (what, callIds) =>
    new Promise<void>((resolve) => {
      go = resolve;
      say({ pause: what, callIds });
    }),
};

for (const [name, run] of Object.entries(CASES)) say({ name, seen: await run(stage).catch(String) });

const begun = new Map<string, () => Promise<unknown>>();
const callIds: string[] = [];
for (const [i, [name, begin]] of Object.entries(SURVIVORS).entries()) {
  const callId = doomed.at(-1 - i)!;
  try {
    begun.set(name, await begin(stage, callId));
    callIds.push(callId);
  } catch (error) {
    say({ name, seen: String(error) });
  }
}
await stage.pause('death', callIds);
await Promise.all([...begun].map(async ([name, goOn]) => say({ name, seen: await goOn().catch(String) })));
process.exit(0);
