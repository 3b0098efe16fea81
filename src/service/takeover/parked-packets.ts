// Packets that wait until it is known what becomes of the member they belong to. Bounded; what there is no room for does not wait.
import { Packet } from '../../packet/packet.ts';

const MAX_PACKETS = 2000;
const MAX_OCTETS = 4 * 1024 * 1024;

/** A packet of its own, with octets of its own. Who knew a newer view when it came says nothing about the view of its second turn. */
export function copyOf(packet: Packet): Packet {
  const bytes = Buffer.from(packet.bytes.subarray(packet.start, packet.end));
  return Object.assign(new Packet(), packet, { bytes, start: 0, end: bytes.length, newerFrom: 0 });
}

export class Parked {
  readonly #waiting = new Map<number, Packet[]>();
  #packets = 0;
  #octets = 0;

  /** Keeps a copy under the member's number. False when there is no room. */
  park(member: number, packet: Packet): boolean {
    const octets = packet.end - packet.start;
    if (this.#packets >= MAX_PACKETS || this.#octets + octets > MAX_OCTETS) return false;
    const packets = this.#waiting.get(member) ?? [];
    packets.push(copyOf(packet));
    this.#waiting.set(member, packets);
    this.#packets++;
    this.#octets += octets;
    return true;
  }

  /** Takes out what waits for that member, in order. */
  release(member: number): readonly Packet[] {
    const packets = this.#waiting.get(member) ?? [];
    this.#waiting.delete(member);
    this.#packets -= packets.length;
    for (const { end } of packets) this.#octets -= end;
    return packets;
  }
}
