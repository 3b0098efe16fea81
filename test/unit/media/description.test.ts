// The last description of a reader, and the places and targets of its streams.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Description } from '../../../src/media/description.ts';
import { placeOf, targetOf } from '../../../src/media/party-streams.ts';
import { readSdp } from '../../../src/sdp/sdp.ts';

function description(text: string): Description {
  const bytes = Buffer.from(`before${text}after`);
  const sdp = readSdp(bytes, 6, 6 + text.length);
  assert.ok(typeof sdp !== 'string');
  return Description.of(bytes, sdp)!;
}

const text = (version: string, port = 4000): string =>
  `v=0\r\no=- 1 ${version} IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio ${port} RTP/AVP 8\r\n`;

test('two descriptions differ in nothing, in the version alone, or in content', () => {
  const one = description(text('7'));
  assert.equal(one.text, text('7'));
  assert.equal(one.differenceTo(description(text('7'))), 'none');
  assert.equal(one.differenceTo(description(text('10'))), 'version');
  assert.equal(one.differenceTo(description(text('7', 4002))), 'content');
  assert.equal(one.differenceTo(description(text('8', 4002))), 'content');
  assert.equal(one.differenceTo(description(text('x'))), 'content');
  assert.equal(one.differenceTo(undefined), 'content');
});

test('a recorded description is the same again', () => {
  const one = description(text('7'));
  const read = Description.unpacked(one.packed)!;
  assert.deepEqual(
    [read.text, read.packed, read.differenceTo(description(text('8')))],
    [one.text, one.packed, 'version'],
  );
  assert.deepEqual(
    [
      Description.unpacked('nothing'),
      Description.unpacked(description('m=audio 1 RTP/AVP 8\r\nc=IN IP4 192.0.2.1\r\n').packed)?.text.length,
    ],
    [undefined, 41],
  );
});

test('a description that is too long is not kept', () => {
  const bytes = Buffer.from(text('7') + 'a=x\r\n'.repeat(2000));
  const sdp = readSdp(bytes, 0, bytes.length);
  assert.ok(typeof sdp !== 'string');
  assert.equal(Description.of(bytes, sdp), undefined);
});

test('RTCP is expected at the next port, at a=rtcp, or at the port itself', () => {
  const rows = [
    ['', '192.0.2.7:4001'],
    ['a=rtcp:4100\r\n', '192.0.2.7:4100'],
    ['a=rtcp:4100 IN IP4 192.0.2.8\r\n', '192.0.2.8:4100'],
    ['a=rtcp-mux\r\n', '192.0.2.7:4000'],
  ] as const;
  for (const [lines, expected] of rows) {
    const bytes = Buffer.from(text('7') + lines);
    const sdp = readSdp(bytes, 0, bytes.length);
    assert.ok(typeof sdp !== 'string');
    const { rtp, rtcp } = targetOf(sdp.streams[0]!, '198.51.100.7');
    assert.deepEqual(
      [placeOf(sdp.streams[0]!), `${rtcp?.address}:${rtcp?.port}`, rtp?.signalling],
      ['192.0.2.7 4000', expected, '198.51.100.7'],
    );
  }
});
