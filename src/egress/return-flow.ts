// Computes the flow for the response to a request (RFC 3261 18.2.2, RFC 3581 4).
import { SIP_PORT } from '../base/endpoint.ts';
import type { OwnerTables } from '../ownership/owner-tables.ts';
import type { Flow } from '../packet/flow.ts';
import type { Packet } from '../packet/packet.ts';
import type { Scan } from '../sip/scan.ts';
import type { ListenerTraits } from './remote-listeners.ts';

/**
 * Fills `flow` with the way back to the sender of the request: its connection at the member that holds it, or its
 * source address. The port is the source port if the client sent `rport`, else the port of its Via (5060 by default).
 * `maddr` and addresses other than the source are never used, so that a client cannot direct answers to a third party.
 * Through a PROXY protocol proxy only the source port leads back, with `rport` or without.
 */
export function returnFlow(
  scan: Scan,
  packet: Packet,
  tables: OwnerTables,
  listener: ListenerTraits,
  flow: Flow,
): void {
  const { via } = scan;
  const proxied = (listener.proxyProtocol ?? 'off') !== 'off';
  sourceFlow(packet, tables, listener, flow);
  flow.port = packet.connection !== 0 || proxied || via.rport >= 0 ? packet.port : via.port || SIP_PORT;
}

/** Fills `flow` with the way to the packet's source: its connection, or its source address and port. */
export function sourceFlow(packet: Packet, tables: OwnerTables, listener: ListenerTraits, flow: Flow): void {
  const byIngress = packet.connection !== 0 || listener.answer === 'ingress';
  flow.member = byIngress ? packet.ingress : tables.self;
  flow.incarnation = byIngress ? packet.ingressIncarnation : tables.incarnation;
  flow.listener = listener.code;
  flow.connection = packet.connection;
  flow.address = packet.address;
  flow.port = packet.port;
}
