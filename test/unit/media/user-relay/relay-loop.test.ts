import assert from 'node:assert/strict';
import { test } from 'node:test';
import { C } from '../../../../src/batch/layout.ts';
import { RelayLoop } from '../../../../src/media/user-relay/relay-loop.ts';
import { CLIENT, OUTSIDE, openCall, relayRig, rtp, totals } from './relay-rig.ts';

test('a turn handles the messages first: a packet that waits meets the state that they make', async () => {
  const rig = await relayRig();
  const stream = openCall(rig.relay);
  rig.thread.run();
  for (let i = 0; i < 3; i++) rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(i));
  stream.close();
  rig.thread.run();
  assert.deepEqual(totals(rig), { late: 3 });
});

test('one port with many packets does not hold up the others: each turn takes one packet of each', async (t) => {
  const rig = await relayRig();
  openCall(rig.relay);
  openCall(rig.relay);
  rig.thread.run();
  const turns = t.mock.method(RelayLoop.prototype, 'turn');
  for (let i = 0; i < 5; i++) rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(i));
  rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20008`, rtp(0));
  rig.thread.run();
  assert.equal(
    rig.system.sent.findIndex(({ bytes, from }) => bytes.equals(rtp(0)) && from.endsWith('30008')),
    1,
  );
  assert.equal(turns.mock.callCount(), 5);
});

test('a descriptor that is no socket is not watched any more; a socket with a passing error is', async () => {
  for (const [errno, wanted] of [
    [C.EBADF, 0],
    [C.ENOTSOCK, 0],
    [C.EINVAL, 0],
    [C.EAGAIN, 1],
    [C.EINTR, 1],
    [C.ENOBUFS, 1],
  ] as const) {
    const { relay, system, thread } = await relayRig();
    openCall(relay);
    thread.run();
    system.refusals.push({ call: 'recvfrom', errno });
    system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
    thread.run();
    assert.equal(system.sent.length, wanted, `errno ${errno}`);
  }
});

test('a message that makes the thread throw is reported, and the next one is handled', async () => {
  const rig = await relayRig();
  rig.thread.messages.push({ kind: 'expect', port: 0, source: undefined }, { kind: 'open' } as never);
  openCall(rig.relay);
  rig.system.deliver(`${CLIENT} 4000`, `${OUTSIDE} 20000`, rtp(1));
  rig.thread.run();
  assert.equal(rig.faults.length, 1);
  assert.equal(rig.system.sent.length, 1);
});
