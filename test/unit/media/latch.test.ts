import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Latch, LatchOutcome, Rank, sourceRank } from '../../../src/media/latch.ts';
import { MediaKind } from '../../../src/media/media-packet.ts';

const outcomes = Object.keys(LatchOutcome);

/** An RTP packet with this sequence number and SSRC. */
function rtp(sequence: number, ssrc = 1): Buffer {
  const packet = Buffer.alloc(172);
  packet[0] = 0x80;
  packet.writeUInt16BE(sequence & 0xffff, 2);
  packet.writeUInt32BE(ssrc, 8);
  return packet;
}

/** A latch that expects `place`, and a source of RTP packets in order. */
function rig(place = '203.0.113.7:4000', signalling = '203.0.113.7') {
  const latch = new Latch();
  let now = 1000;
  const expect = (text: string): void => {
    const [address = '', port] = text.split(':');
    latch.expect({ address, port: Number(port), signalling });
  };
  expect(place);
  const take = (source: string, packet: Buffer, kind: MediaKind = MediaKind.rtp): string => {
    const [address = '', port] = source.split(':');
    return outcomes[latch.take(kind, packet, address, Number(port), now)]!;
  };
  return {
    latch,
    expect,
    take,
    pass(ms: number): void {
      now += ms;
    },
    /** Sends `n` packets in order, 20 ms apart; returns what became of them. */
    stream(source: string, n: number, first = 1): string[] {
      return Array.from({ length: n }, (_, i) => {
        now += 20;
        return take(source, rtp(first + i));
      });
    },
    get target(): string {
      return `${latch.address}:${latch.port}`;
    },
  };
}

describe('the rank of a source', () => {
  for (const [expected, signalling, source, rank] of [
    ['203.0.113.7 4000', '', '203.0.113.7 4000', 'exact'],
    ['2001:db8::1 4000', '', '2001:db8:0:0::1 4000', 'exact'],
    ['203.0.113.7 4000', '', '::ffff:203.0.113.7 4000', 'exact'],
    ['203.0.113.7 4000', '', '203.0.113.7 4001', 'address'],
    ['2001:db8::1 4000', '', '2001:db8:0:0::1 4001', 'address'],
    ['203.0.113.7 4000', '198.51.100.1', '198.51.100.1 4000', 'signalling'],
    ['10.0.0.7 4000', '198.51.100.1', '198.51.100.1 62000', 'signalling'],
    ['203.0.113.7 4000', '', '203.0.113.8 4000', 'network'],
    ['203.0.113.7 4000', '', '203.0.112.7 4000', 'never'],
    ['2001:db8:0:100::1 4000', '', '2001:db8:0:1ff::2 4000', 'network'],
    ['2001:db8:0:100::1 4000', '', '2001:db8:0:200::1 4000', 'never'],
    ['203.0.113.7 4000', '', '2001:db8::1 4000', 'never'],
    ['10.0.0.7 4000', '', '198.51.100.1 4000', 'unknown'],
    ['fd00::7 4000', '', '198.51.100.1 4000', 'unknown'],
    ['0.0.0.0 4000', '', '198.51.100.1 4000', 'unknown'],
    [':: 4000', '', '198.51.100.1 4000', 'unknown'],
    ['203.0.113.7 4000', '', 'nonsense 4000', 'never'],
  ] as const)
    test(`${source} where ${expected} is expected${signalling && `, with signalling from ${signalling}`}: ${rank}`, () => {
      const [address = '', port] = expected.split(' ');
      const [from = '', fromPort] = source.split(' ');
      const found = sourceRank({ address, port: Number(port), signalling }, from, Number(fromPort));
      assert.equal(
        Object.keys(Rank).find((key) => Rank[key as keyof typeof Rank] === found),
        rank,
      );
    });
});

