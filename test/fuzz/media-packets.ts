// Datagrams for media ports: RTP, RTCP, STUN, DTLS, other octets, and each of them changed.
import { rtcp, rtp } from '../unit/media/user-relay/relay-rig.ts';
import type { Dice } from './dice.ts';
import { stun } from './frames.ts';

export interface MediaDatagram {
  readonly bytes: Buffer;
  /** The packet keeps the rules of its protocol, in clear or not. */
  readonly whole: boolean;
}

/** Longer than a frame, as long as a datagram may be. */
const MOST_OCTETS = 65_507;
const LONG = [1472, 9000, MOST_OCTETS];

export class MediaPackets {
  readonly #dice: Dice;
  #sequence = 0;

  constructor(dice: Dice) {
    this.#dice = dice;
  }

  next(): MediaDatagram {
    const dice = this.#dice;
    const bytes = this.#whole();
    const kind = dice.int(10);
    if (kind < 6) return { bytes, whole: true };
    if (kind === 6) return { bytes: dice.octets(dice.length(200)), whole: false };
    if (kind === 7) return { bytes: bytes.subarray(0, dice.int(bytes.length + 1)), whole: false };
    if (kind === 8) {
      const longer = Buffer.concat([bytes, dice.octets(dice.int(40))]);
      return { bytes: longer.subarray(0, MOST_OCTETS), whole: false };
    }
    for (let i = dice.pick([1, 1, 2, 8]); i > 0; i--) bytes[dice.int(bytes.length)]! ^= 1 << dice.int(8);
    return { bytes, whole: false };
  }

  #whole(): Buffer {
    const dice = this.#dice;
    const kind = dice.int(20);
    if (kind === 0) return stun(dice);
    if (kind === 1) return Buffer.concat([Buffer.from('16fefd00000000000000000004', 'hex'), dice.octets(4)]);
    if (kind < 5) return rtcp(dice.int(2 ** 32), dice.int(2 ** 32));
    if (kind === 5) return this.#dressed();
    this.#sequence = (this.#sequence + dice.pick([1, 1, 1, 1, 2, 60, 65_535])) & 0xffff;
    const packet = rtp(this.#sequence, dice.pick([1, 1, 1, 2]));
    return dice.chance(0.002) ? Buffer.concat([packet, Buffer.alloc(dice.pick(LONG) - packet.length)]) : packet;
  }

  /** Returns RTP with sources, an extension and padding (RFC 3550 5.1). */
  #dressed(): Buffer {
    const dice = this.#dice;
    const sources = dice.int(16);
    const words = dice.int(5);
    const packet = Buffer.alloc(12 + 4 * sources + 4 + 4 * words + 20 + 4);
    packet[0] = 0xb0 | sources;
    packet.writeUInt16BE(words, 12 + 4 * sources + 2);
    packet[packet.length - 1] = 4;
    return packet;
  }
}
