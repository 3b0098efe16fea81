// Shows the contents of a token, a branch or a relay frame, and whether its MAC is right.
import { base32Decode } from '../base/base32.ts';
import { formatEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import { PROXY_SIGNATURE } from '../base/proxy-signature.ts';
import { readWay } from '../ownership/flow-token.ts';
import type { Keyring } from '../ownership/keyring.ts';
import { readToken, Token, TokenKind } from '../ownership/token.ts';
import { emptyWay, type Flow } from '../packet/flow.ts';
import { SecondChance } from '../packet/packet.ts';
import { decodeFrame, Frame, FrameKind, UNBOUND } from '../relay/envelope.ts';

/** `verified`: null when there were no keys to check with. */
interface DecodedToken {
  readonly what: 'token' | 'branch';
  readonly text: string;
  readonly verified: boolean | null;
  readonly keyId: number;
  readonly kind: string;
  readonly member: number;
  readonly incarnation: number;
  /** Remaining octets of the token in hexadecimal; a flow is also shown by `flow`. */
  readonly value: string;
  readonly flow?: Pick<Flow, 'listener' | 'connection' | 'address' | 'port'>;
  /** The party is behind a NAT. */
  readonly behindNat?: boolean;
}

/** Fields of a relay frame by name; the message itself as text. */
interface DecodedFrame {
  readonly what: 'frame';
  readonly verified: boolean | null;
  readonly fields: Readonly<Record<string, string | number>>;
  readonly message: string;
}

export type Decoded = DecodedToken | DecodedFrame;

/** Characters of the longest frame in hexadecimal: 64 KiB of message and its head. */
const MAX_TEXT = 140_000;
/**
 * Incarnations tried to find the one that a frame is bound to. Bounded because a running member answers this request,
 * too.
 */
const MOST_STARTS = 65_536;
/** First octets of every frame: the signature of the PROXY protocol, version 2. */
const FRAME_HEX = Buffer.from(PROXY_SIGNATURE).toString('hex');
const TOKEN = /(z9hG4bK)?(sf[0-9a-v]{24,})(?![0-9a-z])/i;

function nameOf(names: Readonly<Record<string, number>>, value: number): string {
  return Object.entries(names).find(([, known]) => known === value)?.[0] ?? `unknown (${value})`;
}

/** Reads the fields of a token without checking its MAC. Returns false when it is too short or of another version. */
function readUnchecked(text: Buffer, token: Token): boolean {
  const octets = base32Decode(text, 2, text.length, token.octets);
  if (octets < 15 || token.octets[0]! >>> 4 !== 1) return false;
  const [head, kind, number1, number2, start1, start2, start3] = token.octets as unknown as number[];
  token.keyId = head! & 15;
  token.valueEnd = octets - 8;
  token.kind = kind as TokenKind;
  token.member = (number1! << 8) | number2!;
  token.incarnation = (start1! << 16) | (start2! << 8) | start3!;
  return true;
}

function decodeToken(branch: boolean, text: string, keys: Keyring | undefined): DecodedToken | undefined {
  const token = new Token();
  const bytes = Buffer.from(text, 'latin1');
  const check = keys ? readToken(keys, bytes, 0, bytes.length, token) : undefined;
  if (check !== 'valid' && !readUnchecked(bytes, token)) return undefined;
  const way = emptyWay();
  const isFlow = readWay(token, way);
  const { listener, connection, address, port } = way;
  return {
    what: branch ? 'branch' : 'token',
    text,
    verified: check === undefined ? null : check === 'valid',
    keyId: token.keyId,
    kind: nameOf(TokenKind, token.kind),
    member: token.member,
    incarnation: token.incarnation,
    value: Buffer.from(token.octets.subarray(token.valueStart, token.valueEnd)).toString('hex'),
    ...(isFlow && { flow: { listener, connection, address, port } }),
    ...(isFlow && way.target >= 0 && { behindNat: way.nat }),
  };
}

function place(address: string, port: number): string {
  return formatEndpoint({ address, port });
}

/**
 * Returns the receiver's incarnation that the frame is bound to; its low 8 bits are `low`. undefined when the MAC
 * matches no tried incarnation.
 */
function boundTo(bytes: Buffer, keys: Keyring, low: number): number | undefined {
  for (let bound = low; bound < MOST_STARTS; bound += 256)
    if (decodeFrame(bytes, 0, bytes.length, keys, bound, new Frame()) === null) return bound;
  return undefined;
}

function decodeFrameText(hex: string, keys: Keyring | undefined): DecodedFrame | undefined {
  if (hex.length % 2 !== 0 || !/^[0-9a-f]+$/i.test(hex)) return undefined;
  const bytes = Buffer.from(hex, 'hex');
  const frame = new Frame();
  if (decodeFrame(bytes, 0, bytes.length, undefined, UNBOUND, frame) !== null) return undefined;
  const bound = keys && boundTo(bytes, keys, frame.bound);
  return {
    what: 'frame',
    verified: keys ? bound !== undefined : null,
    fields: {
      version: frame.version,
      kind: nameOf(FrameKind, frame.kind),
      keyId: frame.keyId,
      secondChance: nameOf(SecondChance, frame.secondChance),
      hops: frame.hops,
      sender: frame.sender,
      senderIncarnation: frame.senderIncarnation,
      receiver: frame.receiver,
      ...(bound !== undefined && { bound }),
      ingress: frame.ingress,
      ingressIncarnation: frame.ingressIncarnation,
      listener: frame.listener,
      connection: frame.connection,
      epoch: frame.epoch,
      sequence: frame.sequence,
      source: place(frame.address, frame.port),
      local: place(frame.localAddress, frame.localPort),
    },
    message: bytes.toString('utf8', frame.start, frame.end),
  };
}

/**
 * Returns the meaning of `text`: a token, a branch, a text that contains one (a Via or Record-Route line), or a relay
 * frame in hexadecimal. Blanks and colons between the octets are skipped. Without `keys` nothing is verified. Throws
 * SF_DECODE_FAILED.
 */
export function decode(text: string, keys?: Keyring): Decoded {
  if (text.length > MAX_TEXT) throw new SipfarmError('SF_DECODE_FAILED', 'the text is longer than any relay frame');
  const hex = text.replace(/[\s:]/g, '');
  if (hex.slice(0, FRAME_HEX.length).toLowerCase() === FRAME_HEX) {
    const frame = decodeFrameText(hex, keys);
    if (frame) return frame;
    throw new SipfarmError(
      'SF_DECODE_FAILED',
      'the text begins like a relay frame, but is truncated, changed or not hexadecimal',
    );
  }
  const match = TOKEN.exec(text);
  const token = match && decodeToken(match[1] !== undefined, match[2]!, keys);
  if (token) return token;
  throw new SipfarmError(
    'SF_DECODE_FAILED',
    'the text contains neither a token, nor a branch with one, nor a relay frame in hexadecimal',
  );
}
