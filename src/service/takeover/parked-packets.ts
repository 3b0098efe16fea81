// Keeps packets until a decision: whether their dead member comes back, or whether call records of dead members have
// their call. Bounded in packets and octets; a packet that finds no room is refused.
import { Packet } from '../../packet/packet.ts';

const MAX_PACKETS = 2000;
const MAX_OCTETS = 4 * 1024 * 1024;

/**
 * Returns a copy of the packet with its own octets. `newerFrom` and `olderFrom` are cleared: the copy passes the owner
 * lookup again later, possibly under another view.
 */
export function copyOf(packet: Packet): Packet {
  const bytes = Buffer.from(packet.bytes.subarray(packet.start, packet.end));
  return Object.assign(new Packet(), packet, { bytes, start: 0, end: bytes.length, newerFrom: 0, olderFrom: 0 });
}

export class Parked {
  readonly #waiting = new Map<number, Packet[]>();
  #packets = 0;
  #octets = 0;

  /** Keeps a copy of the packet under the member's number. Returns false when there is no room. */
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

  /** Removes the packets of that member and returns them, oldest first. */
  release(member: number): readonly Packet[] {
    const packets = this.#waiting.get(member) ?? [];
    this.#waiting.delete(member);
    this.#packets -= packets.length;
    for (const { end } of packets) this.#octets -= end;
    return packets;
  }
}
