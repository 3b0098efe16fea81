// Batches of which the kernel accepts only a part: a C library in JavaScript refuses as configured.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { C, MESSAGE, VECTOR } from '../../../src/batch/layout.ts';
import type { Libc } from '../../../src/batch/libc.ts';
import { SendBlock } from '../../../src/batch/send-block.ts';
import { Destinations } from '../../../src/batch/socket-address.ts';

const zones = { indexOf: () => 0 };
const HERE = new Destinations(false, zones).find('192.0.2.9')!;

/**
 * Memory with invented addresses; `answers` has for each call the number of accepted datagrams or, negative, the error.
 */
class FakeLibc {
  readonly sent: string[] = [];
  readonly answers: number[] = [];
  calls = 0;
  #memory: { readonly at: bigint; readonly bytes: Buffer }[] = [];
  // The memory crosses a multiple of 2^32, where an address carries into its high word.
  #next: bigint;
  #errno = 0;

  constructor(first = 0x7f00_0000_0000n) {
    this.#next = first;
  }

  get libc(): Libc {
    return this as unknown as Libc;
  }

  addressOf(bytes: Buffer): bigint {
    const at = this.#next;
    this.#memory.push({ at, bytes });
    this.#next += BigInt(bytes.length + 64);
    return at;
  }

  errno(): number {
    return this.#errno;
  }

  sendmmsg(fd: number, messages: bigint, count: number, flags: number): number {
    assert.deepEqual([fd, flags], [9, C.MSG_DONTWAIT]);
    this.calls++;
    const answer = this.answers.shift() ?? count;
    if (answer < 0) {
      this.#errno = -answer;
      return -1;
    }
    const taken = Math.min(answer, count);
    for (let i = 0; i < taken; i++) this.sent.push(this.#read(messages + BigInt(i * MESSAGE.octets)));
    return taken;
  }

  #read(message: bigint): string {
    const header = this.#at(message, MESSAGE.octets);
    assert.equal(header.readBigUInt64LE(MESSAGE.vectorCount), 1n);
    assert.equal(header.readBigUInt64LE(MESSAGE.control), 0n);
    const name = this.#at(header.readBigUInt64LE(MESSAGE.name), header.readUInt32LE(MESSAGE.nameLength));
    const vector = this.#at(header.readBigUInt64LE(MESSAGE.vectors), VECTOR.octets);
    const length = Number(vector.readBigUInt64LE(VECTOR.length));
    const bytes = this.#at(vector.readBigUInt64LE(VECTOR.base), length);
    return `${[...name.subarray(4, 8)].join('.')}:${name.readUInt16BE(2)} ${bytes.toString('latin1')}`;
  }

  #at(address: bigint, octets: number): Buffer {
    const block = this.#memory.find(({ at, bytes }) => address >= at && address < at + BigInt(bytes.length));
    assert.ok(block, `nothing lies at ${address.toString(16)}`);
    const start = Number(address - block.at);
    return block.bytes.subarray(start, start + octets);
  }
}

function makeBlock(fake = new FakeLibc()) {
  const refused: number[] = [];
  const busy: string[] = [];
  const block = new SendBlock(fake.libc, false, {
    refused: (errno) => refused.push(errno),
    busy: (bytes, address, port) => busy.push(`${address}:${port} ${bytes.toString('latin1')}`),
  });
  const add = (text: string): void => block.add(Buffer.from(text, 'latin1'), HERE, '192.0.2.9', 5060);
  return { fake, block, refused, busy, add };
}

const to = (texts: readonly string[]): string[] => texts.map((text) => `192.0.2.9:5060 ${text}`);

