// The place of a request's sender: which headers hide it behind a NAT, and which Contacts are one target.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sipKey } from '../../../../src/base/siphash.ts';
import { type NatSigns, Place, tagHash, targetHash } from '../../../../src/service/shared/place.ts';
import { parseUri, Uri } from '../../../../src/sip/uri.ts';
import { request } from '../../ownership/lookups.ts';
import { packetOf, scanOf } from './context-rig.ts';

const SOURCE = '192.0.2.7';
const BEST = `SIP/2.0/UDP ${SOURCE}:5060;branch=z9hG4bKx;rport`;
const PLAIN = 'SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKx';
const PROXIED = `${BEST}, SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKy`;
const PRIVATE = '<sip:alice@10.9.9.9>';

/** Returns the place of the sender of a request from SOURCE, port 5060, unless `address` is another one. */
function placeOf(method: string, headers: Record<string, string>, signs: NatSigns = 'detect', address = SOURCE): Place {
  const bytes = request(method, { Via: BEST, ...headers });
  const place = new Place();
  place.read(scanOf(bytes), packetOf(bytes, address, 5060), signs);
  return place;
}

describe('the sender', () => {
  for (const [name, signs, headers, nat, address] of [
    ['is in the open when Via and Contact name its source', 'detect', { Contact: `<sip:a@${SOURCE}>` }, false],
    ['is behind a NAT when its Via names another address', 'detect', { Via: PLAIN }, true],
    [
      'is behind a NAT when its Via requests the source port and names another one',
      'detect',
      { Via: `SIP/2.0/UDP ${SOURCE}:5999;branch=z9hG4bKx;rport` },
      true,
    ],
    [
      'may send from another port than its Via names, unless the Via requests the source port',
      'detect',
      { Via: `SIP/2.0/UDP ${SOURCE}:5999;branch=z9hG4bKx` },
      false,
    ],
    ['may name itself in its Via', 'detect', { Via: 'SIP/2.0/UDP pc.example;branch=z9hG4bKx' }, false],
    [
      'may not name itself in a Via that requests the source port',
      'detect',
      { Via: 'SIP/2.0/UDP pc.example;branch=z9hG4bKx;rport' },
      true,
    ],
    ['is behind a NAT when its Contact is private and its source is not', 'detect', { Contact: PRIVATE }, true],
    [
      'is in the open when both are private',
      'detect',
      { Contact: PRIVATE, Via: 'SIP/2.0/UDP 10.8.8.8;branch=z9hG4bKx' },
      false,
      '10.8.8.8',
    ],
    ['is in the open when its Contact is another public address', 'detect', { Contact: '<sip:a@192.0.2.9>' }, false],
    ['by rport: is behind a NAT when that Via names another source', 'rport', { Via: `${PLAIN};rport` }, true],
    ['by rport: is in the open without rport', 'rport', { Via: PLAIN }, false],
    ['by rport: is in the open with a private Contact', 'rport', { Contact: PRIVATE }, false],
    ['is in the open when no sign counts', 'never', { Via: `${PLAIN};rport`, Contact: PRIVATE }, false],
    [
      'is a proxy in the open when its Record-Route is public, whatever the Contact names',
      'detect',
      { Via: PROXIED, Contact: PRIVATE, 'Record-Route': '<sip:192.0.2.7;lr>' },
      false,
    ],
    [
      'is a proxy behind a NAT when its Record-Route is private',
      'detect',
      { Via: PROXIED, Contact: '<sip:a@192.0.2.9>', 'Record-Route': '<sip:10.9.9.8;lr>' },
      true,
    ],
    [
      'is reached by its Contact behind a proxy that does not record-route',
      'detect',
      { Via: PROXIED, Contact: PRIVATE },
      true,
    ],
    ['by rport: is a proxy in the open', 'rport', { Via: `${PLAIN};rport, ${BEST}` }, false],
  ] as const)
    test(name, () => assert.equal(placeOf('INVITE', headers, signs, address).nat, nat));
});

