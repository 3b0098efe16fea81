// A fault in sipfarm's own code at each stage of the packet path: the packet is dropped and counted, one log line
// without secrets names the place, no state is left, and the next call works.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { GRACE_MS } from '../../../src/calls/adoption/adoption.ts';
import { CallJournal } from '../../../src/calls/records/call-journal.ts';
import { parseRecordKey } from '../../../src/calls/records/call-record.ts';
import { PackedCalls } from '../../../src/calls/records/packed-calls.ts';
import { RecordWriter } from '../../../src/calls/records/record-writer.ts';
import { TrackedCall } from '../../../src/calls/records/tracked-call.ts';
import { CallTable } from '../../../src/calls/table/call-table.ts';
import { Egress } from '../../../src/egress/egress.ts';
import { StatelessReplies } from '../../../src/egress/stateless-reply.ts';
import { PacketPath } from '../../../src/ingress/packet-path.ts';
import { Locator } from '../../../src/locate/locate.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { OwnerLookup } from '../../../src/ownership/owner-lookup.ts';
import { mintToken, TokenKind } from '../../../src/ownership/token.ts';
import { Peers } from '../../../src/relay/peers.ts';
import { RelayLink } from '../../../src/relay/relay-link.ts';
import { TopHeaders } from '../../../src/service/shared/top-headers.ts';
import { Parked } from '../../../src/service/takeover/parked-packets.ts';
import { Takeover } from '../../../src/service/takeover/takeover.ts';
import { Inward } from '../../../src/service/upstream/inward.ts';
import { Outward } from '../../../src/service/upstream/outward.ts';
import { Upstream } from '../../../src/service/upstream/upstream.ts';
import { Edit } from '../../../src/sip/edit.ts';
import { Framer } from '../../../src/transport/framer.ts';
import { Gate } from '../../../src/transport/gate.ts';
import { Transport } from '../../../src/transport/transport.ts';
import type { FakeFarm, FakeMember, FarmOptions } from '../../fake/farm.ts';
import { SECRET } from '../../fake/farm.ts';
import { request, respond } from '../../fake/sip.ts';
import { Call, type CallServer, serve, start, stopFarms } from './calls.ts';
import { Callee, proxies } from './proxies.ts';

const KEYS = keyring([SECRET]);
const WRITTEN_MS = 200;

/** Secrets that must not appear in the log. */
const PASSWORD = 'f00dcafe5ecret';
const SDP_KEY = 'WVNfX19zZW1jdGwgKCkgewkyMjA7';
const BODY = `v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:${SDP_KEY}\r\n`;

// biome-ignore lint/suspicious/noExplicitAny: any method of any class.
type Methods = Record<string, (...args: any[]) => unknown>;

let restore: (() => void) | undefined;

afterEach(async () => {
  restore?.();
  restore = undefined;
  await stopFarms();
});

/**
 * Makes that method throw from now on, when `when` is true for the stack and for `this`. The error message contains
 * possible secrets.
 */
function plant(
  prototype: object,
  method: string,
  when: (stack: string, self: unknown, args: unknown[]) => boolean = () => true,
): void {
  const of = prototype as Methods;
  const original = of[method];
  if (!original) throw new Error(`there is no method ${method} to throw`);
  of[method] = function (this: unknown, ...args: unknown[]): unknown {
    if (when(new Error().stack ?? '', this, args))
      throw new Error(`planted\r\nAuthorization: Digest response="${PASSWORD}" inline:${SDP_KEY}`);
    return original.apply(this, args);
  };
  restore = () => {
    of[method] = original;
    restore = undefined;
  };
}

interface Scene {
  readonly farm: FakeFarm;
  readonly servers: readonly CallServer[];
}

async function scene(options: FarmOptions = {}): Promise<Scene> {
  const farm = await start({ members: 2, throws: true, ...options });
  farm.choose = ([first]) => first;
  return { farm, servers: serve(farm) };
}

let sent = 0;

