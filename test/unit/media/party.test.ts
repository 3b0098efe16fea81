// Streams of a party: when two targets are the same, where a recorded target leads, and which streams wait for another.
// Whole sessions and their records are in call-media-records.test.ts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { StreamRecord } from '../../../src/calls/records/media-record.ts';
import type { LegTarget } from '../../../src/media/media-relay.ts';
import { AwaitedStreams, NOWHERE, newStream, recordedTarget, sameTarget } from '../../../src/media/party.ts';
import { FakeRelayStream, Side } from '../../fake/media-relay.ts';

const place = (address: string, port: number, signalling = '') => ({ address, port, signalling });
const [RTP, RTCP] = [place('192.0.2.7', 4000), place('192.0.2.7', 4001)];

describe('two targets', () => {
  const CASES: readonly (readonly [string, LegTarget, boolean])[] = [
    ['with equal places are the same', { rtp: { ...RTP }, rtcp: { ...RTCP } }, true],
    ['with another address differ', { rtp: place('192.0.2.8', 4000), rtcp: RTCP }, false],
    ['with another port differ', { rtp: place('192.0.2.7', 4002), rtcp: RTCP }, false],
    ['with another port for RTCP differ', { rtp: RTP, rtcp: place('192.0.2.7', 4003) }, false],
    ['with another source of the signalling differ', { rtp: place('192.0.2.7', 4000, '192.0.2.9'), rtcp: RTCP }, false],
    ['of which one has no RTCP differ', { rtp: RTP, rtcp: undefined }, false],
    ['of which one is nowhere differ', NOWHERE, false],
  ];
  for (const [title, other, same] of CASES)
    test(title, () => {
      const one = { rtp: RTP, rtcp: RTCP };
      assert.deepEqual([sameTarget(one, other), sameTarget(other, one)], [same, same]);
    });

  test('that are nowhere are the same', () => assert.equal(sameTarget(NOWHERE, { ...NOWHERE }), true));
});

describe('a recorded target', () => {
  const target = { address: '192.0.2.7', port: 4000, signalling: '192.0.2.9' };
  const rtp = place('192.0.2.7', 4000, '192.0.2.9');
  const CASES: readonly (readonly [string, StreamRecord['targets'][0], boolean, LegTarget])[] = [
    ['has RTCP at the next port', target, false, { rtp, rtcp: { ...rtp, port: 4001 } }],
    ['has RTCP at the same port with a=rtcp-mux', target, true, { rtp, rtcp: rtp }],
    [
      'has RTCP where it is recorded',
      { ...target, rtcp: { address: '192.0.2.8', port: 7 } },
      true,
      { rtp, rtcp: place('192.0.2.8', 7, '192.0.2.9') },
    ],
    ['may be nowhere', null, true, NOWHERE],
    ['may have no source of signalling', { address: '192.0.2.7', port: 4000 }, false, { rtp: RTP, rtcp: RTCP }],
  ];
  for (const [title, recorded, mux, expected] of CASES)
    test(title, () => {
      const common = { ports: [2, 3, 4, 5], shown: ['192.0.2.1', '192.0.2.2'], clear: true } as const;
      const inner: StreamRecord = { ...common, mux: [!mux, mux], targets: [null, recorded] };
      assert.deepEqual(recordedTarget(inner, Side.inside), expected);
      const outer: StreamRecord = { ...common, mux: [mux, !mux], targets: [recorded, null] };
      assert.deepEqual(recordedTarget(outer, Side.outside), expected);
    });
});

test('streams wait for a place until they are taken off, each for itself', () => {
  const stream = () => {
    const options = { clear: true, single: false, facing: Side.inside, ofNewCall: false };
    const legs = [{ port: 2, rtcpPort: 3 } as const, { port: 4, rtcpPort: 5 } as const] as const;
    return newStream(1, new FakeRelayStream(options, legs), true, ['192.0.2.1', '192.0.2.2']);
  };
  const [one, two] = [stream(), stream()];
  assert.deepEqual(one.places, ['192.0.2.1 2', '192.0.2.2 4']);
  const awaited = new AwaitedStreams();
  awaited.delete(one);
  awaited.add(one, '192.0.2.3 6');
  awaited.add(two, '192.0.2.3 6');
  assert.deepEqual([awaited.of('192.0.2.3 6'), awaited.of('192.0.2.3 8')], [[one, two], []]);
  awaited.delete(one);
  assert.deepEqual([awaited.of('192.0.2.3 6'), one.awaits], [[two], undefined]);
  awaited.delete(two);
  assert.deepEqual(awaited.of('192.0.2.3 6'), []);
});
