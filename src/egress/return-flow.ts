// Where the response to a request goes (RFC 3261 18.2.2, RFC 3581 4), as a flow.
import { SIP_PORT } from '../base/endpoint.ts';
import type { OwnerTables } from '../ownership/owner-tables.ts';
import type { Flow } from '../packet/flow.ts';
import type { Packet } from '../packet/packet.ts';
import type { Scan } from '../sip/scan.ts';
import type { ListenerTraits } from './remote-listeners.ts';

/**
 * Fills `flow` with the way back to whoever sent the request: its connection at the member that holds it, or its source address. The port
 * is the source's when the client asked for that by `rport`, else the one in its Via (5060 when that has none). Never `maddr`, never
 * another address than the source: nobody can have our answers sent to a third party. Through a proxy in front only the source port
 * leads back, with `rport` or without.
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

/** Fills `flow` with the way to where the packet has come from: its connection, or its source address and port. */
export function sourceFlow(packet: Packet, tables: OwnerTables, listener: ListenerTraits, flow: Flow): void {
  const byIngress = packet.connection !== 0 || listener.answer === 'ingress';
  flow.member = byIngress ? packet.ingress : tables.self;
  flow.incarnation = byIngress ? packet.ingressIncarnation : tables.incarnation;
  flow.listener = listener.code;
  flow.connection = packet.connection;
  flow.address = packet.address;
  flow.port = packet.port;
}
