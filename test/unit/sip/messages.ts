// Messages for the tests of src/sip: texts with CRLF, generated requests, and mutations of them.
import fs from 'node:fs';
import fc from 'fast-check';
import { Scan, type ScanFault, scan } from '../../../src/sip/scan.ts';

export const TORTURE_FOLDER = new URL('../../torture/rfc4475/', import.meta.url);

/** Returns one RFC 4475 message, byte for byte. */
export function torture(name: string): Buffer {
  return fs.readFileSync(new URL(`${name}.dat`, TORTURE_FOLDER));
}

/** Returns the lines joined and ended by CRLF; one octet per character. */
export function crlf(...lines: string[]): Buffer {
  return Buffer.from(lines.map((line) => `${line}\r\n`).join(''), 'latin1');
}

/** Returns a complete OPTIONS request. `changes` replace or add header lines by name; undefined removes a line. */
export function options(changes: Record<string, string | undefined> = {}, startLine?: string, body = ''): Buffer {
  const headers: Record<string, string | undefined> = {
    Via: 'SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;rport',
    'Max-Forwards': '70',
    From: '<sip:alice@example.com>;tag=from1',
    To: '<sip:bob@example.com>',
    'Call-ID': 'call1@192.0.2.1',
    CSeq: '1 OPTIONS',
    'Content-Length': String(body.length),
    ...changes,
  };
  const lines = Object.entries(headers).filter(([, value]) => value !== undefined);
  return Buffer.concat([
    crlf(startLine ?? 'OPTIONS sip:bob@example.com SIP/2.0', ...lines.map(([name, value]) => `${name}: ${value}`), ''),
    Buffer.from(body, 'latin1'),
  ]);
}

/** Scans all of `bytes` with its own scan. */
export function scanned(bytes: Buffer, stream = false): { fault: ScanFault | null; scan: Scan } {
  const out = new Scan();
  return { fault: scan(bytes, 0, bytes.length, stream, out), scan: out };
}

/** Returns the octets of a range as text, null when absent. */
export function text(bytes: Buffer, start: number, end: number): string | null {
  return start < 0 ? null : bytes.toString('latin1', start, end);
}

const TOKEN_CHARS = "abcdefXYZ0189-.!%*_+`'~";
const token = fc.string({ unit: fc.constantFrom(...TOKEN_CHARS), minLength: 1, maxLength: 24 });
const word = fc.string({
  unit: fc.constantFrom(...TOKEN_CHARS, '(', ')', ':', '/', '?', '{', '}'),
  minLength: 1,
  maxLength: 30,
});
const host = fc.constantFrom(
  '192.0.2.7',
  'pc33.example.com',
  '[2001:db8::9]',
  'a-b.example.net:5070',
  '[2001:db8::1]:5061',
);
const displayName = fc.constantFrom('', 'Alice ', '"Bob; tag=x <sip:no@no>" ', '"quote \\" ;tag=q" ', 'two words ');
const method = fc.constantFrom(
  'INVITE',
  'ACK',
  'BYE',
  'CANCEL',
  'REGISTER',
  'OPTIONS',
  'PRACK',
  'SUBSCRIBE',
  'NOTIFY',
  'UPDATE',
  'INFO',
  'REFER',
  'MESSAGE',
  'PUBLISH',
  'NEWMETHOD',
);

/** Parts of a generated message. */
export interface Parts {
  readonly bytes: Buffer;
  readonly isRequest: boolean;
  readonly method: string;
  readonly status: number;
  readonly callId: string;
  readonly cseq: number;
  readonly branch: string;
  readonly fromTag: string;
  readonly toTag: string | null;
}

interface Raw {
  isRequest: boolean;
  method: string;
  status: number;
  callId: string;
  cseq: number;
  branch: string;
  fromTag: string;
  toTag: string | null;
  hosts: string[];
  joined: boolean;
  names: boolean;
  blanks: boolean;
  display: string;
  body: string;
  order: number[];
}

