// Changes messages: replaces, repeats, moves and cuts octets, lines, values and tokens. Most messages stay whole enough
// to get far.
import type { Dice } from './dice.ts';
import type { Tokens } from './tokens.ts';

/** Greatest length of a readable message. */
const MOST = 65_507;
const TOKEN = /sf[0-9a-v]{20,60}/gi;
const ODD = [
  '\r\n',
  '\r',
  '\n',
  '\0',
  ',',
  ';',
  '<',
  '>',
  '"',
  '\\',
  '@',
  ':',
  '[',
  ']',
  ' ',
  '\t',
  '=',
  '%00',
  '\x7f',
  '\xff',
  'sip:',
  ';lr',
  ';branch=',
  ';tag=',
];
const NUMBERS = [
  '0',
  '-1',
  '1',
  '65535',
  '65536',
  '4294967295',
  '4294967296',
  '99999999999999999999',
  '',
  'x',
  '00000000000000070',
];
/** Pieces that are repeated until a message is full, because a reader might read them again and again. */
const UNITS = [
  'sip:',
  'sip:a@',
  ',',
  ';',
  '<',
  '<>',
  '"',
  '\\"',
  ';a',
  ';a=b',
  '\r\n ',
  ' ',
  'z9hG4bKsf',
  ';sf=',
  '@',
  ':',
  ';lr',
  '<sip:a@h>,',
  '=',
  '/',
];
const NAMES = [
  'Route',
  'Record-Route',
  'Via',
  'Path',
  'Contact',
  'From',
  'To',
  'Call-ID',
  'CSeq',
  'Max-Forwards',
  'Content-Length',
  'Replaces',
  'Session-Expires',
  'X',
];

export class Mutations {
  readonly #dice: Dice;
  readonly #tokens: Tokens;
  readonly #all: readonly ((message: Buffer, other: Buffer) => Buffer)[];

