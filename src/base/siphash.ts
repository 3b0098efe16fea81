// SipHash-2-4 (Aumasson and Bernstein, 2012) over octets, in 32-bit halves: the keyed hash behind tokens, slots and frames.
// Own code because it runs several times per packet and must not allocate; npm `siphash` is its oracle in the tests.

/** A 128-bit key as four little-endian words. */
export type SipKey = Uint32Array;

/** The hash of the last call, as two unsigned halves. Read it before the next call. */
export const digest = { high: 0, low: 0 };

/** A key from 16 octets. */
export function sipKey(octets: Uint8Array): SipKey {
  const view = new DataView(octets.buffer, octets.byteOffset, 16);
  return Uint32Array.of(
    view.getUint32(0, true),
    view.getUint32(4, true),
    view.getUint32(8, true),
    view.getUint32(12, true),
  );
}

// The state v0..v3 as high and low halves; module variables, so that a round is a call without arguments.
let v0h = 0;
let v0l = 0;
let v1h = 0;
let v1l = 0;
let v2h = 0;
let v2l = 0;
let v3h = 0;
let v3l = 0;
let length = 0;
let tailHigh = 0;
let tailLow = 0;

function round(): void {
  let sum = (v0l >>> 0) + (v1l >>> 0);
  let a0h = (v0h + v1h + (sum > 0xffffffff ? 1 : 0)) | 0;
  let a0l = sum | 0;
  let a1h = ((v1h << 13) | (v1l >>> 19)) ^ a0h;
  let a1l = ((v1l << 13) | (v1h >>> 19)) ^ a0l;
  let swap = a0h;
  a0h = a0l;
  a0l = swap;
  sum = (v2l >>> 0) + (v3l >>> 0);
  let a2h = (v2h + v3h + (sum > 0xffffffff ? 1 : 0)) | 0;
  let a2l = sum | 0;
  let a3h = ((v3h << 16) | (v3l >>> 16)) ^ a2h;
  let a3l = ((v3l << 16) | (v3h >>> 16)) ^ a2l;
  sum = (a0l >>> 0) + (a3l >>> 0);
  a0h = (a0h + a3h + (sum > 0xffffffff ? 1 : 0)) | 0;
  a0l = sum | 0;
  swap = a3h;
  a3h = ((a3h << 21) | (a3l >>> 11)) ^ a0h;
  a3l = ((a3l << 21) | (swap >>> 11)) ^ a0l;
  sum = (a2l >>> 0) + (a1l >>> 0);
  a2h = (a2h + a1h + (sum > 0xffffffff ? 1 : 0)) | 0;
  a2l = sum | 0;
  swap = a1h;
  a1h = ((a1h << 17) | (a1l >>> 15)) ^ a2h;
  a1l = ((a1l << 17) | (swap >>> 15)) ^ a2l;
  v0h = a0h;
  v0l = a0l;
  v1h = a1h;
  v1l = a1l;
  v2h = a2l;
  v2l = a2h;
  v3h = a3h;
  v3l = a3l;
}

function absorb(high: number, low: number): void {
  v3h ^= high;
  v3l ^= low;
  round();
  round();
  v0h ^= high;
  v0l ^= low;
}

function begin(key: SipKey): void {
  const k0l = key[0]!;
  const k0h = key[1]!;
  const k1l = key[2]!;
  const k1h = key[3]!;
  v0h = k0h ^ 0x736f6d65;
  v0l = k0l ^ 0x70736575;
  v1h = k1h ^ 0x646f7261;
  v1l = k1l ^ 0x6e646f6d;
  v2h = k0h ^ 0x6c796765;
  v2l = k0l ^ 0x6e657261;
  v3h = k1h ^ 0x74656462;
  v3l = k1l ^ 0x79746573;
}

function finish(): void {
  absorb((length << 24) | tailHigh, tailLow);
  v2l ^= 0xff;
  round();
  round();
  round();
  round();
  digest.high = (v0h ^ v1h ^ v2h ^ v3h) >>> 0;
  digest.low = (v0l ^ v1l ^ v2l ^ v3l) >>> 0;
}

/** Hashes `bytes[start..end)`; the result is left in `digest`. */
export function siphash(key: SipKey, bytes: Uint8Array, start: number, end: number): void {
  begin(key);
  length = end - start;
  let at = start;
  for (const whole = start + (length & ~7); at < whole; at += 8) {
    absorb(
      bytes[at + 4]! | (bytes[at + 5]! << 8) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 24),
      bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24),
    );
  }
  tailHigh = 0;
  tailLow = 0;
  for (let i = 0; at < end; i++, at++) {
    if (i < 4) tailLow |= bytes[at]! << (8 * i);
    else tailHigh |= bytes[at]! << (8 * (i - 4));
  }
  finish();
}
