// A network namespace of the bench's own. A member never sends bare packets for clients on loopback addresses (RFC 1122 3.2.1.3), so the
// column relay.mode transparent needs others, and nobody's. The namespace has no name: the kernel removes it when its last process ends.
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import { join } from 'node:path';
import type { Command } from './machine.ts';

/** What RFC 2544 sets aside for benchmarks. On `lo` the kernel takes each address of a network for its own, as it does with 127.0.0.0/8. */
const NETWORK = '198.18.0.1/15';
const SET_UP = `ip link set lo up && ip address add ${NETWORK} dev lo && exec "$@"`;
const BUILDER = join(import.meta.dirname, '..', 'bin', 'build-transparent.js');

/** Why the column may be left out. */
export const NEEDS = 'needs root, ip, unshare and npm run build:transparent';

/** Whether this process is in such a namespace: 198.18.0.0/15 is all its own. */
export function isInOwnNetwork(): boolean {
  const { lo = [] } = os.networkInterfaces();
  return lo.some(({ cidr }) => cidr === NETWORK);
}

/** The command in a new network namespace; undefined where none can be made, or where it is of no use because raw-socket does not load. */
export function inOwnNetwork({ file, args }: Command): Command | undefined {
  const command = (...words: readonly string[]): Command => ({
    file: '/bin/sh',
    args: ['-c', 'exec unshare --net -- /bin/sh -c "$0" sh "$@"', SET_UP, ...words],
  });
  const trial = command(process.execPath, BUILDER, '--check');
  return spawnSync(trial.file, trial.args).status === 0 ? command(file, ...args) : undefined;
}

/** Goes on in a network namespace of its own, with the same process id and from the beginning, where one can be made. */
export function moveToOwnNetwork(): void {
  if (isInOwnNetwork()) return;
  const there = inOwnNetwork({ file: process.execPath, args: [...process.execArgv, ...process.argv.slice(1)] });
  if (there) process.execve?.(there.file, [there.file, ...there.args], process.env);
}
