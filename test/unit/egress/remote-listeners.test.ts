// Listeners of other nodes: answers through them, and the choice of a member by which a node without listeners sends.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseEndpoint } from '../../../src/base/endpoint.ts';
import { listenerCode } from '../../../src/base/listener-code.ts';
import { ExitChoice } from '../../../src/egress/exit-member.ts';
import { type RemoteListenerRecord, RemoteListeners } from '../../../src/egress/remote-listeners.ts';
import { buildOwnerTables } from '../../../src/ownership/owner-tables.ts';
import { SLOTS } from '../../../src/ownership/slots.ts';
import type { Seat, SeatRole } from '../../../src/ownership/view.ts';
import { advertisedIn } from '../../../src/packet/advertised.ts';
import { Packet } from '../../../src/packet/packet.ts';
import type { Listener } from '../../../src/transport/transport.ts';
import { seat, viewOf } from '../ownership/lookups.ts';

const VIP = '198.51.100.1:5060';
const SELF = 1;
const OTHER = 2;
const EDGE = listenerCode('edge');

type RemoteListener = RemoteListenerRecord['listeners'][number];

const remote = (changes: Partial<RemoteListener> = {}): RemoteListener => ({
  name: 'edge',
  transport: 'udp',
  bind: VIP,
  advertise: VIP,
  ...changes,
});
const record = (role: SeatRole = 'member', ...listeners: readonly RemoteListener[]): RemoteListenerRecord => ({
  number: OTHER,
  role,
  listeners: listeners.length === 0 ? [remote()] : listeners,
});
const own = (changes: Partial<RemoteListener> = {}): Listener => {
  const { name, transport, bind } = remote(changes);
  const at = parseEndpoint(bind)!;
  const parts = {
    bind: at,
    local: at,
    advertise: advertisedIn(remote(changes))!,
    answer: 'direct' as const,
    code: listenerCode(name),
  };
  return { name, transport: transport as 'udp' | 'tcp', ...parts };
};
/** Returns the remote listeners of node 1 with these records in the store. */
const remoteListenersOf = (
  role: SeatRole,
  listeners: readonly Listener[],
  ...records: readonly RemoteListenerRecord[]
): RemoteListeners => {
  const remoteListeners = new RemoteListeners({ own: listeners, role });
  remoteListeners.setRecords(records, SELF);
  return remoteListeners;
};
const isElsewhere = (role: SeatRole, mine: readonly Listener[], other: RemoteListenerRecord, name = 'edge'): boolean =>
  remoteListenersOf(role, mine, other).elsewhere(OTHER, listenerCode(name)) !== undefined;

