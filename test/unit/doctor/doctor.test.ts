// All checks together: the order of findings and of fixes, problems of the configuration, the catalogue of codes.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { diagnose, diagnoseProblems, isWell } from '../../../src/doctor/doctor.ts';
import { commandOf, DOCTOR_CODES, finding, fixesOf, type Severity, sysctlName } from '../../../src/doctor/finding.ts';
import { codes, config, ETH0, facts, find, LO, OWN_KEY, shown, sysctls } from './facts.ts';

test('a host with a correct setup has no finding', () => assert.deepEqual(codes({}), []));

test('ARP is made quiet before the VIP is added', () => {
  const findings = [
    ...find('DR_VIP_MISSING', { interfaces: [LO, ETH0] }),
    ...find('DR_ARP_IGNORE', { sysctl: sysctls({ all: { arp_ignore: 0 } }) }),
  ];
  assert.deepEqual(fixesOf(findings).map(commandOf), [
    'sysctl -w net.ipv4.conf.all.arp_ignore=1',
    'ip addr add 198.51.100.1/32 dev lo',
  ]);
});

test('findings are in the order of their severity, whatever check they come from', () => {
  const given = { interfaces: [LO, ETH0], datagrams: { bufferFull: 1, fragmentsLost: 0 }, keys: ['00', OWN_KEY] };
  const found = diagnose(config(), ['a warning of the file'], facts(given)).map(({ severity }) => severity);
  assert.deepEqual(found, ['fault', 'fault', 'warning', 'hint', 'hint']);
});

test('a warning of the configuration is a hint', () => {
  const found = diagnose(config(), ['something that is probably not meant'], facts());
  assert.deepEqual(shown(found), ['hint DR_CONFIG_WARNING configuration']);
  assert.equal(found[0]?.reason, 'something that is probably not meant');
});

test('a host is well while it has nothing but hints', () => {
  const of = (severity: Severity) => finding('DR_FORGED', severity, '', '', []);
  assert.deepEqual(
    [[], [of('hint')], [of('hint'), of('warning')], [of('fault')]].map((found) => isWell(found)),
    [true, true, false, false],
  );
});

test('a wildcard under DSR that the configuration check refuses has the code of that error', () => {
  const wildcard = 'is a wildcard: with balancer.mode dsr answers must leave from the VIP; bind to the VIP itself';
  const problem = { code: 'SF_CONFIG_INVALID', line: 5, column: 3 } as const;
  const found = diagnoseProblems('x.yaml', [
    { ...problem, field: 'listeners[0].bind', message: wildcard },
    { ...problem, field: 'farm', message: 'is missing' },
  ]);
  assert.deepEqual(
    found.map(({ code }) => code),
    ['DR_WILDCARD_BIND', 'DR_CONFIG'],
  );
});

test('a path under /proc/sys is printed in the form for sysctl', () => {
  assert.equal(sysctlName('net/ipv4/conf/eth0.100/rp_filter'), 'net.ipv4.conf.eth0/100.rp_filter');
});

test('docs/doctor.md explains every code and no others', () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/doctor.md'), 'utf8');
  const rows = new Map(
    [...page.matchAll(/^\| `(DR_\w+)` \| \w+(?: or \w+)? \| (.*) \|$/gm)].map(([, code, text]) => [code, text]),
  );
  assert.deepEqual(Object.fromEntries(rows), DOCTOR_CODES);
});
