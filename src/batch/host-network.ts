// Chooses the network of a running member: batches where they work and are configured, else one datagram per system
// call.
import type { Logger } from 'pino';
import { formatEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import { type Network, nodeNetwork } from '../base/network.ts';
import { batchNetwork } from './batch-network.ts';
import type { BatchCells } from './batch-socket.ts';
import { type Libc, loadLibc } from './libc.ts';
import { testBatchCalls } from './self-test.ts';

export interface HostNetworkOptions {
  /** `auto`: batches where possible. `on`: batches, or the member does not start. */
  readonly batch: 'auto' | 'on' | 'off';
  readonly log: Logger;
  readonly cells: BatchCells;
  /** For tests. */
  readonly load?: () => Libc;
}

/** Returns the network and logs which it is. Throws SF_BATCH_UNAVAILABLE with `on`. */
export function hostNetwork(options: HostNetworkOptions): Network {
  const { batch, log, cells, load = loadLibc } = options;
  if (batch === 'off') {
    log.info({ udp: 'single' }, 'one datagram per system call, as configured');
    return nodeNetwork;
  }
  let libc: Libc;
  try {
    libc = load();
    testBatchCalls(libc);
  } catch (error) {
    const reason = reasonOf(error);
    if (batch === 'on') throw new SipfarmError('SF_BATCH_UNAVAILABLE', reason, { cause: error });
    log.info({ udp: 'single', reason }, 'one datagram per system call: batches are not possible here');
    return nodeNetwork;
  }
  log.info({ udp: 'batch' }, 'many datagrams per system call');
  if (batch === 'on') return batchNetwork({ libc, cells, base: nodeNetwork });
  return batchNetwork({
    libc,
    cells,
    base: nodeNetwork,
    onFallback: (local, error) =>
      log.warn(
        { udp: 'single', address: formatEndpoint(local), reason: reasonOf(error) },
        'one datagram per system call at this address: batches are not possible',
      ),
  });
}

/** Returns the first line of an error. For a missing module Node.js appends a list of paths. */
function reasonOf(error: unknown): string {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n', 1);
  return line;
}