/** Returns an INVITE full of secrets, for a call of `owner`. */
function invite(
  farm: FakeFarm,
  owner: FakeMember,
  from: { address: string; port: number; transport?: string },
): string {
  sent++;
  const token = mintToken(KEYS, TokenKind.dialog, owner.number, 0);
  return request({
    method: 'INVITE',
    uri: `sip:bob:${PASSWORD}@example.org?Authorization=${PASSWORD}`,
    via: `SIP/2.0/${from.transport ?? 'UDP'} ${from.address}:${from.port};branch=z9hG4bKplanted${sent}`,
    callId: farm.callIdOf(owner, `planted-${sent}`),
    headers: [
      `Route: <sip:${token}@198.51.100.1;lr>`,
      `Authorization: Digest username="alice", response="${PASSWORD}"`,
      `Proxy-Authorization: Basic ${PASSWORD}`,
      `X-Key: ${PASSWORD}`,
      'Contact: <sip:alice@192.0.2.7>',
    ],
    body: BODY,
  });
}

/** Sends a packet that reaches the stage. `owner`: the member that owns its call. */
type Trigger = (scene: Scene, owner: FakeMember) => Promise<void>;

const datagram: Trigger = async ({ farm }, owner) => {
  const phone = await farm.phone('192.0.2.66', 6000 + sent);
  phone.send(invite(farm, owner, phone.at));
  await farm.settle();
};

/** Returns a trigger by TCP. `stays`: the connection stays open, which its next message shows. */
function stream(stays: boolean): Trigger {
  return async ({ farm }, owner) => {
    const phone = await farm.tcpPhone('192.0.2.67');
    phone.send(invite(farm, owner, { ...phone.at, transport: 'TCP' }));
    await farm.settle();
    if (stays) phone.send('\r\n\r\n');
    await farm.settle();
    assert.equal(phone.closed, !stays);
  };
}

const nonsense: Trigger = async ({ farm }) => {
  const framing = (): number => farm.member(1).metrics.closedConnections.cell({ reason: 'framing' }).n;
  const before = framing();
  const phone = await farm.tcpPhone('192.0.2.68');
  phone.send(invite(farm, farm.member(1), { ...phone.at, transport: 'TCP' }).replace(/^Content-Length.*\r\n/m, ''));
  await farm.settle();
  assert.equal(framing(), before + 1);
};

const tooManyHops: Trigger = async ({ farm }, owner) => {
  const phone = await farm.phone('192.0.2.69', 6000 + sent);
  phone.send(invite(farm, owner, phone.at).replace('Max-Forwards: 70', 'Max-Forwards: 0'));
  await farm.settle();
};

/** Returns a trigger by a request of the server behind `owner`. */
function ofServer(uri: string): Trigger {
  return async ({ farm }, owner) => {
    sent++;
    const { address, port } = owner.server.at;
    const via = `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKserver${sent}`;
    const headers = [`Proxy-Authorization: Digest response="${PASSWORD}"`];
    owner.server.send(request({ method: 'INVITE', uri, via, callId: `out-${sent}`, headers, body: BODY }));
    await farm.settle();
    // Refused connections and name lookups take some time.
    await farm.pass(50);
  };
}

/** Sends a request of the server and the phone's answer. */
const answered: Trigger = async (all, owner) => {
  const phone = await all.farm.phone('192.0.2.70', 6000 + sent);
  phone.onMessage = (message) => phone.send(respond(message, 486, { toTag: 'busy' }));
  await ofServer(`sip:bob@${phone.at.address}:${phone.at.port}`)(all, owner);
};

/** Returns the trigger with a pause of `ms` after it, for records and timers. */
function after(trigger: Trigger, ms: number): Trigger {
  return async (all, owner) => {
    await trigger(all, owner);
    await all.farm.pass(ms);
  };
}

interface Stage {
  readonly plant: () => void;
  readonly trigger: Trigger;
  /** The place as the log line names it. */
  readonly place: RegExp;
  /** The member that owns the call; the packets go to member 1. */
  readonly owner?: 1 | 2;
  /** The member where the throw happens; by default the owner. */
  readonly at?: 1 | 2;
  /** The message has left before the throw, so its call stays. */
  readonly leaves?: boolean;
  readonly farm?: FarmOptions;
}

/** Buffers are copied at places where no method of sipfarm can be replaced. */
const inCode = (name: string) => (stack: string, self: unknown) =>
  stack.includes(name) && (self as Buffer).includes('planted');

