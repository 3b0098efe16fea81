// PROXY headers as octets: read values, and refused headers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  MAX_HEADER_OCTETS,
  ProxyHeader,
  readDatagramHeader,
  readStreamHeader,
  writeSimpleHeader,
} from '../../../src/transport/proxy-protocol.ts';
import { message } from './bench.ts';
import {
  ENDS,
  ENDS6,
  type Ends,
  local,
  SIGNATURE,
  simple,
  tlv,
  unspecified,
  version1,
  version2,
} from './proxy-headers.ts';

type Read = typeof readStreamHeader;

function readAs(read: Read, octets: Buffer | string) {
  const bytes = Buffer.from(octets as string, 'latin1');
  // Octets around the range must not matter.
  const padded = Buffer.concat([Buffer.from('PROXY \r\n'), bytes, Buffer.from('\r\n\r\n\0 TCP4 1.2.3.4')]);
  const header = new ProxyHeader();
  const reading = read(padded, 8, 8 + bytes.length, header);
  return { reading, header, end: header.end - 8 };
}

const onStream = (octets: Buffer | string) => readAs(readStreamHeader, octets);
const onDatagram = (octets: Buffer | string) => readAs(readDatagramHeader, octets);

function assertProxied({ reading, header, end }: ReturnType<typeof readAs>, ends: Ends, octets: number): void {
  assert.deepEqual(
    [reading, header.outcome, header.address, header.port, header.localAddress, header.localPort, end],
    ['header', 'proxied', ends.client, ends.clientPort, ends.here, ends.herePort, octets],
  );
}

const CRC_HOLE = tlv(0x03, Buffer.alloc(4));

describe('a header with client and destination is read', () => {
  for (const ends of [ENDS, ENDS6]) {
    const family = ends === ENDS ? 'IPv4' : 'IPv6';
    test(`in version 1, ${family}`, () => assertProxied(onStream(version1(ends)), ends, version1(ends).length));
    test(`in version 2 on a stream, ${family}`, () =>
      assertProxied(onStream(version2('tcp', ends)), ends, ends === ENDS ? 28 : 52));
    test(`in version 2 on a datagram, ${family}`, () =>
      assertProxied(onDatagram(version2('udp', ends)), ends, ends === ENDS ? 28 : 52));
    test(`in the simple form, ${family}`, () => {
      const read = onDatagram(Buffer.concat([simple(ends), Buffer.from('OPTIONS')]));
      assertProxied(read, ends, 38);
      assert.equal(read.header.simple, true);
    });
  }

  test('with any octets behind it', () => {
    const behind = Buffer.from(message());
    assertProxied(onStream(Buffer.concat([Buffer.from(version1()), behind])), ENDS, version1().length);
    assertProxied(onStream(Buffer.concat([version2('tcp'), behind])), ENDS, 28);
    assertProxied(onDatagram(Buffer.concat([version2('udp'), behind])), ENDS, 28);
  });

  test('with TLVs, which are skipped', () => {
    const tlvs = Buffer.concat([
      tlv(0x02, Buffer.from('sip.example.org')),
      tlv(0x04, Buffer.alloc(0)),
      tlv(0xe5, Buffer.alloc(300)),
    ]);
    assertProxied(onStream(version2('tcp', ENDS, { tlvs })), ENDS, 28 + tlvs.length);
    assertProxied(onDatagram(version2('udp', ENDS6, { tlvs })), ENDS6, 52 + tlvs.length);
  });

  test('with IPv4 addresses mapped into IPv6, which are returned as IPv4', () => {
    const line = 'PROXY TCP6 ::ffff:203.0.113.7 ::ffff:198.51.100.1 40001 5060\r\n';
    assertProxied(onStream(line), ENDS, line.length);
  });

  test('up to 4,096 octets', () => {
    const tlvs = tlv(0x04, Buffer.alloc(MAX_HEADER_OCTETS - 28 - 3));
    assertProxied(onStream(version2('tcp', ENDS, { tlvs })), ENDS, MAX_HEADER_OCTETS);
    const over = version2('tcp', ENDS, { tlvs: tlv(0x04, Buffer.alloc(MAX_HEADER_OCTETS - 28 - 2)) });
    assert.equal(onStream(over).reading, 'too-long');
    // The length alone decides, without the rest of the header.
    assert.equal(onStream(over.subarray(0, 16)).reading, 'too-long');
  });

  test('with a checksum, if that is correct', () => {
    const header = version2('tcp', ENDS, { tlvs: CRC_HOLE });
    header.writeUInt32BE(bitwiseCrc32c(header), 31);
    assertProxied(onStream(header), ENDS, 35);
    for (let bit = 0; bit < 8 * header.length; bit++) {
      // This bit belongs to the type of the TLV: with another type it is no checksum.
      if (bit >> 3 === 28) continue;
      const bent = Buffer.from(header);
      bent[bit >> 3]! ^= 1 << (bit & 7);
      assert.notEqual(JSON.stringify([onStream(bent).reading, onStream(bent).header.outcome]), '["header","proxied"]');
    }
  });
});

