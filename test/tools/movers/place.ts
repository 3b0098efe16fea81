// One place in the network from which a party sends: a UDP socket, or a TCP connection to the farm.
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { splitStream } from '../sip-stream.ts';
import { answerTo, branchOf, firstLine, isRequest, methodOf, PORT, statusOf } from './wire.ts';

/** UDP repeats a request so often, each second; a whole answer takes less. */
const ATTEMPTS = 10;
const STEP_MS = 20;
const STEPS_PER_SECOND = 50;

/** Resolves once `ask` gives a value; rejects with `what` after as long as a request is repeated. */
export async function soon<T>(what: string, ask: () => T | undefined | false): Promise<T> {
  for (let i = 0; i < ATTEMPTS * STEPS_PER_SECOND; i++) {
    const found = ask();
    if (found) return found;
    await wait(STEP_MS);
  }
  throw new Error(`has waited in vain for ${what}`);
}

export class Place {
  /** Messages that have come here. Requests but ACK are answered with 200, or by `take`. */
  readonly got: string[] = [];
  readonly send: (text: string) => void;
  readonly close: () => void;
  readonly at: string;
  readonly transport: 'UDP' | 'TCP';
  take: (request: string) => void = (request) => {
    if (methodOf(request) !== 'ACK') this.send(answerTo(request, '200 OK'));
  };
  onResponse: (response: string) => void = () => {};
  /** The other side has ended the connection. */
  ended = false;
  /** Ends the sending half of a connection (RFC 9293 3.6). */
  finish = (): void => {};

  private constructor(transport: 'UDP' | 'TCP', at: string, send: (text: string) => void, close: () => void) {
    this.transport = transport;
    this.at = at;
    this.send = send;
    this.close = close;
  }

  static async udp(address: string, door: string, port = 0): Promise<Place> {
    const socket = dgram.createSocket('udp4');
    socket.bind(port, address);
    await once(socket, 'listening');
    const send = (text: string): void => void socket.send(text, PORT, door);
    const place = new Place('UDP', `${address}:${socket.address().port}`, send, () => socket.close());
    socket.on('message', (bytes) => place.#note(bytes.toString('latin1')));
    return place;
  }

  static async tcp(address: string, door: string): Promise<Place> {
    const socket = net.connect({ host: door, port: PORT, localAddress: address });
    await once(socket, 'connect');
    const send = (text: string): void => void socket.write(text, 'latin1');
    const place = new Place('TCP', `${address}:${socket.localPort}`, send, () => socket.destroy());
    place.finish = () => void socket.end();
    socket.setEncoding('latin1').on(
      'data',
      splitStream((message) => place.#note(message)),
    );
    socket.on('end', () => {
      place.ended = true;
    });
    socket.on('error', () => {});
    return place;
  }

  #note(message: string): void {
    this.got.push(message);
    if (isRequest(message)) this.take(message);
    else this.onResponse(message);
  }

  /** A BYE has come here. */
  get hungUp(): boolean {
    return this.got.some((message) => message.startsWith('BYE '));
  }

  /** Sends a request until it has a final answer; UDP repeats it. */
  async ask(text: string): Promise<string> {
    const branch = branchOf(text);
    const isAnswer = (each: string): boolean =>
      statusOf(each) >= 200 && branchOf(each) === branch && each.includes(`${methodOf(text)}\r\n`);
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (attempt === 0 || this.transport === 'UDP') this.send(text);
      for (let i = 0; i < STEPS_PER_SECOND; i++) {
        const final = this.got.find(isAnswer);
        if (final) return final;
        await wait(STEP_MS);
      }
    }
    throw new Error(`no answer to ${firstLine(text)}`);
  }
}
