import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { findSdp } from '../../../src/sdp/body.ts';

const SDP = 'v=0\r\ns=-\r\n';

function find(contentType: string, body: string): string | undefined {
  const bytes = Buffer.from(`before${body}after`);
  const found = findSdp(contentType, bytes, 6, 6 + body.length);
  return found && bytes.toString('latin1', found.start, found.end);
}

const part = (type: string, body: string, more = ''): string => `Content-Type: ${type}\r\n${more}\r\n${body}\r\n`;
const ISUP = part('application/isup; version=nxv3', '\x01\x02');
const mixed = (...parts: string[]): string => `${parts.map((each) => `--b1\r\n${each}`).join('')}--b1--\r\n`;

describe('a session description is found in', () => {
  for (const type of ['application/sdp', 'Application/SDP', ' application/sdp ; charset=utf-8'])
    test(`a body of type "${type}"`, () => assert.equal(find(type, SDP), SDP));

  for (const boundary of ['boundary=b1', 'Boundary = "b1"', 'charset=x; boundary=b1; foo=bar'])
    test(`a part of a multipart body with ${boundary}`, () => {
      assert.equal(find(`multipart/mixed; ${boundary}`, mixed(ISUP, part('application/sdp', SDP))), SDP);
    });

  test('the first part, behind a preamble', () => {
    const body = `preamble --b1\r\n${mixed(part('application/sdp;x=y', SDP), ISUP)}`;
    assert.equal(find('multipart/mixed;boundary=b1', body), SDP);
  });

  test('a part with LF line ends, other header lines and folds', () => {
    const body =
      '--b1\nContent-Disposition: session;\n handling=required\ncontent-type :\n application/sdp\n\nv=0\n\n--b1--';
    assert.equal(find('multipart/mixed;boundary=b1', body), 'v=0\n');
  });

  test('a part that is not encoded, whose header says so', () => {
    const body = mixed(part('application/sdp', SDP, 'Content-Transfer-Encoding: 8bit\r\n'));
    assert.equal(find('multipart/mixed;boundary=b1', body), SDP);
  });
});

describe('no session description is found in', () => {
  for (const [title, type, body] of [
    ['an empty body', 'application/sdp', ''],
    ['a body of another type', 'application/isup', SDP],
    ['a body of a longer type', 'application/sdpx', SDP],
    ['a fragment for trickle ICE (RFC 8840)', 'application/trickle-ice-sdpfrag', SDP],
    ['a multipart body without boundary', 'multipart/mixed', mixed(part('application/sdp', SDP))],
    ['a part with no end', 'multipart/mixed;boundary=b1', `--b1\r\n${part('application/sdp', SDP)}`],
    ['a part without a type', 'multipart/mixed;boundary=b1', mixed(`\r\n${SDP}\r\n`)],
    ['a part without a body', 'multipart/mixed;boundary=b1', mixed('Content-Type: application/sdp\r\n\r\n')],
    [
      'an encoded part',
      'multipart/mixed;boundary=b1',
      mixed(part('application/sdp', SDP, 'Content-Transfer-Encoding: base64\r\n')),
    ],
    ['the 17th part', 'multipart/mixed;boundary=b1', mixed(...Array(16).fill(ISUP), part('application/sdp', SDP))],
    [
      'the octets behind the body',
      'multipart/mixed;boundary=after',
      '--after\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--',
    ],
  ] as const)
    test(title, () => assert.equal(find(type, body), undefined));
});

test('whatever the octets, the range lies inside of the body', () => {
  const piece = fc.constantFrom('--b1', '--', '\r\n', '\n', 'Content-Type: application/sdp', '\r\n\r\n', 'v=0', 'x');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const bytes = Buffer.from(`#${pieces.join('')}#`);
      const found = findSdp('multipart/mixed;boundary=b1', bytes, 1, bytes.length - 1);
      if (found) assert.ok(found.start >= 1 && found.start < found.end && found.end <= bytes.length - 1);
    }),
    { numRuns: 2000 },
  );
});
