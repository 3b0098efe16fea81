// Flow of the response to a request: to its sender, by the same listener or connection, at the requested port.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { returnFlow } from '../../../src/egress/return-flow.ts';
import { buildOwnerTables } from '../../../src/ownership/owner-tables.ts';
import { emptyFlow } from '../../../src/packet/flow.ts';
import { Packet } from '../../../src/packet/packet.ts';
import type { Listener } from '../../../src/transport/transport.ts';
import { request, seat, viewOf } from '../ownership/lookups.ts';
import { scanned } from '../sip/messages.ts';

const TABLES = buildOwnerTables(viewOf([seat(1, { incarnation: 11 }), seat(2, { incarnation: 12 })]), 1, 11);
/** Came to member 2 when its incarnation was 10. */
const CAME = { address: '192.0.2.7', port: 40_001, ingress: 2, ingressIncarnation: 10 };

function listener(answer: 'direct' | 'ingress'): Listener {
  const at = { address: '198.51.100.1', port: 5060 };
  return {
    name: 'edge',
    transport: 'udp',
    bind: at,
    advertise: { host: at.address, port: at.port, transport: 'udp' },
    answer,
    code: 77,
    local: at,
  };
}

function flowOf(via: string, answer: 'direct' | 'ingress', change: Partial<Packet> = {}) {
  const { scan } = scanned(request('INVITE', { Via: via }));
  const flow = { member: 5, incarnation: 5, listener: 5, connection: 5, address: 'old', port: 5 };
  returnFlow(scan, Object.assign(new Packet(), CAME, change), TABLES, listener(answer), flow);
  return flow;
}

const VIA = 'SIP/2.0/UDP client.example.com:5066;branch=z9hG4bK1';

describe('the return flow to a client', () => {
  test("is this member's own listener when any member may answer", () => {
    const expected = { member: 1, incarnation: 11, listener: 77, connection: 0, address: '192.0.2.7', port: 5066 };
    assert.deepEqual(flowOf(VIA, 'direct'), expected);
  });

  test('is the ingress member with its incarnation of that time when only that member may answer', () => {
    const expected = { member: 2, incarnation: 10, listener: 77, connection: 0, address: '192.0.2.7', port: 5066 };
    assert.deepEqual(flowOf(VIA, 'ingress'), expected);
  });

  test('is the connection at the member that has it, whatever listener and Via contain', () => {
    for (const answer of ['direct', 'ingress'] as const)
      for (const via of [VIA, `${VIA};rport`, 'SIP/2.0/TCP h;branch=z9hG4bK1']) {
        const flow = flowOf(via, answer, { connection: 4_000_000_000 });
        assert.deepEqual([flow.member, flow.incarnation, flow.connection], [2, 10, 4_000_000_000]);
        assert.deepEqual([flow.address, flow.port], ['192.0.2.7', 40_001]);
      }
  });

  const ports: readonly (readonly [via: string, port: number, why: string])[] = [
    [`${VIA};rport`, 40_001, 'that of the source, when the client uses rport (RFC 3581 4)'],
    [`${VIA};rport=5099`, 40_001, 'that of the source, whatever value an rport already has'],
    [VIA, 5066, 'that of its Via without rport (RFC 3261 18.2.2)'],
    ['SIP/2.0/UDP client.example.com;branch=z9hG4bK1', 5060, '5060 when its Via has none'],
    ['SIP/2.0/UDP [2001:db8::7]:5067;branch=z9hG4bK1', 5067, 'that behind an IPv6 literal'],
  ];
  for (const [via, port, why] of ports)
    test(`has the right port: ${why}`, () => assert.equal(flowOf(via, 'direct').port, port));

  test('never has another address than the source, whatever sent-by, received or maddr contain', () => {
    for (const more of ['', ';maddr=203.0.113.9', ';received=203.0.113.9', ';rport=9;received=203.0.113.9'])
      assert.equal(flowOf(`SIP/2.0/UDP 203.0.113.8:5060;branch=z9hG4bK1${more}`, 'direct').address, '192.0.2.7');
  });

  test('starts as an empty flow', () => {
    assert.deepEqual(emptyFlow(), { member: 0, incarnation: 0, listener: 0, connection: 0, address: '', port: 0 });
    assert.notEqual(emptyFlow(), emptyFlow());
  });
});