function build(raw: Raw): Parts {
  const blank = raw.blanks ? '  ' : '';
  const [via, from, to, callId] = raw.names ? ['v', 'F', 't', 'i'] : ['Via', 'from', 'To', 'CALL-ID'];
  const values = raw.hosts.map(
    (sentBy, i) => `SIP/2.0/UDP ${sentBy};branch=${i === 0 ? raw.branch : `z9hG4bKlow${i}`}`,
  );
  const vias = raw.joined
    ? [`${via}${blank}: ${values.join(`${blank},${blank}`)}`]
    : values.map((v) => `${via}${blank}:${v}`);
  const others = [
    `${from}${blank}: ${raw.display}<sip:alice@example.com;tag=uri>${blank};${blank}tag=${raw.fromTag}`,
    `${to}: ${raw.display}<sip:bob@example.com>${raw.toTag === null ? '' : `;x=1;tag=${raw.toTag}`}`,
    `${callId}: ${raw.callId}`,
    `CSeq: ${raw.cseq}${blank} ${raw.method}`,
    'Max-Forwards: 70',
    'Subject: a,b;c "d',
    `${raw.names ? 'l' : 'Content-Length'}: ${raw.body.length}`,
  ];
  const shuffled = others.map((header, i) => ({ header, rank: raw.order[i] ?? 0 })).sort((a, b) => a.rank - b.rank);
  const startLine = raw.isRequest
    ? `${raw.method} sip:bob@example.com;lr SIP/2.0`
    : `SIP/2.0 ${raw.status} Some Reason`;
  const head = crlf(startLine, ...vias, ...shuffled.map((entry) => entry.header), '');
  return { ...raw, status: raw.isRequest ? 0 : raw.status, bytes: Buffer.concat([head, Buffer.from(raw.body)]) };
}

/** Well-formed requests and responses. */
export const message: fc.Arbitrary<Parts> = fc
  .record({
    isRequest: fc.boolean(),
    method,
    status: fc.integer({ min: 100, max: 699 }),
    callId: fc.tuple(word, word).map(([a, b]) => `${a}@${b}`),
    cseq: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
    branch: token.map((t) => `z9hG4bK${t}`),
    fromTag: token,
    toTag: fc.option(token),
    hosts: fc.array(host, { minLength: 1, maxLength: 5 }),
    joined: fc.boolean(),
    names: fc.boolean(),
    blanks: fc.boolean(),
    display: displayName,
    body: fc.constantFrom('', 'v=0\r\n', 'x'.repeat(700)),
    order: fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 7, maxLength: 7 }),
  })
  .map(build);

/** Octets that often break parsers. */
const hostile = fc.constantFrom(
  0,
  9,
  10,
  13,
  22,
  32,
  34,
  39,
  44,
  58,
  59,
  60,
  61,
  62,
  64,
  91,
  92,
  93,
  127,
  200,
  255,
  48,
  57,
  65,
  97,
);

type Change = readonly [
  where: number,
  kind: 'set' | 'cut' | 'double' | 'insert' | 'line twice' | 'no line' | 'fold',
  octet: number,
];

function change(bytes: Buffer, [where, kind, octet]: Change): Buffer {
  const at = where % bytes.length;
  const splice = (start: number, end: number, piece: Uint8Array): Buffer =>
    Buffer.concat([bytes.subarray(0, start), piece, bytes.subarray(end)]);
  const lineStart = bytes.subarray(0, at).lastIndexOf('\r\n') + 2;
  const lineEnd = bytes.indexOf('\r\n', at) + 2;
  switch (kind) {
    case 'set':
      return splice(at, at + 1, Buffer.of(octet));
    case 'cut':
      return splice(at, at + 1, Buffer.of());
    case 'double':
      return splice(at, at, bytes.subarray(at, at + 1));
    case 'insert':
      return splice(at, at, Buffer.of(octet));
    case 'fold':
      return splice(at, at, Buffer.from('\r\n\t'));
    case 'line twice':
      return lineStart > 1 && lineEnd > lineStart
        ? splice(lineStart, lineStart, bytes.subarray(lineStart, lineEnd))
        : bytes;
    case 'no line':
      return lineStart > 1 && lineEnd > lineStart ? splice(lineStart, lineEnd, Buffer.of()) : bytes;
  }
}

const changes: fc.Arbitrary<Change[]> = fc.array(
  fc.tuple(fc.nat(), fc.constantFrom('set', 'cut', 'double', 'insert', 'fold', 'line twice', 'no line'), hostile),
  { minLength: 1, maxLength: 4 },
);
const tortureMessage = fc.constantFrom(...fs.readdirSync(TORTURE_FOLDER)).map((file) => torture(file.slice(0, -4)));

/** A generated or RFC 4475 message with a few octets or lines changed, removed or repeated. */
export const mutated: fc.Arbitrary<Buffer> = fc
  .tuple(
    fc.oneof({ weight: 4, arbitrary: message.map((parts) => parts.bytes) }, { weight: 1, arbitrary: tortureMessage }),
    changes,
  )
  .map(([bytes, list]) => list.reduce(change, bytes));
