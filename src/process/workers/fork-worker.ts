// Forks the program again as a worker process, and gives the host its messages and its end.
import { fork } from 'node:child_process';
import type { Environment } from '../../config/load.ts';
import { workerId } from '../../config/workers.ts';
import type { HostOptions } from './host.ts';
import type { WorkerMessage } from './messages.ts';

/** Workers do not send to systemd. */
const NOT_FOR_WORKERS = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'];

/** Returns a function that forks `program` as a worker of `member`, with the standard outputs of this process. */
export function forker(program: string, member: string, environment: Environment): HostOptions['fork'] {
  const env = Object.fromEntries(Object.entries(environment).filter(([name]) => !NOT_FOR_WORKERS.includes(name)));
  return (index, { onMessage, onEnd }) => {
    // The member id makes the worker recognisable in the list of processes.
    const args = ['worker', workerId(member, index)];
    const child = fork(program, args, { env, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
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
