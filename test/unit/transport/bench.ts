// Shared parts of the transport tests: a transport that records its events, and messages.

import assert from 'node:assert/strict';
import { AddressList } from '../../../src/base/address-list.ts';
import type { DatagramSocket, Network } from '../../../src/base/network.ts';
import { type Cell, CellFamily } from '../../../src/metrics/counters.ts';
import type { Packet } from '../../../src/packet/packet.ts';
import { DEFAULT_LIMITS, type TransportLimits } from '../../../src/transport/limits.ts';
import type { ProxyOutcome } from '../../../src/transport/proxy-protocol.ts';
import { type ListenerConfig, Transport } from '../../../src/transport/transport.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';

/** A copy of a packet at the time of its event, because packets are reused. */
export interface Seen {
  readonly text: string;
  readonly from: string;
  readonly to: string;
  readonly listener: number;
  readonly connection: number;
  readonly member: number;
}

export interface Bench {
  readonly clock: FakeClock;
  readonly network: FakeNetwork;
  readonly transport: Transport;
  /** Writable during a test. */
  readonly limits: { -readonly [Field in keyof TransportLimits]: TransportLimits[Field] };
  readonly packets: Seen[];
  readonly faults: { readonly fault: string; readonly packet: Seen }[];
  readonly closed: { readonly connection: number; readonly reason: string }[];
  /** Messages whose connection never opened. */
  readonly unsent: string[];
  /** Handlers that a test can set to act inside of the callbacks. */
  onPacket: (packet: Packet) => void;
  onFault: (packet: Packet) => void;
  received(listener: string, kind: string): number;
  closedBy(reason: string): number;
  /** Number of datagrams before `start`. */
  readonly early: Cell;
  sendErrors(listener: string): number;
  /** Returns the counted outcomes of PROXY headers by name. */
  proxied(listener: string): Partial<Record<ProxyOutcome, number>>;
  /** Writable during a test. */
  trusted: AddressList;
  answerHeader: 'none' | 'simple';
}

export function see(packet: Packet): Seen {
  return {
    text: packet.bytes.toString('latin1', packet.start, packet.end),
    from: `${packet.address} ${packet.port}`,
    to: `${packet.localAddress} ${packet.localPort}`,
    listener: packet.listener,
    connection: packet.connection,
    member: packet.ingress,
  };
}

export const VIP = '198.51.100.1';

export function udp(name: string, address = VIP, port = 5060): ListenerConfig {
  return {
    name,
    transport: 'udp',
    bind: { address, port },
    advertise: { host: address, port, transport: 'udp' },
    answer: 'direct',
  };
}

export function tcp(name: string, address = VIP, port = 5060): ListenerConfig {
  const at = { address, port };
  return {
    name,
    transport: 'tcp',
    bind: at,
    advertise: { host: address, port: at.port, transport: 'tcp' },
    answer: 'direct',
    dialFrom: address,
  };
}

export function makeBench(
  listeners: readonly ListenerConfig[],
  limits: Partial<TransportLimits> = {},
  also: { readonly network?: Network; readonly sockets?: ReadonlyMap<string, DatagramSocket> } = {},
): Bench {
  const clock = new FakeClock();
  const network = new FakeNetwork({ clock });
  const received = new CellFamily({ name: 'received_packets_total', help: '', labels: ['listener', 'class'] });
  const closedConnections = new CellFamily({ name: 'closed_connections_total', help: '', labels: ['reason'] });
  const sendErrors = new CellFamily({ name: 'send_errors_total', help: '', labels: ['listener'] });
  const proxyHeaders = new CellFamily({ name: 'proxy_headers_total', help: '', labels: ['listener', 'outcome'] });
  const packets: Bench['packets'] = [];
  const faults: Bench['faults'] = [];
  const closed: Bench['closed'] = [];
  const unsent: string[] = [];
  const inForce = { ...DEFAULT_LIMITS, ...limits };
  const early = { n: 0 };
  const transport = new Transport({
    network: also.network ?? network,
    clock,
    listeners,
    limits: inForce,
    handlers: {
      onPacket(packet) {
        packets.push(see(packet));
        bench.onPacket(packet);
      },
      onFault(packet, fault) {
        faults.push({ fault, packet: see(packet) });
        bench.onFault(packet);
      },
      onFlowClosed: (connection, reason) => closed.push({ connection, reason }),
      onUnsent: (message) => unsent.push(message.toString('latin1')),
    },
    early,
    received,
    closedConnections,
    sendErrors,
    proxies: { trusted: () => bench.trusted, answerHeader: () => bench.answerHeader, headers: proxyHeaders },
    ...(also.sockets && { sockets: also.sockets }),
  });
  transport.setSelf(7, 3);
  const bench: Bench = {
    clock,
    network,
    transport,
    limits: inForce,
    packets,
    faults,
    closed,
    unsent,
    early,
    onPacket: () => {},
    onFault: () => {},
    received: (listener, kind) => received.cell({ listener, class: kind }).n,
    closedBy: (reason) => closedConnections.cell({ reason }).n,
    sendErrors: (listener) => sendErrors.cell({ listener }).n,
    proxied: (name) =>
      Object.fromEntries(
        [...proxyHeaders.entries()]
          .filter(({ labels, value }) => labels.listener === name && value > 0)
          .map(({ labels, value }) => [labels.outcome, value]),
      ),
    trusted: new AddressList([]),
    answerHeader: 'none',
  };
  return bench;
}

/** Returns a request with a body and its correct length. */
export function message(callId = 'a84b4c76e66710', body = '', method = 'INVITE'): string {
  return (
    `${method} sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.4;branch=z9hG4bK776asdhds\r\nMax-Forwards: 70\r\n` +
    `From: <sip:alice@example.com>;tag=1928301774\r\nTo: <sip:bob@example.com>\r\nCall-ID: ${callId}\r\n` +
    `CSeq: 314159 ${method}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

interface Got {
  readonly text: string;
  readonly from: string;
}

/** A client at `address` that sends datagrams and records received ones. */
export async function udpClient(network: FakeNetwork, address: string, port = 5060) {
  const got: Got[] = [];
  const socket = await network.bindUdp(
    { address, port },
    {
      onDatagram: (bytes, from, fromPort) => got.push({ text: bytes.toString('latin1'), from: `${from} ${fromPort}` }),
      onSendError: (error) => assert.fail(error),
    },
  );
  const send = (text: string | Buffer, to = VIP): void => socket.send(Buffer.from(text as string, 'latin1'), to, 5060);
  return { got, send };
}
