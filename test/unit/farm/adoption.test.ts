// A member dies at each recorded point of a call. Ringing calls go on or get an answer, dialogs go on or end, and each
// of this happens once, at one member.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { GRACE_MS } from '../../../src/calls/adoption/adoption.ts';
import { parseCallRecord, parseRecordKey } from '../../../src/calls/records/call-record.ts';
import type { FakeFarm, FakeMember, FarmOptions, UdpPhone } from '../../fake/farm.ts';
import { request, respond, uriOf } from '../../fake/sip.ts';
import { Call, type CallServer, serve, start, stopFarms } from './calls.ts';
import { Callee, type ProxyServer, proxies } from './proxies.ts';

afterEach(stopFarms);

/** Milliseconds of the clock after which a change of a call is in the store. */
const WRITTEN_MS = 200;

interface Scene {
  readonly farm: FakeFarm;
  readonly callee: Callee;
  readonly servers: readonly ProxyServer[];
  readonly phone: UdpPhone;
  readonly call: Call;
  readonly lost: FakeMember;
}

/** Starts a call through the proxy of member 2 that rings and is recorded. */
async function ringing(options: FarmOptions = {}, targets?: (uri: string) => string[]): Promise<Scene> {
  const farm = await start({ members: 3, dialogs: 'shared', ...options });
  const callee = new Callee(farm, await farm.phone('192.0.2.9'));
  const servers = proxies(farm, targets?.(callee.uri) ?? [callee.uri]);
  const phone = await farm.phone('192.0.2.7');
  const lost = farm.member(2);
  const call = new Call(farm, phone, farm.callIdOf(lost));
  call.invite();
  await farm.pass(WRITTEN_MS);
  return { farm, callee, servers, phone, call, lost };
}

/** Kills the member and waits for the view without it. */
async function lose({ farm, lost }: Pick<Scene, 'farm' | 'lost'>, serverLives = false): Promise<void> {
  await farm.kill(lost, { serverLives });
  await farm.seated();
}

/** Returns the stored records: owner and state of each. */
async function records(farm: FakeFarm): Promise<string[]> {
  const entries = await farm.drive(farm.live[0]!.store.list('calls/'));
  return entries.flatMap(({ key, value }) => {
    const parsed = parseRecordKey(key);
    return parsed ? [`${parsed.owner} ${parseCallRecord(value)?.state}`] : [];
  });
}

function adopted(farm: FakeFarm, why: 'need' | 'sweep', outcome: string): number {
  return farm.sum((metrics) => metrics.adopted, { why, outcome });
}

/** Returns how many messages with this status and method the phone received. */
function got(phone: UdpPhone, status: number, method = 'INVITE'): number {
  return phone.got.filter((message) => message.status === status && message.method === method).length;
}