describe('a packet from another node is answered there', () => {
  it('when this node has no listener of that name, whatever their roles', () => {
    const other = record('member', remote({ name: 'trunk' }));
    for (const role of ['member', 'disabled', 'relay'] as const) assert.ok(isElsewhere(role, [own()], other, 'trunk'));
  });

  it('except between members that both have the listener, because their own settings decide', () => {
    for (const advertise of [VIP, '198.51.100.2:5060', '198.51.100.1:5070'])
      assert.ok(!isElsewhere('member', [own()], record('member', remote({ advertise }))));
  });

  it('when one of the two is outside the farm and advertises another address or port', () => {
    for (const [role, others] of [
      ['member', 'disabled'],
      ['disabled', 'member'],
      ['disabled', 'disabled'],
      ['member', 'relay'],
    ] as const) {
      assert.ok(!isElsewhere(role, [own()], record(others)), `${role}, ${others}: one address`);
      for (const advertise of ['198.51.100.2:5060', '198.51.100.1:5070'])
        assert.ok(
          isElsewhere(role, [own()], record(others, remote({ advertise }))),
          `${role}, ${others}: ${advertise}`,
        );
    }
  });

  it('when one of the two is outside the farm and advertises a name or another transport', () => {
    const tcp = { transport: 'tcp' } as const;
    const [named, secure] = ['sip.example.com:5060', '198.51.100.1:5060;transport=tls'];
    for (const [mine, theirs] of [
      [{ ...tcp }, { ...tcp, told: named }],
      [{ ...tcp, told: named }, { ...tcp }],
      [{ ...tcp }, { ...tcp, told: secure }],
      [{ ...tcp, told: secure }, { ...tcp }],
    ])
      assert.ok(isElsewhere('disabled', [own(mine)], record('member', remote(theirs))), JSON.stringify([mine, theirs]));
    for (const told of [named, secure])
      assert.ok(!isElsewhere('disabled', [own({ ...tcp, told })], record('member', remote({ ...tcp, told }))), told);
  });

  it('when this node is a relay, even if it has listeners', () => {
    assert.ok(isElsewhere('relay', [own()], record()));
  });

  it('when the name has another transport here, because a connection cannot answer a datagram', () => {
    for (const role of ['member', 'disabled'] as const)
      assert.ok(isElsewhere(role, [own({ transport: 'tcp' })], record()));
  });

  it('except when it came to this node, whatever an old record of this node contains', () => {
    const remoteListeners = remoteListenersOf('member', [own()], {
      ...record('member', remote({ name: 'trunk' })),
      number: SELF,
    });
    assert.equal(remoteListeners.elsewhere(SELF, listenerCode('trunk')), undefined);
  });

  it('only while that node has a record', () => {
    const remoteListeners = remoteListenersOf('relay', [], record());
    assert.ok(remoteListeners.elsewhere(OTHER, EDGE));
    remoteListeners.setRecords([], SELF);
    assert.equal(remoteListeners.elsewhere(OTHER, EDGE), undefined);
  });
});

describe('the listener of a packet', () => {
  const packetAt = (ingress: number, listener: number): Packet =>
    Object.assign(new Packet(), { ingress, listener, listenerCode: EDGE });

  it("is this node's own one, with its own settings, when this node can answer", () => {
    const mine = own();
    assert.equal(remoteListenersOf('member', [mine], record()).traitsOf(packetAt(OTHER, 0)), mine);
  });

  it('is that of the other node, by which the answer leaves, when this node cannot answer', () => {
    const entrance = remoteListenersOf('relay', [], record()).traitsOf(packetAt(OTHER, -1));
    assert.deepEqual([entrance?.code, entrance?.answer, entrance?.proxyProtocol], [EDGE, 'ingress', 'off']);
  });

  it('shows a proxy in front of the clients there, when only the source port leads back', () => {
    const proxied = record('member', remote({ proxied: true }));
    assert.equal(remoteListenersOf('relay', [], proxied).traitsOf(packetAt(OTHER, -1))?.proxyProtocol, 'require');
  });

  it('is undefined when no node has such a listener any more', () => {
    assert.equal(remoteListenersOf('relay', []).traitsOf(packetAt(OTHER, -1)), undefined);
  });
});

