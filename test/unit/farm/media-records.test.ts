// Relayed media in the call records of a whole farm: a restarted member takes its ports back, and one that has lost its
// seat keeps them until its records are read.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { MemoryStore } from '../../../src/store/memory-store.ts';
import { type FakeRelayStream, Side } from '../../fake/media-relay.ts';
import { type Message, respond } from '../../fake/sip.ts';
import { stopFarms } from './calls.ts';
import { placeIn, Scene, sdp, TYPE, WAN } from './media-scene.ts';
import { proxies } from './proxies.ts';

afterEach(stopFarms);

const WRITTEN_MS = 200;
/** Time in which the streams of calls that are over are closed. */
const SWEPT_MS = 2000;

const portsOf = (streams: readonly FakeRelayStream[]) => streams.map(({ ports }) => ports);

/** Changes the stores of the members that start from now on. */
function eachStore({ farm: { memory } }: Scene, change: (store: MemoryStore) => void): void {
  const open = memory.open.bind(memory);
  memory.open = () => {
    const store = open();
    change(store);
    return store;
  };
}

/** Makes an answered call of the caller to the SIP server of the member that owns it. */
async function talk(scene: Scene, callId: string): Promise<Message> {
  await scene.send('INVITE', callId, sdp('192.0.2.7', 4000));
  const answered = await scene.answer(callId, 200, sdp('10.0.0.99', 5000));
  await scene.send('ACK', callId, '', answered);
  await scene.farm.pass(WRITTEN_MS);
  return answered;
}

