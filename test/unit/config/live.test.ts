import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SipfarmError } from '../../../src/base/errors.ts';
import { effective, liveDiff, parseClusterSettings } from '../../../src/config/live.ts';
import { GOOD, KEY, load } from './sample.ts';

const OTHER_KEY = 'cd'.repeat(32);

test("a cluster-wide setting applies where the member's own file has none", () => {
  const config = effective(load(GOOD).config, {
    log: { level: 'debug' },
    balancer: { probes: ['10.0.0.1'] },
    limits: { idleSeconds: 77 },
  });
  assert.equal(config.log.level, 'debug');
  assert.deepEqual(config.balancer, { mode: 'dsr', probes: ['10.0.0.1'], trusted: [], udpAnswerHeader: 'none' });
  assert.equal(config.limits.idleSeconds, 77);
  assert.equal(config.limits.tcpConnections, 10_000);
});

test('the trusted proxies come only from the file, and apply at once', () => {
  const before = load(GOOD).config;
  const after = load(GOOD.replace('mode: dsr', 'mode: dsr, trusted: [10.0.0.1], udpAnswerHeader: simple')).config;
  assert.deepEqual(effective(after, { balancer: { probes: ['10.0.0.2'] } }).balancer, {
    mode: 'dsr',
    probes: ['10.0.0.2'],
    trusted: ['10.0.0.1'],
    udpAnswerHeader: 'simple',
  });
  assert.throws(() => parseClusterSettings({ balancer: { trusted: ['0.0.0.0/0'] } }));
  assert.deepEqual(liveDiff(before, after).live, ['balancer.trusted', 'balancer.udpAnswerHeader']);
});

test("the member's own file takes precedence, field by field", () => {
  const own = load(`${GOOD}limits: { idleSeconds: 55 }\nlog: { level: warn }\n`).config;
  const config = effective(own, { log: { level: 'debug' }, limits: { idleSeconds: 77, halfMessageSeconds: 5 } });
  assert.equal(config.log.level, 'warn');
  assert.deepEqual([config.limits.idleSeconds, config.limits.halfMessageSeconds], [55, 5]);
});

test('a setting that is deleted in the store gets its default again', () => {
  const own = load(GOOD).config;
  const raised = effective(own, { drain: { deadlineSeconds: 7 } });
  assert.equal(raised.drain.deadlineSeconds, 7);
  assert.equal(effective(raised, {}).drain.deadlineSeconds, 60);
});

test('cluster-wide settings have no fields of one member', () => {
  for (const value of [{ member: 'x' }, { balancer: { mode: 'nat' } }, { log: { level: 'loud' } }, 'text', null, []])
    assert.throws(
      () => parseClusterSettings(value),
      (error) => error instanceof SipfarmError && error.code === 'SF_CONFIG_INVALID',
      JSON.stringify(value),
    );
  assert.deepEqual(parseClusterSettings({}), {});
});

test('a changed file shows fields that apply at once and fields that need a restart', () => {
  const before = load(GOOD).config;
  const after = load(
    `${GOOD.replace(':5064', ':5065').replace('mode: dsr', 'mode: dsr, probes: [10.0.0.1]')}weight: 50
limits: { idleSeconds: 55, messageBytes: 10000 }
log: { level: debug }
`,
    { SIPFARM_KEY: OTHER_KEY },
  ).config;
  assert.deepEqual(liveDiff(before, after), {
    live: ['balancer.probes', 'keys', 'limits.idleSeconds', 'log.level', 'weight'],
    restart: ['limits.messageBytes', 'relay.bind'],
  });
});

test('names of the farm apply at once, and another spelling is no change', () => {
  const named = (names: string) => load(`${GOOD}names: ${names}\n`).config;
  const before = named('[sip.example.com, "sip.example.com:5061"]');
  assert.deepEqual(liveDiff(before, named('[Sip.Example.com., "SIP.example.com:5061"]')), { live: [], restart: [] });
  assert.deepEqual(liveDiff(before, named('[sip.example.com]')), { live: ['names'], restart: [] });
});

test('the same file changes nothing, although its secrets are other objects', () => {
  const text = `${GOOD}admin: { token: secret-token }\n`;
  assert.deepEqual(liveDiff(load(text).config, load(text).config), { live: [], restart: [] });
});

test('a changed token is detected without being shown', () => {
  const { restart } = liveDiff(
    load(`${GOOD}admin: { token: one }\n`).config,
    load(`${GOOD}admin: { token: two }\n`).config,
  );
  assert.deepEqual(restart, ['admin.token']);
  assert.equal(KEY.length, 64);
});
