// Media in the record of a call: a session that is opened by its record is the one that was recorded, and each change
// of the record is reported.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { mediaOctets, parseMediaRecord } from '../../../src/calls/records/media-record.ts';
import { CallMedia, NO_PORTS, type RelayedPlaces } from '../../../src/media/call-media.ts';
import { readSdp, type Sdp } from '../../../src/sdp/sdp.ts';
import { FakeRelay, Side } from '../../fake/media-relay.ts';
import { audio, named, sdp } from './descriptions.ts';

const [WAN, INSIDE, SERVER] = ['203.0.113.11', '127.0.0.1', '127.0.0.2'];
const [ONE, TWO] = [7, 8];

const secure = (port: number): string => `m=video ${port} RTP/SAVP 96\r\n`;

/** A session on a relay of its own, as a process has it. */
class Session {
  readonly relay = new FakeRelay();
  readonly changed: number[] = [];
  readonly media = new CallMedia({
    relay: this.relay,
    addresses: () => [WAN, INSIDE],
    sideOf: (address) => (address.startsWith('127.') ? Side.inside : Side.outside),
    onChanged: (call) => void this.changed.push(call),
  });

  offer(name: string, description: Sdp, call = ONE): RelayedPlaces {
    const places = this.media.fromClient(call, name, description, '198.51.100.7');
    assert.ok(places !== NO_PORTS);
    return places;
  }

  answer(name: string, description: Sdp, call = ONE): RelayedPlaces {
    const places = this.media.toClient(call, name, description);
    assert.ok(places !== NO_PORTS);
    return places;
  }

  /** Opens the calls in a new process by their records as they are in the store. */
  restarted(...calls: number[]): Session {
    const after = new Session();
    for (const call of calls) {
      const record = parseMediaRecord(JSON.parse(JSON.stringify(this.media.record(call))));
      assert.deepEqual(after.media.restore(call, record!), []);
    }
    return after;
  }

  /** The work of the relay for each open stream, in the order of their ports; joined streams by their ports. */
  get streams(): unknown[] {
    return this.relay.live
      .map(({ options: { clear, facing }, ports, targets, joined }) => ({
        ...{ clear, facing, ports, joined: joined?.ports },
        targets: targets.map((target) => target ?? { rtp: undefined, rtcp: undefined }),
      }))
      .sort((one, other) => one.ports[0].port - other.ports[0].port);
  }
}

/** Makes a call from a to b through a proxy. */
function join(session: Session, a = ONE, b = ONE): void {
  session.answer('z9hG4bK1', named(session.offer('a', sdp('192.0.2.7', audio(4000)), a)), b);
  session.media.rename(b, 'z9hG4bK1', 'b');
  session.answer('a', named(session.offer('b', sdp('192.0.2.9', audio(6000)), b)), a);
}

let session: Session;
beforeEach(() => {
  session = new Session();
});

describe('a session that is opened by its record', () => {
  const SESSIONS: readonly (readonly [string, () => void])[] = [
    [
      'with the places of both sides',
      () => {
        session.offer('a', sdp('192.0.2.7', audio(4000)));
        session.answer('a', sdp(SERVER, audio(5000)));
      },
    ],
    ['with RTCP elsewhere', () => session.offer('a', sdp('192.0.2.7', audio(4000, 'a=rtcp:4100 IN IP4 192.0.2.8')))],
    [
      'with one port for RTP and RTCP',
      () => {
        session.offer('a', sdp('192.0.2.7', audio(4000, 'a=rtcp-mux')));
        session.answer('a', sdp(SERVER, audio(5000, 'a=rtcp-mux')));
      },
    ],
    ['with one side that has a=rtcp-mux', () => session.offer('a', sdp('192.0.2.7', audio(4000, 'a=rtcp-mux')))],
    [
      'with one port from the beginning',
      () => session.offer('a', sdp('192.0.2.7', audio(4000, 'a=rtcp-mux', 'a=rtcp-mux-only'))),
    ],
    ['with m= lines of one port', () => session.offer('a', sdp('192.0.2.7', audio(4000), audio(4000), secure(4002)))],
    ['with a rejected stream', () => session.offer('a', sdp('192.0.2.7', audio(0), secure(4002)))],
    ['with the last port as the RTP port', () => session.offer('a', sdp('192.0.2.7', audio(65_535)))],
    ['whose inner leg faces clients', () => session.answer('b', sdp('192.0.2.7', audio(4000)))],
    [
      'with a party that is direct',
      () => {
        session.media.leave(ONE, 'c');
        session.offer('a', sdp('192.0.2.7', audio(4000)));
      },
    ],
    ['of two clients', () => join(session)],
    ['of two clients under two Call-IDs', () => join(session, ONE, TWO)],
  ];
  for (const [title, make] of SESSIONS)
    test(`is the recorded one: ${title}`, () => {
      make();
      const calls = [...session.media.calls];
      for (const order of [calls, [...calls].reverse()]) {
        const after = session.restarted(...order);
        assert.deepEqual(after.streams, session.streams);
        for (const call of calls) assert.deepEqual(after.media.record(call), session.media.record(call));
        assert.deepEqual(after.changed, [], 'the record needs no write');
      }
    });

  test('goes on as the recorded one: places are found, and names of both parties', () => {
    join(session);
    const after = session.restarted(ONE);
    const toServer = after.offer('b', sdp('192.0.2.9', audio(6000)));
    after.answer('a', named(toServer));
    after.answer('z9hG4bK1', named(after.offer('a', sdp('192.0.2.7', audio(4000)))));
    assert.deepEqual([after.streams, after.changed], [session.streams, []]);
    after.media.endCall(ONE);
    assert.deepEqual(after.relay.live, []);
  });

  test('leaves out a stream whose ports are not free, and reports it', () => {
    session.offer('a', sdp('192.0.2.7', audio(4000), secure(4002)));
    const record = session.media.record(ONE)!;
    const after = new Session();
    after.relay.foreign.add(record[0]!.streams.map((each) => (typeof each === 'object' ? each?.ports[2] : 0))[0]!);
    const failed = after.media.restore(ONE, record);
    assert.deepEqual(failed, [record[0]!.streams[0]]);
    assert.equal(after.relay.live.length, 1);
    after.offer('a', sdp('192.0.2.7', audio(4000), secure(4002)));
    assert.equal(after.relay.live.length, 2);
  });

  test('joins nobody to a stream that is not opened again, also when a new one has its place', () => {
    join(session, ONE, TWO);
    const after = session.restarted(ONE);
    for (let i = 0; i < 4; i++) after.offer('c', sdp('192.0.2.5', audio(3000)), 100 + i);
    assert.ok(after.relay.live.every(({ joined }) => joined === undefined));
    assert.deepEqual(after.media.record(ONE), session.media.record(ONE), 'its record still names the place');
  });

  test('leaves a party as it is that was described meanwhile', () => {
    session.offer('a', sdp('192.0.2.7', audio(4000)));
    const record = session.media.record(ONE)!;
    session.offer('a', sdp('192.0.2.7', audio(4444)));
    assert.deepEqual(session.media.restore(ONE, record), []);
    assert.deepEqual([session.relay.live.length, session.relay.live[0]?.to(Side.outside)], [1, '192.0.2.7:4444']);
  });
});

