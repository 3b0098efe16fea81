// Implementations of the network interface over real sockets, for tests that treat them alike, and shared helpers of
// such tests.
import { once } from 'node:events';
import { type DatagramOptions, type DatagramSocket, type Network, nodeNetwork } from '../../../src/base/network.ts';
import { batchNetwork } from '../../../src/batch/batch-network.ts';
import type { BatchCells } from '../../../src/batch/batch-socket.ts';
import { type Libc, loadLibc } from '../../../src/batch/libc.ts';

export function makeCells(): BatchCells {
  return { callsIn: { n: 0 }, callsOut: { n: 0 }, datagramsIn: { n: 0 }, datagramsOut: { n: 0 } };
}

function tryLibc(): Libc | undefined {
  try {
    return loadLibc();
  } catch {
    return undefined;
  }
}

/** Undefined where koffi is not installed or has no binary. */
export const libc = tryLibc();
export const skip = libc ? false : 'koffi is not installed here';

/** All implementations that work on this host. */
export const networks: ReadonlyMap<string, Network> = new Map([
  ['dgram', nodeNetwork],
  ...(libc ? ([['batch', batchNetwork({ libc, cells: makeCells(), base: nodeNetwork })]] as const) : []),
]);

export interface Heard {
  readonly bytes: Buffer;
  readonly address: string;
  readonly port: number;
}

/** A socket that records its datagrams and whose errors can be awaited. */
export class Party {
  readonly heard: Heard[] = [];
  readonly errors: Error[] = [];
  readonly #events = new EventTarget();
  socket!: DatagramSocket;
  /** Handler that a test can set in order to answer. */
  onDatagram: (bytes: Buffer, address: string, port: number) => void = () => {};

  static async at(network: Network, address: string, port = 0, options: DatagramOptions = {}): Promise<Party> {
    const party = new Party();
    party.socket = await network.bindUdp(
      { address, port },
      {
        onDatagram(bytes, from, fromPort) {
          party.heard.push({ bytes, address: from, port: fromPort });
          party.onDatagram(bytes, from, fromPort);
          party.#tell();
        },
        onSendError(error) {
          party.errors.push(error);
          party.#tell();
        },
      },
      options,
    );
    return party;
  }

  send(bytes: Uint8Array, to: Party): void {
    this.socket.send(bytes, to.socket.local.address, to.socket.local.port);
  }

  /** Resolves once that many datagrams or errors have arrived in all. */
  async until(datagrams: number, errors = 0): Promise<void> {
    while (this.heard.length < datagrams || this.errors.length < errors) await once(this.#events, 'news');
  }

  #tell(): void {
    this.#events.dispatchEvent(new Event('news'));
  }
}