describe('a call of a dead member with dialogs: shared', () => {
  test('gets one 500 (repeated) within 10 s of the death, if no callee had its INVITE', async () => {
    const scene = await ringing({}, () => []);
    const { farm, call, phone, lost } = scene;
    assert.deepEqual(await records(farm), [`${lost.number} trying`]);
    const died = farm.clock.now();
    await lose(scene);
    await farm.until(() => call.status !== 0, 'an answer', 10_000);
    assert.ok(farm.clock.now() - died < 10_000);
    assert.equal(call.status, 500);
    const [refusal] = phone.got.filter(({ status }) => status === 500);
    assert.equal(refusal?.one('Retry-After'), '5');
    await farm.pass(10_000, 100);
    assert.equal(got(phone, 500), 4);
    assert.equal(new Set(phone.got.filter(({ status }) => status === 500).map(({ text }) => text)).size, 1);
    assert.deepEqual(await records(farm), []);
    assert.equal(adopted(farm, 'sweep', 'refused'), 1);
    // Long after that no state of the call is left: a repeated INVITE goes to a server.
    await farm.pass(40_000, 500);
    const before = farm.live.flatMap(({ server }) => server.requests).length;
    call.inviteAgain();
    await farm.settle();
    assert.equal(farm.live.flatMap(({ server }) => server.requests).length, before + 1);
  });

  test('becomes a new call at the successor if no callee had its INVITE and the caller repeats it', async () => {
    const scene = await ringing({}, () => []);
    const { farm, call, callee, servers } = scene;
    await lose(scene);
    for (const server of servers) server.targets = [callee.uri];
    call.inviteAgain();
    await farm.pass(GRACE_MS * 2, 100);
    assert.equal(call.ringing, true);
    callee.answer();
    await farm.settle();
    assert.deepEqual([call.status, callee.state], [200, 'confirmed']);
    assert.equal(adopted(farm, 'need', 'over-already'), 1);
  });

  for (const grace of ['in the grace', 'after it'] as const)
    test(`rings on; a callee's answer ${grace} brings 200, ACK, both sides' requests, BYE and its record`, async () => {
      const scene = await ringing();
      const { farm, call, callee, servers, lost } = scene;
      assert.deepEqual(await records(farm), [`${lost.number} trying`]);
      await lose(scene);
      const takeover = farm.ownerOf(call.callId);
      if (grace === 'after it') {
        await farm.pass(GRACE_MS + 1000, 100);
        assert.deepEqual(await records(farm), [`${takeover.number} trying`]);
      }
      callee.answer();
      await farm.pass(WRITTEN_MS);
      assert.deepEqual([call.status, callee.state], [200, 'confirmed']);
      assert.deepEqual(await records(farm), [`${takeover.number} confirmed`]);
      assert.equal(takeover.node.ownedCalls, 1);
      call.send('INFO');
      callee.send('UPDATE');
      await farm.settle();
      assert.deepEqual([call.final.get('INFO'), callee.final('UPDATE')], [200, 200]);
      call.bye();
      await farm.pass(WRITTEN_MS);
      assert.deepEqual([call.final.get('BYE'), callee.state], [200, 'over']);
      assert.deepEqual(callee.seen, ['INVITE', 'ACK', 'INFO', 'BYE']);
      assert.deepEqual(await records(farm), []);
      assert.equal(takeover.node.ownedCalls, 0);
      assert.deepEqual(
        servers.flatMap(({ strays }) => strays),
        [],
      );
    });

  for (const grace of ['in the grace', 'after it'] as const)
    test(`rings on; a caller's CANCEL ${grace} brings 200, one CANCEL to the callee, 487 and its ACK`, async () => {
      const scene = await ringing();
      const { farm, call, callee, phone } = scene;
      await lose(scene);
      if (grace === 'after it') await farm.pass(GRACE_MS + 1000, 100);
      call.cancel();
      await farm.pass(WRITTEN_MS);
      assert.deepEqual([call.final.get('CANCEL'), call.status, callee.state, callee.acked], [200, 487, 'over', 1]);
      await farm.pass(40_000, 500);
      assert.deepEqual(callee.seen, ['INVITE', 'CANCEL', 'ACK']);
      assert.equal(callee.phone.got.filter(({ method }) => method === 'CANCEL').length, 1);
      assert.equal(got(phone, 487), 1);
      assert.deepEqual(await records(farm), []);
      assert.equal(adopted(farm, grace === 'after it' ? 'sweep' : 'need', 'ringing'), 1);
    });

  test("rings on; a refusal of the callee reaches the caller, and the caller's ACK reaches the callee", async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    await lose(scene);
    callee.refuse(486);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, callee.state, callee.acked], [486, 'over', 1]);
    assert.deepEqual(await records(farm), []);
  });

  test("rings on; after a refusal the caller's next attempt is a new call, and its ACK arrives", async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    await lose(scene);
    callee.refuse(407);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, callee.state], [407, 'over']);
    callee.expectAnother();
    call.tryAgain();
    await farm.pass(WRITTEN_MS);
    assert.equal(callee.state, 'ringing');
    callee.answer();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, callee.state], [200, 'confirmed']);
    const acks = callee.phone.got.filter(({ method }) => method === 'ACK');
    assert.deepEqual(new Set(acks.map((ack) => ack.one('CSeq'))), new Set(['1 ACK', '2 ACK']));
  });

  test('rings on after a CANCEL without the branch of the INVITE, which is answered 481', async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    await lose(scene);
    for (const _ of ['in the grace', 'after it']) {
      call.final.clear();
      call.cancelAsAnother();
      await farm.pass(GRACE_MS + 1000, 100);
      assert.deepEqual([call.final.get('CANCEL'), call.status, callee.state], [481, 0, 'ringing']);
    }
  });

  test('rings on at two callees; when one answers, the other gets a CANCEL, the caller only the 200', async () => {
    const farm = await start({ members: 3, dialogs: 'shared' });
    const callees = [
      new Callee(farm, await farm.phone('192.0.2.9'), 'bob'),
      new Callee(farm, await farm.phone('192.0.2.10'), 'desk'),
    ] as const;
    proxies(
      farm,
      callees.map(({ uri }) => uri),
    );
    const phone = await farm.phone('192.0.2.7');
    const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost: farm.member(2) });
    callees[0].answer();
    await farm.pass(2000);
    assert.deepEqual(
      [call.status, callees[0].state, callees[1].state, callees[1].acked],
      [200, 'confirmed', 'over', 1],
    );
    await farm.pass(40_000, 500);
    assert.deepEqual(callees[1].seen, ['INVITE', 'CANCEL', 'ACK']);
    assert.equal(got(phone, 487), 0);
    assert.deepEqual(await records(farm), [`${farm.ownerOf(call.callId).number} confirmed`]);
  });

  test('rings on; a repeated INVITE is answered 100, and the callee receives nothing', async () => {
    const scene = await ringing();
    const { farm, call, callee, phone } = scene;
    await lose(scene);
    const before = got(phone, 100);
    call.inviteAgain();
    await farm.pass(GRACE_MS + 1000, 100);
    call.inviteAgain();
    await farm.settle();
    assert.equal(got(phone, 100), before + 2);
    assert.deepEqual([callee.seen, callee.phone.got.length], [['INVITE'], 1]);
  });

  test('rings on at two callees; the first refusal waits for the second, and the second ends the call', async () => {
    const farm = await start({ members: 3, dialogs: 'shared' });
    const callees = [
      new Callee(farm, await farm.phone('192.0.2.9'), 'bob'),
      new Callee(farm, await farm.phone('192.0.2.10'), 'desk'),
    ];
    proxies(
      farm,
      callees.map(({ uri }) => uri),
    );
    const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.pass(WRITTEN_MS);
    await farm.kill(farm.member(2));
    await farm.seated();
    callees[0]!.refuse(486);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, callees[0]!.acked, callees[1]!.state], [0, 1, 'ringing']);
    callees[1]!.refuse(603);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, callees[1]!.acked], [603, 1]);
  });

  test('rings on; without an answer it ends with one CANCEL and 408 after the ringing time', async () => {
    const scene = await ringing({ config: { ownership: { ringingSeconds: 200 } } });
    const { farm, call, callee, phone } = scene;
    await lose(scene);
    await farm.pass(GRACE_MS + 1000, 100);
    await farm.pass(210_000, 500);
    assert.deepEqual([call.status, callee.state], [408, 'over']);
    await farm.pass(60_000, 500);
    assert.deepEqual(callee.seen, ['INVITE', 'CANCEL', 'ACK']);
    assert.equal(got(phone, 487), 0);
    assert.ok(got(phone, 408) >= 1 && got(phone, 408) <= 4);
    assert.deepEqual(await records(farm), []);
  });

  test('in a dialog has its record moved to the successor by the sweep, and a BYE ends it there', async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    callee.answer();
    await farm.pass(WRITTEN_MS);
    await lose(scene);
    await farm.pass(GRACE_MS + 1000, 100);
    const takeover = farm.ownerOf(call.callId);
    assert.deepEqual(await records(farm), [`${takeover.number} confirmed`]);
    assert.deepEqual([takeover.node.ownedCalls, adopted(farm, 'sweep', 'dialog')], [1, 1]);
    callee.send('BYE');
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([callee.final('BYE'), takeover.node.ownedCalls, await records(farm)], [200, 0, []]);
  });

  test('in a dialog whose parties are gone, too, is forgotten with its record after its session time', async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    callee.answer('Session-Expires: 90;refresher=uac');
    await farm.pass(WRITTEN_MS);
    await lose(scene);
    await farm.pass(GRACE_MS + 1000, 100);
    const takeover = farm.ownerOf(call.callId);
    assert.equal(takeover.node.ownedCalls, 1);
    await farm.pass(100_000, 1000);
    assert.equal(takeover.node.ownedCalls, 1);
    await farm.pass(35_000, 1000);
    assert.deepEqual([takeover.node.ownedCalls, await records(farm)], [0, []]);
  });

  test('in a subscription still gets refresh and NOTIFY, and its record ends with the subscription', async () => {
    const farm = await start({ members: 3, dialogs: 'shared' });
    const [lost, bob, alice] = [farm.member(2), await farm.phone('192.0.2.9'), await farm.phone('192.0.2.7')];
    const contact = (phone: UdpPhone) => `Contact: <sip:${phone.at.address}:${phone.at.port}>`;
    bob.onMessage = (message) => {
      const headers = [contact(bob), `Expires: ${message.one('Expires')}`];
      if (message.status === 0) bob.send(respond(message, 200, { toTag: 'bob', headers }));
    };
    alice.onMessage = (message) => message.status === 0 && alice.send(respond(message, 200));
    proxies(farm, [`sip:bob@${bob.at.address}:${bob.at.port}`]);
    const callId = farm.callIdOf(lost);
    const subscribe = (cseq: number, expires: number, more: { uri?: string; toTag?: string; headers?: string[] }) => {
      const via = `SIP/2.0/UDP 192.0.2.7:${alice.at.port};branch=z9hG4bKsub${cseq}`;
      const headers = ['Event: presence', contact(alice), `Expires: ${expires}`, ...(more.headers ?? [])];
      const uri = more.uri ?? 'sip:bob@example.org';
      alice.send(request({ method: 'SUBSCRIBE', via, callId, cseq, ...more, uri, fromTag: 'alice', headers }));
    };
    subscribe(1, 3600, {});
    await farm.pass(WRITTEN_MS);
    assert.deepEqual(await records(farm), [`${lost.number} confirmed`]);
    await lose({ farm, lost });
    await farm.pass(GRACE_MS + 1000, 100);
    const takeover = farm.ownerOf(callId);
    assert.deepEqual([await records(farm), adopted(farm, 'sweep', 'dialog')], [[`${takeover.number} confirmed`], 1]);

    const [accepted] = alice.got.filter(({ status }) => status === 200);
    const routes = accepted!.all('Record-Route').reverse();
    const refresh = {
      uri: uriOf(accepted!.one('Contact')),
      toTag: 'bob',
      headers: routes.map((each) => `Route: ${each}`),
    };
    subscribe(2, 3600, refresh);
    const [asked] = bob.got;
    bob.send(
      request({
        method: 'NOTIFY',
        uri: uriOf(asked!.one('Contact')),
        via: `SIP/2.0/UDP 192.0.2.9:${bob.at.port};branch=z9hG4bKnotify`,
        callId,
        fromTag: 'bob',
        toTag: 'alice',
        headers: [...asked!.all('Record-Route').map((each) => `Route: ${each}`), 'Event: presence'],
      }),
    );
    await farm.pass(WRITTEN_MS);
    const heard = ({ got: all }: UdpPhone): string[] =>
      all.flatMap(({ method, status }) => (status === 100 ? [] : [`${method} ${status}`])).sort();
    assert.deepEqual(
      [heard(alice), heard(bob)],
      [
        ['NOTIFY 0', 'SUBSCRIBE 200', 'SUBSCRIBE 200'],
        ['NOTIFY 200', 'SUBSCRIBE 0', 'SUBSCRIBE 0'],
      ],
    );
    await farm.pass(3_500_000, 10_000);
    assert.deepEqual(await records(farm), [`${takeover.number} confirmed`]);
    subscribe(3, 0, refresh);
    await farm.pass(80_000, 1000);
    assert.deepEqual(await records(farm), []);
  });

  test('in a dialog belongs to the member again after its late return; the successor does not count it', async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    callee.answer();
    await farm.pass(WRITTEN_MS);
    await lose(scene, true);
    await farm.pass(GRACE_MS + 1000, 100);
    const takeover = farm.ownerOf(call.callId);
    assert.equal(takeover.node.ownedCalls, 1);
    const back = await farm.add(2);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([takeover.node.ownedCalls, await records(farm)], [0, []]);
    call.reinvite();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, await records(farm)], [200, [`${back.number} confirmed`]]);
    call.bye();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.final.get('BYE'), callee.state, await records(farm)], [200, 'over', []]);
  });

  test('in a dialog goes on after a BYE that comes from neither party', async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    callee.answer();
    await farm.pass(WRITTEN_MS);
    await lose(scene);
    call.byeAs('stranger');
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual(await records(farm), [`${farm.ownerOf(call.callId).number} confirmed`]);
    assert.equal(adopted(farm, 'sweep', 'dialog'), 1);
  });

  test('in a dialog that ends in the grace leaves nothing behind', async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    callee.answer();
    await farm.pass(WRITTEN_MS);
    await lose(scene);
    call.bye();
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual([call.final.get('BYE'), await records(farm), adopted(farm, 'need', 'over-already')], [200, [], 1]);
  });

  test('in a dialog that ends elsewhere before the owner is back within the grace is counted nowhere', async () => {
    const scene = await ringing();
    const { farm, call, callee, lost } = scene;
    callee.answer();
    await farm.pass(WRITTEN_MS);
    await lose(scene, true);
    const takeover = farm.ownerOf(call.callId);
    call.reinvite();
    await farm.pass(WRITTEN_MS);
    assert.equal(call.status, 200);
    assert.deepEqual(await records(farm), [`${lost.number} confirmed`]);
    call.bye();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.final.get('BYE'), await records(farm)], [200, []]);
    const back = await farm.add(2);
    await farm.pass(GRACE_MS * 2, 100);
    assert.deepEqual([back.node.ownedCalls, takeover.node.ownedCalls], [0, 0]);
  });

  test("in a dialog with a re-INVITE before the owner's return within the grace is the owner's alone", async () => {
    const scene = await ringing();
    const { farm, call, callee, lost } = scene;
    callee.answer();
    await farm.pass(WRITTEN_MS);
    await lose(scene, true);
    const takeover = farm.ownerOf(call.callId);
    call.reinvite();
    await farm.pass(WRITTEN_MS);
    const back = await farm.add(2);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([back.node.ownedCalls, takeover.node.ownedCalls], [1, 0]);
    assert.deepEqual(await records(farm), [`${lost.number} confirmed`]);
    call.bye();
    await farm.pass(GRACE_MS * 2, 100);
    assert.deepEqual([call.final.get('BYE'), back.node.ownedCalls, await records(farm)], [200, 0, []]);
  });

  test("in a dialog that ends at its successor after the owner's first read is gone after the second", async () => {
    const scene = await ringing();
    const { farm, callee } = scene;
    callee.answer();
    await farm.pass(WRITTEN_MS);
    await lose(scene, true);
    const back = await farm.add(2);
    await farm.pass(WRITTEN_MS);
    assert.equal(back.node.ownedCalls, 1);
    // The successor deletes the record like this when it gets the BYE before it has the new view.
    const { store } = farm.member(1);
    const [left] = (await farm.drive(store.list('calls/'))).filter(({ value }) => parseCallRecord(value));
    await farm.drive(store.commit([{ key: left!.key, value: undefined, expect: left!.revision }]));
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual([back.node.ownedCalls, await records(farm)], [0, []]);
  });

  for (const [when, ackMs] of [
    ['before', 0],
    ['after', GRACE_MS + 1000],
  ] as const)
    test(`that is answered but recorded as ringing becomes a dialog by a request ${when} the adoption`, async () => {
      const scene = await ringing();
      const { farm, call, callee } = scene;
      callee.answer();
      await farm.settle();
      assert.equal(call.status, 200);
      await lose(scene);
      const takeover = farm.ownerOf(call.callId);
      await farm.pass(ackMs, 100);
      call.send('INFO');
      await farm.pass(GRACE_MS + 1000, 100);
      assert.equal(call.final.get('INFO'), 200);
      assert.deepEqual(await records(farm), [`${takeover.number} confirmed`]);
      call.bye();
      await farm.pass(WRITTEN_MS);
      assert.deepEqual([call.final.get('BYE'), takeover.node.ownedCalls, await records(farm)], [200, 0, []]);
    });

  test('that is answered but not yet recorded as answered ends with a BYE as its first request', async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    callee.answer();
    await farm.settle();
    await lose(scene);
    const takeover = farm.ownerOf(call.callId);
    await farm.pass(GRACE_MS + 1000, 100);
    assert.equal(takeover.node.ownedCalls, 1);
    call.bye();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.final.get('BYE'), takeover.node.ownedCalls, await records(farm)], [200, 0, []]);
  });

  test('goes on at its owner, without adoption, when that is back within the grace and its server lives', async () => {
    const scene = await ringing();
    const { farm, call, callee, lost } = scene;
    await lose(scene, true);
    await farm.pass(1000, 100);
    const back = await farm.add(2);
    await farm.pass(GRACE_MS * 2, 100);
    assert.deepEqual(await records(farm), [`${lost.number} trying`]);
    assert.equal(back.node.ownedCalls, 1);
    callee.answer();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, callee.state], [200, 'confirmed']);
    for (const outcome of ['ringing', 'dialog', 'refused', 'by-another'])
      assert.equal(adopted(farm, 'sweep', outcome) + adopted(farm, 'need', outcome), 0);
  });

  test("that rings stays with the successor after the grace, and the caller's CANCEL reaches it", async () => {
    const scene = await ringing();
    const { farm, call, callee } = scene;
    await lose(scene, true);
    await farm.pass(GRACE_MS + 1000, 100);
    const takeover = farm.ownerOf(call.callId);
    farm.choose = () => takeover;
    await farm.add(2);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([takeover.node.ownedCalls, await records(farm)], [1, [`${takeover.number} trying`]]);
    call.cancel();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.final.get('CANCEL'), callee.seen.includes('CANCEL')], [200, true]);
  });

  test('goes to the next successor when the first one dies, too', async () => {
    const scene = await ringing({ members: 4 });
    const { farm, call, callee } = scene;
    await lose(scene);
    await farm.pass(GRACE_MS + 1000, 100);
    await farm.kill(farm.ownerOf(call.callId));
    await farm.seated();
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual(await records(farm), [`${farm.ownerOf(call.callId).number} trying`]);
    call.cancel();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.status, callee.acked], [487, 1]);
    assert.deepEqual(callee.seen, ['INVITE', 'CANCEL', 'ACK']);
  });
});

