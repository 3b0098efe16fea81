// The ports of the relay in user space over their life: calls and time in, ports and sockets out.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { C } from '../../../../src/batch/layout.ts';
import { Side } from '../../../../src/media/media-relay.ts';
import { AUDIO, CLIENT, INSIDE, NOBODY, OUTSIDE, openCall, REST_MS, relayRig, rtp, totals } from './relay-rig.ts';

const { outside, inside } = Side;
const ONE_PAIR = {
  sides: [
    { address: OUTSIDE, first: 20_000, last: 20_001 },
    { address: INSIDE, first: 30_000, last: 30_001 },
  ],
} as const;

describe('the ports of the relay', () => {
  test('rest with an open socket, which counts late packets, and are closed then', async () => {
    const rig = await relayRig();
    const { relay, system, thread, clock } = rig;
    openCall(relay).close();
    thread.run();
    assert.ok(system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1)));
    thread.run();
    assert.deepEqual(totals(rig), { late: 1 });
    assert.deepEqual({ ...relay.ports(outside) }, { free: 8, used: 0, resting: 2, foreign: 0 });
    clock.advance(2 * REST_MS + 1000);
    thread.run();
    assert.deepEqual(system.places, []);
    assert.deepEqual({ ...relay.ports(outside) }, { free: 10, used: 0, resting: 0, foreign: 0 });
  });

  test('rest until no late packet has come for the whole time', async () => {
    const { relay, system, thread, clock } = await relayRig(ONE_PAIR);
    openCall(relay).close();
    clock.advance(REST_MS - 1);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    thread.run();
    clock.advance(REST_MS - 1);
    assert.equal(relay.open(AUDIO), undefined);
    clock.advance(1);
    thread.run();
    assert.ok(relay.open(AUDIO));
  });

  test('serve the next stream with the socket that is still open, from a clean state', async () => {
    const { relay, system, thread, clock } = await relayRig({ ...ONE_PAIR, restMs: 500 });
    const first = openCall(relay);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    thread.run();
    first.close();
    thread.run();
    clock.advance(500);
    const next = relay.open(AUDIO)!;
    assert.equal(next.ports[outside].port, 20_000);
    assert.deepEqual(next.statistics(outside), NOBODY);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(2));
    thread.run();
    assert.equal(system.sent.length, 1);
    assert.deepEqual(next.statistics(outside), { ...NOBODY, foreign: 1 });
    assert.equal(system.places.length, 4);
  });

  test('are not opened again before the thread has closed them', async () => {
    const { relay, system, thread, clock } = await relayRig(ONE_PAIR);
    openCall(relay).close();
    thread.run();
    clock.advance(2 * REST_MS + 1000);
    assert.equal(relay.open(AUDIO), undefined, 'the thread has not read the messages');
    assert.equal(relay.ports(outside).foreign, 0);
    thread.run();
    assert.deepEqual(system.places, []);
    clock.advance(REST_MS);
    assert.ok(relay.open(AUDIO));
  });

  test('of other programs are skipped and counted', async () => {
    const { relay, system } = await relayRig({
      sides: [
        { address: OUTSIDE, first: 20_000, last: 20_005 },
        { address: INSIDE, first: 30_000, last: 30_005 },
      ],
    });
    for (const place of [`${OUTSIDE} 20000`, `${OUTSIDE} 20005`, `${INSIDE} 30003`]) system.foreign.add(place);
    assert.equal(openCall(relay).ports[outside].port, 20_002);
    assert.deepEqual([relay.ports(outside).foreign, relay.ports(inside).foreign], [2, 0]);
    assert.deepEqual(system.places, [`${INSIDE} 30000`, `${INSIDE} 30001`, `${OUTSIDE} 20002`, `${OUTSIDE} 20003`]);
  });

  test('that are used up at one side refuse a stream, and cost the other side nothing', async () => {
    const { relay } = await relayRig({
      sides: [
        { address: OUTSIDE, first: 20_000, last: 20_009 },
        { address: INSIDE, first: 30_000, last: 30_001 },
      ],
    });
    openCall(relay);
    for (const ofNewCall of [true, false]) assert.equal(relay.open({ ...AUDIO, ofNewCall }), undefined);
    assert.equal(relay.ports(outside).used, 2);
  });

  test('of the reserve are for streams of calls that exist', async () => {
    const { relay } = await relayRig({ reservedPairs: 4 });
    assert.ok(relay.open(AUDIO));
    assert.equal(relay.open(AUDIO), undefined);
    assert.ok(relay.open({ ...AUDIO, ofNewCall: false }));
  });

  test('of the reserve are counted twice for a stream with both legs outside', async () => {
    const { relay } = await relayRig({ reservedPairs: 4 });
    assert.equal(relay.open({ ...AUDIO, facing: outside }), undefined);
    assert.ok(relay.open(AUDIO));
  });

  test('have the DSCP of the configuration, or none', async () => {
    for (const [dscp, wanted] of [
      [46, [184, 184, 184, 184]],
      [undefined, []],
    ] as const) {
      const { relay, system } = await relayRig(dscp === undefined ? {} : { dscp });
      openCall(relay);
      const marks = system.options.filter(({ option }) => option === C.IP_TOS).map(({ value }) => value);
      assert.deepEqual(marks, wanted);
    }
  });

  test('come from one range when both sides have the same', async () => {
    const one = { address: OUTSIDE, first: 20_000, last: 20_009 };
    const { relay, system, thread } = await relayRig({ sides: [one, one] });
    const stream = openCall(relay);
    assert.deepEqual(stream.ports, [
      { port: 20_000, rtcpPort: 20_001 },
      { port: 20_008, rtcpPort: 20_009 },
    ]);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    thread.run();
    assert.equal(system.sent[0]!.from, `${OUTSIDE} 20008`);
    assert.ok(relay.open(AUDIO));
    assert.equal(relay.open(AUDIO), undefined);
  });

  test('of a record are opened again, or none of them', async () => {
    const { relay, system } = await relayRig();
    const [out, into] = [
      { port: 20_004, rtcpPort: 20_005 },
      { port: 30_002, rtcpPort: 30_002 },
    ];
    assert.equal(relay.reopen(AUDIO, [out, { port: 29_998, rtcpPort: 29_999 }]), undefined, 'outside of the range');
    assert.equal(relay.ports(outside).used, 0);
    const other = { port: 20_008, rtcpPort: 20_009 };
    assert.deepEqual(relay.reopen(AUDIO, [other, into])!.ports, [other, into]);
    assert.equal(relay.reopen(AUDIO, [other, { port: 30_006, rtcpPort: 30_007 }]), undefined, 'used');
    system.foreign.add(`${OUTSIDE} 20006`);
    assert.equal(
      relay.reopen(AUDIO, [
        { port: 20_006, rtcpPort: 20_007 },
        { port: 30_006, rtcpPort: 30_007 },
      ]),
      undefined,
    );
  });

  test('cannot be opened without descriptors: the stream is refused, and one log line has the reason', async () => {
    const { relay, system, log } = await relayRig();
    system.refusals.push({ call: 'socket', errno: C.ENOBUFS });
    assert.equal(relay.open(AUDIO), undefined);
    assert.match(log.join(), /SF_BIND_FAILED.*ENOBUFS/);
    assert.equal(relay.ports(outside).foreign, 0);
    assert.ok(relay.open(AUDIO));
  });
});
