// Counts exceptions of the packet path as drop `internal-error`, and logs one line per place, fit for a bug report.
import type { Logger } from 'pino';
import type { Guard, PacketEntrance } from '../base/guard.ts';
import { PROXY_SIGNATURE } from '../base/proxy-signature.ts';
import type { Cell } from '../metrics/counters.ts';
import { maskedMessage, maskedWords } from '../sip/masked.ts';

/** Place of our code, as stack frames name it. */
const OWN = new URL('..', import.meta.url).href;
/** Most places that get a line: a fault with changing places must not fill the log. */
const MAX_PLACES = 64;
const MAX_FRAMES = 8;
const MAX_MESSAGE = 1000;
const MAX_WORDS = 200;

export class FaultLog implements Guard {
  readonly #log: Logger;
  readonly #dropped: Cell;
  readonly #places = new Set<string>();

  /** `dropped`: cell of the drop reason `internal-error`. */
  constructor(log: Logger, dropped: Cell) {
    this.#log = log;
    this.#dropped = dropped;
  }

  caught(entrance: PacketEntrance, error: unknown, bytes?: Buffer, start = 0, end = bytes?.length ?? 0): void {
    this.#dropped.n++;
    if (this.#places.size >= MAX_PLACES) return;
    const frames = framesOf(error);
    const place = `${entrance}, ${frames[0] ?? 'nowhere'}`;
    if (this.#places.has(place)) return;
    this.#places.add(place);
    this.#log.error(
      {
        code: 'SF_INTERNAL',
        place,
        error: maskedWords(error instanceof Error ? `${error.name}: ${error.message}` : typeof error, MAX_WORDS),
        frames,
        ...(bytes && { message: bytes.length === 0 ? '' : shown(bytes, start, end) }),
      },
      'a fault of sipfarm: the current packet is dropped, and the member goes on; logged once per place',
    );
  }
}

/** Returns the stack frames in our code, the innermost first, as `Edit.replace (sip/edit.ts:51:13)`. */
function framesOf(error: unknown): readonly string[] {
  if (!(error instanceof Error)) return [];
  const lines = (error.stack ?? '').split('\n').filter((line) => line.startsWith('    at ') && line.includes(OWN));
  return lines.slice(0, MAX_FRAMES).map((line) => line.slice('    at '.length).replace(OWN, ''));
}

function shown(bytes: Buffer, start: number, end: number): string {
  // A frame is a head with its own length, then a message.
  const head = bytes.subarray(start, start + PROXY_SIGNATURE.length).equals(PROXY_SIGNATURE) && end - start >= 16;
  const from = head ? Math.min(start + 16 + bytes.readUInt16BE(start + 14), end) : start;
  return `${head ? '[head] ' : ''}${maskedMessage(bytes, from, end, MAX_MESSAGE)}`;
}
