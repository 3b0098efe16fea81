// Runs `sipfarm run` with several workers. This process binds the admin address, handles no SIP, forks the workers, and
// passes signals on.
import { fork } from 'node:child_process';
import { AdminServer } from '../../admin/admin-server.ts';
import { systemClock } from '../../base/clock.ts';
import { flushLog, makeLog, setLogLevel } from '../../base/log.ts';
import { type Environment, type Loaded, parseConfig, readConfigText } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import { workerId } from '../../config/workers.ts';
import { makeHostMetrics, makeRegistry } from '../../metrics/metrics.ts';
import { firstSignal } from '../signals.ts';
import { Supervisor } from '../systemd.ts';
import { Host } from './host.ts';
import { hostRoutes } from './host-routes.ts';
import type { WorkerMessage } from './messages.ts';
import type { Child, ChildHandlers } from './worker-process.ts';

/** Workers do not send to systemd. */
const NOT_FOR_WORKERS = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'];

/** Forks this program as a worker, with the standard outputs of this process. */
function forker(config: Config, environment: Environment): (index: number, handlers: ChildHandlers) => Child {
  const env = Object.fromEntries(Object.entries(environment).filter(([name]) => !NOT_FOR_WORKERS.includes(name)));
  return (index, { onMessage, onEnd }) => {
    // The member id makes the worker recognisable in the list of processes.
    const args = ['worker', workerId(config.member, index)];
    const child = fork(process.argv[1]!, args, { env, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    let over = false;
    const end = (how: string): void => {
      if (over) return;
      over = true;
      onEnd(how);
    };
    child.on('message', (message) => {
      if (!over) onMessage(message as WorkerMessage);
    });
    child.once('error', (error) => child.pid === undefined && end(`it could not be forked: ${error.message}`));
    child.on('error', () => {});
    child.once('exit', (code, signal) => end(signal ?? `exit code ${code}`));
    return {
      pid: child.pid ?? 0,
      send: (message) => void (child.connected && child.send(message, () => {})),
      kill: (signal) => void child.kill(signal),
    };
  };
}

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
export async function runHost({ config, warnings }: Loaded, path: string, environment: Environment): Promise<void> {
  const log = makeLog({ level: config.log.level, fields: { farm: config.farm, member: config.member } });
  for (const warning of warnings) log.warn(warning);
  const metrics = makeHostMetrics(makeRegistry(), () =>
    host.workers.map(({ worker, state }) => ({ worker: String(worker), up: state === 'started' })),
  );
  const host: Host = new Host({
    ...{ config, log, file: path, text: readConfigText(path) },
    ...{ clock: systemClock, fork: forker(config, environment), starts: metrics.starts },
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
  process.on('SIGHUP', onHup);
  try {
    const stop = firstSignal();
    await Promise.race([host.start().then(() => supervisor.ready(statusOf(host))), host.failed, stop]);
    await Promise.race([stop, host.failed]);
    supervisor.stopping(config.drain.deadlineSeconds);
    log.info('stopping all workers: no new calls from now on; a second signal skips the drain');
    await Promise.race([host.drain(), firstSignal()]);
  } finally {
    process.off('SIGHUP', onHup);
    await host.quit();
    await admin.stop();
    supervisor.close();
    log.info('all workers have stopped');
    await flushLog(log);
  }
}
