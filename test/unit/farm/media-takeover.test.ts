// Calls with relayed media whose member dies: the member that adopts a call gives both parties its own ports, once, and
// keeps the CSeq numbers of both in order.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { FakeMember } from '../../fake/farm.ts';
import { type FakeRelayStream, Side } from '../../fake/media-relay.ts';
import { type Message, respond } from '../../fake/sip.ts';
import { stopFarms } from './calls.ts';
import { ALICE, answerMedia, BOB, cseq, End, statusAndNumber, type Talk, talk, WRITTEN_MS } from './media-parties.ts';
import { placeIn, Scene, sdp, TYPE, WAN } from './media-scene.ts';
import { proxies } from './proxies.ts';

afterEach(stopFarms);

const version = (message: Message | undefined): number => Number(/^o=- \d+ (\d+)/m.exec(message?.body ?? '')?.[1]);

/** Kills the owner of the call; resolves to the member that has adopted it. */
async function lose({ scene }: Pick<Talk, 'scene'>, callId = 'one', serverLives = false): Promise<FakeMember> {
  const owner = scene.owner(callId);
  await scene.farm.kill(owner, { serverLives });
  await scene.farm.until(() => scene.farm.live.some(({ node }) => node.ownedCalls > 0), 'the call is adopted');
  return scene.farm.live.find(({ node }) => node.ownedCalls > 0)!;
}

const streamsOf = ({ relays }: Scene, { index }: FakeMember): FakeRelayStream[] => relays.get(index)!.live;
const reanchored = ({ metrics }: FakeMember, outcome: string): number => metrics.reanchored.cell({ outcome }).n;

