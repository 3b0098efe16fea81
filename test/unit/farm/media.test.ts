// Session descriptions on their way through a farm: the addresses that client and SIP server read, in every message
// that carries an offer or an answer.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { Side } from '../../fake/media-relay.ts';
import { respond } from '../../fake/sip.ts';
import { stopFarms } from './calls.ts';
import { placeIn, Scene, sdp, TYPE, WAN } from './media-scene.ts';
import { proxies } from './proxies.ts';

afterEach(stopFarms);

describe('a call of a client to the SIP server', () => {
  test('is described to each side with the ports of the member that owns it, whatever member the packets enter', async () => {
    const scene = await Scene.open('always');
    for (const id of ['one', 'two', 'three', 'four']) {
      await scene.send('INVITE', id, sdp('192.0.2.7', 4000));
      const answered = await scene.answer(id, 200, sdp('10.0.0.99', 5000));
      const stream = scene.relay(id).live.at(-1)!;
      assert.equal(
        placeIn(scene.owner(id).server.last),
        `${scene.owner(id).address}:${stream.ports[Side.inside].port}`,
      );
      assert.equal(placeIn(answered), `${WAN}:${stream.ports[Side.outside].port}`);
      assert.deepEqual([stream.to(Side.outside), stream.to(Side.inside)], ['192.0.2.7:4000', '10.0.0.99:5000']);
    }
  });

  test('keeps its ports in 18x, 200, ACK, UPDATE and re-INVITE', async () => {
    const scene = await Scene.open('always');
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    const early = await scene.answer('one', 183, sdp('10.0.0.99', 5000));
    const answered = await scene.answer('one', 200, sdp('10.0.0.99', 5000));
    assert.equal(placeIn(early), placeIn(answered));
    const inside = placeIn(scene.owner('one').server.last);
    for (const method of ['ACK', 'UPDATE', 'INVITE']) {
      await scene.send(method, 'one', sdp('192.0.2.7', 4100), answered);
      assert.deepEqual(
        [scene.owner('one').server.last.method, placeIn(scene.owner('one').server.last)],
        [method, inside],
      );
      if (method !== 'ACK')
        assert.equal(placeIn(await scene.answer('one', 200, sdp('10.0.0.99', 5002))), placeIn(answered));
    }
    const [stream, ...more] = scene.relay('one').live;
    assert.deepEqual(
      [more, stream?.to(Side.outside), stream?.to(Side.inside)],
      [[], '192.0.2.7:4100', '10.0.0.99:5002'],
    );
  });

  test('may have its offer in the 200 and its answer in the ACK', async () => {
    const scene = await Scene.open('always');
    await scene.send('INVITE', 'one', '');
    assert.equal(placeIn(scene.owner('one').server.last), '');
    const offered = await scene.answer('one', 200, sdp('10.0.0.99', 5000));
    await scene.send('ACK', 'one', sdp('192.0.2.7', 4000), offered);
    const [stream] = scene.relay('one').live;
    assert.equal(placeIn(offered), `${WAN}:${stream?.ports[Side.outside].port}`);
    assert.equal(
      placeIn(scene.owner('one').server.last),
      `${scene.owner('one').address}:${stream?.ports[Side.inside].port}`,
    );
  });

  test('keeps its place when a re-INVITE with another one is refused', async () => {
    const scene = await Scene.open('always');
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    const answered = await scene.answer('one', 200, sdp('10.0.0.99', 5000));
    await scene.send('ACK', 'one', '', answered);
    const [stream] = scene.relay('one').live;
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4100), answered);
    assert.equal(stream?.to(Side.outside), '192.0.2.7:4100');
    await scene.answer('one', 488, '');
    assert.equal(stream?.to(Side.outside), '192.0.2.7:4000');
  });

  test('returns its ports a second after it has ended or failed', async () => {
    const scene = await Scene.open('always');
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    const answered = await scene.answer('one', 200, sdp('10.0.0.99', 5000));
    await scene.send('ACK', 'one', '', answered);
    await scene.send('BYE', 'one', '', answered);
    await scene.answer('one', 200, '');
    await scene.send('INVITE', 'two', sdp('192.0.2.7', 4000));
    await scene.answer('two', 486, '');
    await scene.farm.pass(2000);
    assert.deepEqual([scene.relay('one').live, scene.relay('two').live], [[], []]);
    assert.equal(scene.relay('one').streams.length > 0, true);
  });

  test('is answered 503 with Retry-After when the ports are used up', async () => {
    const scene = await Scene.open('always', 1);
    scene.relay('one').most = 1;
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    await scene.send('INVITE', 'two', sdp('192.0.2.7', 4000));
    const refused = scene.caller.got.at(-1)!;
    assert.deepEqual([refused.callId, refused.status, refused.all('Retry-After').length], ['two', 503, 1]);
    assert.equal(scene.owner('one').server.last.callId, 'one');
  });

  test('passes a description in a refusal on: it is no answer', async () => {
    const scene = await Scene.open('always', 1);
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    const refused = await scene.answer('one', 488, sdp('10.0.0.99', 0));
    assert.equal(placeIn(refused), '10.0.0.99:0');
    assert.equal(scene.relay('one').live.length, 1, 'until the call is over');
  });

  test('passes unchanged in doubt, and is counted', async () => {
    const scene = await Scene.open('always', 1);
    const body = sdp('media.example.org', 4000);
    await scene.send('INVITE', 'one', body);
    assert.equal(scene.owner('one').server.last.body, body);
    const { mediaDescriptions } = scene.owner('one').metrics;
    assert.equal(mediaDescriptions.cell({ outcome: 'host-name' }).n, 1);
  });
});

