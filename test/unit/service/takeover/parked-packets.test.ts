// Packets that wait until the fate of a member is decided.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Packet } from '../../../../src/packet/packet.ts';
import { Parked } from '../../../../src/service/takeover/parked-packets.ts';

test('a parked packet is released unchanged, as a copy, and is decided by the view at that time', () => {
  const parked = new Parked();
  const packet = new Packet();
  const bytes = Buffer.from('  INVITE');
  Object.assign(packet, {
    bytes,
    start: 2,
    end: 8,
    address: '192.0.2.7',
    port: 5060,
    hops: 2,
    newerFrom: 3,
    olderFrom: 4,
  });
  assert.equal(parked.park(3, packet), true);
  bytes.fill(0);
  const [out, ...more] = parked.release(3);
  assert.deepEqual([out?.bytes.toString('latin1', out.start, out.end), more.length], ['INVITE', 0]);
  assert.deepEqual([out?.address, out?.port, out?.hops], ['192.0.2.7', 5060, 2]);
  assert.deepEqual([out?.newerFrom, out?.olderFrom], [0, 0], 'they compare views of the past');
  assert.deepEqual(parked.release(3), []);
});

test('a packet that exceeds the space is refused, and a release makes space again', () => {
  const parked = new Parked();
  const packet = new Packet();
  Object.assign(packet, { bytes: Buffer.alloc(1024 * 1024), start: 0, end: 1024 * 1024 });
  const taken = [1, 2, 3, 4, 5].map((member) => parked.park(member, packet));
  assert.deepEqual(taken, [true, true, true, true, false]);
  assert.equal(parked.release(1).length, 1);
  assert.equal(parked.park(5, packet), true);
});