describe('a member that adopts a call', () => {
  test('between two clients gives each of them its own ports with the description of the other', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    const heir = await lose(call);
    await scene.farm.pass(1000);
    const streams = streamsOf(scene, heir);
    const places = streams.map(({ ports }) => `${WAN}:${ports[Side.outside].port}`);
    assert.deepEqual([placeIn(alice.re!), placeIn(bob.re!)], places);
    assert.deepEqual(
      streams.map((stream) => stream.to(Side.outside)),
      ['192.0.2.7:4000', '192.0.2.9:6000'],
    );
    assert.deepEqual([streams[0]?.joined, streams[1]?.joined], [streams[1], streams[0]]);
    assert.deepEqual(
      [alice.got.map(({ method }) => method), bob.got.map(({ method }) => method)],
      [
        ['INVITE', 'ACK'],
        ['ACK', 'INVITE', 'ACK'],
      ],
    );
    assert.deepEqual([version(alice.re), version(bob.re)], [2, 2]);
    assert.equal(reanchored(heir, 'answered'), 2);
  });

  test('with the SIP server gives the client and the server its own ports', async () => {
    const call = await talk('server');
    const { alice, bob, scene } = call;
    const heir = await lose(call);
    await scene.farm.pass(1000);
    const [stream, ...more] = streamsOf(scene, heir);
    assert.deepEqual(more, []);
    assert.equal(placeIn(alice.re!), `${WAN}:${stream!.ports[Side.outside].port}`);
    assert.equal(placeIn(bob.re!), `${heir.address}:${stream!.ports[Side.inside].port}`);
    assert.deepEqual([stream?.to(Side.outside), stream?.to(Side.inside)], ['192.0.2.7:4000', '10.0.0.99:5000']);
    assert.equal(reanchored(heir, 'answered'), 2);
  });

  test('raises the numbers of later requests of both clients, and lowers those of the answers', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    await lose(call);
    await scene.farm.pass(1000);
    alice.request('INFO');
    bob.request('INFO');
    await scene.farm.pass(100);
    const [toAlice, toBob] = [alice.of('INFO')[0], bob.of('INFO')[0]];
    assert.ok(cseq(toAlice) > cseq(alice.re) && cseq(toBob) > cseq(bob.re));
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INFO']);
    assert.deepEqual(bob.responses.map(statusAndNumber), ['200 1 INFO']);
    alice.request('BYE');
    await scene.farm.pass(WRITTEN_MS);
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INFO', '200 3 BYE']);
    assert.equal(scene.record('one'), undefined);
  });

  test('raises the numbers of later requests of the client to the SIP server', async () => {
    const call = await talk('server');
    const { alice, bob, scene } = call;
    await lose(call);
    await scene.farm.pass(1000);
    alice.request('INVITE', { body: sdp('192.0.2.7', 4100) });
    await scene.farm.pass(100);
    alice.request('ACK', { cseq: 2 });
    await scene.farm.pass(100);
    const [ours, theirs] = bob.of('INVITE');
    assert.ok(cseq(theirs) > cseq(ours));
    assert.equal(cseq(bob.of('ACK').at(-1)), cseq(theirs));
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INVITE']);
    alice.request('BYE');
    await scene.farm.pass(WRITTEN_MS);
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INVITE', '200 3 BYE']);
    assert.equal(scene.record('one'), undefined);
  });

  test('raises the numbers of ACK, CANCEL and PRACK like those of their INVITE', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    await lose(call);
    await scene.farm.pass(1000);
    bob.rule = ({ method }) => (method === 'INVITE' ? 183 : 200);
    const branch = alice.request('INVITE');
    await scene.farm.pass(100);
    alice.request('PRACK', { headers: ['RAck: 7 2 INVITE'] });
    alice.request('CANCEL', { cseq: 2, branch });
    await scene.farm.pass(100);
    const invite = cseq(bob.re);
    assert.equal(cseq(bob.of('CANCEL')[0]), invite);
    assert.equal(bob.of('PRACK')[0]?.one('RAck'), `7 ${invite} INVITE`);
    assert.ok(cseq(bob.of('PRACK')[0]) > invite);
  });

  test('leaves the ACK of the first INVITE as it is', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    await lose(call);
    await scene.farm.pass(1000);
    alice.request('ACK', { cseq: 1 });
    await scene.farm.pass(100);
    assert.equal(cseq(bob.of('ACK').at(-1)), 1);
  });

  test('goes on with the numbers and the version when it dies, too', async () => {
    const call = await talk('client', { members: 4 });
    const { alice, bob, scene } = call;
    await lose(call);
    await scene.farm.pass(1000);
    alice.request('INFO');
    await scene.farm.pass(WRITTEN_MS);
    const heir = await lose(call);
    await scene.farm.pass(1000);
    alice.request('INFO');
    bob.request('INFO');
    await scene.farm.pass(100);
    for (const end of [alice, bob]) {
      const invites = end.of('INVITE');
      assert.deepEqual(invites.map(version), [2, 3]);
      const numbers = end.got.filter(({ method }) => method !== 'ACK').map(cseq);
      assert.deepEqual(
        numbers,
        [...numbers].sort((one, other) => one - other),
      );
      assert.ok(end.responses.every(({ status }) => status === 200));
    }
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INFO', '200 3 INFO']);
    assert.equal(reanchored(heir, 'answered'), 2);
  });

  test('exceeds the versions of a party that rise without a change, for one write', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    const written = scene.owner('one').metrics.callRecordWrites.cell({ outcome: 'written' });
    const refresh = async (number: number): Promise<number> => {
      const before = written.n;
      alice.description = ALICE.replace('o=- 1 1', `o=- 1 ${number}`);
      alice.request('INVITE', { body: alice.description });
      await scene.farm.pass(WRITTEN_MS);
      alice.request('ACK', { cseq: alice.cseq });
      await scene.farm.pass(WRITTEN_MS);
      return written.n - before;
    };
    // The ends have another Contact in their re-INVITEs than in the first INVITE and its answer.
    await refresh(1);
    assert.deepEqual([await refresh(2), await refresh(3), await refresh(4)], [1, 0, 0]);
    await lose(call);
    await scene.farm.pass(1000);
    assert.ok(version(bob.re) > 65_536 && version(alice.re) === 2);
    await refresh(5);
    assert.ok(version(bob.re) > version(bob.of('INVITE').at(-2)));
  });

  test('keeps the address that it found in o= (media.origin replace)', async () => {
    const call = await talk('server', { media: { origin: 'replace' } });
    const { alice, bob, scene } = call;
    const before = scene.owner('one').address;
    const heir = await lose(call);
    await scene.farm.pass(1000);
    assert.notEqual(heir.address, before);
    assert.match(bob.re!.body, new RegExp(`^o=- 1 2 IN IP4 ${before}\r$`, 'm'));
    assert.match(alice.re!.body, new RegExp(`^o=- 1 2 IN IP4 ${WAN}\r$`, 'm'));
  });

  test('offers nothing again when it restarts after both have answered', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    const heir = await lose(call);
    await scene.farm.pass(1000);
    await scene.farm.kill(heir, { serverLives: true });
    await scene.farm.add(heir.index);
    await scene.farm.pass(5000, 50);
    assert.deepEqual([alice.of('INVITE').length, bob.of('INVITE').length], [1, 1]);
    alice.request('INFO');
    await scene.farm.pass(100);
    assert.ok(cseq(bob.of('INFO')[0]) > cseq(bob.re));
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INFO']);
  });

  test('offers again what had no answer when it restarts', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    bob.rule = ({ method }) => (method === 'INVITE' ? 0 : 200);
    const heir = await lose(call);
    await scene.farm.pass(1000);
    const before = streamsOf(scene, heir).map(({ ports }) => ports);
    await scene.farm.kill(heir, { serverLives: true });
    bob.rule = () => 200;
    await scene.farm.add(heir.index);
    await scene.farm.pass(2000, 50);
    assert.deepEqual(
      streamsOf(scene, scene.owner('one')).map(({ ports }) => ports),
      before,
    );
    assert.ok(cseq(bob.of('INVITE').at(-1)) > cseq(bob.of('INVITE')[0]));
    assert.equal(bob.of('ACK').at(-1)?.one('CSeq'), `${cseq(bob.re)} ACK`);
    assert.equal(alice.of('INVITE').length, 2);
  });
});

