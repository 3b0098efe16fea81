// The section `service`: the address of the SIP server, the ports of each kind, defaults within the section.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  answerService,
  endpointsOf,
  settleService,
  upstreamService,
  withPorts,
} from '../../../src/config/service-section.ts';

const upstream = (changes: Readonly<Record<string, unknown>> = {}) =>
  upstreamService.parse({ kind: 'upstream', server: 'sip:127.0.0.1:5070', bind: '127.0.0.1:5062', ...changes });
const answer = () => answerService.parse({ kind: 'answer' });
const faultsOf = (changes: Readonly<Record<string, unknown>>): string[] => {
  const given = { kind: 'upstream', server: 'sip:127.0.0.1:5070', bind: '127.0.0.1:5062', ...changes };
  return (upstreamService.safeParse(given).error?.issues ?? []).map(({ path }) => path.join('.'));
};

describe('the SIP server', () => {
  for (const [text, host, port] of [
    ['sip:127.0.0.1:5070', '127.0.0.1', 5070],
    ['sip:127.0.0.1', '127.0.0.1', 5060],
    ['sip:[2001:db8::1]:5070', '2001:db8::1', 5070],
    ['sip:[::1]', '::1', 5060],
    ['sip:pbx.example.org', 'pbx.example.org', 5060],
    ['sip:pbx.example.org:65535', 'pbx.example.org', 65_535],
  ] as const)
    test(`is read from ${text}`, () => assert.deepEqual(upstream({ server: text }).server, { host, port }));

  for (const text of [
    '127.0.0.1:5070',
    'sips:127.0.0.1',
    'sip:user@127.0.0.1',
    'sip:127.0.0.1;transport=tcp',
    'sip:127.0.0.1;lr',
    'sip:127.0.0.1:0',
    'sip:127.0.0.1:65536',
    'sip:127.0.0.1:',
    'sip:127.0.0.256',
    'sip:127.1',
    'sip:[127.0.0.1]',
    'sip:[2001:db8::g]',
    'sip:2001:db8::1',
    'sip:',
    '',
  ])
    test(`cannot be "${text}"`, () => assert.deepEqual(faultsOf({ server: text }), ['server']));

  test('with a transport gets another remedy than a text that is no SIP URI', () => {
    const message = (server: string): string => {
      const { error } = upstreamService.safeParse({ kind: 'upstream', server, bind: '127.0.0.1:5062' });
      return error?.issues[0]?.message ?? '';
    };
    assert.match(message('sip:127.0.0.1;transport=tcp'), /UDP/);
    assert.notEqual(message('sip:127.0.0.1;transport=tcp'), message('nonsense'));
  });
});

describe('in force', () => {
  test('the service advertises its own address unless the file names another', () => {
    const settled = settleService(upstream());
    assert.partialDeepStrictEqual(settled, { advertise: { address: '127.0.0.1', port: 5062 } });
    const other = settleService(upstream({ advertise: '192.0.2.1' }));
    assert.partialDeepStrictEqual(other, { advertise: { address: '192.0.2.1', port: 5062 } });
  });

  for (const [title, changes, allow] of [
    ['the address of the server', {}, ['127.0.0.1']],
    ['the IPv6 address of the server', { server: 'sip:[2001:db8::1]' }, ['2001:db8::1']],
    ['nothing, when the server has a name', { server: 'sip:pbx.example.org' }, undefined],
    ['the networks of the file', { allow: ['10.0.0.0/8'] }, ['10.0.0.0/8']],
  ] as const)
    test(`senders to bind are limited to ${title}`, () => {
      const settled = settleService(upstream(changes));
      assert.ok(settled.kind === 'upstream');
      assert.deepEqual(settled.allow, allow);
    });

  test('the service that answers itself is as in the file', () => {
    assert.deepEqual(settleService(answer()), { kind: 'answer', holdSeconds: 0 });
  });
});

test('an excluded network cannot be allowed', () => {
  assert.deepEqual(faultsOf({ allow: ['10.0.0.0/8', '!10.0.0.1'] }), ['allow.1']);
  assert.deepEqual(faultsOf({ allow: [] }), ['allow']);
});

test('the service of a SIP server has ports and a server, and the one that answers itself has none', () => {
  assert.deepEqual(endpointsOf(upstream({ advertise: '192.0.2.1:6000' })), {
    bind: { address: '127.0.0.1', port: 5062 },
    advertise: { address: '192.0.2.1', port: 6000 },
    server: { host: '127.0.0.1', port: 5070 },
  });
  assert.deepEqual(endpointsOf(answer()), {});
});

test('a change of ports applies to each own port, and to nothing else', () => {
  const before = settleService(upstream({ advertise: '192.0.2.1:6000' }));
  const after = withPorts(before, ({ address, port }) => ({ address, port: port + 1 }));
  assert.deepEqual(after, {
    ...before,
    bind: { address: '127.0.0.1', port: 5063 },
    advertise: { address: '192.0.2.1', port: 6001 },
  });
  assert.deepEqual(
    withPorts(answer(), () => assert.fail('no port')),
    answer(),
  );
});
