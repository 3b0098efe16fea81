// Contents of a call's record: the legs as the outside party saw them, their flows and answers. Repeated messages cost
// no further write.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type CallRecord, parseCallRecord, parseRecordKey } from '../../../../src/calls/records/call-record.ts';
import { Scan, scan } from '../../../../src/sip/scan.ts';
import { Message, respond } from '../../../fake/sip.ts';
import { answer, cleanUp, from, fromServer, inward, outward, type Rig, rig, viaOf } from './rig.ts';

cleanUp();

/** Longer than the delay until a call is written. */
const WRITTEN_MS = 100;

interface Stored extends CallRecord {
  readonly kind: string;
  readonly entry: number;
}

async function stored(edge: Rig): Promise<Stored[]> {
  await edge.farm.pass(WRITTEN_MS);
  return edge.farm.memory.readAll('calls/').flatMap(({ key, value }) => {
    const place = parseRecordKey(key);
    if (!place) return [];
    const record = parseCallRecord(value);
    assert.ok(record, `${key} is a record`);
    assert.equal(place.owner, edge.member.number);
    return [{ ...record, kind: key.split('/')[2]!, entry: place.entry }];
  });
}

async function one(edge: Rig): Promise<Stored> {
  const all = await stored(edge);
  assert.equal(all.length, 1, 'one call is recorded');
  return all[0]!;
}

describe('a call of a client', () => {
  test('is recorded as it came, with its source and its answer', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('203.0.113.9', 33333);
    const headers = ['Contact: <sip:alice@192.168.1.5>', 'Record-Route: <sip:between.example;lr>'];
    const via = 'SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKb;rport';
    const got = await inward(edge, phone, from(phone, { method: 'INVITE', via, headers, body: 'v=0\r\n' }));
    const pending = await one(edge);
    assert.deepEqual(
      [pending.kind, pending.state, pending.callId, pending.legs.length],
      ['pending', 'trying', got.callId, 1],
    );
    const [leg] = pending.legs;
    assert.equal(leg!.from, 'client');
    assert.deepEqual([leg!.flow.address, leg!.flow.port, leg!.flow.member], ['203.0.113.9', 33333, edge.member.number]);
    const asked = new Message(`${leg!.request}\r\n`);
    assert.deepEqual(asked.all('Via'), [
      'SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKb;received=203.0.113.9;rport=33333',
    ]);
    assert.deepEqual([asked.startLine, asked.body], [got.startLine, '']);
    assert.deepEqual(asked.all('Record-Route'), ['<sip:between.example;lr>'], 'ours stand in the answer');
    const scanned = Buffer.from(leg!.request, 'latin1');
    assert.equal(scan(scanned, 0, scanned.length, false, new Scan()), null, 'the text can be scanned');

    await answer(edge, phone, got, 180);
    const told = await answer(edge, phone, got, 200);
    const dialog = await one(edge);
    assert.deepEqual([dialog.kind, dialog.state, dialog.since], ['dialog', 'confirmed', pending.since]);
    const answered = new Message(`${dialog.legs[0]!.answer}\r\n`);
    assert.deepEqual(answered.all('Record-Route'), told.all('Record-Route'));
    assert.deepEqual([answered.startLine, answered.toTag, answered.all('Via')], [told.startLine, told.toTag, []]);
    assert.doesNotMatch(dialog.legs[0]!.request, /^Via/m);

    phone.send(from(phone, { method: 'BYE', callId: got.callId, toTag: 'bob', uri: 'sip:bob@10.0.0.1:5070' }));
    await edge.farm.settle();
    await answer(edge, phone, edge.server.last, 200);
    assert.deepEqual(await stored(edge), []);
    assert.equal(edge.member.metrics.callRecordWrites.cell({ outcome: 'written' }).n, 2);
    assert.equal(edge.member.metrics.callRecordWrites.cell({ outcome: 'deleted' }).n, 1);
  });

  test('has the new flow of a moved party; another source port of a proxy in front changes no flow', async () => {
    const edge = await rig();
    const { farm, server } = edge;
    const via = {
      client: 'SIP/2.0/UDP 192.168.1.5;branch=z9hG4bK',
      proxy: 'SIP/2.0/UDP 192.0.2.80;rport;branch=z9hG4bK',
    };
    for (const [kind, vias] of [
      ['client', (n: number) => `${via.client}${n};rport`],
      ['proxy', (n: number) => `${via.proxy}${n}, ${via.client}${n}`],
    ] as const) {
      const [before, after] = [await farm.phone('203.0.113.9', 30_000), await farm.phone('203.0.113.9', 30_001)];
      const callId = `moved-${kind}`;
      const headers = ['Record-Route: <sip:192.0.2.80;lr>', 'Contact: <sip:alice@192.168.1.5>'].slice(
        kind === 'client' ? 1 : 0,
      );
      const invite = await inward(edge, before, from(before, { method: 'INVITE', callId, headers, via: vias(1) }));
      await answer(edge, before, invite, 200);
      const routes = invite
        .all('Record-Route')
        .reverse()
        .map((route) => `Route: ${route}`);
      const parts = { method: 'INFO', callId, cseq: 2, toTag: 'bob', headers: routes, via: vias(2) };
      const info = await inward(edge, after, from(after, parts));
      await answer(edge, after, info, 200);
      const [leg] = (await stored(edge)).find((record) => record.callId === callId)!.legs;
      assert.deepEqual([leg!.flow.port, leg!.moved], kind === 'client' ? [30_001, true] : [30_000, undefined]);
      before.close();
      after.close();
    }
    assert.equal(server.responses.length, 0);
  });

  test('costs no further write when its messages are repeated', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = from(phone, { method: 'INVITE' });
    const got = await inward(edge, phone, invite);
    await edge.farm.pass(WRITTEN_MS);
    for (let again = 0; again < 3; again++) await inward(edge, phone, invite);
    for (const status of [180, 180, 183, 200, 200, 200]) await answer(edge, phone, got, status);
    await edge.farm.pass(WRITTEN_MS);
    assert.equal(edge.member.metrics.callRecordWrites.cell({ outcome: 'written' }).n, 2);
  });

  test('is not written when it is refused at once', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const got = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    await answer(edge, phone, got, 407);
    assert.deepEqual(await stored(edge), []);
    assert.equal(edge.member.metrics.callRecordWrites.cell({ outcome: 'deleted' }).n, 0);
  });

  test('has the connection when it comes by TCP, and a SUBSCRIBE has its event and expiry', async () => {
    const edge = await rig();
    const phone = await edge.farm.tcpPhone('192.0.2.7');
    const headers = ['Event: presence', 'Expires: 600'];
    const got = await inward(edge, phone, from(phone, { method: 'SUBSCRIBE', headers }));
    await answer(edge, phone, got, 200);
    const record = await one(edge);
    assert.deepEqual([record.kind, record.method], ['dialog', 'SUBSCRIBE']);
    assert.notEqual(record.legs[0]!.flow.connection, 0);
    assert.match(record.legs[0]!.request, /^Event: presence\r\nExpires: 600\r\n/m);
  });

  test('is deleted in the store, too, when the owner forgets it because of its age', async () => {
    const edge = await rig({ config: { ownership: { ringingSeconds: 32, longestCallSeconds: 60 } } });
    const phone = await edge.farm.phone('192.0.2.7');
    await inward(edge, phone, from(phone, { method: 'INVITE' }));
    assert.equal((await stored(edge)).length, 1);
    await edge.farm.pass(40_000, 500);
    assert.deepEqual(await stored(edge), []);
  });
});