describe('a batch that is sent', () => {
  test('goes completely by one call, and the block is empty', () => {
    const { fake, block, add } = makeBlock();
    for (const text of ['one', 'two', '', 'four']) add(text);
    block.flush(9);
    assert.deepEqual(fake.sent, to(['one', 'two', '', 'four']));
    assert.deepEqual([block.calls, block.sent, block.count], [1, 4, 0]);
    block.flush(9);
    assert.deepEqual([block.calls, block.sent, fake.calls], [0, 0, 1]);
    add('next');
    block.flush(9);
    assert.deepEqual(fake.sent.slice(4), to(['next']));
  });

  test('continues after the part that the kernel accepted', () => {
    const { fake, block, refused, add } = makeBlock();
    fake.answers.push(2, 1);
    for (const text of ['a', 'b', 'c', 'd', 'e']) add(text);
    block.flush(9);
    assert.deepEqual([block.calls, block.sent], [3, 5]);
    assert.deepEqual([fake.sent, refused], [to(['a', 'b', 'c', 'd', 'e']), []]);
  });

  test('loses only the datagram that the kernel refuses', () => {
    const { fake, block, refused, busy, add } = makeBlock();
    fake.answers.push(1, -C.EMSGSIZE, 1, -C.EINVAL);
    for (const text of ['a', 'b', 'c', 'd', 'e']) add(text);
    block.flush(9);
    assert.deepEqual([fake.sent, refused, busy], [to(['a', 'c', 'e']), [C.EMSGSIZE, C.EINVAL], []]);
    assert.deepEqual([block.calls, block.sent], [3, 3]);
  });

  for (const errno of [C.EAGAIN, C.ENOBUFS])
    test(`passes on the rest when the kernel's queue is full (${errno})`, () => {
      const { fake, block, refused, busy, add } = makeBlock();
      fake.answers.push(2, -errno);
      for (const text of ['a', 'b', 'c', 'd']) add(text);
      block.flush(9);
      assert.deepEqual([fake.sent, refused, busy], [to(['a', 'b']), [], to(['c', 'd'])]);
      assert.deepEqual([block.calls, block.sent], [1, 2]);
      assert.equal(block.count, 0);
    });

  test('is repeated after a signal, but not for ever', () => {
    const { fake, block, refused, add } = makeBlock();
    fake.answers.push(-C.EINTR);
    add('a');
    block.flush(9);
    assert.deepEqual([fake.sent, refused], [to(['a']), []]);
    fake.answers.push(...Array.from({ length: 1000 }, () => -C.EINTR));
    for (const text of ['b', 'c']) add(text);
    block.flush(9);
    assert.deepEqual([fake.sent, refused], [to(['a']), [C.EINTR, C.EINTR]]);
    assert.ok(fake.calls < 20, String(fake.calls));
  });

  test('ends although the kernel reports that it sent none', () => {
    const { fake, block, refused, add } = makeBlock();
    fake.answers.push(0, 0);
    for (const text of ['a', 'b']) add(text);
    block.flush(9);
    assert.deepEqual([fake.sent, refused], [[], [C.EINVAL, C.EINVAL]]);
  });

  test('has space for 64 datagrams, or four of the longest', () => {
    const { block, add, fake } = makeBlock();
    for (let i = 0; i < 64; i++) {
      assert.ok(block.fits(4096));
      add(String(i));
    }
    assert.ok(!block.fits(0));
    block.flush(9);
    assert.equal(fake.sent.length, 64);
    const longest = 'x'.repeat(65_535);
    for (let i = 0; i < 4; i++) {
      assert.ok(block.fits(65_535));
      add(longest);
    }
    assert.ok(!block.fits(1));
    block.flush(9);
    assert.deepEqual(fake.sent.slice(64), to([longest, longest, longest, longest]));
    assert.ok(block.intact);
  });

  test('may cross a multiple of 2^32', () => {
    // The boundary is at any place: in the headers, the names, the vectors, or behind the first of these messages.
    for (let before = 0; before < 12_288; before += 100) {
      const { fake, block, add } = makeBlock(new FakeLibc(0x7f_0000_0000n - BigInt(before)));
      for (let i = 0; i < 64; i++) add(`message ${i}`);
      block.flush(9);
      assert.deepEqual(fake.sent, to(Array.from({ length: 64 }, (_, i) => `message ${i}`)));
    }
  });
});
