// The thread of the relay, as node:worker_threads starts it. It never returns to its event loop, so its messages are
// received by `receiveMessageOnPort`.
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { loadLibc } from '../../batch/libc.ts';
import { Zones } from '../../batch/zones.ts';
import { MediaTargets } from './media-targets.ts';
import { PortTable } from './port-table.ts';
import { RelayLoop } from './relay-loop.ts';
import { RelayMemory } from './relay-memory.ts';
import { monotonicMs, type RelayMessage, type ThreadData, type ThreadMessage } from './relay-messages.ts';

/** Faults that are reported. More of them are counted only. */
const MOST_FAULTS = 64;

const main = parentPort!;
const { buffer, ports, epoll, wake, offsetMs, targets: rules } = workerData as ThreadData;
const libc = loadLibc();
const memory = new RelayMemory(ports, buffer);
const table = new PortTable({ libc, zones: new Zones(libc), memory, rules, targets: new MediaTargets(rules) });
const send = (message: ThreadMessage): void => main.postMessage(message);
const offset = monotonicMs() - performance.now() + offsetMs;
let faults = 0;
const loop = new RelayLoop({
  libc,
  table,
  memory,
  epoll,
  wake,
  now: () => performance.now() + offset,
  nextMessage: () => receiveMessageOnPort(main)?.message as RelayMessage | undefined,
  onFault(error) {
    if (faults++ < MOST_FAULTS) send({ kind: 'fault', error: plainError(error) });
  },
});

/** Returns an error that a message can carry, whatever was thrown. */
function plainError(error: unknown): Error {
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  return Object.assign(new Error(message), { name, stack });
}

send({ kind: 'ready' });
while (loop.turn());
