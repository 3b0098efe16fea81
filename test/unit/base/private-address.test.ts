// Private addresses, and what hides behind a NAT.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isHidden } from '../../../src/base/private-address.ts';

test('an address is hidden when it is private and the other end is not', () => {
  for (const address of ['10.1.2.3', '172.16.0.1', '172.31.255.1', '192.168.0.1', '100.64.0.1', 'fd00::1'])
    assert.deepEqual([isHidden(address, '192.0.2.7'), isHidden(address, '10.0.0.1')], [true, false], address);
  for (const address of ['172.32.0.1', '100.128.0.1', '192.0.2.9', '2001:db8::1', 'pc.example'])
    assert.equal(isHidden(address, '192.0.2.7'), false, address);
});