describe('the member that sends for this node', () => {
  const SOME = Array.from({ length: 300 }, (_, i) => (i * 7919) % SLOTS);
  const edges = [remote(), remote({ name: 'edge-tcp', transport: 'tcp' })];

  function exitsOf(
    seats: readonly Seat[],
    options: { readonly down?: readonly number[]; readonly listeners?: readonly RemoteListener[] } = {},
  ): ExitChoice {
    const { down = [], listeners = edges } = options;
    const remoteListeners = new RemoteListeners({ own: [], role: 'relay' });
    remoteListeners.setRecords(
      seats.map(({ number }) => ({ number, role: 'member', listeners })),
      SELF,
    );
    const tables = buildOwnerTables(viewOf([...seats, seat(9, { weight: 0, role: 'relay' })]), 9, 1, true);
    return new ExitChoice({ routing: { tables }, remoteListeners, reachable: (number) => !down.includes(number) });
  }
  /** Returns the number of calls by member. */
  const spread = (exitChoice: ExitChoice, begins: boolean): Record<number, number> => {
    const counts: Record<number, number> = {};
    for (const slot of SOME) {
      const { member } = exitChoice.choose(slot, 'udp', false, begins) ?? { member: 0 };
      counts[member] = (counts[member] ?? 0) + 1;
    }
    return counts;
  };

  it('is drawn by weight, and is the same for the first and the later requests of a call', () => {
    const exitChoice = exitsOf([seat(2), seat(3, { weight: 300 })]);
    const counts = spread(exitChoice, true);
    assert.ok(counts[3]! > 2 * counts[2]! && counts[2]! > 40, JSON.stringify(counts));
    for (const slot of SOME)
      assert.equal(
        exitChoice.choose(slot, 'udp', false, true)?.member,
        exitChoice.choose(slot, 'udp', false, false)?.member,
      );
  });

  it("is the next one of the slot's order when the owner is unreachable, and other slots keep theirs", () => {
    const seats = [seat(2), seat(3, { weight: 300 }), seat(4)];
    const [all, without, twoOnly] = [exitsOf(seats), exitsOf(seats, { down: [3] }), exitsOf([seat(2), seat(4)])];
    for (const slot of SOME) {
      const [owner, instead] = [all, without].map((exitChoice) => exitChoice.choose(slot, 'udp', false, true)?.member);
      assert.equal(instead, owner === 3 ? twoOnly.choose(slot, 'udp', false, true)?.member : owner);
    }
  });

  it('is never unreachable, and there is none when no member is reachable', () => {
    assert.deepEqual(spread(exitsOf([seat(2), seat(3)], { down: [2] }), true), { 3: SOME.length });
    const nobody = exitsOf([seat(2), seat(3)], { down: [2, 3] });
    assert.equal(nobody.choose(1, 'udp', false, false), undefined);
    assert.equal(nobody.open, false);
  });

  it('has no weight only for calls that have begun, and only when no other member is there', () => {
    const idle = seat(2, { weight: 0 });
    assert.deepEqual(spread(exitsOf([idle]), true), { 0: SOME.length });
    assert.equal(exitsOf([idle]).open, false);
    assert.deepEqual(spread(exitsOf([idle]), false), { 2: SOME.length });
    assert.ok((spread(exitsOf([idle, seat(3)]), false)[2] ?? 0) < SOME.length / 50);
    assert.ok((spread(exitsOf([idle, seat(3, { weight: 0 })]), false)[3] ?? 0) > SOME.length / 4);
  });

  it('is draining only for calls that have begun', () => {
    const leaving = seat(2, { state: 'draining' });
    assert.deepEqual(spread(exitsOf([leaving, seat(3)]), true), { 3: SOME.length });
    assert.ok((spread(exitsOf([leaving, seat(3)]), false)[2] ?? 0) > SOME.length / 4);
    assert.equal(exitsOf([leaving]).open, false);
    assert.equal(exitsOf([leaving, seat(3)]).open, true);
  });

  it('has a listener of the transport and address family', () => {
    const secured = remote({ name: 'edge-tls', transport: 'tcp', told: 'sip.example.com:5061;transport=tls' });
    const six = remote({ name: 'edge6', bind: '[2001:db8::1]:5060', advertise: '198.51.100.1:5060' });
    for (const [transport, ipv6, listeners, name] of [
      ['udp', false, [...edges, six], 'edge'],
      ['tcp', false, [...edges, six], 'edge-tcp'],
      ['udp', true, [...edges, six], 'edge6'],
      ['tcp', true, [...edges, six], undefined],
      ['udp', false, [six], undefined],
      ['tcp', false, [secured, ...edges], 'edge-tcp'],
      ['tcp', false, [secured], undefined],
    ] as const) {
      const chosen = exitsOf([seat(2)], { listeners }).choose(1, transport, ipv6, true);
      assert.equal(chosen?.code, name && listenerCode(name), `${transport} ${ipv6}`);
    }
  });
});
