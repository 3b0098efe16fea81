// Results of the scanner for all RFC 4475 messages, as datagrams and, where it differs, on a stream.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { faultAnswer, type ScanFault } from '../../../src/sip/scan.ts';
import { parseVia, Via } from '../../../src/sip/via.ts';
import { scanned, TORTURE_FOLDER, text, torture } from './messages.ts';

type Fate = 'pass' | readonly [fault: ScanFault, answer: 400 | 501 | 505 | 'drop'];

const FATES: Record<string, Fate> = {
  // 3.1.1, valid syntax
  wsinv: 'pass',
  intmeth: 'pass',
  esc01: 'pass',
  escnull: 'pass',
  esc02: 'pass',
  lwsdisp: 'pass',
  longreq: 'pass',
  dblreq: 'pass',
  semiuri: 'pass',
  transports: 'pass',
  mpart01: 'pass',
  unreason: 'pass',
  noreason: 'pass',
  // 3.1.2, invalid syntax
  badinv01: ['via', 400],
  clerr: ['content-length-beyond', 400],
  ncl: ['content-length', 400],
  scalar02: ['cseq', 400],
  scalarlg: ['cseq', 'drop'],
  quotbal: 'pass',
  ltgtruri: ['start-line', 400],
  lwsruri: ['start-line', 400],
  lwsstart: ['start-line', 400],
  trws: ['start-line', 400],
  escruri: 'pass',
  baddate: 'pass',
  regbadct: 'pass',
  badaspec: 'pass',
  baddn: 'pass',
  badvers: ['version', 505],
  mismatch01: ['method-mismatch', 400],
  mismatch02: ['unknown-method', 501],
  bigcode: ['status', 'drop'],
  // 3.2 and 3.3
  badbranch: 'pass',
  insuf: ['missing-header', 400],
  unkscm: 'pass',
  novelsc: 'pass',
  unksm2: 'pass',
  bext01: 'pass',
  invut: 'pass',
  regaut01: 'pass',
  multi01: ['duplicate-header', 400],
  mcl01: ['content-length', 400],
  bcast: 'pass', // dropped by the member that forwards the response: see below
  zeromf: 'pass',
  cparam01: 'pass',
  cparam02: 'pass',
  regescrt: 'pass',
  sdp01: 'pass',
  // 3.4 and the file that no section names
  inv2543: 'pass',
  test: ['start-line', 'drop'],
};

const STREAM_FATES: Record<string, Fate> = {
  baddn: ['truncated', 400],
  inv2543: ['content-length-missing', 400],
};

function fate(name: string, stream: boolean): Fate {
  const { fault, scan } = scanned(torture(name), stream);
  return fault === null ? 'pass' : [fault, faultAnswer(fault, scan) || 'drop'];
}

test('every RFC 4475 message has an entry in the table', () => {
  const files = fs.readdirSync(TORTURE_FOLDER).filter((file) => file.endsWith('.dat'));
  assert.deepEqual(files.map((file) => file.slice(0, -4)).sort(), Object.keys(FATES).sort());
  assert.equal(files.length, 50);
});

for (const [name, expected] of Object.entries(FATES)) {
  test(`${name}.dat ends with ${expected === 'pass' ? 'acceptance' : expected.join(', ')}`, () => {
    assert.deepEqual(fate(name, false), expected);
    assert.deepEqual(fate(name, true), STREAM_FATES[name] ?? expected);
  });
}

interface Fields {
  readonly method?: string;
  readonly callId: string;
  readonly cseq: number;
  readonly branch: string | null;
  readonly fromTag: string | null;
  readonly toTag: string | null;
}

