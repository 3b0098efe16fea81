// IP packets with a chosen source: an independent reader finds each one correct, and together they are the datagram.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { IpPacket, makeTarget } from '../../../src/relay/ip-packet.ts';
import { type Datagram, IpReader } from '../../fake/ip.ts';

const TO = { 4: { address: '10.0.0.2', port: 5065 }, 6: { address: '2001:db8::2', port: 5065 } } as const;
const FROM = { 4: '192.0.2.7', 6: '2001:db8:c::7' } as const;

/** Returns copies of the packets with `message[start..end)`; undefined when the message is refused. */
function packetsOf(ip: IpPacket, from: string, port: number, to: { address: string; port: number }, message: Buffer) {
  const around = Buffer.concat([Buffer.of(1, 2, 3), message, Buffer.of(4, 5)]);
  if (!ip.begin(from, port, makeTarget(to), around, 3, around.length - 2)) return undefined;
  const packets: Buffer[] = [];
  for (let octets = ip.next(); octets !== 0; octets = ip.next())
    packets.push(Buffer.from(ip.bytes.subarray(0, octets)));
  return packets;
}

const family = fc.constantFrom<4 | 6>(4, 6);
const address4 = fc
  .tuple(
    fc.integer({ min: 1, max: 223 }).filter((first) => first !== 127),
    fc.nat(255),
    fc.nat(255),
    fc.nat(255),
  )
  .map((octets) => octets.join('.'));
const address6 = fc
  .array(fc.nat(0xffff), { minLength: 7, maxLength: 7 })
  .map((groups) =>
    new URL(`http://[2001:${groups.map((group) => group.toString(16)).join(':')}]/`).hostname.slice(1, -1),
  );

describe('a datagram in self-made IP packets', () => {
  test('is reassembled unchanged, whatever its length, the MTU and the order of its fragments', () => {
    fc.assert(
      fc.property(
        family,
        address4,
        address6,
        fc.integer({ min: 1, max: 65_535 }),
        fc.uint8Array({ maxLength: 9000 }),
        fc.integer({ min: 576, max: 3000 }),
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.infiniteStream(fc.nat()),
        (version, four, six, port, octets, mtu, identification, order) => {
          const from = version === 4 ? four : six;
          const message = Buffer.from(octets);
          const packets = packetsOf(new IpPacket(version === 6, mtu, identification), from, port, TO[version], message);
          assert.ok(packets);
          for (const packet of packets) assert.ok(packet.length <= mtu);
          const reader = new IpReader();
          const shuffled = packets
            .map((packet) => ({ packet, key: order.next().value as number }))
            .sort((a, b) => a.key - b.key);
          const got = shuffled.map(({ packet }) => reader.take(packet)).filter((datagram) => datagram !== undefined);
          assert.equal(reader.incomplete, 0);
          const expected: Datagram = { from: { address: from, port }, to: TO[version], bytes: message };
          assert.deepEqual(got, [expected]);
        },
      ),
    );
  });

  test('is one packet up to the MTU, and has fragments from one octet more on', () => {
    for (const [version, headers] of [
      [4, 28],
      [6, 48],
    ] as const) {
      const ip = new IpPacket(version === 6, 1500, 1);
      const count = (octets: number): number | undefined =>
        packetsOf(ip, FROM[version], 5060, TO[version], Buffer.alloc(octets))?.length;
      assert.equal(count(1500 - headers), 1);
      assert.equal(count(1500 - headers + 1), 2);
    }
  });

  test('can have the greatest length of a datagram and no more', () => {
    for (const version of [4, 6] as const) {
      const ip = new IpPacket(version === 6, 1500, 1);
      const reader = new IpReader();
      const message = Buffer.alloc(65_507, 0xff);
      const packets = packetsOf(ip, FROM[version], 5060, TO[version], message);
      const got = packets?.map((packet) => reader.take(packet)).find((datagram) => datagram !== undefined);
      assert.ok(got?.bytes.equals(message));
      assert.equal(packetsOf(ip, FROM[version], 5060, TO[version], Buffer.alloc(65_508)), undefined);
    }
  });

  test('always has a checksum, also when the sum is zero', () => {
    const ip = new IpPacket(false, 1500, 1);
    const bare = packetsOf(ip, FROM[4], 5060, TO[4], Buffer.of(0, 0));
    // With the complement of its own checksum as payload a datagram sums up to zero.
    const message = Buffer.from(bare![0]!.subarray(26, 28));
    const [packet] = packetsOf(ip, FROM[4], 5060, TO[4], message)!;
    assert.equal(packet!.readUInt16BE(26), 0xffff);
    assert.ok(new IpReader().take(packet!)?.bytes.equals(message));
  });

  test('has one identification for all its fragments, and an unfragmented one uses no identification', () => {
    const identify = (packet: Buffer): number => packet.readUInt16BE(4);
    const ip = new IpPacket(false, 576, 0xfffe);
    const sets = Array.from({ length: 3 }, () => {
      const whole = packetsOf(ip, FROM[4], 5060, TO[4], Buffer.alloc(548))!;
      assert.deepEqual([whole.length, identify(whole[0]!) > 0], [1, true]);
      return new Set(packetsOf(ip, FROM[4], 5060, TO[4], Buffer.alloc(2000))!.map(identify));
    });
    assert.deepEqual(
      sets.map(({ size }) => size),
      [1, 1, 1],
    );
    assert.deepEqual(
      sets.map(([only]) => only),
      [0xffff, 1, 2],
    );
  });

  for (const source of ['', '0.0.0.0', '0.1.2.3', '127.0.0.1', '224.0.0.1', '240.0.0.1', '255.255.255.255', FROM[6]])
    test(`is not sent to an IPv4 port when its source is ${source || 'empty'}`, () => {
      assert.equal(packetsOf(new IpPacket(false, 1500, 1), source, 5060, TO[4], Buffer.from('x')), undefined);
    });
  for (const source of ['', '::', '::1', '::ffff:192.0.2.7', 'fe80::1', 'fe80::1%eth0', 'ff02::1', FROM[4]])
    test(`is not sent to an IPv6 port when its source is ${source || 'empty'}`, () => {
      assert.equal(packetsOf(new IpPacket(true, 1500, 1), source, 5060, TO[6], Buffer.from('x')), undefined);
    });
  test('is sent when its source is behind a translator (64:ff9b::/96)', () => {
    assert.ok(packetsOf(new IpPacket(true, 1500, 1), '64:ff9b::c000:207', 5060, TO[6], Buffer.from('x')));
  });
});