interface OwnScene {
  readonly farm: FakeFarm;
  readonly phone: UdpPhone;
  readonly call: Call;
  readonly lost: FakeMember;
  readonly server: CallServer;
}

/** One side of a back-to-back user agent's call: alice has called the server of member 2. */
async function calledIn({ rings = false } = {}): Promise<OwnScene> {
  const farm = await start({ members: 3, dialogs: 'own' });
  const servers = serve(farm, { rings });
  const phone = await farm.phone('192.0.2.7');
  const lost = farm.member(2);
  const call = new Call(farm, phone, farm.callIdOf(lost));
  call.invite();
  await farm.pass(WRITTEN_MS);
  return { farm, phone, call, lost, server: servers[1]! };
}

/**
 * The other side: the server of member 2 has called bob, whose phone rings. The server sends its ACK of a 2xx along the
 * route set.
 */
async function calledOut(): Promise<{ farm: FakeFarm; callee: Callee; lost: FakeMember }> {
  const farm = await start({ members: 3, dialogs: 'own' });
  const callee = new Callee(farm, await farm.phone('192.0.2.9'));
  const lost = farm.member(2);
  const { address, port } = lost.server.at;
  const same = { callId: 'side-b', uri: callee.uri, via: `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKside-b` };
  const contact = `Contact: <sip:server@${address}:${port}>`;
  lost.server.onResponse = (message) => {
    if (message.status !== 200 || message.method !== 'INVITE') return;
    const headers = message
      .all('Record-Route')
      .reverse()
      .map((route) => `Route: ${route}`);
    const uri = uriOf(message.one('Contact'));
    lost.server.send(request({ ...same, method: 'ACK', uri, via: `${same.via}-ack`, toTag: message.toTag, headers }));
  };
  lost.server.send(request({ ...same, method: 'INVITE', headers: [contact] }));
  await farm.pass(WRITTEN_MS);
  assert.equal(callee.state, 'ringing');
  return { farm, callee, lost };
}

