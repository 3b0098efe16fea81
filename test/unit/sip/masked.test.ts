// A log line identifies a message and contains no credentials, in any spelling of the message.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { maskedMessage, maskedWords } from '../../../src/sip/masked.ts';
import { TORTURE_FOLDER, torture } from './messages.ts';

const SECRET = 'f00dcafe5ecret0f00dcafe5';
const TOKEN = `sf${'0123456789abcdefghijklmnopqrstuv'.slice(0, 24)}`;

function shown(text: string, most = 1000): string {
  const bytes = Buffer.from(text, 'latin1');
  return maskedMessage(bytes, 0, bytes.length, most);
}

/** Returns a request with `line` among its header lines. */
function withLine(line: string): string {
  return `INVITE sip:bob@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\n${line}\r\nCall-ID: known\r\n\r\nbody ${SECRET}`;
}

describe('a secret is masked', () => {
  for (const [name, line] of [
    ['in Authorization', `Authorization: Digest response="${SECRET}"`],
    ['in Proxy-Authorization in another spelling', `pRoXy-AuthorizaTION \t: Basic ${SECRET}`],
    ['in a folded Authorization', `Authorization: Digest\r\n response="${SECRET}"`],
    ['behind a fold of a header that is shown', `Contact: <sip:a@h>\r\n ;x=${SECRET}`],
    ['in a line behind a bare LF', `Contact: <sip:a@h>\nAuthorization: ${SECRET}`],
    ['in an unknown header', `X-Api-Key: ${SECRET}`],
    ['in a line that is no header', SECRET],
    ['in an SDP line before the empty line', `a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:${SECRET}`],
    ['as the password of a URI', `Contact: <sip:a:${SECRET}@h>`],
    ['among the headers of a URI', `Contact: <sip:a@h?Authorization=${SECRET}>`],
    ['as a token of the farm', `Route: <sip:sf${SECRET}@h;lr>`],
    ['as a token in capitals', `Route: <sip:SF${SECRET.toUpperCase()}@h;lr>`],
    ['as a token in a branch', `Via: SIP/2.0/UDP h;branch=z9hG4bKsf${SECRET};sf=sf${SECRET}`],
    ['as a parameter named response', `From: <sip:a@h>;response=${SECRET}`],
  ] as const)
    test(name, () => {
      const text = shown(withLine(line));
      assert.ok(!text.toLowerCase().includes(SECRET), text);
      assert.match(text, /^INVITE sip:bob@h SIP\/2\.0 \| Via: SIP\/2\.0\/UDP h;branch=z9hG4bKa \| /);
      assert.match(text, /Call-ID: known \| \[\d+ octets more\]$/);
    });

  test('in octets that do not start like a message', () => {
    assert.equal(
      shown(`Authorization: Digest ${SECRET}\r\nCall-ID: known\r\n\r\n`),
      '[70 octets] | Call-ID: known | [2 octets more]'.replace('70', String(22 + SECRET.length)),
    );
  });
});

test('the text is printable ASCII within the given length and without a token, whatever the octets are', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.constantFrom('\r\n', '\r\n ', ': ', 'Via', 'Contact: <sip:', TOKEN, ';', '"', 'SIP/2.0', ' SIP/2.0\r\n'),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), fc.integer({ min: 20, max: 1200 }), (pieces, most) => {
      const text = shown(pieces.join(''), most);
      assert.match(text, /^[ -~]*$/);
      assert.ok(text.length <= most);
      assert.ok(!text.includes(TOKEN));
    }),
  );
  for (const name of readdirSync(TORTURE_FOLDER).filter((file) => file.endsWith('.dat'))) {
    const bytes = torture(name.slice(0, -'.dat'.length));
    assert.match(maskedMessage(bytes, 0, bytes.length, 1000), /^[ -~]{1,1000}$/);
  }
});

test('the text of an error loses line ends and secrets and is shortened', () => {
  assert.equal(maskedWords(`bad\r\n${TOKEN} here`, 200), 'bad.sf[token] here');
  assert.equal(maskedWords(`inline:${SECRET}`, 200), 'inline:[masked]');
  assert.equal(maskedWords('x'.repeat(5000), 20), `${'x'.repeat(17)}...`);
});
