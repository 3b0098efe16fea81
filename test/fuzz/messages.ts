// Whole messages of clients, servers and peers, full of valid tokens, as a start for mutations. Messages that the farm
// has sent are reused, too.
import { TokenKind } from '../../src/ownership/token.ts';
import { compose } from '../fake/sip.ts';
import type { Dice } from './dice.ts';
import { HOSTS, PORTS, type Tokens } from './tokens.ts';

const METHODS = [
  'INVITE',
  'INVITE',
  'INVITE',
  'ACK',
  'BYE',
  'CANCEL',
  'REGISTER',
  'SUBSCRIBE',
  'NOTIFY',
  'OPTIONS',
  'PRACK',
  'UPDATE',
  'REFER',
  'ODD',
];
const STATUSES = [100, 180, 183, 200, 200, 202, 302, 404, 430, 481, 486, 487, 503, 603, 699];
/** Number of calls: few, so that requests, answers and ends meet. */
const CALLS = 400;
/** Values in one header line. */
const MOST_OF_LINE = 350;
/** Stored messages of the farm. */
const CAPTURED = 300;

export class Messages {
  readonly #dice: Dice;
  readonly #tokens: Tokens;
  readonly #captured: Buffer[] = [];

  constructor(dice: Dice, tokens: Tokens) {
    this.#dice = dice;
    this.#tokens = tokens;
  }

  /** Stores a message that the farm has sent. */
  capture(message: Buffer): void {
    if (this.#captured.length < CAPTURED) this.#captured.push(message);
    else this.#captured[this.#dice.int(CAPTURED)] = message;
  }

  get captured(): Buffer | undefined {
    return this.#captured.length === 0 ? undefined : this.#dice.pick(this.#captured);
  }

  /** Returns any message. `side`: its sender. */
  any(side: 'client' | 'server'): Buffer {
    const dice = this.#dice;
    const known = dice.chance(0.3) ? this.captured : undefined;
    if (known) return known;
    return Buffer.from(
      dice.chance(side === 'client' ? 0.7 : 0.5) ? this.#request(side) : this.#response(side),
      'latin1',
    );
  }

  #uri(): string {
    const dice = this.#dice;
    const user = dice.pick(['bob@', '', `${this.#tokens.dialog()}@`, `${this.#tokens.any()}@`, 'a:b@']);
    const port = dice.chance(0.5) ? `:${dice.pick(PORTS)}` : '';
    const parameters = dice.pick([
      '',
      '',
      ';lr',
      ';transport=tcp',
      ';transport=udp;lr',
      ';maddr=192.0.2.8',
      ';ob',
      '?Subject=x',
    ]);
    return `${dice.pick(['sip', 'sip', 'sip', 'sips', 'tel'])}:${user}${dice.pick(HOSTS)}${port}${parameters}`;
  }

