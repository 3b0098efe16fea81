// Tests batch I/O between two sockets of its own before it carries packets. A wrong layout then becomes an error
// message.
import { C, MESSAGE } from './layout.ts';
import type { Libc } from './libc.ts';
import { BATCH } from './message-block.ts';
import { NativeBlock } from './native-block.ts';
import { ReceiveBlock } from './receive-block.ts';
import { systemError } from './system-error.ts';

/** Octets of the test's datagrams, in order. */
const LENGTHS = [1, 1500, 0, 700];

/** Throws when received datagrams differ from those sent, or the system lacks the calls. Needs no network. */
export function testBatchCalls(libc: Libc, received = new ReceiveBlock(libc)): void {
  const pair = new NativeBlock(libc, 8);
  const type = C.SOCK_DGRAM | C.SOCK_NONBLOCK | C.SOCK_CLOEXEC;
  if (libc.socketpair(C.AF_UNIX, type, 0, pair.address) < 0) throw systemError(libc.errno(), 'socketpair');
  const [from, to] = pair.words as unknown as [number, number];
  try {
    sendAll(libc, from);
    const count = received.take(to);
    if (count !== LENGTHS.length) throw new Error(`recvmmsg took ${count} of ${LENGTHS.length} datagrams`);
    for (const [slot, octets] of LENGTHS.entries())
      if (!received.copy(slot).equals(pattern(slot, octets))) throw new Error('recvmmsg brought other octets');
    if (received.take(to) !== 0 || !received.intact) throw new Error('recvmmsg brought more than was sent');
  } finally {
    libc.close(from);
    libc.close(to);
  }
}

function pattern(slot: number, octets: number): Buffer {
  return Buffer.alloc(octets, slot + 1);
}

/** Sends the test's datagrams. The sockets have no names, so the sender's block is filled by hand. */
function sendAll(libc: Libc, fd: number): void {
  const messages = new NativeBlock(libc, BATCH * MESSAGE.octets);
  const vectors = new NativeBlock(libc, BATCH * 16);
  const payload = new NativeBlock(libc, BATCH * 2048);
  for (const [slot, octets] of LENGTHS.entries()) {
    const at = slot * MESSAGE.octets;
    payload.octets.set(pattern(slot, octets), slot * 2048);
    vectors.writeAddress(slot * 16, payload.address + BigInt(slot * 2048));
    vectors.octets.writeUInt32LE(octets, slot * 16 + 8);
    messages.writeAddress(at + MESSAGE.vectors, vectors.address + BigInt(slot * 16));
    messages.octets.writeUInt32LE(1, at + MESSAGE.vectorCount);
  }
  const sent = libc.sendmmsg(fd, messages.address, LENGTHS.length, C.MSG_DONTWAIT);
  if (sent < 0) throw systemError(libc.errno(), 'sendmmsg');
  if (sent !== LENGTHS.length) throw new Error(`sendmmsg sent ${sent} of ${LENGTHS.length} datagrams`);
}