/** Returns the CRC-32C, computed without a table. */
function bitwiseCrc32c(octets: Uint8Array): number {
  let crc = 0xffff_ffffn;
  for (const octet of octets) {
    crc ^= BigInt(octet);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f6_3b78n : crc >> 1n;
  }
  return Number(crc ^ 0xffff_ffffn);
}

test('the second implementation of CRC-32C gives the check value of RFC 3720 B.4', () => {
  assert.equal(bitwiseCrc32c(Buffer.from('123456789')), 0xe306_9283);
  assert.equal(bitwiseCrc32c(Buffer.alloc(32)), 0x8a91_36aa);
});

describe('the real addresses count for', () => {
  for (const [title, octets, outcome] of [
    ['LOCAL', local(), 'local'],
    ['LOCAL with a block to skip', local(Buffer.alloc(40, 0xff)), 'local'],
    ['LOCAL with a family that is ignored', version2('tcp', ENDS, { versionCommand: 0x20, family: 0x31 }), 'local'],
    ['an unspecified family', unspecified(), 'unknown'],
    ['version 1 UNKNOWN', 'PROXY UNKNOWN\r\n', 'unknown'],
    ['version 1 UNKNOWN with addresses', 'PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n', 'unknown'],
  ] as const)
    test(title, () => {
      const { reading, header, end } = onStream(octets);
      assert.deepEqual([reading, header.outcome, end], ['header', outcome, octets.length]);
      if (typeof octets !== 'string') assert.equal(onDatagram(octets).header.outcome, outcome);
    });
});

