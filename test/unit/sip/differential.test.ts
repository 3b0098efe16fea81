// The scanner against two npm parsers: where all three accept a message, they must find the same dialog and
// transaction.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import sip from 'sip';
import { Parser } from 'sip.js/lib/core/messages/parser.js';
import { message, mutated, options, scanned, text } from './messages.ts';

/** Fields that decide the route of a packet. `head` is method and Request-URI, or the status. */
interface Fields {
  head: string;
  callId: string | null;
  cseq: string;
  branch: string | null;
  fromTag: string | null;
  toTag: string | null;
}

function bySipfarm(bytes: Buffer): Fields | null {
  const { fault, scan } = scanned(bytes);
  if (fault) return null;
  return {
    head: scan.isRequest
      ? `${text(bytes, scan.methodStart, scan.methodEnd)} ${text(bytes, scan.uriStart, scan.uriEnd)}`
      : String(scan.status),
    callId: text(bytes, scan.callIdStart, scan.callIdEnd),
    cseq: `${scan.cseq} ${text(bytes, scan.cseqMethodStart, scan.cseqMethodEnd)}`,
    branch: text(bytes, scan.branchStart, scan.branchEnd),
    fromTag: text(bytes, scan.fromTagStart, scan.fromTagEnd),
    toTag: text(bytes, scan.toTagStart, scan.toTagEnd),
  };
}

interface Params {
  readonly params: { readonly branch?: string | null; readonly tag?: string | null };
}
interface SipMessage {
  readonly method?: string;
  readonly uri?: string;
  readonly status?: number;
  readonly headers: {
    readonly via?: readonly Params[];
    readonly from?: Params;
    readonly to?: Params;
    readonly 'call-id'?: string;
    readonly cseq?: { readonly seq: number; readonly method: string };
  };
}

function bySip(bytes: Buffer): Fields | null {
  const read = sip.parse(bytes.toString('latin1')) as SipMessage | undefined;
  const { via, from, to, cseq, 'call-id': callId } = read?.headers ?? {};
  if (!read || !via?.[0] || !from || !to || !cseq || callId === undefined) return null;
  return {
    head: read.status === undefined ? `${read.method} ${read.uri}` : String(read.status),
    callId: callId.trim(),
    cseq: `${cseq.seq} ${cseq.method}`,
    branch: via[0].params.branch ?? null,
    fromTag: from.params.tag ?? null,
    toTag: to.params.tag ?? null,
  };
}

const silent = { error() {}, warn() {}, log() {}, debug() {} } as unknown as Parameters<typeof Parser.parseMessage>[1];

function bySipJs(bytes: Buffer): Fields | null {
  let read: ReturnType<typeof Parser.parseMessage>;
  const data = bytes.toString('latin1');
  try {
    read = Parser.parseMessage(data, silent);
  } catch {
    return null;
  }
  if (!read?.via || !read.from || !read.to || !read.callId || !read.hasHeader('cseq')) return null;
  const cseq = read.parseHeader('cseq') as { value: number; method: string };
  return {
    head: 'statusCode' in read ? String(read.statusCode) : data.slice(0, data.indexOf('\r\n')).replace(/ [^ ]*$/, ''),
    callId: read.callId,
    cseq: `${cseq.value} ${cseq.method}`,
    branch: read.viaBranch || null,
    fromTag: read.fromTag || null,
    toTag: read.toTag || null,
  };
}

interface Disagreement {
  readonly reason: string;
  readonly oracle: 'sip' | 'sip.js';
  readonly fields: readonly (keyof Fields)[];
  applies(bytes: Buffer): boolean;
  /** A message on which they disagree: when they agree in a later version, the entry is removed. */
  readonly example: Buffer;
}

