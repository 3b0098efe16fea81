// An array of `struct mmsghdr`, each with room for a name and one vector, as both system calls take it.
import { C, MESSAGE, VECTOR } from './layout.ts';
import type { Libc } from './libc.ts';
import { NativeBlock } from './native-block.ts';

/** Datagrams per system call. */
export const BATCH = 64;
/** Octets for either kind of sockaddr. */
const NAME_OCTETS = 32;
export const NAME_WORDS = NAME_OCTETS / 4;
export const MESSAGE_WORDS = MESSAGE.octets / 4;
export const VECTOR_WORDS = VECTOR.octets / 4;

export class MessageBlock {
  readonly messages: NativeBlock;
  readonly names: NativeBlock;
  readonly vectors: NativeBlock;
  readonly payload: NativeBlock;

  constructor(libc: Libc, payloadOctets: number) {
    this.messages = new NativeBlock(libc, BATCH * MESSAGE.octets);
    this.names = new NativeBlock(libc, BATCH * NAME_OCTETS);
    this.vectors = new NativeBlock(libc, BATCH * VECTOR.octets);
    this.payload = new NativeBlock(libc, payloadOctets, false);
    for (let slot = 0; slot < BATCH; slot++) {
      const at = slot * MESSAGE.octets;
      this.messages.writeAddress(at + MESSAGE.name, this.names.address + BigInt(slot * NAME_OCTETS));
      this.messages.writeAddress(at + MESSAGE.vectors, this.vectors.address + BigInt(slot * VECTOR.octets));
      this.messages.octets.writeUInt32LE(1, at + MESSAGE.vectorCount);
    }
  }

  get intact(): boolean {
    return [this.messages, this.names, this.vectors, this.payload].every((block) => block.intact);
  }
}

/**
 * Returns true when the call may succeed later: the kernel's queue is full, or empty. ENOBUFS counts too, as in libuv.
 */
export function isBusy(errno: number): boolean {
  return errno === C.EAGAIN || errno === C.ENOBUFS;
}
