// Receives the datagrams that wait on a socket, up to 64 with one recvmmsg(2). One block serves all sockets of a
// process, because it is emptied before it is used again.
import { ADDRESS6, C, MESSAGE, VECTOR } from './layout.ts';
import type { Libc } from './libc.ts';
import { BATCH, MESSAGE_WORDS, MessageBlock, NAME_WORDS } from './message-block.ts';
import { portOf, type SourceNames } from './socket-address.ts';

/**
 * Longer than any datagram (RFC 768), so none is cut. The kernel fills what it needs; the rest of the memory stays
 * untouched.
 */
const SLOT_OCTETS = 65_536;

export class ReceiveBlock {
  readonly #libc: Libc;
  readonly #block: MessageBlock;
  /** Slots with a name length that the kernel has overwritten. */
  #used = BATCH;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#block = new MessageBlock(libc, BATCH * SLOT_OCTETS);
    const { vectors, payload } = this.#block;
    for (let slot = 0; slot < BATCH; slot++) {
      vectors.writeAddress(slot * VECTOR.octets + VECTOR.base, payload.address + BigInt(slot * SLOT_OCTETS));
      vectors.octets.writeUInt32LE(SLOT_OCTETS, slot * VECTOR.octets + VECTOR.length);
    }
  }

  get intact(): boolean {
    return this.#block.intact;
  }

  /**
   * Receives datagrams and returns their number: 0 when none waits. Returns 0 for a fault of the socket too; libuv
   * meets that fault next and reports it.
   */
  take(fd: number): number {
    const { messages } = this.#block;
    for (let slot = 0; slot < this.#used; slot++)
      messages.words[slot * MESSAGE_WORDS + MESSAGE.nameLength / 4] = ADDRESS6.octets;
    const count = this.#libc.recvmmsg(fd, messages.address, BATCH, C.MSG_DONTWAIT, 0n);
    this.#used = Math.max(count, 0);
    return this.#used;
  }

  /** Returns a copy of the octets of datagram `slot`. */
  copy(slot: number): Buffer {
    const { messages, payload } = this.#block;
    const octets = messages.words[slot * MESSAGE_WORDS + MESSAGE.length / 4]!;
    const bytes = Buffer.allocUnsafe(octets);
    const at = slot * SLOT_OCTETS;
    bytes.set(payload.octets.subarray(at, at + octets));
    return bytes;
  }

  address(slot: number, sources: SourceNames): string {
    return sources.text(this.#block.names.words, slot * NAME_WORDS);
  }

  port(slot: number): number {
    return portOf(this.#block.names.words[slot * NAME_WORDS]!);
  }
}
