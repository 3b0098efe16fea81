// The shared parts of a service: the sent-by of each way out, and the hash of a Call-ID.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listenerCode } from '../../../../src/base/listener-code.ts';
import { callKey, sentByOfFlow, slotOf } from '../../../../src/service/shared/context.ts';
import { EDGE, EDGE6, NAT, TCP } from '../../ingress/way-farm.ts';
import { keyOf, request, slotOf as slotOfText } from '../../ownership/lookups.ts';
import { contextRig, scanOf } from './context-rig.ts';

const REMOTE = { address: '192.0.2.7', port: 5070 };

test('a message carries the address that its listener advertises, also when it leaves by another member', async (t) => {
  const { member, context } = await contextRig(t);
  for (const [index, via] of [
    [EDGE, 'Via: SIP/2.0/UDP 198.51.100.1:5060;'],
    [NAT, 'Via: SIP/2.0/UDP 198.51.100.1:5080;'],
    [EDGE6, 'Via: SIP/2.0/UDP 198.51.100.1:5060;'],
    [TCP, 'Via: SIP/2.0/UDP 198.51.100.1:5060;'],
  ] as const)
    for (const number of [1, 2]) {
      const sentBy = sentByOfFlow(context, { ...member.flow(index, REMOTE), member: number });
      assert.equal(sentBy, context.listenerSentBys[index]);
      assert.ok(sentBy?.via.toString().startsWith(via));
    }
});

test('a message by a listener of another node carries the address that this node advertises', async (t) => {
  const { member, context } = await contextRig(t);
  const flow = { ...member.flow(EDGE, REMOTE), member: 2, listener: listenerCode('trunk') };
  assert.equal(sentByOfFlow(context, flow), undefined);
  const listener = { name: 'trunk', transport: 'udp', bind: '10.0.0.2:5090', advertise: '203.0.113.2:5090' };
  context.remoteListeners.setRecords([{ number: 2, role: 'member', listeners: [listener] }], 1);
  const sentBy = sentByOfFlow(context, flow);
  assert.ok(sentBy?.via.toString().startsWith('Via: SIP/2.0/UDP 203.0.113.2:5090;'));
  assert.equal(sentByOfFlow(context, flow), sentBy, 'one sent-by for all messages');
});

test('endpoints have the form of a URI', async (t) => {
  const { context } = await contextRig(t);
  assert.equal(context.serverHostPort, '10.0.0.1:5062');
  assert.deepEqual(context.listenerHostPorts, [
    '198.51.100.1:5060',
    '198.51.100.1:5080',
    '198.51.100.1:5060',
    '198.51.100.1:5060',
  ]);
});

test('key and slot are those of the message, in either order of the calls', async (t) => {
  const { member, context } = await contextRig(t);
  const [one, two] = ['one@192.0.2.7', 'two@192.0.2.7'].map((id) => scanOf(request('INVITE', { 'Call-ID': id })));
  assert.equal(callKey(context, one!), keyOf(member.tables, 'one@192.0.2.7'));
  assert.equal(slotOf(context, two!), slotOfText(member.tables, 'two@192.0.2.7'));
  assert.equal(slotOf(context, one!), slotOfText(member.tables, 'one@192.0.2.7'));
  assert.equal(callKey(context, two!), keyOf(member.tables, 'two@192.0.2.7'));
});
