// Settings that let the kernel pass on packets.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { missingForwarding } from '../../../src/media/kernel/forwarding.ts';

const at = (name: string, address: string, up = true) => ({ name, inner: name === 'lo', up, addresses: [{ address }] });
const INTERFACES = [at('lo', '198.51.100.1'), at('eth0', '10.0.0.11'), at('eth1', '2001:db8::1'), at('old', '', false)];
const [V4, V6] = ['net/ipv4/conf', 'net/ipv6/conf'];
const OFF = { [`${V4}/eth0/forwarding`]: '0', [`${V4}/eth1/forwarding`]: '0', [`${V6}/all/forwarding`]: '0' };

describe('forwarding is missing', () => {
  for (const [title, addresses, settings, expected] of [
    ['on the interface of the address', ['10.0.0.11'], OFF, [`${V4}/eth0/forwarding`]],
    ['once for two addresses', ['10.0.0.11', '10.0.0.11'], OFF, [`${V4}/eth0/forwarding`]],
    ['nowhere when it is on', ['10.0.0.11'], { ...OFF, [`${V4}/eth0/forwarding`]: '1' }, []],
    ['nowhere when nothing can be read', ['10.0.0.11', '2001:db8::1'], {}, []],
    [
      'on all interfaces that are up, for an address on lo',
      ['198.51.100.1'],
      OFF,
      [`${V4}/eth0/forwarding`, `${V4}/eth1/forwarding`],
    ],
    ['on all interfaces of IPv6', ['2001:db8::1'], OFF, [`${V6}/all/forwarding`]],
    [
      'on one interface of IPv6, where the kernel can',
      ['2001:db8::1'],
      { ...OFF, [`${V6}/eth1/force_forwarding`]: '0' },
      [`${V6}/eth1/force_forwarding`],
    ],
    [
      'nowhere when one interface of IPv6 forwards',
      ['2001:db8::1'],
      { ...OFF, [`${V6}/eth1/force_forwarding`]: '1' },
      [],
    ],
    [
      'nowhere when all interfaces of IPv6 forward',
      ['2001:db8::1'],
      { [`${V6}/all/forwarding`]: '1', [`${V6}/eth1/force_forwarding`]: '0' },
      [],
    ],
  ] as const)
    it(title, () => {
      const values: Readonly<Record<string, string>> = settings;
      assert.deepEqual(
        missingForwarding(addresses, INTERFACES, (path) => values[path]).map(({ path }) => path),
        expected,
      );
    });
});