/** Returns the methods of the requests that the phone received, in order. */
function asked(phone: UdpPhone): string[] {
  return phone.got.filter(({ status }) => status === 0).map(({ method }) => method);
}

describe('a call of a dead member with dialogs: own', () => {
  test('that has no answer yet is refused with 500 after the grace, within 10 s of the death', async () => {
    const scene = await calledIn({ rings: true });
    const { farm, call } = scene;
    const died = farm.clock.now();
    await lose(scene);
    await farm.pass(GRACE_MS - 1000, 100);
    assert.equal(call.status, 0);
    await farm.until(() => call.status !== 0, 'an answer', 5000);
    assert.ok(farm.clock.now() - died < 10_000);
    assert.equal(call.status, 500);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([await records(farm), adopted(farm, 'sweep', 'refused')], [[], 1]);
  });

  test('that rings and is cancelled by the caller gets 200 and 487 after the grace', async () => {
    const scene = await calledIn({ rings: true });
    const { farm, call } = scene;
    await lose(scene);
    call.cancel();
    await farm.pass(GRACE_MS - 1000, 100);
    assert.equal(call.final.has('CANCEL'), false);
    await farm.pass(2000, 100);
    assert.deepEqual([call.final.get('CANCEL'), call.status], [200, 487]);
    assert.equal(adopted(farm, 'need', 'cancelled'), 1);
  });

  test('to a ringing callee is cancelled once after the grace, and the 487 is acknowledged', async () => {
    const scene = await calledOut();
    const { farm, callee } = scene;
    await lose(scene);
    await farm.pass(GRACE_MS - 1000, 100);
    assert.deepEqual(callee.seen, ['INVITE']);
    await farm.pass(40_000, 200);
    assert.deepEqual([callee.seen, callee.state, callee.acked], [['INVITE', 'CANCEL', 'ACK'], 'over', 1]);
    assert.equal(asked(callee.phone).filter((method) => method === 'CANCEL').length, 1);
    assert.deepEqual([await records(farm), adopted(farm, 'sweep', 'cancelled')], [[], 1]);
  });

  test('to a callee who answers before the CANCEL arrives gets an ACK and one BYE', async () => {
    const scene = await calledOut();
    const { farm, callee } = scene;
    await lose(scene);
    await farm.pass(GRACE_MS - 300, 100);
    callee.answer();
    await farm.pass(2000);
    await farm.pass(40_000, 200);
    assert.deepEqual(
      callee.seen.filter((method) => method !== 'CANCEL'),
      ['INVITE', 'ACK', 'BYE'],
    );
    assert.equal(callee.state, 'over');
    assert.equal(asked(callee.phone).filter((method) => method === 'BYE').length, 1);
  });

  test('in a dialog ends after the grace with one BYE; its CSeq is above all that the server has used', async () => {
    const [incoming, outgoing] = [await calledIn(), await calledOut()];
    outgoing.callee.answer();
    await outgoing.farm.pass(WRITTEN_MS);
    assert.equal(outgoing.callee.state, 'confirmed');
    for (const [scene, phone] of [
      [incoming, incoming.phone],
      [outgoing, outgoing.callee.phone],
    ] as const) {
      await lose(scene);
      await scene.farm.pass(GRACE_MS - 1000, 100);
      assert.equal(asked(phone).includes('BYE'), false);
      await scene.farm.pass(2000);
      await scene.farm.pass(40_000, 200);
      const byes = phone.got.filter(({ status, method }) => status === 0 && method === 'BYE');
      assert.equal(byes.length, 1);
      assert.ok(Number.parseInt(byes[0]!.one('CSeq'), 10) >= 1_000_000_000);
      assert.deepEqual([await records(scene.farm), adopted(scene.farm, 'sweep', 'ended')], [[], 1]);
      assert.equal(
        scene.farm.sum((metrics) => metrics.verdicts, { verdict: 'drop', reason: 'next-via' }),
        0,
      );
    }
  });

  for (const grace of ['in the grace', 'after it'] as const)
    test(`whose party hangs up ${grace} gets 481 for the BYE and no BYE in return`, async () => {
      const scene = await calledIn();
      const { farm, call, phone } = scene;
      await lose(scene);
      if (grace === 'after it') {
        // The store is down, so that the sweep cannot have ended the call.
        farm.memory.down();
        await farm.pass(GRACE_MS + 200, 50);
      }
      call.bye();
      await farm.pass(100);
      farm.memory.up();
      await farm.pass(40_000, 200);
      assert.equal(call.final.get('BYE'), 481);
      assert.deepEqual([asked(phone), await records(farm)], [[], []]);
    });

  test('gets its waiting packets when the owner is back within the grace in front of its living server', async () => {
    const scene = await calledIn();
    const { farm, call, phone, server } = scene;
    await lose(scene, true);
    call.send('INFO');
    await farm.pass(1000, 100);
    assert.equal(call.final.has('INFO'), false);
    await farm.add(2);
    await farm.pass(GRACE_MS * 2, 100);
    assert.equal(call.final.get('INFO'), 200);
    assert.equal(server.server.requests.filter(({ method }) => method === 'INFO').length > 0, true);
    assert.deepEqual(asked(phone), []);
    call.bye();
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([call.final.get('BYE'), await records(farm)], [200, []]);
  });

  test('with more packets in the grace than fit is not answered by anything that ends a dialog', async () => {
    const scene = await calledIn();
    const { farm, call, phone } = scene;
    await lose(scene);
    for (let i = 0; i < 2000; i++) call.byeAs('stranger');
    await farm.settle();
    call.bye();
    await farm.pass(1000, 100);
    assert.equal(got(phone, 481, 'BYE'), 0);
    assert.ok(farm.sum((metrics) => metrics.verdicts, { verdict: 'drop', reason: 'owner-gone' }) > 0);
  });

  test('that is a subscription ends with a NOTIFY that lets the subscriber subscribe again (deactivated)', async () => {
    const farm = await start({ members: 3, dialogs: 'own' });
    const lost = farm.member(2);
    lost.server.script = (message) =>
      lost.server.send(
        respond(message, 200, { toTag: 's', headers: ['Contact: <sip:s@10.0.0.2:5070>', 'Expires: 3600'] }),
      );
    const phone = await farm.phone('192.0.2.7');
    phone.onMessage = (message) => message.status === 0 && phone.send(respond(message, 200));
    const via = 'SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKsub';
    const headers = ['Event: presence', 'Contact: <sip:alice@192.0.2.7:5060>', 'Expires: 3600'];
    phone.send(request({ method: 'SUBSCRIBE', uri: 'sip:bob@example.org', via, callId: farm.callIdOf(lost), headers }));
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost });
    await farm.pass(GRACE_MS + 1000);
    await farm.pass(40_000, 200);
    const notifies = phone.got.filter(({ status }) => status === 0);
    assert.deepEqual(
      notifies.map((message) => [message.method, message.one('Event'), message.one('Subscription-State')]),
      [['NOTIFY', 'presence', 'terminated;reason=deactivated']],
    );
    assert.deepEqual(await records(farm), []);
  });
});

