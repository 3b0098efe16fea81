import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from '../../../src/admin/decode.ts';
import { listenerCode } from '../../../src/base/listener-code.ts';
import { showDecoded } from '../../../src/cli/summary.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { HOP_LIMIT } from '../../../src/ownership/owner-lookup.ts';
import { ipOverhead } from '../../../src/relay/datagram-link.ts';
import { encodeFrame, Frame, FrameKind, HEAD_IPV4, HEAD_IPV6, MAX_FRAME_OCTETS } from '../../../src/relay/envelope.ts';
import { blocks, page, tableOf } from './markdown.ts';

const text = page('docs/relay-envelope.md');
const KEY = '1'.padStart(64, '0');
const keys = keyring([KEY]);
const MESSAGE = Buffer.from('message');

/** Returns a frame in which all fields have different octets. */
function frameOf(source: string, local: string): Buffer {
  const frame = Object.assign(new Frame(), {
    kind: FrameKind.egress,
    secondChance: 2,
    hops: 3,
    sender: 0x1112,
    senderIncarnation: 0x131415,
    receiver: 0x1617,
    bound: 0x303132,
    ingress: 0x1819,
    ingressIncarnation: 0x1a1b1c,
    listener: 0x1d,
    connection: 0x1e1f2021,
    epoch: 0x22232425,
    sequence: 0x26_2728_292a_2b,
    address: source,
    port: 0x2c2d,
    localAddress: local,
    localPort: 0x2e2f,
  });
  const room = Buffer.alloc(200);
  return room.subarray(0, encodeFrame(keys, frame, MESSAGE, 0, MESSAGE.length, room, 0));
}

/** Returns the octets of each field in hexadecimal; the MAC is taken from the frame. */
function expected(ipv6: boolean): Record<string, string> {
  return {
    signature: '0d0a0d0a000d0a515549540a',
    'version and command': '21',
    'family and protocol': ipv6 ? '21' : '11',
    length: ipv6 ? '004f' : '0037',
    'source address': ipv6 ? '20010db8000000000000000000000001' : 'cb00710a',
    'local address': ipv6 ? '20010db8000000000000000000000002' : 'c6336401',
    'source port': '2c2d',
    'local port': '2e2f',
    'TLV type': 'e0',
    'TLV length': '0028',
    version: '02',
    kind: '02',
    'key id and flags': ((keys.primary.id << 4) | 2).toString(16).padStart(2, '0'),
    hops: '03',
    'sender number': '1112',
    'receiver number': '1617',
    'sender incarnation': '131415',
    listener: '1d',
    'ingress incarnation': '1a1b1c',
    bound: '32',
    'ingress number': '1819',
    sequence: '262728292a2b',
    epoch: '22232425',
    connection: '1e1f2021',
    message: MESSAGE.toString('hex'),
  };
}

for (const ipv6 of [false, true])
  test(`every field is at the place in the page, with ${ipv6 ? 'IPv6' : 'IPv4'} addresses and without gaps`, () => {
    const frame = ipv6 ? frameOf('2001:db8::1', '2001:db8::2') : frameOf('203.0.113.10', '198.51.100.1');
    const fields = expected(ipv6);
    const rows = tableOf(text, 'field');
    assert.deepEqual(
      rows.map(([name]) => name).filter((name) => name !== 'MAC'),
      Object.keys(fields),
    );
    let behind = 0;
    for (const [name = '', four, six, size = ''] of rows) {
      const at = Number(ipv6 ? six : four);
      const octets = name === 'message' ? MESSAGE.length : Number(size.split(' or ').at(ipv6 ? -1 : 0));
      assert.equal(at, behind, `${name} does not begin where the field before it ends`);
      behind = at + octets;
      if (name !== 'MAC') assert.equal(frame.toString('hex', at, behind), fields[name], name);
    }
    assert.equal(behind, frame.length);
  });

test('the sizes, kinds and limits in the page are those of the code', () => {
  const said = text.replace(/\s+/g, ' ');
  assert.ok(said.includes(`The head is ${HEAD_IPV4} octets with IPv4 addresses and ${HEAD_IPV6} with IPv6`));
  assert.ok(
    said.includes(`4 octets of length, ${HEAD_IPV4} to ${MAX_FRAME_OCTETS.toLocaleString('en')}, then the frame`),
  );
  assert.ok(said.includes(`a packet's hops are at most ${HOP_LIMIT}`));
  assert.deepEqual(
    Object.fromEntries(tableOf(text, 'kind | number').map(([name, number]) => [name, Number(number)])),
    FrameKind,
  );
});

test('the MTU arithmetic is correct', () => {
  const rows = tableOf(text, 'relay link over');
  assert.equal(rows.length, 4);
  for (const [link, inside, headers, head, longest] of rows) {
    assert.equal(Number(headers), ipOverhead(link === 'IPv6' ? '::1' : '127.0.0.1'));
    assert.equal(Number(head), inside === 'IPv6' ? HEAD_IPV6 : HEAD_IPV4);
    assert.equal(Number(longest), 1500 - Number(headers) - Number(head));
  }
});

test('decoding the frame in the page gives the output in the page', () => {
  const [, hex = '', shown = ''] = blocks(text, '');
  assert.equal(showDecoded(decode(hex, keys)).trimEnd(), shown.trimEnd());
  assert.ok(shown.includes(`listener            ${listenerCode('edge')}\n`));
});