describe('a member that restarts in front of its living server', () => {
  test('has the ports of its calls again, and gives others to new calls', async () => {
    const scene = await Scene.open('always', 2);
    const owner = scene.owner('one');
    const other = scene.farm.callIdOf(owner, 'other');
    const answered = await talk(scene, 'one');
    const before = portsOf(scene.relay('one').live);
    await scene.restart('one');
    const [stream, ...more] = scene.relay('one').live;
    assert.deepEqual([portsOf([stream!]), more], [before, []]);
    assert.deepEqual([stream?.to(Side.outside), stream?.to(Side.inside)], ['192.0.2.7:4000', '10.0.0.99:5000']);
    await scene.send('INVITE', other, sdp('192.0.2.7', 4000));
    const [, fresh] = portsOf(scene.relay('one').live);
    const numbers = [before[0]!, fresh!].flatMap((legs) => legs.map(({ port }) => port));
    assert.equal(new Set(numbers).size, 4);
    await scene.answer(other, 486, '');
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000), answered);
    assert.equal(placeIn(scene.owner('one').server.last), `${owner.address}:${before[0]![Side.inside].port}`);
    assert.equal(placeIn(await scene.answer('one', 200, sdp('10.0.0.99', 5000))), placeIn(answered));
    await scene.send('BYE', 'one', '', answered);
    await scene.answer('one', 200, '');
    await scene.farm.pass(SWEPT_MS);
    assert.deepEqual(scene.relay('one').live, []);
  });

  test('has them also when its records are read before its relay runs', async () => {
    const scene = await Scene.open('always', 1);
    await talk(scene, 'one');
    const before = portsOf(scene.relay('one').live);
    let readAt = 0;
    let relayAt = 0;
    eachStore(scene, (store) => {
      const [watch, page, commit] = [store.watch.bind(store), store.page.bind(store), store.commit.bind(store)];
      // The relay starts after the cluster-wide settings and the claim of the ports.
      store.watch = (prefix, onChange, onStale) => {
        if (prefix !== 'config') return watch(prefix, onChange, onStale);
        return watch(prefix, (entries) => void scene.farm.clock.after(2000, () => onChange(entries)), onStale);
      };
      store.page = (...args) => {
        readAt = scene.farm.clock.now();
        return page(...args);
      };
      store.commit = (writes, ...rest) => {
        if (writes.some(({ key }) => key.startsWith('ports/'))) relayAt = scene.farm.clock.now();
        return commit(writes, ...rest);
      };
    });
    await scene.restart('one');
    assert.ok(readAt < relayAt);
    await scene.send('INVITE', 'two', sdp('192.0.2.7', 4000));
    assert.deepEqual(portsOf(scene.relay('one').live.slice(0, 1)), before);
    assert.equal(scene.relay('one').live.length, 2);
  });

  test('joins the two clients of a call again', async () => {
    const scene = await Scene.open('always', 2);
    const callee = await scene.farm.phone('192.0.2.9');
    proxies(scene.farm, ['sip:bob@192.0.2.9:5060']);
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    const headers = ['Contact: <sip:bob@192.0.2.9:5060>', TYPE];
    callee.send(respond(callee.got.at(-1)!, 200, { toTag: 'bob', headers, body: sdp('192.0.2.9', 6000) }));
    await scene.farm.pass(WRITTEN_MS);
    const before = portsOf(scene.relay('one').live);
    await scene.restart('one');
    const [alice, bob] = scene.relay('one').live;
    assert.deepEqual(portsOf(scene.relay('one').live), before);
    assert.deepEqual([alice?.joined, bob?.joined], [bob, alice]);
    assert.deepEqual([alice?.to(Side.outside), bob?.to(Side.outside)], ['192.0.2.7:4000', '192.0.2.9:6000']);
  });

  test('gives a stream new ports, when it is described again, whose ports another program has', async () => {
    const scene = await Scene.open('always', 2);
    const answered = await talk(scene, 'one');
    const taken = scene.relay('one').live[0]!.ports[Side.outside].port;
    scene.foreign.add(taken);
    await scene.restart('one');
    assert.deepEqual(scene.relay('one').live, []);
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000), answered);
    const again = await scene.answer('one', 200, sdp('10.0.0.99', 5000));
    const [stream] = scene.relay('one').live;
    assert.equal(placeIn(again), `${WAN}:${stream?.ports[Side.outside].port}`);
    assert.notEqual(stream?.ports[Side.outside].port, taken);
  });

  test('refuses new calls with media until its records are read', async () => {
    const scene = await Scene.open('always', 1);
    await talk(scene, 'one');
    const before = portsOf(scene.relay('one').live);
    const read = Promise.withResolvers<void>();
    eachStore(scene, (store) => {
      const page = store.page.bind(store);
      store.page = async (...args) => {
        if (args[0].startsWith('calls/')) await read.promise;
        return page(...args);
      };
    });
    await scene.restart('one');
    await scene.send('INVITE', 'two', sdp('192.0.2.7', 4000));
    const refused = scene.caller.got.at(-1)!;
    assert.deepEqual([refused.callId, refused.status, refused.all('Retry-After').length], ['two', 503, 1]);
    read.resolve();
    await scene.farm.settle();
    await scene.send('INVITE', 'three', sdp('192.0.2.7', 4000));
    assert.equal(scene.owner('three').server.last.callId, 'three');
    assert.deepEqual(portsOf(scene.relay('one').live.slice(0, 1)), before);
    assert.equal(scene.relay('one').live.length, 2);
  });

  test('frees the ports of a call that ends while its records are read once more', async () => {
    const scene = await Scene.open('always', 1);
    const answered = await talk(scene, 'one');
    let readings = 0;
    eachStore(scene, (store) => {
      const page = store.page.bind(store);
      store.page = (...args) =>
        args[0].startsWith('calls/') && ++readings === 2 ? new Promise(() => {}) : page(...args);
    });
    await scene.restart('one');
    await scene.farm.until(() => readings === 2, 'the records are read again', 10_000);
    await scene.send('BYE', 'one', '', answered);
    await scene.answer('one', 200, '');
    await scene.farm.pass(SWEPT_MS);
    assert.deepEqual([scene.relay('one').streams.length, scene.relay('one').live], [1, []]);
  });
});