describe('the numbers of an adopted call', () => {
  test('are raised by its owner also after its slot has moved to a member that has joined', async () => {
    const scene = await Scene.open('always', 3);
    const { farm, caller } = scene;
    const callee = await farm.phone('192.0.2.9');
    const bobs = answerMedia(callee, BOB);
    proxies(farm, ['sip:bob@192.0.2.9:5060']);
    const gone = scene.owner('one');
    const ids = Array.from({ length: 60 }, (_, i) => `call-${i}`).filter((id) => farm.ownerOf(id) === gone);
    const alices = new Map<string, End>();
    for (const id of ids) {
      await scene.send('INVITE', id, ALICE);
      const answer = caller.got.at(-1)!;
      const first = cseq(answer);
      const alice = new End(answer, true, first, ALICE, caller.at, (text) => caller.send(text));
      alice.request('ACK', { cseq: first });
      alices.set(id, alice);
    }
    caller.onMessage = (message) => void alices.get(message.callId)?.take(message);
    await farm.pass(WRITTEN_MS);
    await farm.kill(gone);
    await farm.until(() => farm.sum((metrics) => metrics.reanchored, { outcome: 'answered' }) === 2 * ids.length);
    const heirs = new Map(ids.map((id) => [id, scene.owner(id)]));
    await farm.add();
    await farm.pass(1000);
    const moved = ids.filter((id) => scene.owner(id) !== heirs.get(id));
    assert.ok(moved.length > 0);
    for (const id of moved) {
      alices.get(id)!.request('INFO');
      await farm.pass(300);
      const bob = bobs.get(id)!;
      assert.ok(cseq(bob.of('INFO')[0]) > cseq(bob.re), id);
      assert.deepEqual(
        alices.get(id)!.responses.map(({ status }) => status),
        [200],
      );
    }
  });

  test('go to its first owner when that is back, which gives both parties its ports', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    const owner = scene.owner('one');
    const heir = await lose(call, 'one', true);
    await scene.farm.pass(1000);
    const bridge = streamsOf(scene, heir);
    await scene.farm.add(owner.index);
    await scene.farm.pass(4000, 50);
    assert.deepEqual(streamsOf(scene, heir), bridge, 'the media goes on until then');
    await scene.farm.until(() => alice.of('INVITE').length === 2 && bob.of('INVITE').length === 2);
    await scene.farm.pass(WRITTEN_MS);
    const back = scene.farm.member(owner.index);
    const streams = streamsOf(scene, back);
    const places = streams.map(({ ports }) => `${WAN}:${ports[Side.outside].port}`);
    assert.deepEqual([placeIn(alice.re!), placeIn(bob.re!)], places);
    alice.request('INFO');
    bob.request('INFO');
    await scene.farm.pass(100);
    for (const end of [alice, bob]) {
      const numbers = end.got.filter(({ method }) => method !== 'ACK').map(cseq);
      assert.deepEqual(
        numbers,
        [...new Set(numbers)].sort((one, other) => one - other),
      );
      assert.deepEqual(
        end.responses.map(({ status }) => status),
        [200],
      );
    }
    await scene.farm.pass(31_000, 100);
    assert.deepEqual([streamsOf(scene, heir), heir.node.ownedCalls, back.node.ownedCalls], [[], 0, 1]);
  });
});

