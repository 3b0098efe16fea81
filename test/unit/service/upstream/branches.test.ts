// The branch that the service writes (RFC 3261 16.11): one per transaction, the same at each member and for each
// retransmission.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeFarm } from '../../../fake/farm.ts';
import { cleanUp, from, inward, rig, tokenIn, viaOf } from './rig.ts';

cleanUp();

describe('the branch towards the server', () => {
  test('is short, has a valid MAC, and names the member without its incarnation', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const { branch } = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    assert.match(branch, /^z9hG4bKsf/);
    assert.ok(branch.length <= 48, `${branch.length} characters`);
    const { member, incarnation } = tokenIn(edge.member, branch);
    assert.deepEqual([member, incarnation], [1, 0]);
  });

  test('is the same for a retransmission, and the whole message is the same', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const text = from(phone, { method: 'INVITE', body: 'v=0\r\n' });
    const first = await inward(edge, phone, text);
    assert.equal((await inward(edge, phone, text)).text, first.text);
  });

  for (const [name, parameters] of [
    ['a client of RFC 3261', 'branch=z9hG4bKabc'],
    ['a client of RFC 2543 without a branch', 'ttl=1'],
    ['a client of RFC 2543 with a branch of its own making', 'branch=1'],
    ['a client whose branch is the magic cookie and no more (RFC 4475 3.2.1)', 'branch=z9hG4bK'],
  ] as const) {
    test(`is the same for INVITE, its CANCEL and the ACK of its error: ${name}`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const same = { via: viaOf(phone, parameters), callId: 'one', cseq: 7 };
      const invite = await inward(edge, phone, from(phone, { ...same, method: 'INVITE' }));
      const cancel = await inward(edge, phone, from(phone, { ...same, method: 'CANCEL' }));
      const ack = await inward(edge, phone, from(phone, { ...same, method: 'ACK', toTag: 'x' }));
      assert.deepEqual([cancel.branch, ack.branch], [invite.branch, invite.branch]);
    });

    test(`differs between two transactions: ${name}`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const same = { via: viaOf(phone, parameters), callId: 'one', cseq: 7 };
      const unique = parameters === 'branch=z9hG4bKabc';
      const others = unique
        ? [{ via: viaOf(phone, 'branch=z9hG4bKabd') }, { via: 'SIP/2.0/UDP 192.0.2.8:5060;branch=z9hG4bKabc' }]
        : [{ callId: 'two' }, { cseq: 8 }, { fromTag: 'other' }, { uri: 'sip:carol@example.org' }];
      const seen = new Set([(await inward(edge, phone, from(phone, { ...same, method: 'INVITE' }))).branch]);
      for (const other of others)
        seen.add((await inward(edge, phone, from(phone, { ...same, ...other, method: 'INVITE' }))).branch);
      assert.equal(seen.size, others.length + 1);
    });
  }

  test('is the same for a CANCEL with another spelling of Request-URI and sent-by (RFC 3261 17.2.3)', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const same = { callId: 'one', cseq: 7 };
    const [one, two] = ['Phone.Example:5060', 'phone.EXAMPLE'].map((by) => `SIP/2.0/UDP ${by};branch=z9hG4bKspelt`);
    const invite = from(phone, { ...same, method: 'INVITE', via: one!, uri: 'sip:bob@example.org;user=phone' });
    const { branch } = await inward(edge, phone, invite);
    const cancel = from(phone, { ...same, method: 'CANCEL', via: two!, uri: 'sip:bob@example.org' });
    assert.equal((await inward(edge, phone, cancel)).branch, branch);
  });

  test('differs for two calls to which their phone gave the same branch', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const via = viaOf(phone, 'branch=z9hG4bK-1-1');
    const seen = new Set<string>();
    for (const other of [
      { callId: 'one' },
      { callId: 'two' },
      { callId: 'one', fromTag: 'x' },
      { callId: 'one', cseq: 9 },
    ])
      seen.add((await inward(edge, phone, from(phone, { method: 'INVITE', via, ...other }))).branch);
    assert.equal(seen.size, 4);
  });

  test('differs for a thousand transactions of one phone', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    for (let i = 0; i < 1000; i++) phone.send(from(phone, { method: 'OPTIONS', callId: 'one', cseq: i + 1 }));
    await edge.farm.settle();
    assert.equal(new Set(edge.server.requests.map(({ branch }) => branch)).size, 1000);
  });

  test('differs for requests whose Request-URI is longer than its hashed part', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const uri = `sip:${'x'.repeat(5000)}@example.org`;
    const one = await inward(edge, phone, from(phone, { method: 'OPTIONS', uri }));
    const two = await inward(edge, phone, from(phone, { method: 'OPTIONS', uri }));
    assert.notEqual(one.branch, two.branch);
  });

  test('is the same at each member that receives the packets', async () => {
    const edge = await rig({ members: 4 });
    const { farm } = edge;
    const phone = await farm.phone('192.0.2.7');
    const owner = farm.member(3);
    const same = { via: viaOf(phone, 'branch=z9hG4bKspray'), callId: farm.callIdOf(owner) };
    const texts = ['INVITE', 'INVITE', 'INVITE', 'INVITE', 'CANCEL', 'CANCEL', 'ACK', 'ACK'].map((method) =>
      from(phone, { ...same, method, ...(method === 'ACK' && { toTag: 'x' }) }),
    );
    for (const text of texts) phone.send(text);
    await farm.settle();
    assert.equal(owner.server.requests.length, texts.length);
    assert.equal(new Set(owner.server.requests.map(({ branch }) => branch)).size, 1);
    assert.deepEqual(
      farm.members.map(({ entered }) => entered.length),
      [2, 2, 2, 2],
    );
  });
});

test('a stopped farm leaves no timer on the clock', async () => {
  const farm = await FakeFarm.start({ members: 2, health: 'options' });
  await farm.pass(1000);
  assert.ok(farm.clock.timers > 0);
  await farm.stop();
  assert.equal(farm.clock.timers, 0);
});
