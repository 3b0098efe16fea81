// Splices over one message: collect what to take out and put in, then assemble a fresh Buffer in one go. What is not touched stays byte-identical.
import { COMMA, skipBlanks } from './octets.ts';
import type { Scan } from './scan.ts';
import { ViaOutcome } from './via.ts';

/** Splices per message: one per header line the scanner lets in, and some. */
export const MAX_SPLICES = 1024;

/** What is put in: octets, or text of characters up to U+00FF, one octet each. */
export type Piece = Uint8Array | string;

/**
 * The splices of one message. Reuse one instance: `begin` forgets the message before. Nothing here throws: more than MAX_SPLICES, or a range outside
 * of the message, makes the edit `void`, and `apply` then gives nothing.
 */
export class Edit {
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  #count = 0;
  /** A splice could not be taken: the message cannot be made any more. */
  #void = false;
  readonly #at: number[] = [];
  readonly #until: number[] = [];
  readonly #pieces: Piece[] = [];

  /** Starts anew over `bytes[start..end)`. */
  begin(bytes: Buffer, start: number, end: number): this {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#count = 0;
    this.#void = false;
    return this;
  }

  /** Starts anew over the message of `scan`. */
  beginScan(scan: Scan): this {
    return this.begin(scan.bytes, scan.start, scan.end);
  }

  /** Takes `[start, end)` out. Ranges that overlap are taken out once. */
  delete(start: number, end: number): this {
    return this.replace(start, end, '');
  }

  /** Puts `piece` in before the octet at `at`, also when that octet is taken out. Pieces for one offset stand in the order they were given in. */
  insert(at: number, piece: Piece): this {
    return this.replace(at, at, piece);
  }

  /** Takes `[start, end)` out and puts `piece` there. Splices may be given in any order. */
  replace(start: number, end: number, piece: Piece): this {
    if (this.#count === MAX_SPLICES || start < this.#start || end < start || end > this.#end) {
      this.#void = true;
      return this;
    }
    let i = this.#count++;
    for (; i > 0 && this.#at[i - 1]! > start; i--) {
      this.#at[i] = this.#at[i - 1]!;
      this.#until[i] = this.#until[i - 1]!;
      this.#pieces[i] = this.#pieces[i - 1]!;
    }
    this.#at[i] = start;
    this.#until[i] = end;
    this.#pieces[i] = piece;
    return this;
  }

  /** Octets of the result; Infinity when there is none. */
  size(): number {
    if (this.#void) return Number.POSITIVE_INFINITY;
    let size = 0;
    let kept = this.#start;
    for (let i = 0; i < this.#count; i++) {
      size += Math.max(this.#at[i]! - kept, 0) + this.#pieces[i]!.length;
      kept = Math.max(kept, this.#until[i]!);
    }
    return size + this.#end - kept;
  }

  /** The edited message in a Buffer of its own; undefined when it would have more than `most` octets, or cannot be made. */
  apply(most = Number.POSITIVE_INFINITY): Buffer | undefined {
    const bytes = this.#bytes;
    const size = this.size();
    if (size > most || size === Number.POSITIVE_INFINITY) return undefined;
    const result = Buffer.allocUnsafe(size);
    let out = 0;
    let kept = this.#start;
    for (let i = 0; i < this.#count; i++) {
      const at = this.#at[i]!;
      if (at > kept) out += bytes.copy(result, out, kept, at);
      const piece = this.#pieces[i]!;
      if (typeof piece === 'string') out += result.write(piece, out, 'latin1');
      else {
        result.set(piece, out);
        out += piece.length;
      }
      kept = Math.max(kept, this.#until[i]!);
    }
    bytes.copy(result, out, kept, this.#end);
    return result;
  }

  /** Puts a Via header line with `value` (`SIP/2.0/UDP host:port;branch=...`) on top of all others. */
  pushVia(scan: Scan, value: string): this {
    return this.insert(scan.viaLineStart < 0 ? scan.headersStart : scan.viaLineStart, `Via: ${value}\r\n`);
  }

  /** Takes the top Via value out, with its header line when it is the only one there. Nothing happens without a readable Via. */
  popVia(scan: Scan): this {
    if (scan.viaStart < 0) return this;
    return scan.viaMore
      ? this.delete(scan.viaStart, skipBlanks(scan.bytes, scan.nextViaStart, scan.nextViaEnd))
      : this.delete(scan.viaLineStart, scan.viaLineEnd);
  }

  /** Takes the first Route value out, with its header line when it is the only one there. Nothing happens without Route. */
  popRoute(scan: Scan): this {
    if (scan.routeLineStart < 0) return this;
    const comma = skipBlanks(scan.bytes, scan.routeEnd, scan.routeLineEnd);
    return comma < scan.routeLineEnd && scan.bytes[comma]! === COMMA
      ? this.delete(scan.routeStart, skipBlanks(scan.bytes, comma + 1, scan.routeLineEnd))
      : this.delete(scan.routeLineStart, scan.routeLineEnd);
  }

  /**
   * Writes the true source into the top Via of a request: `received` when sent-by names another address or `rport` is asked for, and the
   * value of `rport` (RFC 3261 18.2.1, RFC 3581 4). What the sender put there itself is replaced.
   */
  stampVia(scan: Scan, address: string, port: number): this {
    const via = scan.via;
    if (via.outcome === ViaOutcome.UNREADABLE) return this;
    const at = via.outcome === ViaOutcome.OK ? via.end : via.sentByEnd;
    if (via.receivedParamStart >= 0) this.delete(via.receivedParamStart, via.receivedParamEnd);
    if (via.rportParamStart >= 0) {
      this.replace(via.rportParamStart, via.rportParamEnd, `;received=${address};rport=${port}`);
    } else if (!namesAddress(scan.bytes, via.hostStart, via.hostEnd, address)) {
      this.insert(at, `;received=${address}`);
    }
    return this;
  }

  /** Sets Max-Forwards, adding the header when there is none. */
  setMaxForwards(scan: Scan, value: number): this {
    return scan.maxForwardsStart < 0
      ? this.appendHeader(scan, `Max-Forwards: ${value}`)
      : this.replace(scan.maxForwardsStart, scan.maxForwardsEnd, String(value));
  }

  /** Puts a header line (without CRLF) before all others: the place for Record-Route and Path, whose newest value stands first. */
  prependHeader(scan: Scan, line: string): this {
    return this.insert(scan.headersStart, `${line}\r\n`);
  }

  /** Puts a header line (without CRLF) behind all others. */
  appendHeader(scan: Scan, line: string): this {
    return this.insert(scan.headersEnd, `${line}\r\n`);
  }
}

/** `[start, end)` is the address literal `address`, letters in any case. Another spelling of one IPv6 address counts as another address. */
function namesAddress(bytes: Uint8Array, start: number, end: number, address: string): boolean {
  if (end - start !== address.length) return false;
  for (let i = 0; i < address.length; i++) {
    const octet = bytes[start + i]!;
    const code = address.charCodeAt(i);
    if (octet !== code && ((octet ^ code) !== 0x20 || (octet | 0x20) < 0x61 || (octet | 0x20) > 0x7a)) return false;
  }
  return true;
}