describe('a call that a proxy behind the member forwards', () => {
  test('has one record with a leg for each side, and one more leg for each branch', async () => {
    const edge = await rig({ dialogs: 'shared' });
    const [alice, bob] = [await edge.farm.phone('192.0.2.7'), await edge.farm.phone('192.0.2.8')];
    const got = await inward(edge, alice, from(alice, { method: 'INVITE' }));
    const out = (branch: string, user: string): string =>
      got.text
        .replace(/^INVITE \S+/, `INVITE sip:${user}@192.0.2.8:5060`)
        .replace('Via:', `Via: SIP/2.0/UDP ${edge.server.at.address}:5070;branch=z9hG4bK${branch}\r\nVia:`);
    const sent = await outward(edge, bob, out('one', 'bob'));
    await outward(edge, bob, out('one', 'bob'));
    const pending = await one(edge);
    assert.deepEqual(
      pending.legs.map(({ from }) => from),
      ['client', 'server'],
    );
    const leg = new Message(`${pending.legs[1]!.request}\r\n`);
    assert.deepEqual([leg.startLine, leg.all('Via')], [sent.startLine, sent.all('Via').slice(0, 1)]);
    assert.deepEqual(leg.all('Record-Route'), sent.all('Record-Route'));
    assert.equal(pending.legs[1]!.flow.address, '192.0.2.8');
    assert.equal(edge.member.metrics.callRecordWrites.cell({ outcome: 'written' }).n, 1);

    const second = await outward(edge, bob, out('two', 'carol'));
    assert.equal((await one(edge)).legs.length, 3);

    bob.send(respond(second, 200, { toTag: 'carol', headers: ['Contact: <sip:carol@192.0.2.8>'] }));
    await edge.farm.settle();
    assert.equal((await one(edge)).kind, 'pending', 'the caller has no answer yet');
    await outward(edge, alice, edge.server.responses.at(-1)!.text.replace(/^Via: SIP\/2.0\/UDP 10.*\r\n/m, ''));
    const dialog = await one(edge);
    assert.equal(dialog.kind, 'dialog');
    assert.deepEqual(
      dialog.legs.map(({ answer }) => answer !== undefined),
      [true, false, true],
    );
    assert.match(dialog.legs[2]!.answer!, /^Contact: <sip:carol@192.0.2.8>\r\n/m);
  });
});

describe('a call of the server', () => {
  test('is recorded under the negative key and confirmed by the answer of the outside party', async () => {
    const edge = await rig();
    const bob = await edge.farm.phone('192.0.2.8');
    const sent = await outward(edge, bob, fromServer(edge, { method: 'INVITE', uri: 'sip:bob@192.0.2.8' }));
    const pending = await one(edge);
    assert.ok(pending.entry < 0);
    assert.deepEqual(
      pending.legs.map(({ from }) => from),
      ['server'],
    );
    bob.send(respond(sent, 200, { toTag: 'bob', headers: ['Contact: <sip:bob@192.0.2.8>'] }));
    const dialog = await one(edge);
    assert.deepEqual([dialog.kind, dialog.entry], ['dialog', pending.entry]);
    assert.match(dialog.legs[0]!.answer!, /^SIP\/2.0 200/);
    const bye = { method: 'BYE', callId: sent.callId, toTag: 'server', via: viaOf(bob), uri: 'sip:server@10.0.0.1' };
    bob.send(from(bob, bye));
    await edge.farm.settle();
    edge.server.send(respond(edge.server.last, 200));
    assert.deepEqual(await stored(edge), []);
  });
});

test('no call is recorded when records are switched off', async () => {
  const off = await rig({ config: { ownership: { records: 'none' } } });
  const phone = await off.farm.phone('192.0.2.7');
  await answer(off, phone, await inward(off, phone, from(phone, { method: 'INVITE' })), 200);
  assert.deepEqual(await stored(off), []);
});
