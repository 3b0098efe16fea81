// The listing of counters as nft 1.0.6 prints it, in pieces.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CounterReader } from '../../../src/media/kernel/counter-reader.ts';

const element = (number: number, packets: number, bytes: number): string =>
  `[{"elem": {"val": ${number}, "counter": {"packets": ${packets}, "bytes": ${bytes}}}}, 31000]`;
const listing = (...elements: string[]): string =>
  '{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}, ' +
  '{"map": {"family": "inet", "name": "by_port4", "table": "sipfarm_media_fe1", "type": "mark", "handle": 6, ' +
  `"map": "inet_service", "size": 128, "elem": [${elements.join(', ')}]}}]}\n`;
const FEW = listing(element(1, 0, 0), element(20_000, 123_456_789_012, 24_691_357_802_400));
const EXPECTED = [
  [1, 0, 0],
  [20_000, 123_456_789_012, 24_691_357_802_400],
];

function read(...pieces: readonly string[]): number[][] {
  const found: number[][] = [];
  const reader = new CounterReader((...counter) => found.push(counter));
  for (const piece of pieces) reader.take(piece);
  return found;
}

describe('a listing of counters', () => {
  it('is read from one piece', () => assert.deepEqual(read(FEW), EXPECTED));
  it('is read from two pieces, wherever it is cut', () => {
    for (let at = 0; at <= FEW.length; at++) assert.deepEqual(read(FEW.slice(0, at), FEW.slice(at)), EXPECTED);
  });
  it('is read character by character', () => assert.deepEqual(read(...FEW), EXPECTED));
  it('may have no blanks', () => assert.deepEqual(read(FEW.replaceAll(' ', '')), EXPECTED));
  it('may have no elements', () => assert.deepEqual(read(listing()), []));
});