const KNOWN: readonly Disagreement[] = [
  {
    reason: 'sip loses the parameters of a Via whose sent-by is an IPv6 literal',
    oracle: 'sip',
    fields: ['branch'],
    applies: (bytes) => scanned(bytes).scan.via.hostIsIpv6,
    example: options({ Via: 'SIP/2.0/UDP [2001:db8::1];branch=z9hG4bKx' }),
  },
  {
    reason: 'sip takes the next Via when the sent-protocol of the first is not SIP and a version number',
    oracle: 'sip',
    fields: ['branch'],
    applies: (bytes) => !/^SIP\s*\/\s*\d+\.\d+\s*\//.test(bytes.toString('latin1', scanned(bytes).scan.viaStart)),
    example: options({ Via: 'SAP/2.0/UDP h;branch=z9hG4bKx', v: 'SIP/2.0/UDP i;branch=z9hG4bKy' }),
  },
  {
    reason: 'sip unescapes methods, which RFC 4475 3.1.1.5 forbids',
    oracle: 'sip',
    fields: ['head', 'cseq'],
    applies: (bytes) => /^[^ ]*%|\r\ncseq[^\r]*%/i.test(bytes.toString('latin1')),
    example: options({ CSeq: '1 RE%47IST%45R' }, 'RE%47IST%45R sip:b@h SIP/2.0'),
  },
  {
    reason: 'sip.js takes the last of several Via values in one line for the top one',
    oracle: 'sip.js',
    fields: ['branch'],
    applies: (bytes) => scanned(bytes).scan.viaMore,
    example: options({ Via: 'SIP/2.0/UDP h;branch=z9hG4bKx, SIP/2.0/UDP i;branch=z9hG4bKy' }),
  },
];

/** Returns `theirs` with the values of `ours` in the fields of a known disagreement. */
function excused(bytes: Buffer, oracle: Disagreement['oracle'], ours: Fields, theirs: Fields): Fields {
  const result = { ...theirs };
  for (const known of KNOWN) {
    if (known.oracle === oracle && known.applies(bytes)) Object.assign(result, pick(ours, known.fields));
  }
  return result;
}

function pick(from: Fields, fields: readonly (keyof Fields)[]): Partial<Fields> {
  return Object.fromEntries(fields.map((field) => [field, from[field]]));
}

/**
 * Compares where sip.js, which has the grammar, accepts the message; with sip, which drops broken parameters, where all
 * three accept it. Returns the number of compared parsers (of two).
 */
function compare(bytes: Buffer): number {
  const ours = bySipfarm(bytes);
  const bySipJsRead = ours && bySipJs(bytes);
  if (!ours || !bySipJsRead) return 0;
  assert.deepEqual(ours, excused(bytes, 'sip.js', ours, bySipJsRead));
  const bySipRead = bySip(bytes);
  if (!bySipRead) return 1;
  assert.deepEqual(ours, excused(bytes, 'sip', ours, bySipRead));
  return 2;
}

test('generated messages have the same fields as in sip and sip.js, which accept all of them', () => {
  fc.assert(
    fc.property(message, ({ bytes }) => {
      assert.equal(compare(bytes), 2);
    }),
    { numRuns: 300, seed: 1 },
  );
});

test('mutated messages have the same fields wherever the others accept them', () => {
  let compared = 0;
  const runs = 800;
  fc.assert(
    fc.property(mutated, (bytes) => {
      compared += compare(bytes);
    }),
    { numRuns: runs, seed: 1 },
  );
  assert.ok(compared > runs / 2, `only ${compared} comparisons`);
});

for (const { reason, oracle, fields, applies, example } of KNOWN) {
  test(`the example shows a known disagreement: ${reason}`, () => {
    const ours = bySipfarm(example);
    const theirs = oracle === 'sip' ? bySip(example) : bySipJs(example);
    assert.ok(ours && theirs && applies(example));
    for (const field of fields) assert.notEqual(ours[field], theirs[field]);
    assert.deepEqual(ours, { ...theirs, ...pick(ours, fields) });
  });
}
