// Starts and commands the load generator: c/load.c with a compiler, else load-node.ts with the same line protocol.
import type { Endpoint } from '../src/base/endpoint.ts';
import { formatEndpoint } from '../src/base/endpoint.ts';
import { onCore, Worker } from './machine.ts';

/** The sockets it holds, in this order. */
export const SOCKET = { client: 0, peer: 1, server: 2 } as const;

export interface LoadOptions {
  /** The compiled generator; undefined: the one in JavaScript. */
  readonly program: string | undefined;
  readonly core: number | undefined;
  readonly sockets: readonly Endpoint[];
  /** Files of messages. */
  readonly sets: readonly string[];
  /** 16 octets that sign relay frames. */
  readonly key: Buffer;
}

export interface LoadRun {
  /** Index of the socket that sends, and where to. */
  readonly from: number;
  readonly to: Endpoint;
  /** Index of the socket where what arrives is counted. */
  readonly count: number;
  /** Index of the socket that plays the SIP server. */
  readonly reflect?: number;
  readonly set: number;
  readonly ms: number;
  /** Ends after so many. */
  readonly packets?: number;
  /** Packets under way at most. */
  readonly window?: number;
  /** Packets a second; then there is no window, and the delay of each is measured. */
  readonly rate?: number;
  /** The messages are relay frames: number and sign them. */
  readonly sign?: boolean;
}

export interface LoadResult {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly seconds: number;
  /** Microseconds from sending to arrival; 0 without `rate`. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * Most packets under way: twice the largest batch. They fit the smallest receive buffer that the kernel gives
 * (net.core.rmem_max of 212,992 octets), so no packet is lost.
 */
const WINDOW = 128;
/** Probes of the relay link and knocks are shorter; all counted packets are longer. */
const LEAST_OCTETS = 200;

export class Load {
  readonly #worker: Worker;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  static async start(options: LoadOptions): Promise<Load> {
    const { program, core, sockets, sets, key } = options;
    const args = [sockets.map(formatEndpoint).join(), sets.join(), key.toString('hex')];
    const script = `${import.meta.dirname}/load-node.ts`;
    const command = program ? { file: program, args } : { file: process.execPath, args: [script, ...args] };
    const worker = new Worker(onCore(core, command));
    await worker.line();
    return new Load(worker);
  }

  async run(run: LoadRun): Promise<LoadResult> {
    const { to, reflect = -1, packets = 0, window = WINDOW, rate = 0, sign = false, ...rest } = run;
    const fields = { ...rest, reflect, packets, window, rate, sign: Number(sign), least: LEAST_OCTETS };
    const words = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
    this.#worker.write(`run to=${formatEndpoint(to)} ${words.join(' ')}`);
    return JSON.parse(await this.#worker.line(run.ms + 30_000)) as LoadResult;
  }

  stop(): Promise<void> {
    return this.#worker.stop();
  }
}