describe('the record of a call', () => {
  test('follows a new place of a party with one write, and causes none for a repeated one', async () => {
    const scene = await Scene.open('always', 1);
    const answered = await talk(scene, 'one');
    const { callRecordWrites } = scene.owner('one').metrics;
    const written = callRecordWrites.cell({ outcome: 'written' });
    const reinvite = async (port: number): Promise<void> => {
      await scene.send('INVITE', 'one', sdp('192.0.2.7', port), answered);
      await scene.farm.pass(WRITTEN_MS);
      await scene.answer('one', 200, sdp('10.0.0.99', 5000));
      await scene.farm.pass(WRITTEN_MS);
    };
    const before = written.n;
    await reinvite(4000);
    assert.equal(written.n, before);
    await reinvite(4100);
    assert.equal(written.n, before + 1);
    const [party] = scene.record('one')!.media!;
    const [stream] = party!.streams;
    assert.ok(stream !== null && typeof stream === 'object');
    assert.equal(stream.targets[0]?.port, 4100);
  });

  test('has the ports of the member that has adopted the call', async () => {
    const scene = await Scene.open('always', 2);
    await talk(scene, 'one');
    const owner = scene.owner('one');
    assert.equal(scene.record('one')?.media?.length, 1);
    await scene.farm.kill(owner);
    const [heir] = scene.farm.live;
    await scene.farm.until(() => heir!.node.ownedCalls === 1, 'the call is adopted');
    await scene.farm.pass(WRITTEN_MS);
    const [stream] = scene.relays.get(heir!.index)!.live;
    const [outer, inner] = stream!.ports;
    const [recorded] = scene.record('one')!.media![0]!.streams;
    assert.ok(typeof recorded === 'object');
    assert.deepEqual(recorded?.ports, [outer.port, outer.rtcpPort, inner.port, inner.rtcpPort]);
  });

  test('has no media when the descriptions of all parties pass unchanged', async () => {
    const scene = await Scene.open('nat', 1);
    await talk(scene, 'one');
    const record = scene.record('one');
    assert.deepEqual([record?.state, record?.media], ['confirmed', undefined]);
  });
});

describe('a member that has lost its seat', () => {
  async function back(adopted: boolean): Promise<{ streams: readonly FakeRelayStream[]; scene: Scene }> {
    const scene = await Scene.open('always', 3);
    await talk(scene, 'one');
    const owner = scene.owner('one');
    const streams = scene.relay('one').live;
    scene.farm.freeze(owner);
    await scene.farm.until(() => scene.farm.live.some(({ seats }) => !seats.includes(owner.id)), 'no seat', 4000);
    if (adopted) {
      const [record] = scene.farm.memory.readAll(`calls/${owner.number}/dialog/`);
      scene.farm.memory.apply([{ key: record!.key, value: undefined, expect: record!.revision }]);
    }
    await scene.farm.thaw(owner);
    await scene.farm.seated();
    await scene.farm.pass(SWEPT_MS);
    return { streams, scene };
  }

  test('goes on with the media of a call that is still its own', async () => {
    const { streams, scene } = await back(false);
    assert.equal(streams.length, 1);
    assert.deepEqual(scene.relay('one').live, streams);
  });

  test('frees the ports of a call that another member has adopted', async () => {
    const { streams } = await back(true);
    assert.deepEqual([streams.length, streams.filter(({ open }) => open)], [1, []]);
  });
});

test('a record has all headers of its messages, whether the description becomes shorter or longer', async () => {
  const scene = await Scene.open('always', 3, { ice: 'remove', origin: 'replace' });
  const candidate = 'a=candidate:1 1 UDP 2130706431 192.0.2.7 4000 typ host\r\n';
  const long = 'o=- 1 1 IN IP4 2.2.2.2\r\n';
  for (const [id, offer, answer] of [
    ['shorter', sdp('192.0.2.7', 4000) + candidate.repeat(20), sdp('10.0.0.99', 5000) + candidate.repeat(20)],
    ['longer', sdp('2.2.2.2', 4000).replace(/o=.*\r\n/, long), sdp('1.1.1.1', 5000)],
  ] as const) {
    await scene.send('INVITE', id, offer);
    await scene.answer(id, 200, answer);
    await scene.farm.pass(WRITTEN_MS);
    const [leg] = scene.record(id)!.legs;
    for (const [text, contact] of [
      [leg?.request, /^Contact: <sip:alice@.*\r\n$/m],
      [leg?.answer, /^Contact: <sip:bob@.*\r\n$/m],
    ] as const) {
      const lines = text?.split('\r\n').slice(1, -1) ?? [];
      assert.ok(
        lines.some((line) => contact.test(`${line}\r\n`)),
        text,
      );
      assert.deepEqual(
        lines.filter((line) => !/^[A-Za-z-]+: /.test(line)),
        [],
      );
    }
  }
});

test('the owner shows the public port and the target of each party', async () => {
  const scene = await Scene.open('always', 1);
  await talk(scene, 'one');
  const { calls } = await scene.farm.drive(scene.owner('one').node.api.callList(10, false));
  const [stream] = scene.relay('one').live;
  const shown = { public: `${WAN}:${stream?.ports[Side.outside].port}`, target: '192.0.2.7:4000', way: 'user' };
  assert.deepEqual(calls[0]?.media, [{ party: 'from', streams: [shown] }]);
});