describe('the record of a call gives the address of a party', () => {
  test('that is a client by UDP: it gets the BYE of the successor at its new port', async () => {
    const farm = await start({ members: 3, dialogs: 'own', answer: 'ingress' });
    serve(farm);
    const [before, after] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.9', 30_001)];
    const call = new Call(farm, before, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    call.moveTo(after);
    call.send('INFO');
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost: farm.member(2) });
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual([asked(before), asked(after)], [[], ['BYE']]);
  });

  test('that is a client by UDP with dialogs: shared gets requests of the other side by the successor', async () => {
    const farm = await start({ members: 3, dialogs: 'shared', answer: 'ingress' });
    const callee = new Callee(farm, await farm.phone('192.0.2.9'));
    proxies(farm, [callee.uri]);
    const [before, after] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.9', 30_001)];
    const call = new Call(farm, before, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    callee.answer();
    await farm.until(() => callee.state === 'confirmed', 'the call is up');
    call.moveTo(after);
    call.send('INFO');
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost: farm.member(2) });
    await farm.pass(GRACE_MS + 1000, 100);
    callee.send('OPTIONS');
    await farm.until(() => callee.final('OPTIONS') === 200, 'an answer');
    assert.deepEqual([asked(before), asked(after)], [[], ['OPTIONS']]);
  });

  test('that is a proxy in front gets the BYE at its Record-Route, not at its source port', async () => {
    const farm = await start({ members: 3, dialogs: 'own', answer: 'ingress' });
    serve(farm);
    const [sends, listens] = [await farm.phone('192.0.2.80', 40_000), await farm.phone('192.0.2.80')];
    const via = 'SIP/2.0/UDP 192.0.2.80;branch=z9hG4bKp;rport, SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKc';
    const headers = ['Record-Route: <sip:192.0.2.80;lr;did=7>', 'Contact: <sip:gw@203.0.113.9>'];
    const callId = farm.callIdOf(farm.member(2));
    sends.send(request({ method: 'INVITE', uri: 'sip:bob@example.org', via, callId, headers }));
    await farm.pass(WRITTEN_MS);
    assert.equal(got(sends, 200) > 0, true);
    await lose({ farm, lost: farm.member(2) });
    await farm.pass(GRACE_MS + 200, 100);
    assert.deepEqual([asked(sends), asked(listens)], [[], ['BYE']]);
    assert.deepEqual(listens.got[0]!.all('Route'), ['<sip:192.0.2.80;lr;did=7>']);
  });

  test('that is an open client by TCP gets the BYE at its Contact: its connection died with the member', async () => {
    const farm = await start({ members: 3, dialogs: 'own' });
    serve(farm);
    const { choose } = farm;
    farm.choose = () => farm.member(2);
    const phone = await farm.tcpPhone('192.0.2.7');
    farm.choose = choose;
    const listens = await farm.phone('192.0.2.7', phone.at.port);
    const call = new Call(farm, phone, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost: farm.member(2) });
    await farm.pass(GRACE_MS + 200, 100);
    assert.deepEqual(asked(listens), ['BYE']);
  });
});

