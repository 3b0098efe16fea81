// Packed session descriptions of call records.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_DESCRIPTION, packDescription, unpackDescription } from '../../../../src/calls/records/description-text.ts';

const PHONE = [
  'v=0',
  'o=- 20018 20018 IN IP4 192.168.178.31',
  's=SDP data',
  'c=IN IP4 192.168.178.31',
  't=0 0',
  'm=audio 11784 RTP/AVP 9 0 8 18 101',
  'a=rtpmap:9 G722/8000',
  'a=rtpmap:0 PCMU/8000',
  'a=rtpmap:8 PCMA/8000',
  'a=rtpmap:18 G729/8000',
  'a=fmtp:18 annexb=no',
  'a=rtpmap:101 telephone-event/8000',
  'a=fmtp:101 0-15',
  'a=ptime:20',
  'a=sendrecv',
  '',
].join('\r\n');

test('a description comes back as it was', () => {
  for (const text of ['', 'v', PHONE, '\0\xff'.repeat(50), PHONE.repeat(20), 'x'.repeat(MAX_DESCRIPTION)])
    assert.equal(unpackDescription(packDescription(text)), text);
});

test('that of a phone takes fewer than 100 characters, which JSON leaves as they are', () => {
  const packed = packDescription(PHONE);
  assert.ok(packed.length < 100, `${packed.length} of ${PHONE.length}`);
  assert.equal(JSON.stringify(packed).length, packed.length + 2);
});

test('what no build has packed is none, or any text within the bound', () => {
  for (const packed of ['', '2AAAA', PHONE, '1'.repeat(5000)]) assert.equal(unpackDescription(packed), undefined);
  for (let seed = 0; seed < 500; seed++) {
    const noise = Buffer.from(Array.from({ length: 60 }, (_, i) => (seed * 7919 + i * i * 31 + (seed ^ i) * 17) & 255));
    const text = unpackDescription(`1${noise.toString('base64')}`);
    assert.ok(text === undefined || text.length <= MAX_DESCRIPTION);
  }
});
