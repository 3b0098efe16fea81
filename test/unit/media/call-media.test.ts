// Descriptions in and out: which ports each party reads, where its packets go, and which streams are joined.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { CallMedia, NO_PORTS, type RelayedPlaces } from '../../../src/media/call-media.ts';
import type { Sdp } from '../../../src/sdp/sdp.ts';
import { FakeRelay, type FakeRelayStream, Side } from '../../fake/media-relay.ts';
import { audio, named, sdp } from './descriptions.ts';

const [WAN, INSIDE, SERVER] = ['203.0.113.11', '127.0.0.1', '127.0.0.2'];
const CALL = 7;

const video = (port: number): string => `m=video ${port} RTP/AVP 96\r\n`;

let relay: FakeRelay;
let media: CallMedia;

beforeEach(() => {
  relay = new FakeRelay();
  media = new CallMedia({
    relay,
    addresses: () => [WAN, INSIDE],
    sideOf: (address) => (address.startsWith('127.') ? Side.inside : Side.outside),
  });
});

function places(result: RelayedPlaces | typeof NO_PORTS): RelayedPlaces {
  assert.ok(result !== NO_PORTS);
  return result;
}

const offer = (name: string, description: Sdp, from = ''): RelayedPlaces =>
  places(media.fromClient(CALL, name, description, from));
const answer = (name: string, description: Sdp): RelayedPlaces => places(media.toClient(CALL, name, description));
const only = (): FakeRelayStream => {
  assert.equal(relay.live.length, 1);
  return relay.live[0]!;
};

describe('a call of a client to the SIP server', () => {
  test('has one port for each side, and leads to the place that each has named', () => {
    const toServer = offer('a', sdp('192.0.2.7', audio(4000)), '198.51.100.7');
    const toClient = answer('a', sdp(SERVER, audio(5000)));
    const { ports, targets } = only();
    assert.deepEqual(toServer, { address: INSIDE, ports: [ports[Side.inside]] });
    assert.deepEqual(toClient, { address: WAN, ports: [ports[Side.outside]] });
    assert.deepEqual(targets[Side.outside], {
      rtp: { address: '192.0.2.7', port: 4000, signalling: '198.51.100.7' },
      rtcp: { address: '192.0.2.7', port: 4001, signalling: '198.51.100.7' },
    });
    assert.equal(only().to(Side.inside), `${SERVER}:5000`);
  });

  test('keeps its ports when a description is repeated or changed', () => {
    const first = offer('a', sdp('192.0.2.7', audio(4000)));
    assert.deepEqual(offer('a', sdp('192.0.2.7', audio(4000))), first);
    assert.deepEqual(offer('a', sdp('192.0.2.8', audio(4444))), first);
    assert.equal(only().to(Side.outside), '192.0.2.8:4444');
  });

  test('may begin with an offer of the server in its answer, for an INVITE without a description', () => {
    answer('a', sdp(SERVER, audio(5000)));
    offer('a', sdp('192.0.2.7', audio(4000)));
    assert.deepEqual([only().to(Side.inside), only().to(Side.outside)], [`${SERVER}:5000`, '192.0.2.7:4000']);
  });

  test('has a stream per m= line, also for one that is added later', () => {
    offer('a', sdp('192.0.2.7', audio(4000)));
    const more = offer('a', sdp('192.0.2.7', audio(4000), video(4002)));
    assert.equal(relay.live.length, 2);
    assert.deepEqual(
      more.ports,
      relay.live.map(({ ports }) => ports[Side.inside]),
    );
    assert.deepEqual(
      relay.live.map(({ options }) => options.ofNewCall),
      [true, false],
    );
  });

  test('is new to the relay with all streams of its first description', () => {
    offer('a', sdp('192.0.2.7', audio(4000), video(4002)));
    assert.ok(relay.live.every(({ options }) => options.ofNewCall));
  });

  test('closes a rejected stream and opens it anew when it is offered again', () => {
    offer('a', sdp('192.0.2.7', audio(4000), video(4002)));
    const rejected = answer('a', sdp(SERVER, audio(5000), video(0)));
    assert.deepEqual([rejected.ports.length, relay.live.length], [1, 1]);
    offer('a', sdp('192.0.2.7', audio(4000), video(4002)));
    assert.equal(relay.live.length, 2);
  });

  test('takes RTCP where a=rtcp names it', () => {
    offer('a', sdp('192.0.2.7', audio(4000, 'a=rtcp:4100 IN IP4 192.0.2.8')));
    assert.deepEqual(only().targets[Side.outside]?.rtcp, { address: '192.0.2.8', port: 4100, signalling: '' });
  });

  test('has one port once both sides have a=rtcp-mux, and two again when one gives it up', () => {
    offer('a', sdp('192.0.2.7', audio(4000, 'a=rtcp-mux')));
    assert.equal(only().muxed, false);
    answer('a', sdp(SERVER, audio(5000, 'a=rtcp-mux')));
    const muxed = only();
    assert.equal(muxed.muxed, true);
    assert.equal(offer('a', sdp('192.0.2.7', audio(4000, 'a=rtcp-mux'))).ports[0]?.rtcpPort, muxed.ports[1].port);
    offer('a', sdp('192.0.2.7', audio(4000)));
    assert.deepEqual([muxed.open, only().muxed], [false, false]);
  });

  test('has one stream for m= lines with one port, as bundled ones have (RFC 9143)', () => {
    const { ports } = offer('a', sdp('192.0.2.7', audio(4000), video(4000)));
    assert.equal(relay.live.length, 1);
    assert.deepEqual(ports[0], ports[1]);
    media.endCall(CALL);
    assert.equal(relay.live.length, 0);
  });

  test('has no stream for a protocol over TCP', () => {
    const { ports } = offer('a', sdp('192.0.2.7', 'm=message 4000 TCP/MSRP *\r\n', audio(4002)));
    assert.deepEqual([ports[0], relay.live.length], [undefined, 1]);
  });
});

