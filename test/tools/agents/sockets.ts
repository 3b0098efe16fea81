// Transports of SIP.js over UDP and TCP. The library has only WebSocket, and does not retransmit over UDP.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { EmitterImpl, type Transport, TransportState } from 'sip.js';
import { splitStream } from '../sip-stream.ts';
import { headersOf, isRequest, methodOf, type Place, statusOf, transactionOf, type Wire } from './wire.ts';

/** Timers of RFC 3261 17.1.1.1, ms. */
const [T1, T2] = [500, 4000];

/** Opens a transport to the farm, and gives each received message to `take`. */
type Open = (place: Place, wire: Wire, take: (text: string) => void) => Promise<Opened>;
interface Opened {
  send(text: string): void;
  close(): void;
}

/** Returns host and port of an address, a URI or the sent-by of a Via; names and IPv4. */
function hopOf(text: string): { readonly host: string; readonly port: number } {
  const [, host = '', port = '5060'] = /(?:sip:(?:[^@>]*@)?|^SIP\/2\.0\/\w+ |^)([\w.-]+)(?::(\d+))?/.exec(text) ?? [];
  return { host, port: Number(port) };
}

/**
 * Returns the next hop of a message: its first Route value, else its Request-URI (RFC 3261 12.2.1.1), or its Via
 * (18.2.2).
 */
function nextHop(text: string): ReturnType<typeof hopOf> {
  const [by = text.split(' ', 2)[1]!] = headersOf(text, isRequest(text) ? 'Route' : 'Via');
  return hopOf(by);
}

/** Opens a UDP socket that retransmits requests until they are answered (timers A and E). */
const openUdp: Open = async ({ address }, wire, take) => {
  const socket = createSocket('udp4');
  const repeats = new Map<string, NodeJS.Timeout>();
  const transmit = (text: string): void => {
    const { host, port } = nextHop(text);
    wire.note({ sent: true, peer: `${host}:${port}`, text });
    socket.send(Buffer.from(text, 'latin1'), port, host);
  };
  const repeat = (text: string, after: number): void => {
    const next = methodOf(text) === 'INVITE' ? after * 2 : Math.min(after * 2, T2);
    const timer = setTimeout(() => {
      transmit(text);
      repeat(text, next);
    }, after);
    repeats.set(transactionOf(text), timer);
  };
  socket.on('message', (bytes, { address: host, port }) => {
    const text = bytes.toString('latin1');
    if (text.trim() === '') return;
    wire.note({ sent: false, peer: `${host}:${port}`, text });
    if (statusOf(text) >= 200 || methodOf(text) === 'INVITE') clearTimeout(repeats.get(transactionOf(text)));
    take(text);
  });
  socket.bind(5060, address);
  await once(socket, 'listening');
  return {
    send: (text) => {
      transmit(text);
      if (isRequest(text) && methodOf(text) !== 'ACK') repeat(text, T1);
    },
    close: () => {
      for (const timer of repeats.values()) clearTimeout(timer);
      socket.close();
    },
  };
};

/** Opens one connection to the farm, which carries all messages. */
const openTcp: Open = async ({ address, farm }, wire, take) => {
  const socket = net.connect({ ...hopOf(farm), localAddress: address }).setEncoding('latin1');
  const receive = (text: string): void => {
    wire.note({ sent: false, peer: farm, text });
    take(text);
  };
  socket.on('data', splitStream(receive));
  await once(socket, 'connect');
  return {
    send: (text) => {
      wire.note({ sent: true, peer: farm, text });
      socket.write(text, 'latin1');
    },
    close: () => socket.end(),
  };
};

const OPEN: Readonly<Record<Place['transport'], Open>> = { udp: openUdp, tcp: openTcp };

/** Returns the class of a transport that opens at `place` and records its messages. */
export function transportAt(place: Place, wire: Wire): new () => Transport {
  return class implements Transport {
    readonly protocol = place.transport.toUpperCase();
    readonly stateChange = new EmitterImpl<TransportState>();
    onConnect: (() => void) | undefined;
    onDisconnect: ((error?: Error) => void) | undefined;
    onMessage: ((message: string) => void) | undefined;
    #opened: Opened | undefined;

    get state(): TransportState {
      return this.#opened ? TransportState.Connected : TransportState.Disconnected;
    }

    isConnected(): boolean {
      return this.#opened !== undefined;
    }

    async connect(): Promise<void> {
      this.#opened = await OPEN[place.transport](place, wire, (text) => this.onMessage?.(text));
      this.onConnect?.();
    }

    async disconnect(): Promise<void> {
      this.#opened?.close();
      this.#opened = undefined;
    }

    dispose(): Promise<void> {
      return this.disconnect();
    }

    async send(text: string): Promise<void> {
      this.#opened?.send(text);
    }
  };
}