describe('a latch', () => {
  test('passes the first packet of the very place in the description, and keeps all others out from then on', () => {
    const { stream, target } = rig();
    assert.equal(target, '203.0.113.7:4000');
    assert.deepEqual(stream('203.0.113.7:4000', 1), ['pass']);
    assert.deepEqual(stream('203.0.113.7:4001', 5), Array(5).fill('foreign'));
    assert.deepEqual(stream('203.0.113.7:4000', 1), ['pass']);
  });

  test('learns the port that a NAT has given after three packets in order, and sends there', () => {
    const one = rig('10.0.0.7:4000');
    assert.deepEqual(one.stream('203.0.113.7:62000', 4), ['learning', 'learning', 'pass', 'pass']);
    assert.equal(one.target, '203.0.113.7:62000');
  });

  test('sends to the place in the description as long as nothing is learned', () => {
    const one = rig();
    one.stream('203.0.113.7:62000', 2);
    assert.equal(one.target, '203.0.113.7:4000');
  });

  test('waits half a second for a better source before it learns an address that signalling has not named', () => {
    const one = rig('10.0.0.7:4000');
    const words = one.stream('198.51.100.66:9000', 27);
    assert.equal(words.indexOf('pass'), 25);
    const other = rig('10.0.0.7:4000');
    other.stream('198.51.100.66:9000', 20);
    assert.deepEqual(other.stream('203.0.113.7:62000', 3), ['learning', 'learning', 'pass']);
    assert.deepEqual(other.stream('198.51.100.66:9000', 9), Array(9).fill('foreign'));
  });

  test('never learns another network than the one of a public address in the description', () => {
    const one = rig('203.0.113.7:4000', '203.0.113.7');
    assert.deepEqual(one.stream('198.51.100.66:9000', 99), Array(99).fill('foreign'));
  });

  test('does not give up a candidate for an equal one while it sends', () => {
    const { take, pass } = rig('10.0.0.7:4000', '');
    for (let i = 0; i < 40; i++) {
      pass(20);
      const words = [take('198.51.100.1:1', rtp(i)), take('198.51.100.66:9', rtp(i))];
      assert.equal(words[1], i < 25 ? 'learning' : 'foreign', String(i));
      assert.equal(words[0], i < 25 ? 'learning' : 'pass', String(i));
    }
  });

  for (const [title, packets] of [
    ['with another SSRC each', [rtp(1, 1), rtp(2, 2), rtp(3, 3), rtp(4, 4)]],
    ['with one number', [rtp(7), rtp(7), rtp(7), rtp(7)]],
    ['with numbers that fall', [rtp(9), rtp(8), rtp(7), rtp(6)]],
    ['with numbers that jump', [rtp(1), rtp(1001), rtp(2001), rtp(3001)]],
  ] as const)
    test(`does not learn from packets ${title}`, () => {
      const { take } = rig('10.0.0.7:4000');
      for (const packet of packets) assert.equal(take('203.0.113.7:62000', packet), 'learning');
    });

  test('learns from numbers that go through zero, with a gap', () => {
    const { take } = rig('10.0.0.7:4000');
    const words = [65_534, 65_535, 3].map((sequence) => take('203.0.113.7:62000', rtp(sequence)));
    assert.deepEqual(words, ['learning', 'learning', 'pass']);
  });

  test('learns from RTCP, STUN and DTLS by their count', () => {
    const { take } = rig('10.0.0.7:4000');
    const words = [MediaKind.stun, MediaKind.dtls, MediaKind.rtcp].map((kind) =>
      take('203.0.113.7:62000', Buffer.alloc(20), kind),
    );
    assert.deepEqual(words, ['learning', 'learning', 'pass']);
  });

  test('lets nobody in before an offer or answer has named the party', () => {
    const latch = new Latch();
    assert.equal(latch.take(MediaKind.rtp, rtp(1), '203.0.113.7', 4000, 0), LatchOutcome.foreign);
  });

  test('learns anew when a new offer names another place', () => {
    const one = rig();
    one.stream('203.0.113.7:4000', 3);
    one.expect('203.0.113.9:5000');
    assert.equal(one.target, '203.0.113.9:5000');
    assert.deepEqual(one.stream('198.51.100.66:4000', 3), Array(3).fill('foreign'));
    assert.deepEqual(one.stream('203.0.113.9:5000', 1), ['pass']);
  });

  test('stays with its source when a new offer names the same place, while the source sends', () => {
    const one = rig('10.0.0.7:4000');
    one.stream('203.0.113.7:62000', 5);
    one.expect('10.0.0.7:4000');
    assert.equal(one.target, '203.0.113.7:62000');
    assert.deepEqual(one.stream('203.0.113.7:63000', 5), Array(5).fill('foreign'));
    assert.deepEqual(one.stream('203.0.113.7:62000', 1), ['pass']);
  });

  test('stays with its source while it is held, and measures the silence from the end of that on', () => {
    const { latch, expect, take, pass } = rig();
    const stranger = (): string => take('203.0.113.7:4444', rtp(1));
    assert.equal(take('203.0.113.7:4000', rtp(1)), 'pass');
    latch.hold(true, 1000);
    pass(60_000);
    expect('203.0.113.7:4000');
    assert.equal(stranger(), 'foreign');
    assert.equal(take('203.0.113.7:4000', rtp(2)), 'pass', 'RTCP, or packets that the kernel leaves');
    pass(60_000);
    assert.equal(stranger(), 'foreign');
    latch.hold(false, 121_000);
    pass(499);
    assert.equal(stranger(), 'foreign');
    pass(1);
    assert.equal(stranger(), 'learning');
  });

  test('takes another place of a new offer while it is held', () => {
    const { latch, expect, take } = rig();
    assert.equal(take('203.0.113.7:4000', rtp(1)), 'pass');
    latch.hold(true, 1000);
    expect('203.0.113.7:5000');
    assert.deepEqual([take('203.0.113.7:4000', rtp(2)), take('203.0.113.7:5000', rtp(1))], ['learning', 'pass']);
  });

  test('follows a NAT that has a new port, after a new offer of the same place and silence of the old port', () => {
    const one = rig('10.0.0.7:4000');
    one.stream('203.0.113.7:62000', 5);
    one.pass(10_000);
    assert.deepEqual(one.stream('203.0.113.7:63000', 3), Array(3).fill('foreign'), 'without an offer');
    one.expect('10.0.0.7:4000');
    assert.deepEqual(one.stream('203.0.113.7:63000', 3), ['learning', 'learning', 'pass']);
    assert.equal(one.target, '203.0.113.7:63000');
    one.pass(10_000);
    assert.deepEqual(one.stream('203.0.113.7:64000', 3), Array(3).fill('foreign'), 'locked again');
  });
});

test('once a source is locked, whatever strangers send, nothing of them passes and it stays the target', () => {
  const source = fc.constantFrom('203.0.113.7:4001', '203.0.113.8:4000', '10.0.0.7:4000', '198.51.100.66:9000');
  const attack = fc.record({
    source,
    sequence: fc.nat(0xffff),
    ms: fc.nat(2000),
    kind: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(fc.constantFrom('203.0.113.7:4000', '10.0.0.7:4000'), fc.array(attack), (place, attacks) => {
      const one = rig(place);
      one.stream('203.0.113.7:4000', 3);
      assert.ok(one.latch.locked);
      for (const { source: from, sequence, ms, kind } of attacks) {
        one.pass(ms);
        assert.equal(one.take(from, rtp(sequence), kind as MediaKind), 'foreign');
        assert.equal(one.target, '203.0.113.7:4000');
      }
    }),
  );
});