  constructor(dice: Dice, tokens: Tokens) {
    this.#dice = dice;
    this.#tokens = tokens;
    this.#all = [
      (message) => this.#octets(message),
      (message) => this.#cut(message),
      (message) => this.#double(message),
      (message, other) => this.#join(message, other),
      (message) => this.#lines(message),
      (message) => this.#lines(message),
      (message) => this.#token(message),
      (message) => this.#token(message),
      (message) => this.#number(message),
      (message) => this.#insert(message),
      (message) => this.#value(message),
    ];
  }

  /** Returns the message after some changes, or none. `other` provides pieces. */
  of(message: Buffer, other: Buffer): Buffer {
    const dice = this.#dice;
    let made = message;
    for (let left = dice.pick([0, 0, 1, 1, 1, 2, 3, 6]); left > 0; left--) made = dice.pick(this.#all)(made, other);
    if (dice.chance(0.01)) made = this.#fill(made);
    return made.length > MOST ? made.subarray(0, MOST) : made;
  }

  #octets(message: Buffer): Buffer {
    const dice = this.#dice;
    const made = Buffer.from(message);
    if (made.length > 0) for (let left = dice.length(20); left > 0; left--) made[dice.int(made.length)] = dice.int(256);
    return made;
  }

  #cut(message: Buffer): Buffer {
    const at = this.#dice.int(message.length + 1);
    if (this.#dice.chance(0.2)) return message.subarray(0, at);
    return Buffer.concat([message.subarray(0, at), message.subarray(at + this.#dice.length(message.length))]);
  }

  #double(message: Buffer): Buffer {
    const dice = this.#dice;
    const at = dice.int(message.length + 1);
    const piece = message.subarray(at, at + dice.length(300));
    const times = Math.min(dice.length(1200), Math.ceil(MOST / (piece.length + 1)));
    return Buffer.concat([
      message.subarray(0, at),
      ...Array.from({ length: times }, () => piece),
      message.subarray(at),
    ]);
  }

  #join(message: Buffer, other: Buffer): Buffer {
    const dice = this.#dice;
    return Buffer.concat([
      message.subarray(0, dice.int(message.length + 1)),
      other.subarray(dice.int(other.length + 1)),
    ]);
  }

  /** Removes, repeats, moves, folds or renames a header line. */
  #lines(message: Buffer): Buffer {
    const dice = this.#dice;
    const lines = message.toString('latin1').split('\r\n');
    const at = dice.int(lines.length);
    const line = lines[at]!;
    switch (dice.int(7)) {
      case 0:
        lines.splice(at, 1);
        break;
      case 1:
        lines.splice(
          at,
          0,
          ...Array.from({ length: Math.min(dice.length(700), Math.ceil(MOST / (line.length + 2))) }, () => line),
        );
        break;
      case 2:
        lines.splice(at, 1);
        lines.splice(dice.int(lines.length + 1), 0, line);
        break;
      case 3:
        lines[at] = line.replace(/[ ,;]/, '$&\r\n ');
        break;
      case 4:
        lines[at] = line.replace(/^[^:]*/, dice.pick(NAMES));
        break;
      case 5:
        lines[at] = dice.chance(0.5) ? line.toUpperCase() : line.toLowerCase();
        break;
      default:
        lines[at] = line.replace(/:/, dice.pick([' :', '\t:', '', ':\r\n ', '::']));
    }
    return Buffer.from(lines.join('\r\n'), 'latin1');
  }

  /** Replaces a token by another one, or changes it slightly. */
  #token(message: Buffer): Buffer {
    const dice = this.#dice;
    const share = dice.pick([0.2, 1]);
    const text = message.toString('latin1').replace(TOKEN, (token) => {
      if (!dice.chance(share)) return token;
      const at = dice.int(token.length);
      return dice.pick([
        () => this.#tokens.any(),
        () => this.#tokens.any(),
        () => this.#tokens.dialog(this.#tokens.people.gone),
        () => this.#tokens.flowToken(),
        () => token.toUpperCase(),
        () => token.slice(0, at),
        () => `${token.slice(0, at)}${dice.pick(ODD)}${token.slice(at)}`,
        () => token + token,
      ])();
    });
    return Buffer.from(text, 'latin1');
  }

  #number(message: Buffer): Buffer {
    const dice = this.#dice;
    const text = message.toString('latin1');
    const found = [...text.matchAll(/\d+/g)];
    if (found.length === 0) return message;
    const { index, 0: digits } = dice.pick(found);
    return Buffer.from(text.slice(0, index) + dice.pick(NUMBERS) + text.slice(index + digits.length), 'latin1');
  }

  #insert(message: Buffer): Buffer {
    const at = this.#dice.int(message.length + 1);
    const piece = Buffer.from(this.#dice.pick(ODD), 'latin1');
    return Buffer.concat([message.subarray(0, at), piece, message.subarray(at)]);
  }

  /** Replaces everything behind a header's colon. */
  #value(message: Buffer): Buffer {
    const dice = this.#dice;
    const value = dice.pick([
      () => '',
      () => this.#tokens.any(),
      () => `<sip:${this.#tokens.dialog()}@h>`.repeat(dice.length(400)),
      () =>
        Array.from(
          { length: dice.length(1300) },
          () => `<sip:${this.#tokens.dialog(this.#tokens.people.gone)}@h>`,
        ).join(),
      () => dice.octets(dice.length(300)).toString('latin1'),
    ])();
    const text = message.toString('latin1');
    const lines = text.split('\r\n');
    const at = dice.int(lines.length);
    lines[at] = `${dice.chance(0.5) ? lines[at]!.split(':')[0] : dice.pick(NAMES)}: ${value}`;
    return Buffer.from(lines.join('\r\n'), 'latin1');
  }

  /** Fills the message up to the size of a datagram with one unit. */
  #fill(message: Buffer): Buffer {
    const dice = this.#dice;
    const unit = dice.pick(UNITS);
    const room = MOST - message.length - 100;
    if (room < 0) return message;
    const lineLength = dice.pick([room, 16_000, 16_000, 1000]);
    const line = `${dice.pick(NAMES)}: ${unit.repeat(Math.floor(Math.min(lineLength, room) / unit.length))}\r\n`;
    const lines = line.repeat(Math.max(1, Math.floor(room / line.length)));
    const text = message.toString('latin1');
    const at = text.indexOf('\r\n') + 2;
    return Buffer.from(text.slice(0, at) + lines + text.slice(at), 'latin1');
  }
}
