// Starts the program of UDP sockets and paths (media-host.ts) in a laboratory, and controls it.
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { Endpoint } from '../../src/base/endpoint.ts';
import type { KernelPath } from '../../src/media/kernel/kernel-path.ts';
import { until } from '../fake/until.ts';
import type { Host, Lab } from './lab.ts';
import { connect, type Op, type Received } from './media-host.ts';

const PROGRAM = join(import.meta.dirname, 'media-host.ts');

/** The program on one host. */
export class MediaHost {
  readonly #ask: (op: Op, options?: object) => Promise<unknown>;
  readonly process: ChildProcess;

  private constructor(ask: (op: Op, options?: object) => Promise<unknown>, process: ChildProcess) {
    this.#ask = ask;
    this.process = process;
  }

  static async start(lab: Lab, host: Host, name: string = host): Promise<MediaHost> {
    const path = join(lab.dir, `${name}.sock`);
    const process = lab.exec(host, globalThis.process.execPath, [PROGRAM, path], name);
    return new MediaHost(await connect(path), process);
  }

  bind = (at: Endpoint): Promise<unknown> => this.#ask('bind', { at });
  send = (from: Endpoint, to: Endpoint, ...texts: string[]): Promise<unknown> => this.#ask('send', { from, to, texts });
  start = (member: string, addresses: readonly string[]): Promise<unknown> => this.#ask('start', { member, addresses });
  add = (name: string, path: KernelPath): Promise<unknown> => this.#ask('add', { name, path });
  remove = (name: string): Promise<unknown> => this.#ask('remove', { name });
  stop = (): Promise<unknown> => this.#ask('stop');
  counts = (name: string): Promise<unknown> => this.#ask('counts', { name });
  failed = (): Promise<unknown> => this.#ask('failed');

  /** Waits until so many datagrams have come to `at`. Returns all of them. */
  async received(at: Endpoint, number: number): Promise<Received[]> {
    let found: Received[] = [];
    await until(async () => {
      const all = (await this.#ask('received')) as Received[];
      found = all.filter((each) => each.at === `${at.address} ${at.port}`);
      return found.length >= number;
    }, 10);
    return found;
  }
}
