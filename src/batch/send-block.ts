// Gathers the datagrams of one socket and sends up to 64 with one sendmmsg(2).
import { C, MESSAGE, VECTOR } from './layout.ts';
import type { Libc } from './libc.ts';
import { BATCH, isBusy, MESSAGE_WORDS, MessageBlock, NAME_WORDS, VECTOR_WORDS } from './message-block.ts';
import { type Destination, familyAndPort, sockaddrOctets } from './socket-address.ts';

/**
 * Octets gathered: 64 messages of 4 KiB, or four of the longest. When they are full, the gathered datagrams are sent
 * first.
 */
const ROOM_OCTETS = 256 * 1024;
/** Octets that an IP packet can carry. The kernel would refuse longer datagrams. */
export const LONGEST_OCTETS = 65_535;
/** A signal cannot interrupt a send that does not wait. If one does nevertheless, the send is tried this often. */
const INTERRUPTIONS = 8;

/** Receives datagrams that could not be sent at once. */
export interface SendFaults {
  /** The kernel refuses this one datagram. */
  refused(errno: number): void;
  /** The kernel's queue is full. `bytes` is valid during the call. */
  busy(bytes: Buffer, address: string, port: number): void;
}

export class SendBlock {
  readonly #libc: Libc;
  readonly #ipv6: boolean;
  readonly #faults: SendFaults;
  readonly #block: MessageBlock;
  /** Destination of each datagram as text, for libuv. */
  readonly #addresses: string[] = new Array<string>(BATCH).fill('');
  readonly #ports = new Uint16Array(BATCH);
  readonly #starts = new Uint32Array(BATCH);
  /** Low and high word of the payload's address. */
  readonly #low: number;
  readonly #high: number;
  #count = 0;
  #end = 0;
  #calls = 0;
  #sent = 0;

  constructor(libc: Libc, ipv6: boolean, faults: SendFaults) {
    this.#libc = libc;
    this.#ipv6 = ipv6;
    this.#faults = faults;
    this.#block = new MessageBlock(libc, ROOM_OCTETS);
    const { messages, payload } = this.#block;
    for (let slot = 0; slot < BATCH; slot++)
      messages.words[slot * MESSAGE_WORDS + MESSAGE.nameLength / 4] = sockaddrOctets(ipv6);
    this.#low = Number(payload.address & 0xffff_ffffn);
    this.#high = Number(payload.address >> 32n);
  }

  get intact(): boolean {
    return this.#block.intact;
  }

  /** Datagrams that wait for `flush`. */
  get count(): number {
    return this.#count;
  }

  /** System calls of the last `flush` that sent something, and the datagrams they sent. */
  get calls(): number {
    return this.#calls;
  }

  get sent(): number {
    return this.#sent;
  }

  /** Drops the gathered datagrams. A call during `flush` ends the sending. */
  clear(): void {
    this.#count = 0;
    this.#end = 0;
  }

  /** Returns true when a datagram of `octets` octets has room. Always true after `flush`. */
  fits(octets: number): boolean {
    return this.#count < BATCH && this.#end + octets <= ROOM_OCTETS;
  }

  /** Adds a copy of `bytes`, which must fit. */
  add(bytes: Uint8Array, destination: Destination, address: string, port: number): void {
    const { names, vectors, payload } = this.#block;
    const slot = this.#count++;
    const start = this.#end;
    payload.octets.set(bytes, start);
    // Aligned, which makes the copy faster.
    this.#end = (start + bytes.length + 7) & ~7;
    const name = slot * NAME_WORDS;
    names.words[name] = familyAndPort(this.#ipv6, port);
    for (let i = 0; i < destination.length; i++) names.words[name + 1 + i] = destination[i]!;
    const low = this.#low + start;
    const vector = slot * VECTOR_WORDS;
    vectors.words[vector + VECTOR.base / 4] = low;
    // The block may cross a multiple of 2^32.
    vectors.words[vector + VECTOR.base / 4 + 1] = low > 0xffff_ffff ? this.#high + 1 : this.#high;
    vectors.words[vector + VECTOR.length / 4] = bytes.length;
    this.#addresses[slot] = address;
    this.#ports[slot] = port;
    this.#starts[slot] = start;
  }

  /** Sends the gathered datagrams. Each leaves the block: sent, refused, or passed to `busy`. */
  flush(fd: number): void {
    const { messages } = this.#block;
    this.#calls = 0;
    this.#sent = 0;
    let done = 0;
    let interruptions = 0;
    while (done < this.#count) {
      const sent = this.#libc.sendmmsg(
        fd,
        done === 0 ? messages.address : messages.address + BigInt(done * MESSAGE.octets),
        this.#count - done,
        C.MSG_DONTWAIT,
      );
      if (sent > 0) {
        this.#calls++;
        this.#sent += sent;
        done += sent;
        continue;
      }
      const errno = sent < 0 ? this.#libc.errno() : C.EINVAL;
      if (errno === C.EINTR && ++interruptions < INTERRUPTIONS) continue;
      if (isBusy(errno)) {
        this.#giveAway(done);
        break;
      }
      // The error belongs to the first datagram that was not sent.
      this.#faults.refused(errno);
      done++;
    }
    this.clear();
  }

  #giveAway(from: number): void {
    const { vectors, payload } = this.#block;
    for (let slot = from; slot < this.#count; slot++) {
      const start = this.#starts[slot]!;
      const octets = vectors.words[slot * VECTOR_WORDS + VECTOR.length / 4]!;
      this.#faults.busy(payload.octets.subarray(start, start + octets), this.#addresses[slot]!, this.#ports[slot]!);
    }
  }
}
