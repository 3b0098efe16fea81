// Runs `sipfarm run` with several workers. This process binds the admin address, handles no SIP, forks the workers, and
// passes signals on.
import { AdminServer } from '../../admin/admin-server.ts';
import { systemClock } from '../../base/clock.ts';
import { flushLog, makeLog, setLogLevel } from '../../base/log.ts';
import { type Environment, type Loaded, parseConfig, readConfigText } from '../../config/load.ts';
import { makeHostMetrics, makeRegistry } from '../../metrics/metrics.ts';
import { firstSignal } from '../signals.ts';
import { Supervisor } from '../systemd.ts';
import { forker } from './fork-worker.ts';
import { Host, type HostOptions } from './host.ts';
import { hostRoutes } from './host-routes.ts';

/** Returns the status line for `systemctl status`. */
function statusOf(host: Host): string {
  const workers = host.workers;
  const up = workers.filter(({ state }) => state === 'started').length;
  return `${up} of ${workers.length} workers in the farm; sipfarm members lists all`;
}

/**
 * Runs the workers until SIGTERM or SIGINT; a second signal skips the drain. SIGHUP reads the file at `path` again.
 * Rejects with the error of one worker when no worker can start.
 */
export async function runHost(
  { config, warnings }: Loaded,
  path: string,
  environment: Environment,
  fork: HostOptions['fork'] = forker(process.argv[1]!, config.member, environment),
): Promise<void> {
  const log = makeLog({ level: config.log.level, fields: { farm: config.farm, member: config.member } });
  for (const warning of warnings) log.warn(warning);
  const metrics = makeHostMetrics(makeRegistry(), () =>
    host.workers.map(({ worker, state }) => ({ worker: String(worker), up: state === 'started' })),
  );
  const host: Host = new Host({
    ...{ config, log, file: path, text: readConfigText(path) },
    ...{ clock: systemClock, fork, starts: metrics.starts },
  });
  const admin = new AdminServer({
    ...config.admin,
    log: log.child({ room: 'admin' }),
    routes: hostRoutes(host, metrics.registry),
  });
  await admin.start();
  const supervisor = new Supervisor(process.env, systemClock, undefined, () => host.answers);

  const reload = async (): Promise<void> => {
    supervisor.reloading();
    try {
      const text = readConfigText(path);
      setLogLevel(log, parseConfig(path, text, environment).config.log.level);
      await host.reload(text);
    } catch (error) {
      log.error({ err: error }, 'not reloaded: the old configuration stays');
    }
    supervisor.ready(statusOf(host));
  };
  const onHup = (): void => void reload();
  const ended = new AbortController();
  process.on('SIGHUP', onHup);
  try {
    const stop = firstSignal(ended.signal);
    await Promise.race([host.start().then(() => supervisor.ready(statusOf(host))), host.failed, stop]);
    await Promise.race([stop, host.failed]);
    supervisor.stopping(config.drain.deadlineSeconds);
    log.info('stopping all workers: no new calls from now on; a second signal skips the drain');
    await Promise.race([host.drain(), firstSignal(ended.signal)]);
  } finally {
    process.off('SIGHUP', onHup);
    await host.quit();
    await admin.stop();
    supervisor.close();
    log.info('all workers have stopped');
    await flushLog(log);
    ended.abort();
  }
}