describe('the record of a call gives the target of a party', () => {
  const OLD = '192.0.2.7';
  const NEW = '192.0.2.8';

  /** Returns a phone that answers each request 200. */
  async function listening(farm: FakeFarm, address: string): Promise<UdpPhone> {
    const phone = await farm.phone(address);
    phone.onMessage = (message) => phone.send(respond(message, 200));
    return phone;
  }

  for (const method of ['INVITE', 'UPDATE'] as const)
    test(`that has named a new Contact in an accepted ${method}: it gets the BYE of the successor there`, async () => {
      const { farm, phone, call, lost } = await calledIn();
      const after = await listening(farm, NEW);
      call.refresh(method, 2, `<sip:alice@${NEW}:5060;line=2>`);
      await farm.pass(WRITTEN_MS);
      await lose({ farm, lost });
      await farm.pass(GRACE_MS + 1000, 100);
      assert.deepEqual([asked(phone), asked(after)], [[], ['BYE']]);
      assert.equal(after.got[0]!.uri, `sip:alice@${NEW}:5060;line=2`);
    });

  test('that has named a new Contact in a request that the server refused gets the BYE at the old one', async () => {
    const { farm, phone, call, lost } = await calledIn();
    const { script } = lost.server;
    lost.server.script = (message) =>
      message.method === 'UPDATE' ? lost.server.send(respond(message, 488)) : script(message, lost.server);
    call.refresh('UPDATE', 2, `<sip:alice@${NEW}>`);
    await farm.pass(WRITTEN_MS);
    assert.equal(call.final.get('UPDATE'), 488);
    await lose({ farm, lost });
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual(asked(phone), ['BYE']);
  });

  test('that has named a new Contact in its 2xx to an UPDATE of the server: it gets the BYE there', async () => {
    const { farm, callee, lost } = await calledOut();
    callee.answer();
    await farm.pass(WRITTEN_MS);
    const after = await listening(farm, NEW);
    const { onMessage } = callee.phone;
    callee.phone.onMessage = (message) =>
      message.method === 'UPDATE'
        ? callee.phone.send(respond(message, 200, { headers: [`Contact: <sip:bob@${NEW}:5060>`] }))
        : onMessage(message);
    const { address, port } = lost.server.at;
    const via = `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKside-b-update`;
    const invite = callee.invite!;
    lost.server.send(
      request({
        method: 'UPDATE',
        uri: callee.uri,
        via,
        callId: invite.callId,
        cseq: 50,
        toTag: callee.tag,
        headers: [
          ...invite.all('Record-Route').map((route) => `Route: ${route}`),
          `Contact: <sip:server@${address}:${port}>`,
        ],
      }),
    );
    await farm.pass(WRITTEN_MS);
    const before = asked(callee.phone);
    assert.equal(before.at(-1), 'UPDATE');
    await lose({ farm, lost });
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual([asked(callee.phone), asked(after)], [before, ['BYE']]);
  });

  test('on both sides of a proxy with one write for both, and with none when no Contact has changed', async () => {
    const { farm, call, callee, lost } = await ringing();
    callee.answer();
    await farm.until(() => callee.state === 'confirmed', 'the call is up');
    await farm.pass(WRITTEN_MS);
    const written = (): number => lost.metrics.callRecordWrites.cell({ outcome: 'written' }).n;
    const contacts = async (): Promise<string[]> => {
      const [entry] = (await farm.drive(lost.store.list('calls/'))).filter(({ key }) => parseRecordKey(key));
      const legs = parseCallRecord(entry!.value)!.legs.map(({ from, request: asks, answer }) =>
        from === 'client' ? asks : answer,
      );
      return legs.map((text) => /^Contact: <(.*)>/m.exec(text!)![1]!);
    };
    const before = written();
    call.refresh('INVITE', 2, `<sip:alice@${OLD}:5060>`);
    await farm.pass(WRITTEN_MS);
    assert.equal(written(), before);
    const { onMessage } = callee.phone;
    callee.phone.onMessage = (message) =>
      message.method === 'UPDATE'
        ? callee.phone.send(respond(message, 200, { headers: [`Contact: <sip:bob@${NEW}>`] }))
        : onMessage(message);
    call.refresh('UPDATE', 3, `<sip:alice@${NEW}>`);
    await farm.pass(WRITTEN_MS);
    assert.deepEqual(await contacts(), [`sip:alice@${NEW}`, `sip:bob@${NEW}`]);
    assert.equal(written(), before + 1);
  });
});

