// Encodes a confirmed call's record as octets: the values of its JSON without field names, one octet per character of
// its texts.
//
//    method (1), since (6), epoch (4), length and Call-ID (2 + n), number of legs (1)
//    per leg: from, plus 2 when it has moved, plus 4 behind a NAT, plus 8 with shifts of CSeq (1), member (2),
//    incarnation (3), listener (1), connection (4), target plus 1 (4), port (2), length and address (1 + n),
//    length and request (2 + n), 1 + length and answer (2 + n; 0 = no answer), the two shifts of CSeq where there are any (8)
import { type Leg, RECORD_METHODS, type RecordMethod } from './call-record.ts';

/** The fields of a record that differ between the confirmed calls of a member. */
export interface RecordBody {
  readonly method: RecordMethod;
  readonly callId: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Epoch in which the owner got the call. */
  readonly epoch: number;
  readonly legs: readonly Leg[];
}

const FIXED_OCTETS = 14;
const LEG_OCTETS = 22;
const SIDES = ['client', 'server'] as const;
const MOVED = 2;
const NAT = 4;
const SHIFTED = 8;
const SHIFT_OCTETS = 8;

/**
 * Returns the octets of the body; Infinity when it cannot be written: a text has characters above U+00FF, or `since`
 * does not fit into 48 bits.
 */
export function bodyLength({ callId, since, legs }: RecordBody): number {
  let length = FIXED_OCTETS + callId.length;
  let plain = isPlain(callId) && since >= 0 && since < 2 ** 48;
  for (const { flow, request, answer = '', shift } of legs) {
    length += (shift ? SHIFT_OCTETS : 0) + LEG_OCTETS + flow.address.length + request.length + answer.length;
    plain &&= isPlain(flow.address) && isPlain(request) && isPlain(answer);
  }
  return plain ? length : Number.POSITIVE_INFINITY;
}

/** Writes the body at `at`, where `out` must have room for `bodyLength`. Returns the offset behind it. */
export function writeBody({ method, callId, since, epoch, legs }: RecordBody, out: Buffer, at: number): number {
  let to = out.writeUInt8(RECORD_METHODS.indexOf(method), at);
  to = out.writeUIntBE(since, to, 6);
  to = out.writeUInt32BE(epoch, to);
  to = writeText(callId, 0, out, to);
  to = out.writeUInt8(legs.length, to);
  for (const { from, flow, moved, request, answer, shift } of legs) {
    const flags = (moved ? MOVED : 0) + (flow.nat ? NAT : 0) + (shift ? SHIFTED : 0);
    to = out.writeUInt8(SIDES.indexOf(from) + flags, to);
    to = out.writeUInt16BE(flow.member, to);
    to = out.writeUIntBE(flow.incarnation, to, 3);
    to = out.writeUInt8(flow.listener, to);
    to = out.writeUInt32BE(flow.connection, to);
    to = out.writeUInt32BE(flow.target + 1, to);
    to = out.writeUInt16BE(flow.port, to);
    to = out.writeUInt8(flow.address.length, to);
    to += out.write(flow.address, to, 'latin1');
    to = writeText(request, 0, out, to);
    to = answer === undefined ? out.writeUInt16BE(0, to) : writeText(answer, 1, out, to);
    for (const each of shift ?? []) to = out.writeUInt32BE(each, to);
  }
  return to;
}

/** Reads a body that `writeBody` has written. */
export function readBody(octets: Buffer, start: number): RecordBody {
  let at = start;
  const number = (width: number): number => {
    at += width;
    return octets.readUIntBE(at - width, width);
  };
  const text = (length: number): string => {
    at += length;
    return octets.toString('latin1', at - length, at);
  };
  const method = RECORD_METHODS[number(1)]!;
  const since = number(6);
  const epoch = number(4);
  const callId = text(number(2));
  const legs = Array.from({ length: number(1) }, (): Leg => {
    const head = number(1);
    const [member, incarnation, listener, connection] = [number(2), number(3), number(1), number(4)];
    const [target, port, nat] = [number(4) - 1, number(2), (head & NAT) !== 0];
    const flow = { member, incarnation, listener, connection, address: text(number(1)), port, target, nat };
    const request = text(number(2));
    const answered = number(2);
    const from = SIDES[head & 1]!;
    const moved = (head & MOVED) !== 0 && ({ moved: true } as const);
    const answer = answered > 0 && { answer: text(answered - 1) };
    const shift = (head & SHIFTED) !== 0 && { shift: [number(4), number(4)] as const };
    return { from, flow, ...moved, request, ...answer, ...shift };
  });
  return { method, callId, since, epoch, legs };
}

function writeText(text: string, more: number, out: Buffer, at: number): number {
  const to = out.writeUInt16BE(text.length + more, at);
  return to + out.write(text, to, 'latin1');
}

function isPlain(text: string): boolean {
  return !/[^\0-\xff]/.test(text);
}