describe('a header is malformed with', () => {
  const cases: readonly (readonly [string, Buffer | string, 'stream' | 'datagram' | 'both'])[] = [
    ['version 1 in binary', version2('tcp', ENDS, { versionCommand: 0x11 }), 'both'],
    ['an unknown command', version2('tcp', ENDS, { versionCommand: 0x22 }), 'both'],
    ['a datagram header on a stream', version2('udp'), 'stream'],
    ['a stream header on a datagram', version2('tcp'), 'datagram'],
    ['a unix socket', version2('tcp', ENDS, { family: 0x31 }), 'both'],
    ['a unix socket with its whole block', version2('tcp', ENDS, { family: 0x31, tlvs: Buffer.alloc(204) }), 'both'],
    ['a family without a transport', version2('tcp', ENDS, { family: 0x10 }), 'both'],
    ['a transport without a family', version2('tcp', ENDS, { family: 0x01 }), 'both'],
    ['an unknown family', version2('tcp', ENDS, { family: 0x41 }), 'both'],
    ['a block too short for its family', version2('tcp', ENDS, { length: 11 }), 'stream'],
    ['IPv6 with a block for IPv4', version2('tcp', ENDS, { family: 0x21 }), 'stream'],
    ['a block of nothing', version2('tcp', ENDS, { length: 0 }), 'stream'],
    ['half a TLV', version2('tcp', ENDS, { tlvs: Buffer.from([4, 0]) }), 'stream'],
    ['a TLV longer than the header', version2('tcp', ENDS, { tlvs: Buffer.from([4, 0, 2, 0]) }), 'stream'],
    ['a checksum of three octets', version2('tcp', ENDS, { tlvs: tlv(3, Buffer.alloc(3)) }), 'stream'],
    ['a wrong checksum', version2('tcp', ENDS, { tlvs: CRC_HOLE }), 'stream'],
    ['port 0', version2('udp', { ...ENDS, clientPort: 0 }), 'datagram'],
    ['0.0.0.0', version2('udp', { ...ENDS, client: '0.0.0.0' }), 'datagram'],
    ['::', version2('udp', { ...ENDS6, client: '::' }), 'datagram'],
    ['multicast', version2('udp', { ...ENDS, client: '224.0.0.1' }), 'datagram'],
    ['broadcast', simple({ ...ENDS, client: '255.255.255.255' }), 'datagram'],
    ['IPv6 multicast', simple({ ...ENDS6, client: 'ff02::1' }), 'datagram'],
    ['a simple header with port 0', simple({ ...ENDS, clientPort: 0 }), 'datagram'],
    ['a line of UDP', 'PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n', 'stream'],
    ['a line of the wrong family', version1(ENDS6).replace('TCP6', 'TCP4'), 'stream'],
    ['a line with mixed families', 'PROXY TCP6 2001:db8::1 192.0.2.1 1 2\r\n', 'stream'],
    ['a line with a name', 'PROXY TCP4 localhost 5.6.7.8 1 2\r\n', 'stream'],
    ['a line with a port above 65535', 'PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n', 'stream'],
    ['a line with a port that begins with 0', 'PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n', 'stream'],
    ['a line with a signed port', 'PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n', 'stream'],
    ['a line with an octal address', 'PROXY TCP4 1.2.3.010 5.6.7.8 1 2\r\n', 'stream'],
    ['a line with a zone', 'PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n', 'stream'],
    ['a line with two blanks', 'PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n', 'stream'],
    ['a line with more', 'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n', 'stream'],
    ['a line with less', 'PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n', 'stream'],
    ['a line in small letters', 'PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n', 'stream'],
    ['a line with a lone line feed', 'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r\n', 'stream'],
    ['a line with a NUL', 'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\0\r\n', 'stream'],
    ['an empty line', 'PROXY \r\n', 'stream'],
    ['UNKNOWN with a tail', 'PROXY UNKNOWNX\r\n', 'stream'],
  ];
  for (const [title, octets, on] of cases)
    test(title, () => {
      if (on !== 'datagram') assert.equal(onStream(octets).reading, 'malformed');
      if (on !== 'stream') assert.equal(onDatagram(octets).reading, 'malformed');
    });
});

describe('a header cut at any octet', () => {
  const headers: readonly (readonly [string, Buffer])[] = [
    ['version 1', Buffer.from(version1(ENDS6))],
    ['version 2', version2('tcp', ENDS, { tlvs: tlv(4, Buffer.alloc(9)) })],
    ['LOCAL', local(Buffer.alloc(5))],
  ];
  for (const [title, whole] of headers)
    test(`is incomplete on a stream: ${title}`, () => {
      for (let cut = 1; cut < whole.length; cut++)
        assert.equal(onStream(whole.subarray(0, cut)).reading, 'part', `${cut}`);
      assert.equal(onStream(whole).reading, 'header');
    });

  test('is cut in a datagram with version 2, except for its first four octets, which are a keep-alive', () => {
    const whole = version2('udp', ENDS6, { tlvs: tlv(4, Buffer.alloc(9)) });
    for (let cut = 1; cut < whole.length; cut++)
      assert.equal(onDatagram(whole.subarray(0, cut)).reading, cut <= 4 ? 'none' : 'part', `${cut}`);
  });

  test('is cut in a datagram with the simple header', () => {
    for (let cut = 2; cut < 38; cut++) assert.equal(onDatagram(simple().subarray(0, cut)).reading, 'part', `${cut}`);
    assert.equal(onDatagram(simple().subarray(0, 1)).reading, 'none');
  });
});

test('a line without an end within 107 octets is too long, in any pieces', () => {
  const longest = `PROXY UNKNOWN ${'f'.repeat(107 - 16)}\r\n`;
  assert.equal(longest.length, 107);
  assert.equal(onStream(longest).reading, 'header');
  const over = `PROXY UNKNOWN ${'f'.repeat(107 - 15)}\r\n`;
  assert.equal(onStream(over).reading, 'too-long');
  assert.equal(onStream(over.slice(0, 107)).reading, 'too-long');
  assert.equal(onStream(over.slice(0, 106)).reading, 'part');
});