describe('a refused offer', () => {
  const targets = (): string[] => [only().to(Side.outside), only().to(Side.inside)];
  beforeEach(() => {
    offer('a', sdp('192.0.2.7', audio(4000)));
    answer('a', sdp(SERVER, audio(5000)));
  });

  test('of a client leaves its target as it was, also when it was sent twice', () => {
    for (let i = 0; i < 2; i++) {
      media.offered(CALL, 'a', Side.outside, 2);
      offer('a', sdp('192.0.2.7', audio(4444)));
    }
    assert.deepEqual(targets(), ['192.0.2.7:4444', `${SERVER}:5000`]);
    media.refused(CALL, 'a', Side.outside, 2);
    assert.deepEqual(targets(), ['192.0.2.7:4000', `${SERVER}:5000`]);
  });

  test('of the server leaves the place that the client sends to', () => {
    media.offered(CALL, 'a', Side.inside, 7);
    answer('a', sdp(SERVER, audio(5555)));
    media.refused(CALL, 'a', Side.inside, 7);
    assert.deepEqual(targets(), ['192.0.2.7:4000', `${SERVER}:5000`]);
  });

  test('of another number or from the other side changes nothing, and one that was accepted stays', () => {
    media.offered(CALL, 'a', Side.outside, 2);
    offer('a', sdp('192.0.2.7', audio(4444)));
    media.refused(CALL, 'a', Side.outside, 1);
    media.refused(CALL, 'a', Side.inside, 2);
    media.offered(CALL, 'a', Side.outside, 3);
    media.refused(CALL, 'a', Side.outside, 3);
    media.refused(CALL, 'a', Side.outside, 3);
    assert.deepEqual(targets(), ['192.0.2.7:4444', `${SERVER}:5000`]);
  });

  test('that would have parted two clients leaves them joined', () => {
    answer('b', named(offer('a', sdp('192.0.2.7', audio(4000)))));
    answer('a', named(offer('b', sdp('192.0.2.9', audio(6000)))));
    const [a, b] = relay.streams as [FakeRelayStream, FakeRelayStream];
    media.offered(CALL, 'a', Side.inside, 2);
    answer('a', sdp(SERVER, audio(5555)));
    assert.equal(a.joined, undefined);
    media.refused(CALL, 'a', Side.inside, 2);
    assert.deepEqual([a.joined, b.joined, a.to(Side.inside)], [b, a, '']);
  });
});

