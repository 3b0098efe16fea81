// Runs `sipfarm run` and `sipfarm demo`: the two commands that are themselves a member. Handles signals and an orderly
// end.
import { systemClock } from '../base/clock.ts';
import { nodeNetwork } from '../base/network.ts';
import { type Environment, type Loaded, loadConfig } from '../config/load.ts';
import { Demo, type DemoOptions } from '../demo/demo.ts';
import { makeMember } from './member.ts';
import { firstSignal } from './signals.ts';
import { Supervisor } from './systemd.ts';
import { runHost } from './workers/run-host.ts';

/** Status line for `systemctl status`. */
const STATUS = 'member of the farm; sipfarm members lists all';

/**
 * Runs a member, or several workers, until SIGTERM or SIGINT; a second signal skips the drain. SIGHUP reads the file at
 * `path` again. Rejects when the member cannot start.
 */
export async function runNode(loaded: Loaded, path: string, version: string, environment: Environment): Promise<void> {
  const { config } = loaded;
  if (config.workers > 1) return runHost(loaded, path, environment);
  const { node, log, ...member } = makeMember(loaded, version);
  const supervisor = new Supervisor(process.env, systemClock);
  const reload = (): void => {
    supervisor.reloading();
    member.reload(() => loadConfig(path, environment).config);
    supervisor.ready(STATUS);
  };
  const ended = new AbortController();
  process.on('SIGHUP', reload);
  try {
    const stop = firstSignal(ended.signal);
    await Promise.race([node.start().then(() => supervisor.ready(STATUS)), stop]);
    await stop;
    supervisor.stopping(config.drain.deadlineSeconds);
    log.info('stopping: no new calls from now on; a second signal skips the drain');
    await Promise.race([node.drain(), firstSignal(ended.signal)]);
  } finally {
    process.off('SIGHUP', reload);
    await member.close();
    supervisor.close();
    ended.abort();
  }
}

/** Runs the demo until SIGTERM or SIGINT. */
export async function runDemo(options: DemoOptions, version: string): Promise<void> {
  const demo = new Demo(options, {
    network: nodeNetwork,
    clock: systemClock,
    version,
    write: (text) => void process.stdout.write(text),
    live: process.stdout.isTTY === true,
  });
  const stop = firstSignal();
  await Promise.race([demo.start(), stop]);
  await stop;
  await demo.stop();
}
