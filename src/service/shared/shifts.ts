// Shifts the CSeq numbers of dialogs in which members have sent requests of their own (service/inserted). Such a
// request takes a number of the party in whose name it is sent. The numbers of all later requests of that party are
// therefore raised towards their receiver (RFC 3261 12.2.1.1 lets them rise by any value), and lowered again in the
// responses.
//
//    raised   CSeq of requests, and of ACK and CANCEL of a raised INVITE; RAck of PRACK (RFC 3262 7.2)
//    lowered  CSeq of their responses
import { BoundedMap } from '../../base/bounded-map.ts';
import type { CallRecord, Leg } from '../../calls/records/call-record.ts';
import { partyTag, peerTag } from '../../calls/records/leg-reader.ts';
import { cseqOf, isByOpener } from '../../calls/records/reoffers.ts';
import { HeaderLine, nextHeader } from '../../sip/headers.ts';
import { isText } from '../../sip/octets.ts';
import { Method, type Scan } from '../../sip/scan.ts';
import type { Rewriter } from './rewriter.ts';

/** Receiver of the requests: a client, or the SIP server. */
export type Receiver = 'party' | 'server';

interface Shift {
  readonly to: Receiver;
  /** Tags of the receiver and of the sender. */
  readonly receiver: string;
  readonly sender: string;
  readonly by: number;
  /** The first number that was raised. Requests before it have reached their receiver as they were. */
  from: number;
}

/** More than the calls whose media one member carries. A new one replaces the call that was entered first. */
const MAX_CALLS = 100_000;

const line = new HeaderLine();

export class Shifts {
  readonly #calls = new BoundedMap<number, readonly Shift[]>(MAX_CALLS);

  /**
   * Takes the shifts of a call from its record. `fresh`: no request has been raised by them yet. Otherwise all later
   * ones than the INVITE have been.
   */
  take(callKey: number, { legs }: CallRecord, fresh: boolean): void {
    const first = (leg: Leg, to: Receiver): number =>
      fresh ? Number.POSITIVE_INFINITY : isByOpener(leg, to) ? cseqOf(leg) + 1 : 0;
    const shifts: Shift[] = [];
    for (const leg of legs) {
      if (!leg.shift) continue;
      const [party, peer] = [partyTag(leg), peerTag(leg)];
      const [toParty, toServer] = leg.shift;
      if (toParty > 0)
        shifts.push({ to: 'party', receiver: party, sender: peer, by: toParty, from: first(leg, 'party') });
      if (toServer > 0)
        shifts.push({ to: 'server', receiver: peer, sender: party, by: toServer, from: first(leg, 'server') });
    }
    if (shifts.length > 0) this.#calls.set(callKey, shifts);
  }

  /** Raises the numbers in a request that leaves for `to`, by `rewriter`. The scan keeps those of its sender. */
  request(callKey: number, to: Receiver, scan: Scan, rewriter: Rewriter): void {
    const shift = this.#find(callKey, to, scan);
    if (!shift) return;
    const { method, cseq } = scan;
    if (method === Method.ACK || method === Method.CANCEL) {
      if (cseq < shift.from) return;
    } else shift.from = Math.min(shift.from, cseq);
    write(scan, rewriter, cseq + shift.by);
    if (method === Method.PRACK) raiseRack(scan, rewriter, shift);
  }

  /**
   * Lowers the number in a response that comes from `to`, by `rewriter`. The scan then has the number of the request's
   * sender, too.
   */
  response(callKey: number, to: Receiver, scan: Scan, rewriter: Rewriter): void {
    const cseq = this.#lowered(callKey, to, scan);
    if (cseq < 0) return;
    write(scan, rewriter, cseq);
    scan.cseq = cseq;
  }

  /** Lowers the number in a request that has left for `to` and came back unsent, by `rewriter`. */
  returned(callKey: number, to: Receiver, scan: Scan, rewriter: Rewriter): void {
    const cseq = this.#lowered(callKey, to, scan);
    if (cseq >= 0) write(scan, rewriter, cseq);
  }

  forget(callKey: number): void {
    this.#calls.delete(callKey);
  }

  clear(): void {
    this.#calls.clear();
  }

  /** Returns the number of the sender; -1 when it was not raised. */
  #lowered(callKey: number, to: Receiver, scan: Scan): number {
    const shift = this.#find(callKey, to, scan);
    const cseq = shift ? scan.cseq - shift.by : -1;
    return shift && cseq >= shift.from ? cseq : -1;
  }

  #find(
    callKey: number,
    to: Receiver,
    { bytes, fromTagStart, fromTagEnd, toTagStart, toTagEnd }: Scan,
  ): Shift | undefined {
    if (this.#calls.size === 0 || toTagStart < 0 || fromTagStart < 0) return undefined;
    return this.#calls
      .get(callKey)
      ?.find(
        (each) =>
          each.to === to &&
          isText(bytes, toTagStart, toTagEnd, each.receiver) &&
          isText(bytes, fromTagStart, fromTagEnd, each.sender),
      );
  }
}

function write({ cseqStart, cseqMethodStart }: Scan, rewriter: Rewriter, cseq: number): void {
  rewriter.replace(cseqStart, cseqMethodStart, `${cseq} `);
}

/** Raises the number of the INVITE in `RAck: response-num CSeq-num Method`. */
function raiseRack({ bytes, headersStart, headersEnd }: Scan, rewriter: Rewriter, { by, from }: Shift): void {
  for (let at = headersStart; nextHeader(bytes, at, headersEnd, line); at = line.lineEnd) {
    const { nameStart, nameEnd, valueStart, valueEnd } = line;
    if (bytes.toString('latin1', nameStart, nameEnd).toLowerCase() !== 'rack') continue;
    const match = /^\d+[ \t]+(\d{1,10})[ \t]/d.exec(bytes.toString('latin1', valueStart, valueEnd));
    const cseq = Number(match?.[1]);
    if (!match || cseq < from) return;
    const [start, end] = match.indices![1]!;
    rewriter.replace(valueStart + start, valueStart + end, String(cseq + by));
    return;
  }
}