describe('a call between two clients through the SIP server', () => {
  /** a calls; its INVITE leaves to b as transaction `branch`. Returns the streams of a and b. */
  function ring(branch = 'z9hG4bK1'): [FakeRelayStream, FakeRelayStream] {
    const toServer = offer('a', sdp('192.0.2.7', audio(4000)));
    answer(branch, named(toServer));
    return [relay.streams[0]!, relay.live.at(-1)!];
  }

  test('is joined: each description reaches the other with a port of its own outer leg', () => {
    const [a, b] = ring();
    media.rename(CALL, 'z9hG4bK1', 'b');
    const toServer = offer('b', sdp('192.0.2.9', audio(6000)));
    const toCaller = answer('a', named(toServer));
    assert.deepEqual(toCaller, { address: WAN, ports: [a.ports[Side.outside]] });
    assert.deepEqual([a.joined, b.joined], [b, a]);
    assert.deepEqual([a.to(Side.outside), b.to(Side.outside)], ['192.0.2.7:4000', '192.0.2.9:6000']);
    assert.deepEqual([a.to(Side.inside), b.to(Side.inside)], ['', '']);
  });

  test('leads to the fork whose answer the caller has got last', () => {
    const [a, first] = ring('z9hG4bK1');
    const second = ring('z9hG4bK2')[1];
    for (const [branch, tag, port] of [
      ['z9hG4bK1', 'b1', 6000],
      ['z9hG4bK2', 'b2', 7000],
    ] as const) {
      media.rename(CALL, branch, tag);
      answer('a', named(offer(tag, sdp('192.0.2.9', audio(port)))));
    }
    assert.equal(a.joined, second);
    media.endParty(CALL, 'b1');
    assert.deepEqual([first.open, second.open, a.joined], [false, true, second]);
  });

  test('is parted when the server sends the caller to a place of its own, and no packet of the other comes through', () => {
    const [a, b] = ring();
    answer('a', named(offer('z9hG4bK1', sdp('192.0.2.9', audio(6000)))));
    answer('a', sdp(SERVER, audio(5000)));
    assert.deepEqual([a.joined, b.joined, a.to(Side.inside)], [undefined, undefined, `${SERVER}:5000`]);
  });

  test('leaves no stream joined to one that is closed', () => {
    const [a, b] = ring();
    answer('a', named(offer('z9hG4bK1', sdp('192.0.2.9', audio(6000)))));
    media.endParty(CALL, 'z9hG4bK1');
    assert.deepEqual([b.open, a.joined], [false, undefined]);
  });

  test('whose caller is not anchored has its inner leg at the outside address', () => {
    const toClient = answer('b', sdp('192.0.2.7', audio(4000)));
    const toServer = offer('b', sdp('192.168.1.9', audio(6000)));
    assert.equal(only().options.facing, Side.outside);
    assert.deepEqual([toClient.address, toServer.address], [WAN, WAN]);
    assert.equal(only().to(Side.inside), '192.0.2.7:4000');
  });
});

test('the counts of a party are handed over once, when it ends; a direct one has none', () => {
  const ended: unknown[] = [];
  const counting = new CallMedia(
    { relay, addresses: () => [WAN, INSIDE], sideOf: () => Side.inside },
    (call, name, streams) => ended.push([call, name, streams.length]),
  );
  counting.fromClient(CALL, 'a', sdp('192.0.2.7', audio(4000), video(4002), audio(4002)), '');
  counting.leave(CALL, 'b');
  counting.endCall(CALL);
  counting.endCall(CALL);
  assert.deepEqual(ended, [[CALL, 'a', 2]]);
});

describe('without ports', () => {
  test('a description is refused, and takes none of the ports that were left', () => {
    relay.most = 1;
    assert.equal(media.fromClient(CALL, 'a', sdp('192.0.2.7', audio(4000), video(4002)), ''), NO_PORTS);
    assert.equal(relay.live.length, 0);
    offer('a', sdp('192.0.2.7', audio(4000)));
    assert.equal(media.fromClient(CALL, 'a', sdp('192.0.2.7', audio(4000), video(4002)), ''), NO_PORTS);
    assert.equal(relay.live.length, 1, 'the stream of before goes on');
  });

  test('a call has 64 parties at most', () => {
    for (let i = 0; i < 64; i++) answer(`z9hG4bK${i}`, sdp(SERVER, audio(5000)));
    assert.equal(media.toClient(CALL, 'z9hG4bK64', sdp(SERVER, audio(5000))), NO_PORTS);
    media.endCall(CALL);
    assert.deepEqual([relay.live.length, [...media.calls]], [0, []]);
  });
});
