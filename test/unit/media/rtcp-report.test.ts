import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readRtcpReport } from '../../../src/media/rtcp-report.ts';

/** Returns one RTCP packet: type and number of report blocks, then the octets after the header. */
function packet(type: number, blocks: number, body: readonly number[]): Buffer {
  const bytes = Buffer.from([0x80 | blocks, type, 0, 0, ...body]);
  bytes.writeUInt16BE(bytes.length / 4 - 1, 2);
  return bytes;
}

const zeros = (octets: number): number[] => new Array<number>(octets).fill(0);
/** A report block with 24 bits of lost packets and 32 bits of jitter. */
const block = (lost: number, jitter: number): number[] => {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32BE(lost & 0xff_ffff, 4);
  bytes[4] = 255;
  bytes.writeUInt32BE(jitter, 12);
  return [...bytes];
};
const receiver = (...blocks: number[][]): Buffer => packet(201, blocks.length, [...zeros(4), ...blocks.flat()]);
const sender = (...blocks: number[][]): Buffer => packet(200, blocks.length, [...zeros(24), ...blocks.flat()]);
const description = packet(202, 1, zeros(8));

const CASES: readonly (readonly [string, Buffer, { lost: number; jitter: number } | undefined])[] = [
  ['a receiver report', receiver(block(7, 160)), { lost: 7, jitter: 160 }],
  ['a sender report', sender(block(7, 160)), { lost: 7, jitter: 160 }],
  ['the first of two blocks', receiver(block(1, 2), block(3, 4)), { lost: 1, jitter: 2 }],
  ['a report in front of a description', Buffer.concat([receiver(block(1, 2)), description]), { lost: 1, jitter: 2 }],
  ['a report behind one without blocks', Buffer.concat([receiver(), receiver(block(1, 2))]), { lost: 1, jitter: 2 }],
  ['the largest numbers', receiver(block(0x7f_ffff, 0xffff_ffff)), { lost: 0x7f_ffff, jitter: 0xffff_ffff }],
  ['fewer lost than none, by duplicates', receiver(block(-3, 2)), { lost: 0, jitter: 2 }],
  ['a report without blocks', receiver(), undefined],
  ['a description', description, undefined],
  ['a report that the datagram cuts', receiver(block(1, 2)).subarray(0, 31), undefined],
  ['a block that the packet cuts', packet(201, 1, zeros(20)), undefined],
  ['an empty datagram', Buffer.alloc(0), undefined],
  ['four octets', Buffer.from([0x81, 201, 0, 7]), undefined],
];

describe('the report of RTCP', () => {
  for (const [name, bytes, wanted] of CASES)
    test(`of ${name} is ${wanted ? `lost ${wanted.lost}, jitter ${wanted.jitter}` : 'none'}`, () => {
      const report = { lost: -9, jitter: -9 };
      assert.equal(readRtcpReport(bytes, bytes.length, report), wanted !== undefined);
      assert.deepEqual(report, wanted ?? { lost: -9, jitter: -9 });
    });

  test('is not read beyond the octets of the datagram', () => {
    const room = Buffer.concat([receiver(block(1, 2)), receiver(block(3, 4))]);
    assert.equal(readRtcpReport(room, 20, { lost: 0, jitter: 0 }), false);
  });
});