test('a second header after the first is refused in a datagram', () => {
  const seconds = [
    version2('udp'),
    version2('tcp', ENDS6),
    simple(),
    Buffer.from(version1()),
    local(),
    SIGNATURE.subarray(0, 5),
  ];
  for (const first of [version2('udp'), simple(), local(), unspecified()])
    for (const second of seconds)
      assert.equal(onDatagram(Buffer.concat([first, second, Buffer.from(message())])).reading, 'nested');
});

test('octets that are no header are read as none', () => {
  const others = [
    '\r\n\r\n',
    '\r\n',
    '',
    message(),
    'PUBLISH sip:a SIP/2.0',
    'PROXYsip',
    'Via: x',
    '\0\0\0\0',
    `\r\n\r\n${message()}`,
  ];
  for (const text of others) {
    assert.equal(onDatagram(text).reading, 'none', text);
    // On a stream the first octets could still become a header.
    if (text.trim() !== '') assert.equal(onStream(text).reading, 'none', text);
  }
});

test('a simple header written for an answer is read back', () => {
  for (const ends of [ENDS, ENDS6]) {
    const octets = Buffer.alloc(40, 0xaa);
    writeSimpleHeader(octets, ends.client, ends.clientPort, ends.here, ends.herePort);
    assert.deepEqual(octets, Buffer.concat([simple(ends), Buffer.from([0xaa, 0xaa])]));
  }
});

const anyPort = fc.integer({ min: 1, max: 65_535 });

test('any octets are read without a throw, the same at any place in memory, and never beyond their end', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 80 }).map((octets) => Buffer.from(octets)),
    fc.constantFrom(
      SIGNATURE,
      version2('tcp'),
      version2('udp', ENDS6),
      simple(),
      local(),
      Buffer.from(version1()),
      Buffer.from('PROXY '),
    ),
    fc
      .tuple(
        fc.constantFrom(version2('tcp'), version2('udp', ENDS6), simple(), Buffer.from(version1())),
        fc.nat(60),
        fc.nat(255),
      )
      .map(([header, at, octet]) => {
        const bent = Buffer.from(header);
        bent[at % bent.length] = octet;
        return bent;
      }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 4 }), (pieces) => {
      const bytes = Buffer.concat(pieces);
      for (const read of [readStreamHeader, readDatagramHeader]) {
        const { reading, header, end } = readAs(read, bytes);
        const alone = new ProxyHeader();
        assert.equal(read(bytes, 0, bytes.length, alone), reading);
        if (reading !== 'header') continue;
        assert.ok(end > 0 && end <= bytes.length && end <= MAX_HEADER_OCTETS);
        assert.ok(header.outcome !== 'proxied' || (header.port >= 1 && header.port <= 65_535));
      }
    }),
    { numRuns: 2000 },
  );
});

test('octets after a stream header do not change the result, and a refusal is final', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(version2('tcp', ENDS6), local(), Buffer.from(version1())),
      fc.nat(40),
      fc.nat(255),
      fc.uint8Array({ maxLength: 30 }),
      (header, at, octet, behind) => {
        const bytes = Buffer.concat([header, behind]);
        bytes[at % header.length] = octet;
        let settled: string | undefined;
        for (let end = 1; end <= bytes.length; end++) {
          const read = onStream(bytes.subarray(0, end));
          const now =
            read.reading === 'part' ? undefined : `${read.reading} ${read.reading === 'header' ? read.end : ''}`;
          if (settled !== undefined) assert.equal(now, settled);
          settled = now;
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('any two addresses are encoded and decoded unchanged in version 2', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.ipV4(), anyPort, anyPort, (client, here, clientPort, herePort) => {
      fc.pre(!/^(0\.0\.0\.0$|22[4-9]|2[3-5]\d)/.test(client));
      const ends = { client, here, clientPort, herePort };
      assertProxied(onStream(version2('tcp', ends)), ends, 28);
      assertProxied(onDatagram(version2('udp', ends)), ends, 28);
      assertProxied(onDatagram(simple(ends)), ends, 38);
    }),
  );
});

test('an address has the spelling that sockets report, whatever its spelling in the line', () => {
  for (const [written, reported] of [
    ['2001:0DB8:0:0::0001', '2001:db8::1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['::FFFF:192.0.2.33', '192.0.2.33'],
  ])
    assert.equal(onStream(`PROXY TCP6 ${written} ::1 1 2\r\n`).header.address, reported);
});