describe('a re-INVITE of that member', () => {
  test('comes again after a 491, in the range of its sender', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    const at = { alice: [] as number[], bob: [] as number[] };
    for (const [times, end] of [
      [at.alice, alice],
      [at.bob, bob],
    ] as const)
      end.rule = ({ method }, copies) => {
        if (method !== 'INVITE') return 200;
        if (copies === 1) times.push(scene.farm.clock.now());
        return end.of('INVITE').length === 1 ? 491 : 200;
      };
    const heir = await lose(call);
    await scene.farm.pass(6000);
    const [toAlice, toBob] = [alice, bob].map((end) => end.of('INVITE'));
    assert.deepEqual([toAlice!.length, toBob!.length, reanchored(heir, 'answered')], [2, 2, 2]);
    for (const invites of [toAlice!, toBob!]) assert.equal(cseq(invites[1]), cseq(invites[0]) + 1);
    // The caller has made the Call-ID (RFC 3261 14.1).
    const [alicePause, bobPause] = [at.alice[1]! - at.alice[0]!, at.bob[1]! - at.bob[0]!];
    assert.ok(bobPause >= 2100 && bobPause <= 4100 && alicePause <= 2100, `${alicePause} ${bobPause}`);
    assert.equal(alice.of('ACK')[0]?.branch, toAlice![0]?.branch);
  });

  test('ends after five times 491', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    bob.rule = ({ method }) => (method === 'INVITE' ? 491 : 200);
    const heir = await lose(call);
    await scene.farm.pass(30_000, 50);
    assert.deepEqual([alice.of('INVITE').length, bob.of('INVITE').length], [1, 5]);
    assert.deepEqual([reanchored(heir, 'answered'), reanchored(heir, 'glare')], [1, 1]);
  });

  for (const [status, outcome] of [
    [488, 'refused'],
    [481, 'gone'],
  ] as const)
    test(`that gets ${status} is counted, and the call goes on`, async () => {
      const call = await talk('client');
      const { alice, bob, scene } = call;
      bob.rule = ({ method }) => (method === 'INVITE' ? status : 200);
      const heir = await lose(call);
      await scene.farm.pass(1000);
      assert.equal(reanchored(heir, outcome), 1);
      assert.deepEqual(
        bob.got.slice(1).map(({ method }) => method),
        ['INVITE', 'ACK'],
      );
      alice.request('INFO');
      await scene.farm.pass(100);
      assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 INFO']);
    });

  test('is repeated for 32 s without an answer, and the call goes on', async () => {
    const call = await talk('client');
    const { alice, bob, scene } = call;
    bob.rule = ({ method }) => (method === 'INVITE' ? 0 : 200);
    const heir = await lose(call);
    await scene.farm.pass(34_000, 50);
    assert.equal(bob.copies.get(`INVITE ${bob.re!.branch}`), 7);
    assert.equal(reanchored(heir, 'no-answer'), 1);
    alice.request('BYE');
    await scene.farm.pass(100);
    assert.deepEqual(alice.responses.map(statusAndNumber), ['200 2 BYE']);
  });

  test('is cancelled when it rings for 32 s', async () => {
    const call = await talk('client');
    const { bob, scene } = call;
    bob.rule = ({ method }) => (method === 'INVITE' ? 180 : 200);
    const heir = await lose(call);
    await scene.farm.pass(34_000, 50);
    assert.deepEqual([bob.copies.get(`INVITE ${bob.re!.branch}`), bob.of('CANCEL').length], [1, 1]);
    assert.equal(bob.of('CANCEL')[0]?.branch, bob.re!.branch);
    await scene.farm.pass(33_000, 50);
    assert.equal(reanchored(heir, 'no-answer'), 1);
  });

  test('has an ACK for each copy of its 2xx', async () => {
    const call = await talk('client');
    const { bob, scene } = call;
    await lose(call);
    await scene.farm.pass(1000);
    assert.equal(bob.of('ACK').length, 2);
    bob.repeat();
    bob.repeat();
    await scene.farm.pass(100);
    assert.equal(bob.of('ACK').length, 4);
    assert.equal(cseq(bob.of('ACK').at(-1)), cseq(bob.re));
  });

  test('is not answered by a stranger', async () => {
    const call = await talk('client');
    const { bob, scene } = call;
    bob.rule = ({ method }) => (method === 'INVITE' ? 0 : 200);
    const heir = await lose(call);
    await scene.farm.pass(300);
    const stranger = await scene.farm.phone('192.0.2.66');
    const answer = respond(bob.re!, 200, {
      headers: ['Contact: <sip:x@192.0.2.66>', TYPE],
      body: sdp('192.0.2.66', 9),
    });
    stranger.send(answer.replace(/branch=z9hG4bK\S+/, 'branch=z9hG4bKinvented'));
    stranger.send(answer.replace(/Call-ID: \S+/, 'Call-ID: other'));
    await scene.farm.pass(100);
    assert.deepEqual([stranger.got, reanchored(heir, 'answered')], [[], 1]);
    assert.equal(streamsOf(scene, heir)[1]?.to(Side.outside), '192.0.2.9:6000');
  });

  test('keeps an offer of the other party away from its receiver: that gets 491', async () => {
    for (const to of ['client', 'server'] as const) {
      const call = await talk(to);
      const { alice, bob, scene } = call;
      bob.rule = ({ method }) => (method === 'INVITE' ? 0 : 200);
      await lose(call);
      await scene.farm.pass(300);
      alice.request('INVITE', { body: ALICE });
      alice.request('INFO');
      await scene.farm.pass(100);
      assert.deepEqual(alice.responses.map(statusAndNumber).sort(), ['200 3 INFO', '491 2 INVITE'], to);
      assert.equal(bob.of('INVITE').length, 1);
    }
  });

  test('has the session timer of the dialog', async () => {
    const call = await talk('client', { headers: ['Session-Expires: 1800;refresher=uas'] });
    const { alice, bob, scene } = call;
    await lose(call);
    await scene.farm.pass(1000);
    // The callee refreshes: it sends the re-INVITE to the caller, and receives the one to itself.
    assert.equal(alice.re?.one('Session-Expires'), '1800;refresher=uac');
    assert.equal(bob.re?.one('Session-Expires'), '1800;refresher=uas');
    assert.equal(bob.re?.one('Supported'), 'timer');
  });
});

describe('a call that is not offered again', () => {
  test('is one that rings, has ended, or has no media', async () => {
    const scene = await Scene.open('never', 3);
    const callee = await scene.farm.phone('192.0.2.9');
    const ends = answerMedia(callee, BOB);
    proxies(scene.farm, ['sip:bob@192.0.2.9:5060']);
    await scene.send('INVITE', 'one', ALICE);
    await scene.farm.pass(WRITTEN_MS);
    const heir = await lose({ scene });
    await scene.farm.pass(1000);
    assert.equal(ends.get('one')?.re, undefined);
    assert.deepEqual(streamsOf(scene, heir), []);
  });
});
