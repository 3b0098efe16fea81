// The relay in user space as a whole: faults, start, stop, and any order of calls.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { C } from '../../../../src/batch/layout.ts';
import { type RelayStream, Side } from '../../../../src/media/media-relay.ts';
import { PortTable } from '../../../../src/media/user-relay/port-table.ts';
import { AUDIO, CLIENT, INSIDE, OUTSIDE, openCall, REST_MS, relayRig, rtp, totals } from './relay-rig.ts';

const { outside, inside } = Side;

describe('the relay', () => {
  test('counts a packet that the system refuses to send', async () => {
    const rig = await relayRig();
    openCall(rig.relay);
    rig.system.refusals.push({ call: 'sendto', errno: C.ENOBUFS });
    for (const sequence of [1, 2]) rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(sequence));
    rig.thread.run();
    assert.deepEqual(totals(rig), { 'send-error': 1, forwarded: 1, latches: 1, octets: 172 });
  });

  test('counts garbage, and does not learn from it', async () => {
    const rig = await relayRig();
    openCall(rig.relay);
    for (const text of ['', 'GET / HTTP/1.0', '\x80'])
      rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, Buffer.from(text, 'latin1'));
    rig.thread.run();
    assert.deepEqual(totals(rig), { garbage: 3 });
  });

  test('survives a packet that makes it throw: the packet is counted and reported, and the next one passes', async (t) => {
    const rig = await relayRig();
    openCall(rig.relay);
    rig.thread.run();
    const planted = t.mock.method(PortTable.prototype, 'take', () => {
      throw new Error('planted');
    });
    rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    rig.thread.run();
    planted.mock.restore();
    rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(2));
    rig.thread.run();
    assert.deepEqual(totals(rig), { 'internal-error': 1, forwarded: 1, latches: 1, octets: 172 });
    assert.deepEqual(rig.faults, ['media: Error: planted']);
  });

  test('closes everything when it stops', async () => {
    const { relay, system, failures } = await relayRig();
    openCall(relay);
    openCall(relay).close();
    await relay.stop();
    assert.equal(system.descriptors, 0);
    assert.deepEqual(failures, []);
    assert.equal(relay.open(AUDIO), undefined);
  });

  test('reports the end of its thread, opens no stream then, and has closed everything for a new relay', async () => {
    const { relay, system, thread, failures, log } = await relayRig();
    openCall(relay);
    thread.die();
    assert.deepEqual([failures.length, relay.open(AUDIO)], [1, undefined]);
    assert.match(log.join(), /SF_INTERNAL.*out of memory/);
    assert.equal(system.descriptors, 0);
    await relay.stop();
    assert.equal(system.descriptors, 0);
  });

  test('does not start without koffi', async () => {
    const load = (): never => {
      throw new Error("Cannot find module 'koffi'\nRequire stack: ...");
    };
    await assert.rejects(relayRig({ load }), { code: 'SF_MEDIA_UNAVAILABLE', message: /Cannot find module 'koffi'$/ });
  });

  test('does not start when its thread does not, and leaves nothing open', async () => {
    const startThread = async (): Promise<never> => {
      throw new Error('no memory');
    };
    await assert.rejects(relayRig({ startThread }), { code: 'SF_MEDIA_UNAVAILABLE' });
  });

  test('has at all times the ports of its streams, each once, with open sockets, and no others used', async () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant('open' as const), single: fc.boolean() }),
      fc.record({ kind: fc.constant('close' as const), at: fc.nat(20) }),
      fc.record({ kind: fc.constant('mux' as const), at: fc.nat(20) }),
      fc.record({ kind: fc.constant('time' as const), ms: fc.nat(2 * REST_MS) }),
      fc.constant({ kind: 'thread' as const }),
      fc.record({ kind: fc.constant('take' as const), port: fc.nat(9) }),
      fc.record({ kind: fc.constant('leave' as const), port: fc.nat(9) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 60 }), fc.nat(), async (actions, seed) => {
        let draw = seed;
        const random = (below: number): number => {
          draw = (draw * 16_807 + 1) % 2_147_483_647;
          return draw % below;
        };
        const { relay, system, thread, clock } = await relayRig({ random });
        const streams: RelayStream[] = [];
        for (const each of actions) {
          if (each.kind === 'open') {
            const stream = relay.open({ ...AUDIO, single: each.single });
            if (stream) streams.push(stream);
          } else if (each.kind === 'close') streams.splice(each.at, 1)[0]?.close();
          else if (each.kind === 'mux') streams[each.at]?.mux();
          else if (each.kind === 'time') clock.advance(each.ms);
          else if (each.kind === 'thread') thread.run();
          else if (each.kind === 'leave') system.foreign.delete(`${OUTSIDE} ${20_000 + each.port}`);
          else if (!system.places.includes(`${OUTSIDE} ${20_000 + each.port}`))
            system.foreign.add(`${OUTSIDE} ${20_000 + each.port}`);
          for (const side of [outside, inside]) {
            const used = streams.flatMap(({ ports }) => [...new Set([ports[side].port, ports[side].rtcpPort])]);
            assert.equal(new Set(used).size, used.length, 'a port of two streams');
            assert.equal(relay.ports(side).used, used.length);
            const places = used.map((port) => `${side === outside ? OUTSIDE : INSIDE} ${port}`);
            assert.deepEqual(
              places.filter((place) => !system.places.includes(place)),
              [],
            );
          }
        }
        for (const stream of streams) stream.close();
        thread.run();
        clock.advance(2 * REST_MS + 1000);
        thread.run();
        assert.deepEqual(system.places, []);
      }),
      { numRuns: 200 },
    );
  });
});