describe('the Contact', () => {
  for (const [name, headers, here, elsewhere] of [
    ['is the source itself', { Contact: `<sip:a@${SOURCE}:5060>` }, true, false],
    ['is the source without a port, which means 5060', { Contact: `<sip:a@${SOURCE}>` }, true, false],
    ['is another port of the source', { Contact: `<sip:a@${SOURCE}:5070>` }, false, false],
    ['is another address', { Contact: '<sip:a@192.0.2.9>' }, false, true],
    ['is a host name, whose address is unknown here', { Contact: '<sip:a@pc.example>' }, false, false],
    ['is absent', {}, false, false],
    ['is that of an element behind a proxy', { Contact: '<sip:a@192.0.2.9>', Via: PROXIED }, false, false],
    ['cannot be read', { Contact: '<sip:a@' }, false, false],
  ] as const)
    test(name, () => {
      const place = placeOf('INVITE', headers);
      assert.deepEqual([place.here, place.elsewhere], [here, elsewhere]);
    });

  test('is a target in requests that open dialogs, refresh their target or register, and in no others', () => {
    const methods = [
      'INVITE',
      'UPDATE',
      'SUBSCRIBE',
      'NOTIFY',
      'REFER',
      'REGISTER',
      'BYE',
      'OPTIONS',
      'MESSAGE',
      'ACK',
    ];
    const targets = methods.filter((method) => placeOf(method, { Contact: '<sip:a@192.0.2.9>' }).target !== 0);
    assert.deepEqual(targets, methods.slice(0, 6));
  });

  test('of one request does not reach the next one, which has none', () => {
    const place = new Place();
    for (const headers of [{ Via: PLAIN, Contact: `<sip:a@${SOURCE}>` }, { Contact: '<sip:a@192.0.2.9>' }, {}]) {
      const bytes = request('INVITE', { Via: BEST, ...headers });
      place.read(scanOf(bytes), packetOf(bytes, SOURCE, 5060), 'detect');
    }
    const { target, nat, elsewhere, here } = place;
    assert.deepEqual({ target, nat, elsewhere, here }, { target: 0, nat: false, elsewhere: false, here: false });
  });
});

describe('the hash of a target', () => {
  function hashOf(text: string): number {
    const uri = new Uri();
    const bytes = Buffer.from(text);
    assert.ok(parseUri(bytes, 0, bytes.length, uri));
    return targetHash(bytes, uri);
  }

  test('is that of its host in any case and its port, and of nothing else', () => {
    const target = hashOf('sip:alice@pc.example:5060');
    for (const same of ['sip:bob@PC.Example:5060', 'sip:pc.example', 'sip:alice@pc.example;transport=tcp'])
      assert.equal(hashOf(same), target, same);
    for (const other of ['sip:alice@pc.example:5061', 'sip:alice@pd.example:5060'])
      assert.notEqual(hashOf(other), target, other);
  });

  test('is the same at every member and in every version, because it is part of the tokens in dialogs', () => {
    assert.equal(hashOf('sip:alice@192.0.2.7'), 1_033_251_002);
  });

  test('is a positive number of 31 bits', () => {
    for (let i = 0; i < 200; i++) {
      const hash = hashOf(`sip:host${i}.example`);
      assert.ok(hash > 0 && hash < 2 ** 31);
    }
  });
});

test('the hash of a tag depends on the tag and on the key, and is 0 only without a tag', () => {
  const [key, other] = [sipKey(new Uint8Array(16)), sipKey(new Uint8Array(16).fill(1))];
  const bytes = Buffer.from('abab');
  assert.equal(tagHash(key, bytes, -1, -1), 0);
  assert.equal(tagHash(key, bytes, 0, 2), tagHash(key, bytes, 2, 4));
  assert.notEqual(tagHash(key, bytes, 0, 2), tagHash(key, bytes, 1, 3));
  assert.notEqual(tagHash(key, bytes, 0, 2), tagHash(other, bytes, 0, 2));
  assert.notEqual(tagHash(key, bytes, 0, 0), 0);
});
