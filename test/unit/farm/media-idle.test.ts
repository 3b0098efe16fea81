// Calls whose media is silent: their owner logs and counts them, and ends them where `media.onIdle` is `end`.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { Side } from '../../fake/media-relay.ts';
import { stopFarms } from './calls.ts';
import { ALICE, cseq, statusAndNumber, type Talk, talk, WRITTEN_MS } from './media-parties.ts';
import { sdp } from './media-scene.ts';

afterEach(stopFarms);

const IDLE_MS = 20_000;
const ENDS = { idleSeconds: 20, onIdle: 'end' };

const count = ({ scene }: Talk, outcome: string): number => scene.farm.sum((metrics) => metrics.idleCalls, { outcome });

/** Passes this time with a packet of a leg each second. */
async function hear({ scene }: Talk, side: Side, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1000) {
    scene.relay('one').live[0]!.lastAt[side] = scene.farm.clock.now();
    await scene.farm.pass(1000, 100);
  }
}

describe('a call without packets for media.idleSeconds', () => {
  for (const to of ['client', 'server'] as const)
    test(`to a ${to} ends with a BYE to both ends, and its record goes (media.onIdle end)`, async () => {
      const call = await talk(to, { media: ENDS });
      const { alice, bob, scene } = call;
      await scene.farm.pass(IDLE_MS - 1000, 100);
      assert.deepEqual([alice.of('BYE').length, bob.of('BYE').length], [0, 0]);
      await scene.farm.pass(5000, 100);
      assert.deepEqual([alice.of('BYE').length, bob.of('BYE').length], [1, 1]);
      assert.ok(cseq(bob.of('BYE')[0]) > alice.cseq);
      assert.deepEqual([alice.copies.size, count(call, 'ended')], [1, 1]);
      await scene.farm.pass(3000, 100);
      assert.deepEqual([scene.record('one'), scene.relay('one').live], [undefined, []]);
      assert.equal(scene.owner('one').node.ownedCalls, 0);
    });

  test('ends with numbers above those that its members have used before', async () => {
    const call = await talk('client', { media: ENDS });
    const { alice, bob, scene } = call;
    await scene.farm.kill(scene.owner('one'));
    await scene.farm.until(() => bob.of('INVITE').length === 1 && alice.of('INVITE').length === 1);
    await scene.farm.pass(IDLE_MS + 5000, 100);
    for (const end of [alice, bob]) assert.ok(cseq(end.of('BYE')[0]) > cseq(end.re));
  });

  test('is counted once per silence, and goes on (media.onIdle log)', async () => {
    const call = await talk('client', { media: { idleSeconds: 20 } });
    const { alice, bob, scene } = call;
    await scene.farm.pass(3 * IDLE_MS, 500);
    assert.equal(count(call, 'logged'), 1);
    await hear(call, Side.outside, 5000);
    await scene.farm.pass(2 * IDLE_MS, 500);
    assert.equal(count(call, 'logged'), 2);
    alice.request('INFO');
    await scene.farm.pass(WRITTEN_MS);
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INFO']);
    assert.deepEqual(bob.of('BYE'), []);
  });
});

describe('a call goes on without packets', () => {
  test('when media.idleSeconds is 0', async () => {
    const call = await talk('client', { media: { onIdle: 'end' } });
    await call.scene.farm.pass(5 * IDLE_MS, 1000);
    assert.deepEqual([call.alice.of('BYE'), count(call, 'logged')], [[], 0]);
  });

  for (const side of [Side.outside, Side.inside])
    test(`of one party, as long as the other sends some (side ${side})`, async () => {
      const call = await talk('server', { media: ENDS });
      await hear(call, side, 2 * IDLE_MS);
      assert.deepEqual(call.alice.of('BYE'), []);
    });

  for (const hold of ['a=sendonly', 'a=inactive'])
    test(`while it is on hold (${hold}), also at a member that has adopted it`, async () => {
      const call = await talk('client', { media: ENDS });
      const { alice, bob, scene } = call;
      alice.description = `${ALICE}${hold}\r\n`;
      alice.request('INVITE', { body: alice.description });
      await scene.farm.pass(WRITTEN_MS);
      alice.request('ACK', { cseq: 2 });
      await scene.farm.pass(2 * IDLE_MS, 500);
      assert.deepEqual([alice.of('BYE'), count(call, 'logged')], [[], 0]);
      await scene.farm.kill(scene.owner('one'));
      await scene.farm.until(() => bob.of('INVITE').length === 2, 'offered again');
      await scene.farm.pass(2 * IDLE_MS, 500);
      assert.deepEqual(alice.of('BYE'), []);
      alice.request('INVITE', { body: sdp('192.0.2.7', 4000) });
      await scene.farm.pass(IDLE_MS + 5000, 500);
      assert.equal(bob.of('BYE').length, 1);
    });
});
