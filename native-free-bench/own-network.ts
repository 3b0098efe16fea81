// A network namespace for the bench. A member never sends bare packets for clients on loopback addresses
// (RFC 1122 3.2.1.3). The column relay.mode transparent therefore needs other addresses, which no host uses. The
// namespace has no name: the kernel removes it when its last process ends.
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import { join } from 'node:path';
import type { Command } from './machine.ts';

/**
 * The network that RFC 2544 reserves for benchmarks. On `lo` the kernel treats each address of a network as its own, as
 * with 127.0.0.0/8.
 */
const NETWORK = '198.18.0.1/15';
const SET_UP = `ip link set lo up && ip address add ${NETWORK} dev lo && exec "$@"`;
const BUILDER = join(import.meta.dirname, '..', 'bin', 'build-transparent.js');

/** Reason to leave the column out. */
export const NEEDS = 'needs root, ip, unshare and npm run build:transparent';

/** True in such a namespace: all of 198.18.0.0/15 is local. */
export function isInOwnNetwork(): boolean {
  const { lo = [] } = os.networkInterfaces();
  return lo.some(({ cidr }) => cidr === NETWORK);
}

/**
 * Returns the command that runs in a new network namespace. Undefined when none can be made, or when raw-socket does
 * not load.
 */
export function inOwnNetwork({ file, args }: Command): Command | undefined {
  const command = (...words: readonly string[]): Command => ({
    file: '/bin/sh',
    args: ['-c', 'exec unshare --net -- /bin/sh -c "$0" sh "$@"', SET_UP, ...words],
  });
  const trial = command(process.execPath, BUILDER, '--check');
  return spawnSync(trial.file, trial.args).status === 0 ? command(file, ...args) : undefined;
}

/** Restarts this program in a new network namespace, with the same process id, where one can be made. */
export function moveToOwnNetwork(): void {
  if (isInOwnNetwork()) return;
  const there = inOwnNetwork({ file: process.execPath, args: [...process.execArgv, ...process.argv.slice(1)] });
  if (there) process.execve?.(there.file, [there.file, ...there.args], process.env);
}
