// The SIP server's 100 ends the repetitions of an INVITE. It therefore waits for the first record of its call.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { parseRecordKey } from '../../../src/calls/records/call-record.ts';
import type { FakeFarm, FakeMember, FarmOptions, TcpPhone, UdpPhone } from '../../fake/farm.ts';
import { respond } from '../../fake/sip.ts';
import { Call, start, stopFarms } from './calls.ts';
import { Callee, proxies } from './proxies.ts';

afterEach(stopFarms);

/** RFC 3261 17.2.1: a server transaction sends its 100 within 200 ms. */
const LATEST_MS = 200;
/** A call that the server has not sent on is written 50 ms after its INVITE, in steps of 20 ms. */
const WRITTEN_MS = 100;

interface Scene {
  readonly farm: FakeFarm;
  readonly owner: FakeMember;
  readonly phone: UdpPhone | TcpPhone;
  readonly call: Call;
  /** Statuses that the caller has received. */
  readonly statuses: () => number[];
  readonly records: () => string[];
}

/** Three members with a proxy each that answers 100; `targets` of the call, whose owner is member 2. */
async function scene(options: FarmOptions & { readonly tcp?: boolean; readonly rings?: boolean } = {}): Promise<Scene> {
  const { tcp = false, rings = false, ...rest } = options;
  const farm = await start({ members: 3, dialogs: 'shared', ...rest });
  const callee = new Callee(farm, await farm.phone('192.0.2.9'));
  proxies(farm, rings ? [callee.uri] : []);
  const owner = farm.member(2);
  const phone = tcp ? await farm.tcpPhone('192.0.2.7') : await farm.phone('192.0.2.7');
  const call = new Call(farm, phone, farm.callIdOf(owner));
  return {
    farm,
    owner,
    phone,
    call,
    statuses: () => phone.got.map(({ status }) => status),
    records: () =>
      farm.memory.readAll('calls/').flatMap(({ key }) => (parseRecordKey(key) ? [key.split('/')[2]!] : [])),
  };
}

describe('the 100 of the SIP server', () => {
  test('reaches the client when the record of its call is in the store', async () => {
    const { farm, call, statuses, records } = await scene();
    call.invite();
    await farm.settle();
    assert.deepEqual([statuses(), records()], [[], []]);
    await farm.until(() => records().length > 0, 'the record is written', WRITTEN_MS);
    await farm.until(() => statuses().length > 0, 'the 100 comes', LATEST_MS);
    assert.deepEqual(statuses(), [100]);
  });

  test('is not sent when its owner dies first: the repeated INVITE begins the call at a successor', async () => {
    const { farm, owner, call, statuses, records } = await scene({ rings: true });
    call.invite();
    await farm.settle();
    // The 180 of a callee would show that the call rings; this one has not received the INVITE.
    assert.deepEqual([statuses().includes(100), records()], [false, []]);
    await farm.kill(owner);
    await farm.until(() => call.ringing, 'the call rings at a successor', 10_000);
  });

  test('comes in time for the client although the store does not answer', async () => {
    const { farm, owner, call, statuses, records } = await scene();
    owner.store.cut();
    call.invite();
    await farm.settle();
    assert.deepEqual(statuses(), []);
    await farm.until(() => statuses().length > 0, 'the 100 comes', LATEST_MS);
    assert.deepEqual([statuses(), records()], [[100], []]);
  });

  test('is left out when a later response overtakes it', async () => {
    const { farm, owner, call, statuses } = await scene({ rings: true });
    owner.store.cut();
    call.invite();
    await farm.pass(LATEST_MS);
    assert.deepEqual(statuses(), [180]);
  });

  for (const [title, options] of [
    ['to a client by TCP, which repeats nothing', { tcp: true }],
    ['where ringing calls are not recorded', { config: { ownership: { records: 'dialogs' } } }],
    ['where nothing is recorded', { config: { ownership: { records: 'none' } } }],
  ] as const)
    test(`comes at once ${title}`, async () => {
      const { farm, call, statuses } = await scene(options);
      call.invite();
      await farm.settle();
      assert.deepEqual(statuses(), [100]);
    });

  test('comes at once for a call whose record is there', async () => {
    const { farm, owner, call, statuses } = await scene();
    call.invite();
    await farm.pass(LATEST_MS);
    owner.server.send(respond(owner.server.last, 100));
    await farm.settle();
    assert.deepEqual(statuses(), [100, 100]);
  });
});