const FIELDS: Record<string, Fields> = {
  wsinv: {
    method: 'INVITE',
    callId: 'wsinv.ndaksdj@192.0.2.1',
    cseq: 9,
    branch: '390skdjuw',
    fromTag: '98asjd8',
    toTag: '1918181833n',
  },
  intmeth: {
    method: "!interesting-Method0123456789_*+`.%indeed'~",
    callId: 'intmeth.word%ZK-!.*_+\'@word`~)(><:\\/"][?}{',
    cseq: 139122385,
    branch: "z9hG4bK-.!%66*_+`'~",
    fromTag: "_token~1'+`*%!-.",
    toTag: null,
  },
  esc02: {
    method: 'RE%47IST%45R',
    callId: 'esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf',
    cseq: 29344,
    branch: 'z9hG4bK209%fzsnel234',
    fromTag: 'f232jadfj23',
    toTag: null,
  },
  noreason: {
    callId: 'noreason.asndj203insdf99223ndf',
    cseq: 35,
    branch: 'z9hG4bK2398ndaoe',
    fromTag: '39ansfi3',
    toTag: '902jndnke3',
  },
  badbranch: {
    method: 'OPTIONS',
    callId: 'badbranch.sadonfo23i420jv0as0derf3j3n',
    cseq: 8,
    branch: 'z9hG4bK',
    fromTag: '33242',
    toTag: null,
  },
  inv2543: {
    method: 'INVITE',
    callId: 'inv2543.1717@ift.client.example.com',
    cseq: 56,
    branch: null,
    fromTag: null,
    toTag: null,
  },
  quotbal: {
    method: 'INVITE',
    callId: 'quotbal.aksdj',
    cseq: 8,
    branch: 'z9hG4bKkdjuw39234',
    fromTag: '93334',
    toTag: null,
  },
};

for (const [name, expected] of Object.entries(FIELDS)) {
  test(`${name}.dat has the octets of the fields that find the owner`, () => {
    const bytes = torture(name);
    const { scan } = scanned(bytes);
    assert.deepEqual(
      {
        ...(scan.isRequest && { method: text(bytes, scan.methodStart, scan.methodEnd) }),
        callId: text(bytes, scan.callIdStart, scan.callIdEnd),
        cseq: scan.cseq,
        branch: text(bytes, scan.branchStart, scan.branchEnd),
        fromTag: text(bytes, scan.fromTagStart, scan.fromTagEnd),
        toTag: text(bytes, scan.toTagStart, scan.toTagEnd),
      },
      expected,
    );
  });
}

test('dblreq.dat loses the INVITE after its REGISTER', () => {
  const bytes = torture('dblreq');
  const { scan } = scanned(bytes);
  assert.equal(scan.contentLength, 0);
  assert.equal(scan.end, scan.bodyStart);
  assert.ok(bytes.toString('latin1', scan.end).trimStart().startsWith('INVITE '));
});

test('bcast.dat has a second Via, so that its sender can refuse it', () => {
  const bytes = torture('bcast');
  const { scan } = scanned(bytes);
  const next = new Via();
  parseVia(bytes, scan.nextViaStart, scan.nextViaEnd, next);
  assert.equal(text(bytes, next.hostStart, next.hostEnd), '255.255.255.255');
});

test('wsinv.dat has comma-joined and folded Via values, which are separated', () => {
  const bytes = torture('wsinv');
  const { scan } = scanned(bytes);
  const via = new Via();
  parseVia(bytes, scan.nextViaStart, scan.nextViaEnd, via);
  assert.equal(scan.viaMore, false);
  assert.equal(text(bytes, via.hostStart, via.hostEnd), 'spindle.example.com');
  assert.equal(text(bytes, via.branchStart, via.branchEnd), 'z9hG4bK9ikj8');
  parseVia(bytes, via.next + 1, scan.nextViaEnd, via);
  assert.equal(text(bytes, via.hostStart, via.hostEnd), '192.168.255.111');
  assert.equal(text(bytes, via.branchStart, via.branchEnd), 'z9hG4bK30239');
});

test('scalar02.dat has a Max-Forwards above 255, which counts as absent and can be replaced', () => {
  const { scan } = scanned(torture('scalar02'));
  assert.equal(scan.maxForwards, -1);
  assert.ok(scan.maxForwardsStart > 0);
});
