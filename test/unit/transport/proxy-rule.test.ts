// Which PROXY headers a listener accepts, and how a connection waits for its header.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AddressList } from '../../../src/base/address-list.ts';
import { ProxyHeader } from '../../../src/transport/proxy-protocol.ts';
import { outcomeOf, ProxyOpening, proxyRule } from '../../../src/transport/proxy-rule.ts';
import { version2 } from './proxy-headers.ts';

describe('the outcome of octets that read as', () => {
  for (const [reading, trusted, required, expected] of [
    ['none', false, false, 'none'],
    ['none', true, true, 'missing'],
    ['none', false, true, 'missing'],
    ['header', false, false, 'untrusted'],
    ['malformed', false, true, 'untrusted'],
    ['header', true, true, 'proxied'],
    ['part', true, false, 'cut'],
    ['malformed', true, false, 'malformed'],
    ['too-long', true, true, 'too-long'],
    ['nested', true, false, 'nested'],
  ] as const)
    test(`${reading}, ${trusted ? '' : 'un'}trusted, ${required ? 'required' : 'accepted'} is ${expected}`, () => {
      const header = new ProxyHeader();
      header.outcome = 'proxied';
      assert.equal(outcomeOf(reading, header, trusted, required), expected);
    });
});

describe('the rule of a listener', () => {
  test('is absent without headers', () => {
    assert.equal(proxyRule({ name: 'edge' }, undefined), undefined);
    assert.equal(proxyRule({ name: 'edge', proxyProtocol: 'off' }, undefined), undefined);
  });

  test('without settings trusts no proxy and sends no header', () => {
    const rule = proxyRule({ name: 'edge', proxyProtocol: 'accept' }, undefined);
    assert.equal(rule?.required, false);
    assert.equal(rule?.trusted().matches('127.0.0.1'), false);
    assert.equal(rule?.answerHeader(), 'none');
  });

  test('counts each outcome under the name of the listener', () => {
    const counted: string[] = [];
    const rule = proxyRule(
      { name: 'edge', proxyProtocol: 'require' },
      {
        trusted: () => new AddressList(['10.0.0.0/8']),
        answerHeader: () => 'simple',
        headers: {
          cell({ listener, outcome }: { listener: string; outcome: string }) {
            counted.push(`${listener} ${outcome}`);
            return { n: 0 };
          },
        } as never,
      },
    );
    assert.equal(rule?.required, true);
    assert.equal(rule?.trusted().matches('10.0.0.1'), true);
    assert.equal(rule?.answerHeader(), 'simple');
    assert.ok(counted.includes('edge proxied') && counted.includes('edge timeout'));
    assert.equal(counted.length, Object.keys(rule?.outcomes ?? {}).length);
  });
});

describe('a connection', () => {
  const whole = version2('tcp');

  test('waits for a header in pieces; the octets after it stay', () => {
    const opening = new ProxyOpening(true, true);
    const header = new ProxyHeader();
    for (let i = 1; i < whole.length; i++) {
      assert.equal(opening.take(whole.subarray(i - 1, i), header), undefined);
      assert.equal(opening.waiting, true);
    }
    const last = Buffer.concat([whole.subarray(-1), Buffer.from('OPTIONS')]);
    assert.equal(opening.take(last, header), 'proxied');
    assert.equal(opening.waiting, false);
    assert.equal(opening.held.toString(), 'OPTIONS');
    assert.equal(header.address, '203.0.113.7');
  });

  test('without a header keeps all of its octets', () => {
    const opening = new ProxyOpening(true, false);
    assert.equal(opening.take(Buffer.from('OPTIONS sip:a'), new ProxyHeader()), 'none');
    assert.equal(opening.held.toString(), 'OPTIONS sip:a');
    assert.equal(opening.waiting, true);
  });

  test('that sends nothing times out only where a header is required', () => {
    assert.equal(new ProxyOpening(true, true).expire(), 'timeout');
    assert.equal(new ProxyOpening(true, false).expire(), undefined);
  });

  test('whose first octets may be keep-alives has no header at the limit; a real beginning times out', () => {
    for (const [text, outcome] of [
      ['\r\n\r\n', 'none'],
      ['PROX', 'timeout'],
    ] as const) {
      const opening = new ProxyOpening(true, false);
      assert.equal(opening.take(Buffer.from(text), new ProxyHeader()), undefined);
      assert.equal(opening.expire(), outcome);
    }
  });

  test('is watched for a second header, also in pieces, until six octets exclude one', () => {
    const opened = (): ProxyOpening => {
      const opening = new ProxyOpening(true, true);
      assert.equal(opening.take(whole, new ProxyHeader()), 'proxied');
      return opening;
    };
    const nested = opened();
    assert.equal(nested.watch(Buffer.from('PRO')), 'so-far');
    assert.equal(nested.watch(Buffer.from('XY TCP4')), 'nested');
    const plain = opened();
    assert.equal(plain.watch(Buffer.from('OPT')), 'so-far');
    assert.equal(plain.watch(Buffer.from('IONS')), 'over');
  });
});
