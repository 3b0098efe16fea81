// Streams of the relay in user space as their sessions and parties have them: packets in, packets and counts out.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Side } from '../../../../src/media/media-relay.ts';
import {
  AUDIO,
  CLIENT,
  INSIDE,
  NOBODY,
  OUTSIDE,
  openCall,
  REST_MS,
  relayRig,
  rtcp,
  rtp,
  SERVER,
  totals,
} from './relay-rig.ts';

const { outside, inside } = Side;

describe('a stream', () => {
  test('has a pair of ports at each side, and sends the packets of each party to the other from there', async () => {
    const { relay, system, thread } = await relayRig();
    const stream = openCall(relay);
    assert.deepEqual(stream.ports, [
      { port: 20_000, rtcpPort: 20_001 },
      { port: 30_000, rtcpPort: 30_001 },
    ]);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    system.deliver(`${SERVER} 5000`, `${INSIDE} 30000`, rtp(2));
    system.deliver(`${CLIENT} 4001`, `${OUTSIDE} 20001`, rtcp(0, 0));
    thread.run();
    const sent = system.sent.toSorted((one, other) => one.from.localeCompare(other.from));
    assert.deepEqual(sent, [
      { from: `${INSIDE} 30000`, to: `${SERVER} 5000`, bytes: rtp(1) },
      { from: `${INSIDE} 30001`, to: `${SERVER} 5001`, bytes: rtcp(0, 0) },
      { from: `${OUTSIDE} 20000`, to: `${CLIENT} 4000`, bytes: rtp(2) },
    ]);
  });

  test('counts packets and octets by the side that they come from, and when the last came', async () => {
    const { relay, system, thread, clock } = await relayRig();
    const stream = openCall(relay);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    clock.advance(20);
    thread.run();
    const lastAt = clock.now();
    system.deliver(`${CLIENT} 9`, `${OUTSIDE} 20000`, rtp(1));
    clock.advance(20);
    thread.run();
    const counted = { ...NOBODY, packets: 1, octets: 172, foreign: 1, latched: true, lastAt };
    assert.deepEqual([stream.statistics(outside), stream.statistics(inside)], [counted, NOBODY]);
    stream.close();
    assert.deepEqual(stream.statistics(outside), counted, 'after the end');
  });

  test('reads loss and jitter from the reports of a party, in clear only', async () => {
    for (const clear of [true, false]) {
      const { relay, system, thread } = await relayRig();
      const stream = openCall(relay, { clear });
      system.deliver(`${CLIENT} 4001`, `${OUTSIDE} 20001`, rtcp(7, 160));
      thread.run();
      const { lost, jitter, packets } = stream.statistics(outside);
      assert.deepEqual([lost, jitter, packets], clear ? [7, 160, 1] : [-1, -1, 1]);
    }
  });

  test('has one port at each side when it is single', async () => {
    const { relay, system, thread } = await relayRig();
    const stream = openCall(relay, { single: true });
    assert.deepEqual(stream.ports[inside], { port: 30_000, rtcpPort: 30_000 });
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtcp(3, 4));
    thread.run();
    assert.equal(system.sent[0]!.to, `${SERVER} 5000`);
    assert.equal(stream.statistics(outside).lost, 3);
    assert.equal(openCall(relay, { single: true }).ports[outside].port, 20_001);
  });

  test('gives its second ports back when both parties use one port', async () => {
    const { relay, system, thread, clock } = await relayRig();
    const stream = openCall(relay);
    stream.mux();
    assert.deepEqual(stream.ports[outside], { port: 20_000, rtcpPort: 20_000 });
    thread.run();
    system.deliver(`${CLIENT} 4001`, `${OUTSIDE} 20001`, rtcp(0, 0));
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtcp(0, 0));
    thread.run();
    assert.deepEqual(
      system.sent.map(({ to }) => to),
      [`${SERVER} 5000`],
    );
    clock.advance(2 * REST_MS + 1000);
    thread.run();
    assert.equal(relay.ports(outside).used, 1);
    assert.equal(openCall(relay, { single: true }).ports[outside].port, 20_001);
  });

  test('sends nothing to a party that expects nothing, and takes nothing from it', async () => {
    const rig = await relayRig();
    const { relay, system, thread } = rig;
    const stream = openCall(relay);
    stream.expect(inside, { rtp: undefined, rtcp: undefined });
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    system.deliver(`${SERVER} 5000`, `${INSIDE} 30000`, rtp(1));
    thread.run();
    assert.deepEqual([system.sent, totals(rig)], [[], { latches: 1, 'no-target': 1, foreign: 1 }]);
  });

  test('sends nothing to a forbidden place, and takes nothing from it', async () => {
    for (const address of ['127.0.0.1', '224.0.0.1', '0.0.0.0', OUTSIDE, '2001:db8::1']) {
      const rig = await relayRig({ own: [{ address: OUTSIDE, port: 5060 }] });
      const stream = openCall(rig.relay);
      stream.expect(outside, { rtp: { address, port: 5060, signalling: '' }, rtcp: undefined });
      rig.system.deliver(`${SERVER} 5000`, `${INSIDE} 30000`, rtp(1));
      if (!address.includes(':')) rig.system.deliver(`${address} 5060`, `${OUTSIDE} 20000`, rtp(1));
      rig.thread.run();
      assert.deepEqual(rig.system.sent, [], address);
    }
  });

  test('keeps an open latch closed to strangers, and follows the party to another place after a new offer', async () => {
    const { relay, system, thread } = await relayRig();
    const stream = openCall(relay);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    thread.run();
    for (let i = 0; i < 10; i++) system.deliver(`${CLIENT} 4444`, `${OUTSIDE} 20000`, rtp(i));
    thread.run();
    assert.equal(system.sent.length, 1);
    stream.expect(outside, { rtp: { address: CLIENT, port: 4444, signalling: '' }, rtcp: undefined });
    system.deliver(`${CLIENT} 4444`, `${OUTSIDE} 20000`, rtp(11));
    system.deliver(`${SERVER} 5000`, `${INSIDE} 30000`, rtp(1));
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(2));
    thread.run();
    assert.deepEqual(
      system.sent
        .slice(1)
        .map(({ to }) => to)
        .sort(),
      [`${SERVER} 5000`, `${CLIENT} 4444`].sort(),
    );
  });

  test('keeps its party after a new offer with the same place, while the party sends', async () => {
    const { relay, system, thread, clock } = await relayRig();
    const stream = openCall(relay);
    const place = { rtp: { address: CLIENT, port: 4000, signalling: '' }, rtcp: undefined };
    const deliver = (port: number, sequence: number): void => {
      system.deliver(`${CLIENT} ${port}`, `${OUTSIDE} 20000`, rtp(sequence));
      thread.run();
    };
    deliver(4000, 1);
    clock.advance(10_000);
    deliver(4000, 2);
    stream.expect(outside, place);
    for (let sequence = 1; sequence < 9; sequence++) deliver(4444, sequence);
    assert.equal(system.sent.length, 2);
    clock.advance(10_000);
    for (let sequence = 1; sequence < 9; sequence++) deliver(4444, sequence);
    assert.ok(system.sent.length > 2, 'after its silence');
  });

  test('joins a party of IPv6 and one of IPv4', async () => {
    const { relay, system, thread } = await relayRig({
      sides: [
        { address: '2001:db8::1', first: 20_000, last: 20_009 },
        { address: INSIDE, first: 30_000, last: 30_009 },
      ],
    });
    const stream = openCall(relay);
    stream.expect(outside, { rtp: { address: '2001:db8::7', port: 4000, signalling: '' }, rtcp: undefined });
    for (const sequence of [1, 2]) {
      system.deliver('2001:db8::7 4000', '2001:db8::1 20000', rtp(sequence));
      system.deliver(`${SERVER} 5000`, `${INSIDE} 30000`, rtp(sequence));
      thread.run();
    }
    const ways = system.sent.map(({ from, to }) => `${from} > ${to}`).sort();
    assert.deepEqual(
      new Set(ways),
      new Set([`${INSIDE} 30000 > ${SERVER} 5000`, '2001:db8::1 20000 > 2001:db8::7 4000']),
    );
    assert.equal(ways.length, 4);
  });

  test('keeps the time of a party whose packets have no target: the other one has put it on hold', async () => {
    const { relay, system, thread, clock } = await relayRig();
    const stream = openCall(relay);
    stream.expect(inside, { rtp: { address: '0.0.0.0', port: 5000, signalling: '' }, rtcp: undefined });
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    thread.run();
    assert.deepEqual(system.sent, []);
    assert.equal(stream.statistics(outside).lastAt, clock.now());
  });

  test('sends RTCP of a joined stream to the one port that the other has since rtcp-mux', async () => {
    const { relay, system, thread } = await relayRig();
    const [one, other] = [openCall(relay), openCall(relay)];
    one.join(other);
    other.mux();
    system.deliver(`${CLIENT} 4001`, `${OUTSIDE} 20001`, rtcp(0, 0));
    thread.run();
    assert.deepEqual(
      system.sent.map(({ from, to }) => [from, to]),
      [[`${OUTSIDE} ${other.ports[outside].port}`, `${CLIENT} 4000`]],
    );
  });

  test('does not send to the next stream on the ports of one that was joined and has ended', async () => {
    const rig = await relayRig({ restMs: 500 });
    const { relay, system, thread, clock } = rig;
    const [one, other] = [openCall(relay), openCall(relay)];
    const { ports } = other;
    one.join(other);
    other.close();
    thread.run();
    clock.advance(500);
    const next = relay.reopen(AUDIO, ports)!;
    next.expect(outside, { rtp: { address: CLIENT, port: 6000, signalling: '' }, rtcp: undefined });
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} ${one.ports[outside].port}`, rtp(1));
    thread.run();
    assert.deepEqual([system.sent, totals(rig)], [[], { latches: 1, 'no-target': 1 }]);
    one.join(other);
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} ${one.ports[outside].port}`, rtp(2));
    thread.run();
    assert.deepEqual(
      system.sent.map(({ to }) => to),
      [`${SERVER} 5000`],
    );
  });

  test('forwards nothing after its end, whenever its packets have arrived', async () => {
    const rig = await relayRig();
    const stream = openCall(rig.relay);
    rig.thread.run();
    rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    stream.close();
    stream.close();
    stream.mux();
    stream.expect(outside, { rtp: undefined, rtcp: undefined });
    rig.thread.run();
    assert.deepEqual([rig.system.sent, totals(rig)], [[], { late: 1 }]);
  });
});