const STAGES: Readonly<Record<string, Stage>> = {
  'the listener, before the packet path': {
    plant: () => plant(PacketPath.prototype, 'enter'),
    trigger: datagram,
    place: /^datagram, Object\.onPacket \(node\/assemble\.ts:/,
  },
  'the scanner': {
    plant: () => plant(Buffer.prototype, 'copy', inCode('findLines')),
    trigger: datagram,
    place: /^datagram, findLines \(sip\/lines\.ts:/,
  },
  'the owner lookup': {
    plant: () => plant(OwnerLookup.prototype, 'decide'),
    trigger: datagram,
    place: /^datagram, .*\(ingress\/packet-path\.ts:/,
  },
  'the owner lookup for a stream': {
    plant: () => plant(OwnerLookup.prototype, 'decide'),
    trigger: stream(true),
    place: /^connection, .*\(ingress\/packet-path\.ts:/,
  },
  'the relay to the owner': {
    plant: () => plant(RelayLink.prototype, 'relay'),
    trigger: datagram,
    place: /^datagram, .*\(ingress\/packet-path\.ts:/,
    owner: 2,
    at: 1,
  },
  'the decoding of a relayed frame': {
    plant: () => plant(Buffer.prototype, 'copy', inCode('decodeFrame')),
    trigger: datagram,
    place: /^relay, siphash \(base\/siphash\.ts:/,
    owner: 2,
  },
  'the check of the sender of a frame': {
    plant: () => plant(Peers.prototype, 'check', (_, self) => self !== undefined),
    trigger: datagram,
    place: /^relay, .*\(relay\/relay-link\.ts:/,
    owner: 2,
  },
  'the transparent port': {
    plant: () => plant(PacketPath.prototype, 'relayed'),
    trigger: datagram,
    place: /^relay, .*\(node\/assemble\.ts:/,
    owner: 2,
    farm: { relay: () => ({ mode: 'transparent' }) },
  },
  'the owner lookup of a relayed packet': {
    plant: () => plant(OwnerLookup.prototype, 'decide', (stack) => stack.includes('relayed')),
    trigger: datagram,
    place: /^relay, .*\(ingress\/packet-path\.ts:/,
    owner: 2,
  },
  'the service': {
    plant: () => plant(Upstream.prototype, 'handle'),
    trigger: datagram,
    place: /^datagram, .*\(ingress\/packet-path\.ts:/,
  },
  'the inward part of the service': {
    plant: () => plant(Inward.prototype, 'request'),
    trigger: datagram,
    place: /^datagram, Upstream\.handle \(service\/upstream\/upstream\.ts:/,
  },
  'the building of top headers': {
    plant: () => plant(TopHeaders.prototype, 'recordRouteOwner'),
    trigger: datagram,
    place: /^datagram, Inward\.request \(service\/upstream\/inward\.ts:/,
  },
  'the assembly of the message': {
    plant: () => plant(Edit.prototype, 'apply'),
    trigger: datagram,
    place: /^datagram, Rewriter\.finish \(service\/shared\/rewriter\.ts:/,
  },
  'the call table': {
    plant: () => plant(CallTable.prototype, 'onRequest'),
    trigger: datagram,
    place: /^datagram, noteRequest \(service\/shared\/call-progress\.ts:/,
    leaves: true,
  },
  'the call table for a response': {
    plant: () => plant(CallTable.prototype, 'onResponse'),
    trigger: datagram,
    place: /^server, noteResponse \(service\/shared\/call-progress\.ts:/,
    leaves: true,
  },
  'the journal of records': {
    plant: () => plant(CallJournal.prototype, 'began'),
    trigger: datagram,
    place: /^datagram, noteClientLeg \(service\/shared\/call-events\.ts:/,
    leaves: true,
  },
  'the texts of records': {
    plant: () => plant(TrackedCall.prototype, 'makeTexts'),
    trigger: after(datagram, WRITTEN_MS),
    place: /^records, .*\(calls\/records\/held-calls\.ts:/,
    leaves: true,
  },
  'the building of a record': {
    plant: () => plant(TrackedCall.prototype, 'record'),
    trigger: after(datagram, WRITTEN_MS),
    place: /^records, .*\(calls\/records\/record-writer\.ts:/,
    leaves: true,
  },
  'the writing of records': {
    plant: () => plant(RecordWriter.prototype, 'commit'),
    trigger: after(datagram, 1000),
    place: /^records, .*\(calls\/records\/record-flush\.ts:/,
    leaves: true,
  },
  'the packed records of calls': {
    plant: () => plant(PackedCalls.prototype, 'add'),
    trigger: after(datagram, WRITTEN_MS),
    place: /^records, .*\(calls\/records\/held-calls\.ts:/,
    leaves: true,
  },
  'the egress of a response': {
    plant: () => plant(Egress.prototype, 'send'),
    trigger: datagram,
    place: /^server, #toClient \(service\/upstream\/inward\.ts:/,
    leaves: true,
  },
  'the egress at the member that has the connection': {
    plant: () => plant(Egress.prototype, 'send', (stack) => stack.includes('leave')),
    trigger: stream(true),
    place: /^relay, PacketPath\.leave \(ingress\/packet-path\.ts:/,
    owner: 2,
    at: 1,
    leaves: true,
  },
  'the stateless replies': {
    plant: () => plant(StatelessReplies.prototype, 'answer'),
    trigger: tooManyHops,
    place: /^datagram, Inward\.request \(service\/upstream\/inward\.ts:/,
  },
  'the reply to a stream with a framing fault': {
    plant: () => plant(StatelessReplies.prototype, 'answer'),
    trigger: nonsense,
    place: /^connection, .*\(ingress\/packet-path\.ts:/,
  },
  'the framer of a stream': {
    plant: () => plant(Framer.prototype, 'feed'),
    trigger: stream(false),
    place: /^connection, FramerStage\.take \(transport\/framer-stage\.ts:/,
  },
  'the accept of a connection': {
    plant: () => plant(Gate.prototype, 'enter'),
    trigger: stream(false),
    place: /^connection, Admission\.enter \(transport\/admission\.ts:/,
  },
  'the entrance of a request of the server': {
    plant: () => plant(Outward.prototype, 'request'),
    trigger: ofServer('sip:bob@192.0.2.99'),
    place: /^server, .*\(service\/upstream\/upstream\.ts:/,
  },
  'the egress of a request of the server': {
    plant: () => plant(Transport.prototype, 'sendDatagram'),
    trigger: ofServer('sip:bob@192.0.2.99'),
    place: /^server, Egress\.send \(egress\/egress\.ts:/,
  },
  'a request of the server after its name lookup': {
    plant: () => {
      // Before the lookup there is no cached name, so the next query waits for one.
      const { locateNow, locate } = Locator.prototype;
      Locator.prototype.locateNow = () => undefined;
      Locator.prototype.locate = async () => [{ transport: 'udp', address: '192.0.2.99', port: 5060 }];
      plant(Egress.prototype, 'send');
      const unplant = restore;
      restore = () => {
        Object.assign(Locator.prototype, { locateNow, locate });
        unplant?.();
      };
    },
    trigger: ofServer('sip:bob@name.example'),
    place: /^server, .*\(service\/upstream\/outward\.ts:/,
  },
  'a request of the server after its connection failed': {
    plant: () => plant(OwnerLookup.prototype, 'decide'),
    trigger: ofServer('sip:bob@192.0.2.99;transport=tcp'),
    place: /^connection, .*\(ingress\/packet-path\.ts:/,
    leaves: true,
  },
  'a response of a client': {
    plant: () => plant(Outward.prototype, 'responseFromClient'),
    trigger: answered,
    place: /^datagram, Upstream\.handle \(service\/upstream\/upstream\.ts:/,
    leaves: true,
  },
  'a timer': {
    plant: () => plant(CallTable.prototype, 'sweep'),
    trigger: async ({ farm }) => farm.pass(1100, 50),
    place: /^timer, node\/farm-node\.ts:/,
  },
};

/** Checks a whole call through the farm, packet by packet over both members. */
async function callWorks(farm: FakeFarm): Promise<void> {
  let turn = 0;
  farm.choose = (live) => live[turn++ % live.length];
  for (const phone of [await farm.phone('192.0.2.200', 7000 + sent), await farm.tcpPhone('192.0.2.201')])
    for (const owner of farm.live) {
      const call = new Call(farm, phone, farm.callIdOf(owner, `good-${++sent}`));
      call.invite();
      await farm.settle();
      call.bye();
      await farm.settle();
      assert.deepEqual([call.status, call.final.get('BYE')], [200, 200]);
    }
}

describe('the guard catches a throw in', () => {
  for (const [name, stage] of Object.entries(STAGES))
    test(name, async () => {
      const all = await scene(stage.farm);
      const { farm } = all;
      const owner = farm.member(stage.owner ?? 1);
      const at = farm.member(stage.at ?? stage.owner ?? 1);
      stage.plant();
      await stage.trigger(all, owner);
      const caught = at.drops('internal-error');
      assert.ok(caught > 0, 'it is counted');
      const lines = at.faults.filter(({ place }) => stage.place.test(place));
      assert.equal(lines.length, 1, `one line in ${JSON.stringify(at.faults)}`);
      if (!stage.leaves) {
        assert.ok(
          farm.members.every(({ node }) => node.ownedCalls === 0),
          'no call is left in the table',
        );
        await farm.pass(WRITTEN_MS);
        assert.equal(farm.memory.readAll('calls/').length, 0, 'no record is left in the store');
      }

      await stage.trigger(all, owner);
      assert.ok(at.drops('internal-error') > caught, 'it is counted each time');
      assert.equal(at.faults.filter(({ place }) => stage.place.test(place)).length, 1, 'and told once');
      const told = JSON.stringify(at.faults);
      for (const secret of [PASSWORD, SDP_KEY, mintToken(KEYS, TokenKind.dialog, owner.number, 0)])
        assert.ok(!told.includes(secret), told);

      restore?.();
      await callWorks(farm);
      assert.deepEqual(
        farm.members.map(({ seats }) => seats),
        ['fe1 fe2', 'fe1 fe2'],
      );
    });

  test('the guard skips a record whose adoption throws, and the records behind it are adopted', async () => {
    const farm = await start({ members: 2, dialogs: 'shared', throws: true });
    const callee = new Callee(farm, await farm.phone('192.0.2.9'));
    proxies(farm, [callee.uri]);
    const lost = farm.member(2);
    const phone = await farm.phone('192.0.2.7');
    const calls = [0, 1, 2].map((i) => new Call(farm, phone, farm.callIdOf(lost, `adopted-${i}`)));
    for (const call of calls) call.invite();
    await farm.pass(WRITTEN_MS);
    let left = 1;
    plant(Takeover.prototype, 'adopted', () => left-- > 0);
    await farm.kill(lost);
    await farm.pass(10_000, 50);
    const takeover = farm.member(1);
    const adopted = (outcome: string): number => takeover.metrics.adopted.cell({ why: 'sweep', outcome }).n;
    assert.deepEqual([adopted('internal-error'), adopted('ringing')], [1, 2]);
    assert.deepEqual([takeover.drops('internal-error'), takeover.faults.length, takeover.node.ownedCalls], [1, 1, 2]);
    assert.match(takeover.faults[0]?.place ?? '', /^records, .*\(node\/takeover-wiring\.ts:/);
    assert.equal(farm.memory.readAll(`calls/${takeover.number}/pending/`).length, 2);
    assert.equal(farm.memory.readAll(`calls/${lost.number}/pending/`).length, 0);
  });

  test('the guard skips a record whose read throws after a restart, and later records are restored', async () => {
    const { farm, servers } = await scene();
    const member = farm.member(1);
    const phone = await farm.phone('192.0.2.7');
    const calls = [0, 1, 2].map((i) => new Call(farm, phone, farm.callIdOf(member, `read-${i}`)));
    for (const call of calls) call.invite();
    await farm.pass(WRITTEN_MS);
    await farm.kill(member, { serverLives: true });
    const { entry } = parseRecordKey(farm.memory.readAll(`calls/${member.number}/dialog/`)[0]!.key)!;
    plant(CallTable.prototype, 'restore', (_stack, _self, args) => args[0] === entry);
    const again = await farm.add(1);
    farm.choose = () => again;
    await farm.pass(WRITTEN_MS);
    assert.deepEqual([again.drops('internal-error'), again.faults.length, again.node.ownedCalls], [1, 1, 2]);
    const call = new Call(farm, phone, farm.callIdOf(again, 'new'));
    call.invite();
    await farm.pass(WRITTEN_MS);
    assert.equal(farm.memory.readAll(`calls/${again.number}/dialog/`).length, 4);
    assert.equal(servers[0]?.dialogs.size, 4);
  });
});

describe('the guard catches a throw, after a member has died, in', () => {
  /** Sets up an answered call of member 2. */
  async function answeredCall(): Promise<{ farm: FakeFarm; lost: FakeMember; call: Call }> {
    const { farm } = await scene();
    const lost = farm.member(2);
    const call = new Call(farm, await farm.phone('192.0.2.7'), farm.callIdOf(lost, 'lost'));
    call.invite();
    await farm.pass(WRITTEN_MS);
    return { farm, lost, call };
  }

  /** Checks that member 1 has one log line with `place` and that calls work. */
  async function oneLine(farm: FakeFarm, place: RegExp): Promise<void> {
    const { faults } = farm.member(1);
    assert.equal(faults.length, 1, JSON.stringify(faults));
    assert.match(faults[0]!.place, place);
    assert.ok(farm.member(1).drops('internal-error') > 0);
    restore?.();
    await callWorks(farm);
  }

  test('the second decision about a packet that waited for the member', async () => {
    const { farm, lost, call } = await answeredCall();
    await farm.kill(lost);
    await farm.seated();
    call.bye();
    await farm.settle();
    plant(OwnerLookup.prototype, 'decide', (stack) => stack.includes('decided'));
    await farm.pass(GRACE_MS + 100, 50);
    await oneLine(farm, /^relay, .*\(ingress\/packet-path\.ts:/);
  });

  test('the release of waiting packets', async () => {
    const { farm, lost } = await answeredCall();
    plant(Parked.prototype, 'release');
    await farm.kill(lost);
    await farm.pass(GRACE_MS + 3000, 50);
    await oneLine(farm, /^records, Takeover\.decided \(service\/takeover\/takeover\.ts:/);
  });

  test("the end of the member's calls", async () => {
    const { farm, lost } = await answeredCall();
    plant(Outward.prototype, 'reach');
    await farm.kill(lost);
    await farm.pass(GRACE_MS + 10_000, 50);
    await oneLine(farm, /^records, Surrogate\.reach \(service\/upstream\/upstream\.ts:/);
  });

  test('the second decision about a message that the member should send', async () => {
    const { farm, servers } = await scene();
    servers[0]!.rings = true;
    const [owner, lost] = [farm.member(1), farm.member(2)];
    farm.choose = () => lost;
    const phone = await farm.tcpPhone('192.0.2.67');
    const call = new Call(farm, phone, farm.callIdOf(owner, 'rings'));
    call.invite();
    await farm.pass(WRITTEN_MS);
    assert.ok(call.ringing);
    await farm.kill(lost);
    servers[0]!.answer(call.callId);
    plant(Egress.prototype, 'send', (stack) => stack.includes('takeBack'));
    await farm.pass(10_000, 50);
    servers[0]!.rings = false;
    await oneLine(farm, /^relay, PacketPath\.leave \(ingress\/packet-path\.ts:/);
  });

  test('the second decision about a packet that waited for the connection to the member', async () => {
    const { farm, lost } = await answeredCall();
    const phone = await farm.tcpPhone('192.0.2.67');
    const text = invite(farm, lost, { ...phone.at, transport: 'TCP' });
    await farm.kill(lost);
    phone.send(text);
    await farm.settle();
    plant(OwnerLookup.prototype, 'decide', (stack) => stack.includes('takeBack'));
    await farm.pass(10_000, 50);
    await oneLine(farm, /^relay, .*\(ingress\/packet-path\.ts:/);
  });
});

test('the log line has the identifying headers of the message, in at most a thousand characters', async () => {
  const { farm } = await scene();
  const member = farm.member(1);
  plant(OwnerLookup.prototype, 'decide');
  await datagram({ farm, servers: [] }, member);
  const [line] = member.faults;
  const message = line?.message ?? '';
  assert.match(
    message,
    /^INVITE sip:bob:\[masked\]@example\.org\?\[masked\] SIP\/2\.0 \| Via: SIP\/2\.0\/UDP 192\.0\.2\.66:/,
  );
  assert.match(
    message,
    / \| Call-ID: planted-\d+-\d+ \| CSeq: 1 INVITE \| Route: <sip:sf\[token\]@198\.51\.100\.1;lr> \| /,
  );
  assert.ok(message.length <= 1000);
  assert.match(line?.error ?? '', /^Error: planted\.Authorization:\[masked\]$/);
});
