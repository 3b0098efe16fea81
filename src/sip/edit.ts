// Collects deletions and insertions over one message, then assembles a fresh Buffer at once. All other octets stay as
// they are.

import { HeaderName } from './header-name.ts';
import { HeaderLine, nextHeader } from './headers.ts';
import { skipBlanks } from './octets.ts';
import type { Scan } from './scan.ts';
import { ViaOutcome } from './via.ts';

/** Most splices per message. It exceeds the number of header lines that the scanner accepts. */
export const MAX_SPLICES = 1024;

const line = new HeaderLine();

/** Octets to insert, or text of characters up to U+00FF, one octet each. */
export type Piece = Uint8Array | string;

/**
 * The splices of one message. Reuse one instance: `begin` clears the previous message. No method throws.
 * More than MAX_SPLICES, or a range outside the message, makes the edit void; `apply` then returns undefined.
 */
export class Edit {
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  #count = 0;
  /** True after a splice that could not be taken: the message cannot be assembled. */
  #void = false;
  readonly #at: number[] = [];
  readonly #until: number[] = [];
  readonly #pieces: Piece[] = [];

  /** Clears the splices and starts with `bytes[start..end)`. */
  begin(bytes: Buffer, start: number, end: number): this {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#count = 0;
    this.#void = false;
    return this;
  }

  /** Clears the splices and starts with the message of `scan`. */
  beginScan(scan: Scan): this {
    return this.begin(scan.bytes, scan.start, scan.end);
  }

  /** Deletes `[start, end)`. Overlapping ranges are deleted once. */
  delete(start: number, end: number): this {
    return this.replace(start, end, '');
  }

  /**
   * Inserts `piece` before the octet at `at`, even when that octet is deleted. Pieces at one offset keep their order.
   */
  insert(at: number, piece: Piece): this {
    return this.replace(at, at, piece);
  }

  /** Replaces `[start, end)` by `piece`. Splices may be given in any order. */
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

  /** Returns the octets of the result; Infinity when there is none. */
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

  /** Returns the edited message in a new Buffer; undefined when it would exceed `most` octets, or the edit is void. */
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

  /**
   * Deletes the top Via value, and its header line when no other value is in it. Does nothing without a readable Via.
   */
  popVia(scan: Scan): this {
    if (scan.viaStart < 0) return this;
    return scan.viaMore
      ? this.delete(scan.viaStart, skipBlanks(scan.bytes, scan.nextViaStart, scan.nextViaEnd))
      : this.delete(scan.viaLineStart, scan.viaLineEnd);
  }

  /**
   * Writes the true source into the top Via of a request (RFC 3261 18.2.1, RFC 3581 4).
   * Adds `received` when sent-by names another address or `rport` is present, and the value of `rport`.
   * Replaces what the sender put there itself.
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

  /** Sets Max-Forwards; adds the header when there is none. */
  setMaxForwards(scan: Scan, value: number): this {
    return scan.maxForwardsStart < 0
      ? this.appendHeader(scan, `Max-Forwards: ${value}`)
      : this.replace(scan.maxForwardsStart, scan.maxForwardsEnd, String(value));
  }

  /** Inserts a header line (without CRLF) after all others. */
  appendHeader(scan: Scan, line: string): this {
    return this.insert(scan.headersEnd, `${line}\r\n`);
  }

  /**
   * Sets Content-Length (RFC 3261 20.14): the first such header gets the new value, and others are deleted. Adds the
   * header where it is missing.
   */
  setContentLength(scan: Scan, octets: number): this {
    const { bytes, headersStart, headersEnd } = scan;
    if (scan.contentLengthLines === 0) return this.appendHeader(scan, `Content-Length: ${octets}`);
    if (scan.contentLengthLines > 1)
      for (let at = headersStart; nextHeader(bytes, at, headersEnd, line); at = line.lineEnd)
        if (line.name === HeaderName.CONTENT_LENGTH && line.valueStart !== scan.contentLengthStart)
          this.delete(line.lineStart, line.lineEnd);
    return this.replace(scan.contentLengthStart, scan.contentLengthEnd, String(octets));
  }

  /**
   * Replaces the body and sets Content-Length. Adds the empty line of a datagram where it is missing. Content-Type
   * stays.
   */
  setBody(scan: Scan, body: Piece): this {
    const { headersEnd, bodyStart, end } = scan;
    this.setContentLength(scan, body.length);
    if (bodyStart === headersEnd) this.insert(bodyStart, '\r\n');
    return this.replace(bodyStart, end, body);
  }
}

/**
 * Returns true when `[start, end)` is the address literal `address`, in either case of letters.
 * Another spelling of one IPv6 address counts as another address.
 */
function namesAddress(bytes: Uint8Array, start: number, end: number, address: string): boolean {
  if (end - start !== address.length) return false;
  for (let i = 0; i < address.length; i++) {
    const octet = bytes[start + i]!;
    const code = address.charCodeAt(i);
    if (octet !== code && ((octet ^ code) !== 0x20 || (octet | 0x20) < 0x61 || (octet | 0x20) > 0x7a)) return false;
  }
  return true;
}
