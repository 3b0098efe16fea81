// Advertised addresses and names of a listener, as text in the configuration and in a member's record.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { advertisedBy, advertisedIn, formatAdvertised, parseAdvertised } from '../../../src/packet/advertised.ts';

describe('the advertised value of a TCP listener', () => {
  for (const [text, host, port, transport, written = text] of [
    ['198.51.100.1:5060', '198.51.100.1', 5060, 'tcp'],
    ['198.51.100.1', '198.51.100.1', 5060, 'tcp', '198.51.100.1:5060'],
    ['[2001:DB8::1];transport=tls', '2001:db8::1', 5061, 'tls', '[2001:db8::1]:5061;transport=tls'],
    ['SIP.example.com;Transport=TLS', 'sip.example.com', 5061, 'tls', 'sip.example.com:5061;transport=tls'],
    ['sip.example.com:443;transport=tls', 'sip.example.com', 443, 'tls'],
    ['sip.example.com;transport=tcp', 'sip.example.com', 5060, 'tcp', 'sip.example.com:5060'],
  ] as const)
    test(`is read from ${text}, and from its own output`, () => {
      const advertised = advertisedBy('tcp', parseAdvertised(text)!);
      assert.deepEqual(advertised, { host, port, transport });
      assert.equal(formatAdvertised('tcp', advertised!), written);
      assert.deepEqual(advertisedBy('tcp', parseAdvertised(written)!), advertised);
    });

  for (const text of [
    ...['', ';transport=tls', 'sip.example.com;', 'sip.example.com;transport=', 'sip.example.com;lr', '198.51.100.1:0'],
    ...[
      'sip:sip.example.com',
      'sip.example.com;transport=tls;lr',
      'sip.example.com\r\n',
      'sip_1.example',
      '2001:db8::1',
    ],
    'x@sip.example.com',
  ])
    test(`is not read from ${JSON.stringify(text)}`, () => assert.equal(parseAdvertised(text), undefined));
});

test('a transport fits the listener by which its clients can come', () => {
  const fitting = (own: 'udp' | 'tcp') =>
    ['udp', 'tcp', 'tls', 'ws', 'wss', 'sctp'].filter((told) =>
      advertisedBy(own, parseAdvertised(`sip.example.com;transport=${told}`)!),
    );
  assert.deepEqual([fitting('udp'), fitting('tcp')], [['udp'], ['tcp', 'tls']]);
});

test('in a record comes from its text before its endpoint', () => {
  const record = { transport: 'tcp', advertise: '10.0.0.1:5061' };
  assert.deepEqual(advertisedIn(record), { host: '10.0.0.1', port: 5061, transport: 'tcp' });
  assert.deepEqual(advertisedIn({ ...record, told: 'sip.example.com:5061;transport=tls' }), {
    ...{ host: 'sip.example.com', port: 5061, transport: 'tls' },
  });
  for (const change of [{ transport: 'ws' }, { advertise: '' }, { told: 'sip.example.com;transport=udp' }])
    assert.equal(advertisedIn({ ...record, ...change }), undefined, JSON.stringify(change));
});
