// Address and port as text.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  formatEndpoint,
  formatHostPort,
  hostText,
  isIpv6,
  parseEndpoint,
  parseHostPort,
} from '../../../src/base/endpoint.ts';

describe('an endpoint', () => {
  for (const [text, address, port] of [
    ['198.51.100.1:5060', '198.51.100.1', 5060],
    ['[2001:db8::1]:5060', '2001:db8::1', 5060],
    ['0.0.0.0:0', '0.0.0.0', 0],
    ['[::]:65535', '::', 65535],
  ] as const)
    test(`is read from ${text}`, () => assert.deepEqual(parseEndpoint(text), { address, port }));

  for (const text of [
    '',
    ':5060',
    '198.51.100.1',
    '198.51.100.1:',
    '198.51.100.1:65536',
    '198.51.100.1:-1',
    '198.51.100.1:5060 ',
    '198.51.100.256:5060',
    '2001:db8::1:5060',
    '[198.51.100.1]:5060',
    '[2001:db8::1]',
    'example.com:5060',
    'localhost:5060',
  ])
    test(`is not read from "${text}"`, () => assert.equal(parseEndpoint(text), undefined));

  test('may lack the port when there is a default', () => {
    assert.deepEqual(parseEndpoint('198.51.100.1', 5060), { address: '198.51.100.1', port: 5060 });
    assert.deepEqual(parseEndpoint('[2001:db8::1]', 5060), { address: '2001:db8::1', port: 5060 });
    assert.deepEqual(parseEndpoint('198.51.100.1:5070', 5060), { address: '198.51.100.1', port: 5070 });
  });

  test('is read back from its own text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(65535), (address, port) => {
        assert.deepEqual(parseEndpoint(formatEndpoint({ address, port })), { address, port });
      }),
    );
  });

  test('has its IPv6 host in brackets', () => {
    assert.equal(hostText('2001:db8::1'), '[2001:db8::1]');
    assert.equal(hostText('198.51.100.1'), '198.51.100.1');
  });
});

describe('a host with an optional port', () => {
  const longest = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`;
  for (const [text, host, port] of [
    ['sip.example.com', 'sip.example.com', 0],
    ['SIP.Example.COM:5061', 'sip.example.com', 5061],
    ['sip.example.com.', 'sip.example.com', 0],
    ['sip', 'sip', 0],
    ['1.2.3.x9', '1.2.3.x9', 0],
    ['xn--bcher-kva.example:65535', 'xn--bcher-kva.example', 65_535],
    [longest, longest, 0],
    ['198.51.100.1', '198.51.100.1', 0],
    ['[2001:DB8::1]:5060', '2001:db8::1', 5060],
  ] as const)
    test(`is read from ${text}`, () => {
      assert.deepEqual(parseHostPort(text), { host, port });
      assert.deepEqual(parseHostPort(formatHostPort({ host, port })), { host, port });
    });

  for (const text of [
    ...['', '.', ':5060', 'sip.example.com:', 'sip.example.com:0', '198.51.100.1:0', 'sip.example.com:65536'],
    ...['-sip.example', 'sip-.example', 'sip..example', 'sip.example.-', 'sip_1.example', 'sip.example/', 'a b'],
    ...['sip:sip.example.com', 'sip.example.com;lr', '<sip.example.com>', 'sip.example.com\r\n', 'bücher.example'],
    ...['198.51.100.256', '198.51.100', '2001:db8::1', '[2001:db8::1', '[198.51.100.1]', '[fe80::1%eth0]'],
    ...[`${longest}d`, 'a'.repeat(64)],
  ])
    test(`is not read from ${JSON.stringify(text)}`, () => assert.equal(parseHostPort(text), undefined));
});

test('an IPv6 literal differs from an IPv4 literal and from a name', () => {
  for (const address of ['::', '2001:db8::1', '::ffff:192.0.2.1', 'fe80::1%eth0']) assert.equal(isIpv6(address), true);
  for (const address of ['0.0.0.0', '192.0.2.1', 'sip.example.com', '']) assert.equal(isIpv6(address), false);
});