describe('the record', () => {
  test('is none without an anchored party', () => {
    session.media.leave(ONE, 'a');
    assert.deepEqual([session.media.record(ONE), session.media.record(TWO)], [undefined, undefined]);
  });

  test('has at most 8 parties, 8 streams and 4 names, and no party with a name of more than 128 characters', () => {
    session.offer('x'.repeat(129), sdp('192.0.2.7', audio(4000)));
    for (let i = 0; i < 9; i++)
      session.offer(`p${i}`, sdp('192.0.2.7', ...Array.from({ length: 9 }, (_, at) => audio(4000 + 2 * at))));
    for (let i = 0; i < 9; i++) session.media.rename(ONE, 'p0', `fork${i}`);
    const record = session.media.record(ONE)!;
    assert.deepEqual(parseMediaRecord(record), record);
    assert.deepEqual([record.length, record[0]?.streams.length], [8, 8]);
    assert.deepEqual(record[0]?.names, ['p0', 'fork6', 'fork7', 'fork8']);
  });

  test('of a call with one audio stream between two clients has fewer than 600 octets, no more than estimated', () => {
    join(session);
    const record = session.media.record(ONE);
    const octets = JSON.stringify(record).length;
    assert.ok(octets < 600 && octets <= mediaOctets(record), `${octets} octets`);
  });

  test('is never larger than estimated', () => {
    const address = '2001:0db8:aaaa:bbbb:cccc:dddd:eeee:ffff';
    const lines = audio(65_534, `a=rtcp:65530 IN IP6 ${address}`);
    const text = `v=0\r\no=- 1 1 IN IP6 ${address}\r\ns=-\r\nc=IN IP6 ${address}\r\n${lines}`;
    const read = readSdp(Buffer.from(text), 0, text.length);
    assert.ok(typeof read !== 'string');
    session.media.fromClient(ONE, 'x'.repeat(128), read, address);
    for (let i = 0; i < 3; i++) session.media.rename(ONE, 'x'.repeat(128), `${i}${'y'.repeat(127)}`);
    const record = session.media.record(ONE);
    assert.ok(JSON.stringify(record).length <= mediaOctets(record), JSON.stringify(record));
  });
});

describe('a change of the record is reported', () => {
  const told = (act: () => void): number[] => {
    session.changed.length = 0;
    act();
    return [...session.changed];
  };
  const CHANGES: readonly (readonly [string, () => void, readonly number[]])[] = [
    ['not for a repeated description', () => session.offer('b', sdp('192.0.2.9', audio(6000)), TWO), []],
    ['for a new place', () => session.offer('b', sdp('192.0.2.9', audio(6002)), TWO), [TWO]],
    ['for one more stream', () => session.offer('b', sdp('192.0.2.9', audio(6000), audio(6002)), TWO), [TWO]],
    ['for a rejected stream', () => session.offer('b', sdp('192.0.2.9', audio(0)), TWO), [TWO, ONE]],
    ['for a=rtcp-mux', () => session.offer('b', sdp('192.0.2.9', audio(6000, 'a=rtcp-mux')), TWO), [TWO]],
    ['for one more name', () => session.media.rename(TWO, 'b', 'b2'), [TWO]],
    ['not for a known name', () => session.media.rename(TWO, 'b', 'b'), []],
    ['for a party that was joined to one of an ended call', () => session.media.endCall(TWO), [ONE]],
    ['for both calls when the server parts them', () => session.answer('a', sdp(SERVER, audio(5000)), ONE), [TWO, ONE]],
  ];
  for (const [title, act, expected] of CHANGES)
    test(title, () => {
      join(session, ONE, TWO);
      assert.deepEqual(told(act).sort(), [...expected].sort());
    });
});
