// The addresses that sipfarm binds, which this host must hold in every mode.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { boundAddresses, checkBinds } from '../../../src/doctor/bind-checks.ts';
import type { BoundFacts } from '../../../src/doctor/facts.ts';
import { codes, config, ETH0, facts, LO, shown } from './facts.ts';

describe('a bound address', () => {
  const missing = { refused: 'EADDRNOTAVAIL', local: false };
  const check = (bound: Readonly<Record<string, BoundFacts>>, of = config()) =>
    checkBinds(of, facts({ bound: new Map(Object.entries(bound)) }));

  it('must be on this host in every mode, and is reported with all its uses', () => {
    for (const mode of ['dsr', 'nat', 'none'])
      assert.deepEqual(
        shown(check({ '10.0.0.11': missing, '127.0.0.1': missing }, config('mode: dsr', `mode: ${mode}`))),
        [
          'fault DR_ADDRESS_MISSING 10.0.0.11 (relay.bind)',
          'fault DR_ADDRESS_MISSING 127.0.0.1 (service.bind, admin.bind)',
        ],
      );
  });

  it('is reported with the error of the system, and with the setting for an address that comes later', () => {
    const [found] = check({ '10.0.0.11': missing });
    assert.match(found?.reason ?? '', /EADDRNOTAVAIL/);
    assert.match(found?.mend.join('\n') ?? '', /^# .*net\.ipv4\.ip_nonlocal_bind=1$/m);
    const six = config('10.0.0.11:5064', '"[2001:db8::11]:5064"');
    const [other] = check({ '2001:db8::11': missing }, six);
    assert.match(other?.mend.join('\n') ?? '', /^# .*net\.ipv6\.ip_nonlocal_bind=1$/m);
  });

  it('is reported at a listener unless it is a VIP of DSR, which has its own finding', () => {
    const bound = { '198.51.100.1': missing };
    const nat = shown(check(bound, config('mode: dsr', 'mode: nat')));
    assert.deepEqual(nat, ['fault DR_ADDRESS_MISSING 198.51.100.1 (listener edge)']);
    assert.deepEqual(check(bound), []);
    assert.deepEqual(codes({ bound: new Map(Object.entries(bound)), interfaces: [LO, ETH0] }), ['DR_VIP_MISSING']);
  });

  it('is also checked for transparent ports, and not when it is a wildcard', () => {
    const transparent = config('10.0.0.11:5064 }', '10.0.0.11:5064, mode: transparent }');
    assert.deepEqual(shown(check({ '10.0.0.11': missing }, transparent)), [
      'fault DR_ADDRESS_MISSING 10.0.0.11 (transparent port of listener edge, relay.bind)',
    ]);
    const wild = config('bind: 127.0.0.1:5062', 'bind: 0.0.0.0:5062, advertise: 127.0.0.1:5062');
    assert.deepEqual(boundAddresses(wild), ['198.51.100.1', '10.0.0.11', '127.0.0.1']);
  });

  for (const [local, severity] of [
    [false, 'warning'],
    [true, undefined],
    [undefined, undefined],
  ] as const)
    it(`that can be bound gives ${severity ? 'a warning' : 'no finding'} when its route is ${
      { true: 'local', false: 'not local', undefined: 'unknown' }[`${local}`]
    }`, () => {
      const found = check({ '10.0.0.11': { refused: undefined, local } });
      assert.deepEqual(
        found.map((one) => one.severity),
        severity ? [severity] : [],
      );
    });
});