describe('with media.anchor nat', () => {
  test('a client with a private address in its description is anchored, and one with its own is not', async () => {
    const scene = await Scene.open('nat');
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    assert.equal(placeIn(scene.owner('one').server.last), '192.0.2.7:4000');
    assert.equal(placeIn(await scene.answer('one', 200, sdp('10.0.0.99', 5000))), '10.0.0.99:5000');
    await scene.send('INVITE', 'two', sdp('192.168.1.7', 4000));
    const [stream] = scene.relay('two').live;
    assert.equal(
      placeIn(scene.owner('two').server.last),
      `${scene.owner('two').address}:${stream?.ports[Side.inside].port}`,
    );
    assert.equal(placeIn(await scene.answer('two', 200, sdp('10.0.0.99', 5000))), `${WAN}:${stream?.ports[0].port}`);
  });
});

describe('a call from client to client through a proxy', () => {
  for (const [rule, from] of [
    ['always', '192.0.2.7'],
    ['nat', '192.168.1.7'],
  ] as const)
    test(`passes the relay once, between the two outer legs (media.anchor ${rule})`, async () => {
      const scene = await Scene.open(rule);
      const callee = await scene.farm.phone('192.0.2.9');
      proxies(scene.farm, ['sip:bob@192.0.2.9:5060']);
      await scene.send('INVITE', 'one', sdp(from, 4000));
      const invite = callee.got.at(-1)!;
      callee.send(
        respond(invite, 200, {
          toTag: 'bob',
          headers: ['Contact: <sip:bob@192.0.2.9:5060>', TYPE],
          body: sdp('192.0.2.9', 6000),
        }),
      );
      await scene.farm.settle();
      const [alice, bob, ...more] = scene.relay('one').live;
      assert.equal(more.length, 0);
      assert.equal(placeIn(invite), `${WAN}:${bob?.ports[Side.outside].port}`);
      assert.equal(placeIn(scene.caller.got.at(-1)!), `${WAN}:${alice?.ports[Side.outside].port}`);
      assert.deepEqual([alice?.joined, bob?.joined], [bob, alice]);
      assert.deepEqual([alice?.to(Side.outside), bob?.to(Side.outside)], [`${from}:4000`, '192.0.2.9:6000']);
    });

  test('returns the ports of a callee that refuses', async () => {
    const scene = await Scene.open('always');
    const callee = await scene.farm.phone('192.0.2.9');
    proxies(scene.farm, ['sip:bob@192.0.2.9:5060', 'sip:carol@192.0.2.8:5060']);
    await scene.send('INVITE', 'one', sdp('192.0.2.7', 4000));
    assert.equal(scene.relay('one').live.length, 3);
    callee.send(respond(callee.got.at(-1)!, 486, { toTag: 'bob' }));
    await scene.farm.settle();
    assert.equal(scene.relay('one').live.length, 2);
  });
});
