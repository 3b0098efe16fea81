// A Scan is reused: after a second message it must equal a new Scan of that message, in every field.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scan, scan } from '../../../src/sip/scan.ts';

const RICH =
  'INVITE sip:bob@example.com SIP/2.0\r\n' +
  'Via: SIP/2.0/TLS [2001:db8::1]:5070;branch=z9hG4bKa;received=192.0.2.9;rport=7;maddr=192.0.2.8;sf=flow, SIP/2.0/UDP b\r\n' +
  'Max-Forwards: 70\r\nRoute: <sip:p.example;lr>\r\nContact: <sip:alice@192.0.2.4>\r\nReplaces: x;to-tag=a;from-tag=b\r\n' +
  'From: <sip:alice@example.com>;tag=from\r\nTo: <sip:bob@example.com>;tag=to\r\nCall-ID: rich\r\n' +
  'CSeq: 3 INVITE\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbodyrest';

/** Messages that set very different fields; some break the grammar early, some late. */
const MESSAGES: Readonly<Record<string, string>> = {
  'a request with everything': RICH,
  'a response with little':
    'SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 192.0.2.4\r\nFrom: <sip:a@b>\r\nTo: <sip:c@d>\r\nCall-ID: r\r\nCSeq: 1 BYE\r\n\r\n',
  'a response with everything': RICH.replace(/^.*\r\n/, 'SIP/2.0 200 OK\r\n'),
  'no octet': '',
  'no start line': '\x01\r\n\r\n',
  'a start line alone': 'OPTIONS sip:bob@example.com SIP/2.0\r\n',
  'a message without Via': RICH.replace(/^Via.*\r\n/m, ''),
  'an unreadable Via': RICH.replace(/^Via.*\r\n/m, 'Via: nonsense\r\n'),
  'a bad parameter of Via': RICH.replace(';branch=z9hG4bKa', ';branch=z9hG4bKa;=;'),
  'a bad Max-Forwards': RICH.replace('Max-Forwards: 70', 'Max-Forwards: many'),
};

/** Returns all fields of a scan, those of its Via and the tag of From, by name. */
function fieldsOf(scan: Scan): Record<string, unknown> {
  const { via, ...own } = scan;
  const ofVia = Object.entries(via).map(([name, value]) => [`via.${name}`, value]);
  return { ...own, ...Object.fromEntries(ofVia), fromTagStart: scan.fromTagStart, fromTagEnd: scan.fromTagEnd };
}

function scanned(text: string, stream: boolean, into = new Scan()): Record<string, unknown> {
  // Not at offset 0, so that `start` is set to more than its default.
  const bytes = Buffer.from(`...${text}`, 'latin1');
  scan(bytes, 3, bytes.length, stream, into);
  return fieldsOf(into);
}

test('every field of a scan is set by one of these messages', () => {
  const all = Object.values(MESSAGES).map((text) => scanned(text, false));
  const empty = fieldsOf(new Scan());
  const never = Object.keys(empty).filter((name) => all.every((fields) => fields[name] === empty[name]));
  assert.deepEqual(never, []);
});

for (const [first, before] of Object.entries(MESSAGES))
  for (const stream of [false, true])
    test(`a Scan of ${first}, used again${stream ? ' on a stream' : ''}, equals a new one`, () => {
      for (const [second, text] of Object.entries(MESSAGES)) {
        const used = new Scan();
        scanned(before, stream, used);
        const again = scanned(text, stream, used);
        const fresh = scanned(text, stream);
        for (const name of Object.keys(fresh)) assert.deepEqual(again[name], fresh[name], `${name} for ${second}`);
      }
    });
