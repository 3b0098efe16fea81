// The needs of relay.mode transparent: its native module, and the right to open a raw socket.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkTransparent } from '../../../src/doctor/transparent-checks.ts';
import { config, facts, shown } from './facts.ts';

describe('the transparent relay', () => {
  const transparent = config('10.0.0.11:5064 }', '10.0.0.11:5064, mode: transparent }');
  const able = { trouble: undefined, lacks: undefined, unitRights: 'cap_net_raw' } as const;

  const check = (raw: object, others: object = {}) =>
    checkTransparent(transparent, facts({ raw: { ...able, ...raw }, ...others }));
  const stopped = { member: undefined };

  for (const [title, raw, others, expected] of [
    ['has its module and the right', {}, {}, []],
    ['has no module', { lacks: 'module', trouble: 'not built' }, {}, ['fault DR_RAW_MODULE raw-socket']],
    ['has no right', { unitRights: 'cap_net_bind_service' }, stopped, ['fault DR_RAW_RIGHT sipfarm.service']],
    ['runs, so it was started otherwise', { unitRights: '' }, {}, ['hint DR_RAW_RIGHT sipfarm.service']],
    ['runs, so it has the right that the doctor lacks', { lacks: 'right' }, {}, []],
    [
      'does not run, and the doctor has no right either',
      { lacks: 'right', unitRights: undefined },
      stopped,
      ['hint DR_RAW_RIGHT this shell'],
    ],
  ] as const)
    it(title, () => assert.deepEqual(shown(check(raw, others)), expected));

  it('gets the command that builds its module', () => {
    const trouble =
      'the module raw-socket does not load in Node.js 24; build it with: /usr/bin/node /opt/x.js (no such file)';
    assert.equal(check({ lacks: 'module', trouble })[0]?.mend[0], '/usr/bin/node /opt/x.js');
  });

  it('is not checked in the other mode', () => {
    assert.deepEqual(checkTransparent(config(), facts({ raw: { ...able, lacks: 'module', trouble: '' } })), []);
  });
});
