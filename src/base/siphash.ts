// SipHash-2-4 (Aumasson and Bernstein, 2012) over octets: the keyed hash of tokens, slots and frames. Own code, because
// it runs several times per packet and must not allocate. The tests compare it with npm `siphash`.
import { WASM } from './siphash-wasm.ts';
import { instantiate, type WithMemory } from './web-assembly.ts';

/** A 128-bit key as four little-endian words. */
export type SipKey = Uint32Array;

/** Hash of the last call, as two unsigned halves. Read it before the next call. */
export const digest = { high: 0, low: 0 };

/** Makes a key from 16 octets. */
export function sipKey(octets: Uint8Array): SipKey {
  const view = new DataView(octets.buffer, octets.byteOffset, 16);
  return Uint32Array.of(
    view.getUint32(0, true),
    view.getUint32(4, true),
    view.getUint32(8, true),
    view.getUint32(12, true),
  );
}

/** Offset at which the module begins to read; the result lies before it. */
const MESSAGE = 16;
/** Octets up to which a loop is quicker than a call that copies. */
const FEW = 48;

interface Exports extends WithMemory {
  readonly hash: (k0l: number, k0h: number, k1l: number, k1h: number, length: number) => void;
}

const { memory, hash } = instantiate<Exports>(WASM);
const octets = new Uint8Array(memory.buffer);
const result = new Uint32Array(memory.buffer, 0, 2);

/** Hashes `bytes[start..end)`, at most 128 KiB less 24 octets. Leaves the result in `digest`. */
export function siphash(key: SipKey, bytes: Buffer, start: number, end: number): void {
  if (end - start > FEW) bytes.copy(octets, MESSAGE, start, end);
  else for (let from = start, to = MESSAGE; from < end; from++, to++) octets[to] = bytes[from]!;
  hash(key[0]!, key[1]!, key[2]!, key[3]!, end - start);
  digest.high = result[1]!;
  digest.low = result[0]!;
}
