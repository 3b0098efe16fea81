// `sipfarm run` and `sipfarm demo`: the two commands that are a member rather than ask one. Signals in, orderly end out.
import { systemClock } from '../base/clock.ts';
import { flushLog, makeLog } from '../base/log.ts';
import { nodeNetwork } from '../base/network.ts';
import { batchCells } from '../batch/batch-socket.ts';
import { hostNetwork } from '../batch/host-network.ts';
import { type Environment, type Loaded, loadConfig } from '../config/load.ts';
import { Demo, type DemoOptions } from '../demo/demo.ts';
import { addProcessMetrics, makeMetrics, makeRegistry } from '../metrics/metrics.ts';
import { FarmNode } from '../node/farm-node.ts';
import { DROP_REASONS } from '../ownership/verdict.ts';
import { openStore } from './open-store.ts';
import { Supervisor } from './systemd.ts';

/** What `systemctl status` shows. */
const STATUS = 'member of the farm; sipfarm members tells more';

/** Runs a member until SIGTERM or SIGINT; a second one skips the drain. SIGHUP reads the file at `path` again. Rejects when the member cannot start. */
export async function runNode(loaded: Loaded, path: string, version: string, environment: Environment): Promise<void> {
  const { config, warnings } = loaded;
  const log = makeLog({ level: config.log.level, fields: { farm: config.farm, member: config.member } });
  for (const warning of warnings) log.warn(warning);
  const metrics = makeMetrics(makeRegistry(), { version, dropReasons: Object.keys(DROP_REASONS) });
  addProcessMetrics(metrics.registry);
  const network = hostNetwork({ batch: config.transport.batch, log, cells: batchCells(metrics) });
  const store = openStore(config, (operation, seconds) => metrics.storeRequest.observe({ operation }, seconds));
  const node = new FarmNode({ config, version, network, clock: systemClock, store, log, metrics });

  const supervisor = new Supervisor(process.env, systemClock);

  const reload = (): void => {
    supervisor.reloading();
    try {
      const { live, restart } = node.reload(loadConfig(path, environment).config);
      const changes = { applied: live, needRestart: restart };
      if (restart.length > 0) log.warn(changes, 'reloaded; some changes need a restart');
      else log.info(changes, 'reloaded');
    } catch (error) {
      log.error({ err: error }, 'not reloaded: the old configuration stays');
    }
    supervisor.ready(STATUS);
  };
  process.on('SIGHUP', reload);
  try {
    const stop = firstSignal();
    await Promise.race([node.start().then(() => supervisor.ready(STATUS)), stop]);
    await stop;
    supervisor.stopping(config.drain.deadlineSeconds);
    log.info('stopping: no new calls from now on; a second signal skips the drain');
    await Promise.race([node.drain(), firstSignal()]);
  } finally {
    process.off('SIGHUP', reload);
    await node.stop();
    await store.close();
    supervisor.close();
    log.info('stopped');
    await flushLog(log);
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

/** Resolves at the next SIGTERM or SIGINT, which then does not end the process. Keeps the process alive. */
function firstSignal(): Promise<void> {
  return new Promise((resolve) => {
    const alive = setInterval(() => {}, 3_600_000);
    const done = (): void => {
      clearInterval(alive);
      process.off('SIGTERM', done);
      process.off('SIGINT', done);
      resolve();
    };
    process.on('SIGTERM', done);
    process.on('SIGINT', done);
  });
}
