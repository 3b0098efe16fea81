// A DNS server on 127.0.0.1 with records from the test, so that tests of name lookup use the resolver of production.
import dgram from 'node:dgram';
import { once } from 'node:events';
import packet from 'dns-packet';

export type RecordType = 'A' | 'AAAA' | 'SRV' | 'NAPTR';

/** Rcodes of RFC 1035 4.1.1 for tests; `silence` = no answer at all. */
const RCODES = { noerror: 0, formerr: 1, servfail: 2, nxdomain: 3, notimp: 4, refused: 5, silence: -1 } as const;
export type Outcome = keyof typeof RCODES;

export interface Naptr {
  readonly order: number;
  readonly preference: number;
  readonly flags: string;
  readonly services: string;
  readonly regexp: string;
  readonly replacement: string;
}

export interface Srv {
  readonly priority: number;
  readonly weight: number;
  readonly port: number;
  readonly target: string;
}

interface Data {
  readonly A: string;
  readonly AAAA: string;
  readonly SRV: Srv;
  readonly NAPTR: Naptr;
}

export class FakeDns {
  /** Received queries in order, as `TYPE name`. */
  readonly questions: string[] = [];
  readonly #socket: dgram.Socket;
  readonly #records = new Map<string, { readonly ttl: number; readonly data: readonly unknown[] }>();
  readonly #outcomes = new Map<string, Outcome>();

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
    socket.on('message', (bytes, remote) => this.#onQuery(bytes, remote));
  }

  static async start(): Promise<FakeDns> {
    const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
    await once(socket, 'listening');
    return new FakeDns(socket);
  }

  /** Address for `resolver.setServers`. */
  get server(): string {
    return `127.0.0.1:${this.#socket.address().port}`;
  }

  /** Sets the records of a name and type; names without records do not exist. */
  set<T extends RecordType>(type: T, name: string, data: readonly Data[T][], ttl = 300): void {
    this.#records.set(`${type} ${name}`, { ttl, data });
  }

  /** Makes a query fail, or succeed again with `noerror`. */
  fail(type: RecordType, name: string, outcome: Outcome): void {
    this.#outcomes.set(`${type} ${name}`, outcome);
  }

  async close(): Promise<void> {
    this.#socket.close();
    await once(this.#socket, 'close');
  }

  #onQuery(bytes: Buffer, remote: dgram.RemoteInfo): void {
    const query = packet.decode(bytes);
    const question = query.questions?.[0];
    if (!question || query.id === undefined) return;
    const key = `${question.type} ${question.name.toLowerCase()}`;
    this.questions.push(key);
    const known = this.#records.get(key);
    const exists = [...this.#records.keys()].some((other) => other.endsWith(` ${question.name.toLowerCase()}`));
    const outcome = this.#outcomes.get(key) ?? (exists ? 'noerror' : 'nxdomain');
    if (outcome === 'silence') return;
    const answer = packet.encode({
      id: query.id,
      type: 'response',
      flags: packet.AUTHORITATIVE_ANSWER | packet.RECURSION_AVAILABLE | RCODES[outcome],
      questions: [question],
      answers:
        outcome === 'noerror' && known
          ? known.data.map((data) => ({ type: question.type, name: question.name, ttl: known.ttl, data }))
          : [],
    });
    this.#socket.send(answer, remote.port, remote.address);
  }
}
