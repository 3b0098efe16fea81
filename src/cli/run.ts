// `sipfarm run` and `sipfarm demo`: the two commands that are a member rather than ask one. Signals in, orderly end out.
import { readFileSync } from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { SipfarmError } from '../base/errors.ts';
import { makeLog } from '../base/log.ts';
import { nodeNetwork } from '../base/network.ts';
import { type Environment, type Loaded, loadConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { Demo, type DemoOptions } from '../demo/demo.ts';
import { FarmNode } from '../farm-node.ts';
import { addProcessMetrics, type Metrics, makeMetrics, makeRegistry } from '../metrics/metrics.ts';
import { DROP_REASONS } from '../ownership/verdict.ts';
import { EtcdStore } from '../store/etcd-store.ts';
import { MemoryFarm } from '../store/memory-store.ts';
import type { Store } from '../store/store.ts';

function openStore(config: Config, metrics: Metrics): Store {
  const { store, farm } = config;
  if (store.kind === 'memory') return new MemoryFarm(systemClock).open();
  const file = (path: string | undefined): Buffer | undefined =>
    path === undefined ? undefined : readSecretFile(path);
  const [ca, cert, key] = [file(store.ca), file(store.cert), file(store.key)];
  return new EtcdStore({
    hosts: store.hosts,
    farm,
    clock: systemClock,
    observe: (operation, seconds) => metrics.storeRequest.observe({ operation }, seconds),
    ...(store.user !== undefined && store.password && { user: store.user, password: store.password.reveal() }),
    ...(ca || cert ? { tls: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) } } : {}),
  });
}

function readSecretFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new SipfarmError('SF_CONFIG_SECRET', `${path} cannot be read`, { cause: error });
  }
}

/** Runs a member until SIGTERM or SIGINT; a second one skips the drain. SIGHUP reads the file at `path` again. Rejects when the member cannot start. */
export async function runNode(loaded: Loaded, path: string, version: string, environment: Environment): Promise<void> {
  const { config, warnings } = loaded;
  const log = makeLog({ level: config.log.level, fields: { farm: config.farm, member: config.member } });
  for (const warning of warnings) log.warn(warning);
  const metrics = makeMetrics(makeRegistry(), { version, dropReasons: Object.keys(DROP_REASONS) });
  addProcessMetrics(metrics.registry);
  const store = openStore(config, metrics);
  const node = new FarmNode({ config, version, network: nodeNetwork, clock: systemClock, store, log, metrics });

  const reload = (): void => {
    try {
      const { live, restart } = node.reload(loadConfig(path, environment).config);
      const changes = { applied: live, needRestart: restart };
      if (restart.length > 0) log.warn(changes, 'reloaded; some changes need a restart');
      else log.info(changes, 'reloaded');
    } catch (error) {
      log.error({ err: error }, 'not reloaded: the old configuration stays');
    }
  };
  process.on('SIGHUP', reload);
  try {
    const stop = firstSignal();
    await Promise.race([node.start(), stop]);
    await stop;
    log.info('stopping: no new calls from now on; a second signal skips the drain');
    await Promise.race([node.drain(), firstSignal()]);
  } finally {
    process.off('SIGHUP', reload);
    await node.stop();
    await store.close();
    log.info('stopped');
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
