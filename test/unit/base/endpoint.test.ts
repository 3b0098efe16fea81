// Address and port as text.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatEndpoint, hostText, parseEndpoint } from '../../../src/base/endpoint.ts';

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

  test('may leave out the port when there is a default', () => {
    assert.deepEqual(parseEndpoint('198.51.100.1', 5060), { address: '198.51.100.1', port: 5060 });
    assert.deepEqual(parseEndpoint('[2001:db8::1]', 5060), { address: '2001:db8::1', port: 5060 });
    assert.deepEqual(parseEndpoint('198.51.100.1:5070', 5060), { address: '198.51.100.1', port: 5070 });
  });

  test('is read back from what is written', () => {
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
