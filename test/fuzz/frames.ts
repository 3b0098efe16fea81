// Octets before messages or instead of them: relay frames with a valid MAC and any fields, PROXY headers of all forms,
// STUN.
import { digest, siphash } from '../../src/base/siphash.ts';
import { encodeFrame, Frame, type FrameKind, headOctets } from '../../src/relay/envelope.ts';
import { local, simple, version1, version2 } from '../unit/transport/proxy-headers.ts';
import type { Dice } from './dice.ts';
import { KEYS, PORTS, type Tokens } from './tokens.ts';

const ADDRESSES = ['192.0.2.7', '198.51.100.1', '10.0.0.2', '', '2001:db8::7', '::', '255.255.255.255', '127.0.0.1'];
/** Octets of a value in front of the message, as in envelope.ts. */
const VALUE_OCTETS = 40;
const MAC_OCTETS = 8;
/**
 * Octets of the value that are changed and then signed again, counted from the message back: version, kind, key and
 * flags, hops, listener, incarnation and number of the ingress member, connection. Another sender, incarnation,
 * sequence or epoch would block a member instead of testing its code.
 */
const CHANGEABLE = [40, 39, 38, 37, 34, 33, 29, 28, 27, 26, 25, 24, 23, 12, 11, 10, 9];

export class Frames {
  readonly #dice: Dice;
  readonly #tokens: Tokens;
  readonly #frame = new Frame();
  #sequence = 1_000_000;

  constructor(dice: Dice, tokens: Tokens) {
    this.#dice = dice;
    this.#tokens = tokens;
  }

  /**
   * Returns a frame of the node outside, with its incarnation, for `receiver`, whose view has `epoch`; sometimes from
   * one of `others`. None of the others may live: frames in the name of a living member would block that member, which
   * is another kind of fault. `bound`: the receiver's incarnation, UNBOUND on a connection.
   */
  of(
    message: Buffer,
    receiver: number,
    bound: number,
    incarnation: number,
    epoch: number,
    others: readonly number[],
  ): Buffer {
    const dice = this.#dice;
    const { outside } = this.#tokens.people;
    const flow = this.#tokens.flow();
    const frame = Object.assign(this.#frame, {
      kind: dice.pick([1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 0]) as FrameKind,
      secondChance: dice.pick([0, 0, 0, 1, 2, 3]),
      hops: dice.pick([1, 1, 1, 0, 5, 6, 7, 255]),
      sender: dice.chance(0.95) ? outside : dice.pick(others),
      senderIncarnation: incarnation,
      bound,
      receiver: dice.chance(0.97) ? receiver : this.#tokens.member(),
      ingress: this.#tokens.member(),
      ingressIncarnation: this.#tokens.incarnation(),
      listener: flow.listener,
      connection: flow.connection,
      epoch: dice.pick([epoch, epoch, epoch, 0, 1]),
      sequence: ++this.#sequence,
      address: dice.pick(ADDRESSES),
      port: dice.pick(PORTS),
      localAddress: dice.pick(ADDRESSES),
      localPort: dice.pick(PORTS),
    });
    const head = headOctets(frame);
    const bytes = Buffer.alloc(head + message.length);
    encodeFrame(KEYS, frame, message, 0, message.length, bytes, 0);
    if (!dice.chance(0.15)) return bytes;
    const at = dice.chance(0.5) ? dice.int(head) : dice.int(bytes.length);
    bytes[at]! ^= 1 << dice.int(8);
    return at < head && at >= head - VALUE_OCTETS && !CHANGEABLE.includes(head - at)
      ? bytes
      : signed(bytes, head, bound);
  }

  /** Returns `message` behind the header of a proxy, correct or nearly correct. */
  proxied(kind: 'udp' | 'tcp', message: Buffer): Buffer {
    const dice = this.#dice;
    const client = dice.pick(['203.0.113.7', '192.0.2.7', '2001:db8::7']);
    const here = client.includes(':') ? '2001:db8:1::1' : '198.51.100.1';
    const ends = { client, clientPort: dice.pick(PORTS), here, herePort: 5060 };
    const header: Buffer = dice.pick<() => Buffer>([
      () => version2(kind, ends),
      () => version2(kind, ends),
      () => version2(kind, ends, { tlvs: dice.octets(dice.length(4000)) }),
      () =>
        version2(kind, ends, {
          versionCommand: dice.int(256),
          family: dice.int(256),
          length: dice.pick([0, 1, 12, 36, 65_535]),
        }),
      () => local(dice.octets(dice.int(300))),
      () => Buffer.from(version1(ends), 'latin1'),
      () => Buffer.from('PROXY UNKNOWN\r\n', 'latin1'),
      () => simple(ends),
    ])();
    if (dice.chance(0.2)) header[dice.int(header.length)]! ^= 1 << dice.int(8);
    return Buffer.concat([dice.chance(0.05) ? header.subarray(0, dice.int(header.length)) : header, message]);
  }
}

/** Signs the changed octets, bound to that incarnation. */
function signed(bytes: Buffer, head: number, bound: number): Buffer {
  bytes.writeUInt32BE(0, head - MAC_OCTETS);
  bytes.writeUInt32BE(bound, head - MAC_OCTETS + 4);
  siphash(KEYS.primary.relay, bytes, 0, bytes.length);
  bytes.writeUInt32BE(digest.high, head - MAC_OCTETS);
  bytes.writeUInt32BE(digest.low, head - MAC_OCTETS + 4);
  return bytes;
}

/** Returns a Binding request (RFC 5389 6) with some attribute. */
export function stun(dice: Dice): Buffer {
  const attribute = Buffer.concat([
    Buffer.of(dice.pick([0, 0x80]), dice.int(48), 0, 4 * dice.int(8)),
    dice.octets(4 * dice.int(8)),
  ]);
  const head = Buffer.concat([Buffer.of(0, 1, 0, attribute.length, 0x21, 0x12, 0xa4, 0x42), dice.octets(12)]);
  return Buffer.concat([head, attribute]);
}

/** Returns the message of a relay frame, by the length of its head. */
export function messageIn(frame: Buffer): Buffer {
  return frame.subarray(frame.length < 16 ? 0 : 16 + frame.readUInt16BE(14));
}
