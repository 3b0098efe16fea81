// Collects the facts for the media relay in the kernel: nft, rights, and packet filters against it.

import type { MediaConfig } from '../config/media-section.ts';
import { makeTable, tableName } from '../media/kernel/nft-table.ts';
import type { OffloadFacts } from './facts.ts';

/** Returns the standard output of a program that exits with success. */
type Run = (command: string, args: readonly string[]) => Promise<string | undefined>;

/** Returns the rights that systemd gives the service; undefined when there is no such unit. */
export async function readUnitRights(run: Run): Promise<string | undefined> {
  const shown = await run('systemctl', ['show', 'sipfarm', '-p', 'LoadState', '-p', 'AmbientCapabilities']);
  return shown?.includes('LoadState=loaded') ? /^AmbientCapabilities=(.*)$/m.exec(shown)?.[1] : undefined;
}

/** Returns the chains of a ruleset that drop by default what is passed on, as family, table and name. */
function droppingChains(ruleset: string): readonly string[] {
  let table = '';
  let chain = '';
  const found: string[] = [];
  for (const line of ruleset.split('\n')) {
    table = /^table (\S+ \S+)/.exec(line)?.[1] ?? table;
    chain = /^\s+chain (\S+)/.exec(line)?.[1] ?? chain;
    if (/\bhook forward\b.*\bpolicy drop\b/.test(line)) found.push(`${table} ${chain}`);
  }
  return found;
}

/** Collects what the media relay in the kernel needs; undefined when it is off, or there is none. */
export async function tryOffload(
  run: Run,
  media: Pick<MediaConfig, 'offload' | 'bind' | 'inside'> | undefined,
): Promise<OffloadFacts | undefined> {
  if (!media || media.offload === 'off') return undefined;
  const { offload: mode, bind, inside } = media;
  // nft checks the whole table, and changes nothing.
  const trial = makeTable({ name: tableName('doctor'), capacity: 1024 });
  const [version, tried, ruleset, unitRights] = await Promise.all([
    run('nft', ['--version']),
    run('nft', ['-c', trial]),
    run('nft', ['list', 'ruleset']),
    readUnitRights(run),
  ]);
  const nft = version === undefined ? 'missing' : tried === undefined ? 'refused' : 'usable';
  return { mode, addresses: [bind, inside], nft, unitRights, dropping: droppingChains(ruleset ?? '') };
}
