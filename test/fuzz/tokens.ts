// Tokens signed like the farm's, of every kind and for every sort of member: living, drained, gone, outside,
// nonexistent.
import { listenerCode, SERVICE_SIDE } from '../../src/base/listener-code.ts';
import { readFlow, writeFlowToken } from '../../src/ownership/flow-token.ts';
import { keyring } from '../../src/ownership/keyring.ts';
import { mintToken, readToken, Token, TokenKind } from '../../src/ownership/token.ts';
import type { Flow } from '../../src/packet/flow.ts';
import { SECRET } from '../fake/farm.ts';
import type { Dice } from './dice.ts';

export const KEYS = keyring([SECRET]);
const STRANGE = keyring(['cd'.repeat(32)]);
const KINDS = Object.values(TokenKind);
const LISTENERS = [listenerCode('edge'), listenerCode('edge-tcp'), SERVICE_SIDE];
/** Number of stored connections. */
const CONNECTIONS = 30;
export const HOSTS = [
  '192.0.2.7',
  '198.51.100.1',
  '10.0.0.2',
  '10.0.0.6',
  '203.0.113.9',
  'h',
  'name.example',
  '[2001:db8::7]',
];
export const PORTS = [5060, 5062, 5064, 5070, 33_333, 0, 65_535];
const LITERALS = [
  '192.0.2.7',
  '198.51.100.1',
  '10.0.0.2',
  '127.0.0.1',
  '0.0.0.0',
  '255.255.255.255',
  '2001:db8::7',
  '::',
];

/** Numbers of the members of each sort. */
export interface People {
  readonly living: readonly number[];
  readonly drained: number;
  readonly gone: number;
  readonly outside: number;
}

export class Tokens {
  readonly people: People;
  /** The fuzzer's own connections, so that those of the calls that must work are spared. */
  readonly #connections: number[] = [];
  readonly #dice: Dice;
  readonly #read = new Token();
  readonly #flow: Flow = { member: 0, incarnation: 0, listener: 0, connection: 0, address: '', port: 0 };
  readonly #room = Buffer.alloc(80);

  constructor(dice: Dice, people: People) {
    this.#dice = dice;
    this.people = people;
  }

  /** Stores the connection of a fuzzer's message that has reached a server. */
  learn(message: string): void {
    const octets = Buffer.from(/;sf=(sf[0-9a-v]+)/i.exec(message)?.[1] ?? '', 'latin1');
    if (readToken(KEYS, octets, 0, octets.length, this.#read) !== 'valid' || !readFlow(this.#read, this.#flow)) return;
    const { connection } = this.#flow;
    if (connection === 0 || this.#connections.includes(connection)) return;
    this.#connections.push(connection);
    if (this.#connections.length > CONNECTIONS) this.#connections.shift();
  }

  member(): number {
    const { living, drained, gone, outside } = this.people;
    return this.#dice.pick([...living, ...living, gone, gone, gone, drained, outside, 999, 0, 65_535]);
  }

  incarnation(): number {
    return this.#dice.pick([0, 1, 1, 2, 3, 0xffffff]);
  }

  flow(): Flow {
    const dice = this.#dice;
    return {
      member: this.member(),
      incarnation: this.incarnation(),
      listener: dice.chance(0.9) ? dice.pick(LISTENERS) : dice.int(256),
      connection: dice.chance(0.4) ? (dice.pick(this.#connections) ?? 1) : 0,
      address: dice.pick(LITERALS),
      port: dice.pick(PORTS),
    };
  }

  flowToken(): string {
    return this.#room.toString('latin1', 0, writeFlowToken(this.#keys(), this.flow(), this.#room, 0));
  }

  dialog(member = this.member()): string {
    return mintToken(this.#keys(), TokenKind.dialog, member, this.#dice.chance(0.9) ? 0 : this.incarnation());
  }

  branch(kind: TokenKind = this.#dice.pick([TokenKind.outward, TokenKind.inward, TokenKind.transaction])): string {
    return `z9hG4bK${mintToken(this.#keys(), kind, this.member(), this.#dice.pick([0, 0, 1]), this.#dice.octets(8))}`;
  }

  /** Returns a token of any kind with any value that fits. */
  any(): string {
    const dice = this.#dice;
    if (dice.chance(0.3)) return this.flowToken();
    if (dice.chance(0.5)) return this.dialog();
    const value = dice.octets(dice.pick([0, 1, 5, 7, 8, 18, 19]));
    return mintToken(
      this.#keys(),
      dice.pick([...KINDS, 0 as TokenKind, 99 as TokenKind]),
      this.member(),
      this.incarnation(),
      value,
    );
  }

  #keys(): typeof KEYS {
    return this.#dice.chance(0.98) ? KEYS : STRANGE;
  }
}
