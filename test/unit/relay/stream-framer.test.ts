// Framing of a byte stream.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StreamFramer } from '../../../src/relay/stream-framer.ts';

function framed(...bodies: readonly Buffer[]): Buffer {
  return Buffer.concat(
    bodies.flatMap((body) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(body.length);
      return [length, body];
    }),
  );
}

function collect(): { framer: StreamFramer; frames: string[] } {
  const frames: string[] = [];
  const framer = new StreamFramer((bytes, start, end) => frames.push(bytes.toString('latin1', start, end)));
  return { framer, frames };
}

const bodies = ['a', 'b', 'c'].map((letter, i) => Buffer.alloc(71 + 40 * i, letter));
const stream = framed(...bodies);
const expected = bodies.map((body) => body.toString('latin1'));

test('a stream split at any octet gives the same frames', () => {
  for (let first = 0; first <= stream.length; first++) {
    for (let second = first; second <= stream.length; second += 17) {
      const { framer, frames } = collect();
      for (const piece of [stream.subarray(0, first), stream.subarray(first, second), stream.subarray(second)])
        assert.ok(framer.feed(piece));
      assert.deepEqual(frames, expected);
    }
  }
});

test('a stream in single octets gives the same frames', () => {
  const { framer, frames } = collect();
  for (const octet of stream) assert.ok(framer.feed(Buffer.of(octet)));
  assert.deepEqual(frames, expected);
});

test('an impossible length ends the stream, complete or in pieces', () => {
  for (const length of [0, 70, 70_001, 0xffffffff]) {
    const bytes = Buffer.alloc(200);
    bytes.writeUInt32BE(length);
    assert.equal(collect().framer.feed(bytes), false, `${length}`);
    const { framer } = collect();
    assert.ok(framer.feed(bytes.subarray(0, 3)));
    assert.equal(framer.feed(bytes.subarray(3)), false, `${length} in pieces`);
  }
});

test('the longest frame passes', () => {
  const { framer, frames } = collect();
  const bytes = framed(Buffer.alloc(70_000, 'x'), Buffer.alloc(71, 'y'));
  for (let at = 0; at < bytes.length; at += 16_384) assert.ok(framer.feed(bytes.subarray(at, at + 16_384)));
  assert.deepEqual(
    frames.map((frame) => frame.length),
    [70_000, 71],
  );
});
