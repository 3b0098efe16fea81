// The RTP port of one leg of a stream, as the offload into the kernel has it: reads the shared memory.
import type { Endpoint } from '../../base/endpoint.ts';
import { portOf, type SourceNames } from '../../batch/socket-address.ts';
import type { RelayPort } from '../offload.ts';
import { CELLS, Cell, NAME_WORDS, type RelayMemory } from './relay-memory.ts';
import type { RelayMessage } from './relay-messages.ts';

const name = new Uint32Array(NAME_WORDS);

export interface StreamPortOptions {
  /** Number of the stream. */
  readonly stream: number;
  /** Index of the port in the memory. */
  readonly index: number;
  readonly at: Endpoint;
  readonly memory: RelayMemory;
  readonly names: SourceNames;
  readonly post: (message: RelayMessage) => void;
}

export class StreamPort implements RelayPort {
  readonly #options: StreamPortOptions;
  readonly at: Endpoint;
  /** Set before anything reads it: each port faces another one. */
  facing!: StreamPort;

  constructor(options: StreamPortOptions) {
    this.#options = options;
    this.at = options.at;
  }

  get lock(): number {
    const { memory, index } = this.#options;
    return this.#isOwn ? memory.lockOf(index) : 0;
  }

  get packets(): number {
    const { memory, index } = this.#options;
    return this.#isOwn ? memory.cells[index * CELLS + Cell.packets]! : 0;
  }

  sourceOf(lock: number): Endpoint | undefined {
    const { memory, index, names } = this.#options;
    if (!this.#isOwn || !memory.readSource(index, lock, name)) return undefined;
    return { address: names.text(name, 0), port: portOf(name[0]!) };
  }

  hold(held: boolean): void {
    const { post, index } = this.#options;
    post({ kind: 'hold', port: index, held });
  }

  /** False while the thread has not read the message that opens the stream. */
  get #isOwn(): boolean {
    const { memory, index, stream } = this.#options;
    return memory.cells[index * CELLS + Cell.stream] === stream;
  }
}
