// Answers STUN Binding requests on a SIP port (RFC 5626 4.4.2, RFC 5389). Pure.
import { addressOctets } from '../base/address-octets.ts';

const HEADER_OCTETS = 20;
const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const XOR_MAPPED_ADDRESS = 0x0020;
/** First attribute that a receiver may ignore when it does not understand it (RFC 5389 15). */
const OPTIONAL_ATTRIBUTES = 0x8000;
/** USERNAME, MESSAGE-INTEGRITY, REALM, NONCE, PADDING: understood, but without meaning here. */
const IGNORED_ATTRIBUTES: ReadonlySet<number> = new Set([0x0006, 0x0008, 0x0014, 0x0015, 0x0026]);

/**
 * Returns the Binding success response to `bytes[start..end)`, a datagram of class `stun` from `address` (IP literal)
 * and `port`. Returns null in three cases:
 * - It is no Binding request.
 * - It carries an attribute that must be understood and is not.
 * - The answer would be larger than the request. Its source is not verified, so an answer never multiplies octets.
 */
export function answerStun(bytes: Buffer, start: number, end: number, address: string, port: number): Buffer | null {
  if (bytes.readUInt16BE(start) !== BINDING_REQUEST || !attributesKnown(bytes, start + HEADER_OCTETS, end)) return null;
  const octets = addressOctets(address);
  const length = HEADER_OCTETS + 8 + octets.length;
  if (length > end - start) return null;
  const answer = Buffer.allocUnsafe(length);
  answer.writeUInt16BE(BINDING_SUCCESS, 0);
  answer.writeUInt16BE(length - HEADER_OCTETS, 2);
  // Cookie and transaction id. Address and port are XORed with them.
  bytes.copy(answer, 4, start + 4, start + HEADER_OCTETS);
  answer.writeUInt16BE(XOR_MAPPED_ADDRESS, 20);
  answer.writeUInt16BE(4 + octets.length, 22);
  answer[24] = 0;
  answer[25] = octets.length === 4 ? 1 : 2;
  answer.writeUInt16BE(port ^ answer.readUInt16BE(4), 26);
  for (let i = 0; i < octets.length; i++) answer[28 + i] = octets[i]! ^ answer[4 + i]!;
  return answer;
}

function attributesKnown(bytes: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end) {
    if (end - at < 4) return false;
    const type = bytes.readUInt16BE(at);
    if (type < OPTIONAL_ATTRIBUTES && !IGNORED_ATTRIBUTES.has(type)) return false;
    at += 4 + ((bytes.readUInt16BE(at + 2) + 3) & ~3);
  }
  return at === end;
}