  #route(): string {
    const dice = this.#dice;
    const user = dice.chance(0.7) ? `${dice.chance(0.6) ? this.#tokens.dialog() : this.#tokens.flowToken()}@` : '';
    return `<sip:${user}${dice.pick(['198.51.100.1:5060', '10.0.0.2:5062', '10.0.0.6:5062', '10.0.0.6:5070', ...HOSTS])};lr>`;
  }

  /** Returns `count` values in one line or several. */
  #lines(name: string, count: number, value: () => string): string[] {
    const dice = this.#dice;
    const lines: string[] = [];
    for (let left = count; left > 0; ) {
      // The scanner refuses a longer line with more values.
      const here = Math.min(dice.chance(0.5) ? left : 1 + dice.int(left), MOST_OF_LINE);
      lines.push(`${name}: ${Array.from({ length: here }, value).join(dice.pick([', ', ',', ' ,\r\n ']))}`);
      left -= here;
    }
    return lines;
  }

  /** Returns as many Route values as fit, most of them with the same token. */
  #manyRoutes(): string[] {
    const dice = this.#dice;
    const token = dice.chance(0.7) ? this.#tokens.dialog(this.#tokens.people.gone) : this.#tokens.any();
    return this.#lines('Route', dice.int(1500), () => (dice.chance(0.999) ? `<sip:${token}@h>` : this.#route()));
  }

  #via(branch: string): string {
    const dice = this.#dice;
    const flow = dice.chance(0.3) ? `;sf=${this.#tokens.flowToken()}` : '';
    const more = dice.pick([
      '',
      ';rport',
      ';rport=5060;received=192.0.2.9',
      ';received=',
      ';maddr=224.0.0.1',
      ';x="a,b"',
    ]);
    return `SIP/2.0/${dice.pick(['UDP', 'TCP', 'TLS'])} ${dice.pick(HOSTS)}:${dice.pick(PORTS) || 5060};branch=${branch}${flow}${more}`;
  }

  /** Returns the Via values of a request that has passed the farm, a server and the farm again. */
  #vias(outermost: string): string[] {
    const dice = this.#dice;
    const below = dice.chance(0.1) ? dice.length(160) : dice.int(4);
    const values = [
      outermost,
      ...Array.from({ length: below }, () => (dice.chance(0.5) ? this.#tokens.branch() : `z9hG4bK${dice.int(99)}`)),
    ];
    let next = 0;
    return this.#lines(dice.pick(['Via', 'Via', 'v']), values.length, () => this.#via(values[next++]!));
  }

  #dialog(cseq: string): string[] {
    const dice = this.#dice;
    const call = dice.int(CALLS);
    const tag = dice.pick(['', '', ';tag=b', `;tag=${this.#tokens.any()}`, `;tag=${this.#tokens.dialog()}`]);
    return [
      `From: ${dice.pick(['<sip:a@h>', '"a, b" <sip:a@h>', 'sip:a@h'])};tag=a${call}`,
      `To: <sip:b@h>${tag}`,
      `Call-ID: fuzz-${call}`,
      `CSeq: ${dice.pick([1, 1, 2, 3, 4_294_967_295])} ${cseq}`,
    ];
  }

  #more(): string[] {
    const dice = this.#dice;
    const made: string[] = [];
    if (dice.chance(0.5)) made.push(...this.#lines('Record-Route', 1 + dice.int(4), () => this.#route()));
    if (dice.chance(0.5)) made.push(`Contact: <${this.#uri()}>`);
    if (dice.chance(0.1))
      made.push(`${dice.pick(['Replaces', 'Join', 'Target-Dialog'])}: fuzz-${dice.int(CALLS)};to-tag=b;from-tag=a`);
    if (dice.chance(0.2)) made.push(...this.#lines('Path', 1 + dice.int(3), () => this.#route()));
    if (dice.chance(0.2))
      made.push(
        `${dice.pick(['Session-Expires', 'x', 'Expires'])}: ${dice.pick([0, 90, 1800, 4_294_967_295])};refresher=uac`,
      );
    return made;
  }

  #request(side: 'client' | 'server'): string {
    const dice = this.#dice;
    const method = dice.pick(METHODS);
    const routes = dice.chance(0.6)
      ? this.#lines('Route', dice.chance(0.1) ? dice.length(400) : 1 + dice.int(4), () => this.#route())
      : [];
    const branch = dice.chance(0.8) ? `z9hG4bKf${dice.int(CALLS)}` : side === 'server' ? this.#tokens.branch() : 'old';
    return compose(
      `${method} ${this.#uri()} SIP/2.0`,
      [
        ...this.#vias(branch),
        `Max-Forwards: ${dice.pick([70, 70, 70, 1, 0, 255])}`,
        ...(dice.chance(0.01) ? this.#manyRoutes() : routes),
        ...this.#dialog(method),
        ...this.#more(),
      ],
      dice.pick(['', 'v=0\r\n', 'x'.repeat(dice.length(2000))]),
    );
  }

  #response(side: 'client' | 'server'): string {
    const dice = this.#dice;
    const status = dice.pick(STATUSES);
    const branch = this.#tokens.branch(side === 'client' ? TokenKind.outward : TokenKind.inward);
    return compose(`SIP/2.0 ${status} ${dice.pick(['OK', '', 'Odd'])}`, [
      ...this.#vias(dice.chance(0.9) ? branch : this.#tokens.branch()),
      ...this.#dialog(dice.pick(METHODS)),
      ...this.#more(),
    ]);
  }
}