describe('a client reconnects after its connection has closed', () => {
  /**
   * Sets up a call of a TCP phone at the server of member 2. Member `holder` has its first connection, `next` its
   * second one.
   */
  async function comesBack(holder: number, next: number, gone: 'closed' | 'member dead') {
    const farm = await start({ members: 4, dialogs: 'own' });
    const [, server] = serve(farm);
    const { choose } = farm;
    farm.choose = () => farm.member(holder);
    const first = await farm.tcpPhone('192.0.2.7');
    const call = new Call(farm, first, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.until(() => call.status === 200, 'the call is up');
    if (gone === 'closed') first.close();
    else await lose({ farm, lost: farm.member(holder) });
    await farm.settle();
    farm.choose = () => farm.member(next);
    const second = await farm.tcpPhone('192.0.2.7');
    farm.choose = choose;
    const invite = server!.dialogs.get(call.callId)!.invite;
    const routes = invite.all('Record-Route').reverse();
    const say = async (fromTag: string): Promise<void> => {
      second.send(
        request({
          method: 'INFO',
          uri: 'sip:bob@10.0.0.2:5070',
          via: `SIP/2.0/TCP 192.0.2.7:${second.at.port};branch=z9hG4bKback-${fromTag}`,
          callId: call.callId,
          fromTag,
          toTag: call.toTag,
          cseq: 9,
          headers: routes.map((route) => `Route: ${route}`),
        }),
      );
      await farm.until(() => second.got.some(({ status }) => status >= 200), 'an answer on the new connection');
    };
    return { farm, server: server!, call, second, say };
  }

  for (const [where, holder, next, gone] of [
    ['at the owner, which had the old connection', 2, 2, 'closed'],
    ['at another member than the owner, which had the old connection', 2, 3, 'closed'],
    ['at another member while a third one had the old connection', 3, 4, 'closed'],
    ['at another member after the member of the old connection has died', 3, 4, 'member dead'],
  ] as const)
    test(`${where}: requests of the server reach the new connection`, async () => {
      const { farm, server, call, second, say } = await comesBack(holder, next, gone);
      await say(call.fromTag);
      server.inDialog(call.callId, 'OPTIONS');
      await farm.until(
        () => second.got.some(({ method, status }) => status === 0 && method === 'OPTIONS'),
        'it arrives',
      );
      assert.deepEqual(
        server.server.responses.map(({ status }) => status),
        [],
      );
    });

  test("and after the owner's death the BYE reaches the new connection with dialogs: own", async () => {
    const { farm, call, second, say } = await comesBack(2, 3, 'closed');
    await say(call.fromTag);
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost: farm.member(2) });
    await farm.pass(GRACE_MS + 1000, 100);
    assert.deepEqual(
      second.got.filter(({ status }) => status === 0).map(({ method }) => method),
      ['BYE'],
    );
  });

  test("and after the owner's death the successor sends the other side's requests there (shared)", async () => {
    const farm = await start({ members: 4, dialogs: 'shared' });
    const callee = new Callee(farm, await farm.phone('192.0.2.9'));
    proxies(farm, [callee.uri]);
    const { choose } = farm;
    farm.choose = () => farm.member(3);
    const first = await farm.tcpPhone('192.0.2.7');
    const call = new Call(farm, first, farm.callIdOf(farm.member(2)));
    call.invite();
    await farm.settle();
    callee.answer();
    await farm.until(() => callee.state === 'confirmed', 'the call is up');
    first.close();
    farm.choose = () => farm.member(4);
    const second = await farm.tcpPhone('192.0.2.7');
    farm.choose = choose;
    call.moveTo(second);
    call.send('INFO');
    await farm.until(() => call.final.get('INFO') === 200, 'an answer on the new connection');
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost: farm.member(2) });
    await farm.pass(GRACE_MS + 1000, 100);
    for (const method of ['OPTIONS', 'UPDATE']) {
      callee.send(method);
      await farm.until(() => callee.final(method) !== 0, 'an answer');
    }
    assert.deepEqual([callee.final('OPTIONS'), callee.final('UPDATE')], [200, 200]);
  });

  test('and requests of the server reach it after a restart of sipfarm in front of the living server', async () => {
    const { farm, server, call, second, say } = await comesBack(2, 3, 'closed');
    await say(call.fromTag);
    await farm.pass(WRITTEN_MS);
    await lose({ farm, lost: farm.member(2) }, true);
    await farm.add(2);
    await farm.pass(WRITTEN_MS);
    server.inDialog(call.callId, 'OPTIONS');
    await farm.until(() => second.got.some(({ method, status }) => status === 0 && method === 'OPTIONS'), 'it arrives');
  });

  test('and with another tag does not get the requests for the client', async () => {
    const { farm, server, call, second, say } = await comesBack(2, 3, 'closed');
    await say('stranger');
    server.inDialog(call.callId, 'OPTIONS');
    await farm.settle();
    assert.equal(
      second.got.some(({ status }) => status === 0),
      false,
    );
  });
});
