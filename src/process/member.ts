// Builds one member of this process with its log, metrics and store.
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import { flushLog, makeLog } from '../base/log.ts';
import { batchCells } from '../batch/batch-socket.ts';
import { hostNetwork } from '../batch/host-network.ts';
import type { Loaded } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { addProcessMetrics, makeMetrics, makeRegistry } from '../metrics/metrics.ts';
import { FarmNode } from '../node/farm-node.ts';
import { DROP_REASONS } from '../packet/verdict.ts';
import { openStore } from './open-store.ts';

export interface Member {
  readonly node: FarmNode;
  readonly log: Logger;
  /**
   * Applies the configuration that `load` returns, and logs the result. If `load` throws, the old configuration stays.
   */
  reload(load: () => Config): void;
  /** Leaves the farm, closes everything and writes the last log lines. */
  close(): Promise<void>;
}

/**
 * Builds the member of `loaded`; opens nothing yet. One of several workers opens no admin port: its host forwards
 * requests to it. Throws as FarmNode does, and SF_CONFIG_SECRET.
 */
export function makeMember({ config, warnings }: Loaded, version: string): Member {
  const { worker } = config;
  const labels = worker && { worker: String(worker.index) };
  const log = makeLog({ level: config.log.level, fields: { farm: config.farm, member: config.member, ...labels } });
  for (const warning of warnings) log.warn(warning);
  const metrics = makeMetrics(makeRegistry(labels), { version, dropReasons: Object.keys(DROP_REASONS) });
  addProcessMetrics(metrics.registry);
  const network = hostNetwork({ batch: config.transport.batch, log, cells: batchCells(metrics) });
  const store = openStore(config, (operation, seconds) => metrics.storeRequest.observe({ operation }, seconds));
  const node = new FarmNode({
    ...{ config, version, network, clock: systemClock, store, log, metrics },
    ...(worker && { admin: 'asked' }),
  });
  return {
    node,
    log,
    reload(load) {
      try {
        const { live, restart } = node.reload(load());
        const changes = { applied: live, needRestart: restart };
        if (restart.length > 0) log.warn(changes, 'reloaded; some changes need a restart');
        else log.info(changes, 'reloaded');
      } catch (error) {
        log.error({ err: error }, 'not reloaded: the old configuration stays');
      }
    },
    async close() {
      await node.stop();
      await store.close();
      log.info('stopped');
      await flushLog(log);
    },
  };
}
