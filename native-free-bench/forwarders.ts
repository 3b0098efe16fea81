// The columns of the throughput rows: programs that take packets at the front and forward them. Each has its own
// address.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Endpoint, formatEndpoint } from '../src/base/endpoint.ts';
import { memberConfig, type Place, PORTS } from './farm.ts';
import { type Command, type Cores, find, onCore, Worker } from './machine.ts';
import { isInOwnNetwork, NEEDS } from './own-network.ts';

export type Column = 'dgram' | 'batch' | 'transparent' | 'bare' | 'c' | 'kamailio';

export const COLUMNS: Readonly<Record<Column, string>> = {
  dgram: 'a member with dgram sockets',
  batch: 'a member with transport.batch: on (koffi)',
  transparent: 'a member with relay.mode: transparent (raw-socket)',
  bare: 'a bare dgram forwarder',
  c: 'a C forwarder, recvmmsg and sendmmsg',
  kamailio: 'Kamailio forward(), one worker, fm allocator',
};

/** Sections of the configuration for each column that is a member. */
const MEMBERS: Partial<Record<Column, (place: Place) => readonly Record<string, unknown>[]>> = {
  dgram: () => [{ transport: { batch: 'off' } }, {}],
  batch: () => [{ transport: { batch: 'on' } }],
  transparent: (place) => [{ relay: { bind: formatEndpoint(endpointOf(place, 'relay')), mode: 'transparent' } }],
};

export interface Forwarder {
  readonly column: Column;
  readonly place: Place;
  readonly isMember: boolean;
  readonly pid: number;
  /** Members only: starts a V8 profile, or ends it and returns it as JSON. */
  profile(): Promise<string>;
  stop(): Promise<void>;
}

export interface Workshop {
  /** Folder for compiled and written files. */
  readonly folder: string;
  readonly cores: Cores | undefined;
  /** The compiled C forwarder, when there is a compiler. */
  readonly forwardProgram: string | undefined;
}

export function endpointOf({ address, client }: Place, port: keyof typeof PORTS): Endpoint {
  return { address: port === 'client' ? client : address, port: PORTS[port] };
}

/** Addresses of its own per column; on loopback by process id, so that two benches do not meet. */
export function placeOf(column: Column): Place {
  const index = Object.keys(COLUMNS).indexOf(column);
  if (isInOwnNetwork()) return { address: `198.18.${index}.2`, client: `198.19.${index}.2` };
  const address = `127.${200 + index}.${(process.pid >> 8) & 0xff}.${process.pid & 0xff || 1}`;
  return { address, client: address };
}

function memberChanges(column: Column, place: Place): Record<string, unknown> | undefined {
  return MEMBERS[column]?.(place).find((changes) => {
    try {
      memberConfig(place, changes);
      return true;
    } catch {
      return false;
    }
  });
}

function commandOf(column: Column, place: Place, shop: Workshop): Command | undefined {
  const text = (port: keyof typeof PORTS): string => formatEndpoint(endpointOf(place, port));
  const script = (name: string, ...args: readonly string[]): Command => ({
    file: process.execPath,
    args: [join(import.meta.dirname, name), ...args],
  });
  const ways = [text('front'), text('client'), text('inner'), text('server')];
  switch (column) {
    case 'bare':
      return script('bare.ts', ...ways);
    case 'c':
      return shop.forwardProgram === undefined ? undefined : { file: shop.forwardProgram, args: ways };
    case 'kamailio': {
      const file = find('kamailio');
      if (!file) return undefined;
      const config = join(shop.folder, 'kamailio.cfg');
      const { address, port } = endpointOf(place, 'server');
      const values = { LISTEN: text('front'), HOST: address, PORT: String(port) };
      let words = readFileSync(join(import.meta.dirname, 'kamailio.cfg'), 'utf8');
      for (const [name, value] of Object.entries(values))
        words = words.replaceAll(new RegExp(`\\b${name}\\b(?! \\()`, 'g'), value);
      writeFileSync(config, words);
      const folders = ['-w', shop.folder, '-Y', shop.folder];
      return { file, args: ['-f', config, '-DD', '-E', '-x', 'fm', '-X', 'fm', '-m', '64', '-M', '16', ...folders] };
    }
    default: {
      const changes = memberChanges(column, place);
      return changes && script('member.ts', JSON.stringify(place), JSON.stringify(changes));
    }
  }
}

/** Starts a column. Returns the reason as text when it cannot run here. */
export async function startForwarder(column: Column, shop: Workshop): Promise<Forwarder | string> {
  if (column === 'transparent' && !isInOwnNetwork()) return NEEDS;
  const place = placeOf(column);
  const command = commandOf(column, place, shop);
  if (!command) return 'not there';
  const worker = new Worker(onCore(shop.cores?.measured, command));
  const isMember = column !== 'bare' && column !== 'c' && column !== 'kamailio';
  try {
    // Kamailio does not report that it is ready. The measurement waits until packets come through.
    if (column !== 'kamailio') await worker.line();
  } catch (error) {
    await worker.terminate();
    return error instanceof Error ? error.message : String(error);
  }
  const stop = (): Promise<void> => (column === 'kamailio' ? worker.terminate() : worker.stop());
  const profile = (): Promise<string> => {
    worker.write('profile');
    return worker.line();
  };
  return { column, place, isMember, pid: worker.pid, profile, stop };
}
