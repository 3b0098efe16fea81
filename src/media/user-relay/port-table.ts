// Decides what happens to a packet that came to a media port: by which port it leaves, and what is counted. The memory
// of the packet is shared with the kernel; nothing else of this file touches the system.
//
//    packet at a port        outcome
//    that rests              late
//    no media                garbage
//    of the locked source    forwarded: leaves by the facing port, to that port's party
//    of another source       the latch decides: forwarded, learning or foreign
import { isIpv6 } from '../../base/endpoint.ts';
import type { Libc } from '../../batch/libc.ts';
import { NativeBlock } from '../../batch/native-block.ts';
import { Destinations, familyAndPort, portOf, SourceNames, sockaddrOctets } from '../../batch/socket-address.ts';
import type { Zones } from '../../batch/zones.ts';
import { type ExpectedSource, Latch, LatchOutcome } from '../latch.ts';
import { MediaKind, mediaKind } from '../media-packet.ts';
import type { Side } from '../media-relay.ts';
import { readRtcpReport } from '../rtcp-report.ts';
import type { MediaTargets } from './media-targets.ts';
import { CELLS, Cell, NAME_WORDS, type RelayMemory, Total } from './relay-memory.ts';
import type { FacingPorts, PortOpening, RelayMessage, TargetRules } from './relay-messages.ts';

/** Longer than any datagram (RFC 768), so none is cut. */
export const ROOM_OCTETS = 65_536;
/** Octets for either kind of sockaddr. */
const NAME_OCTETS = 4 * NAME_WORDS;
/** No port, no descriptor. */
export const NONE = -1;

interface Port {
  readonly index: number;
  readonly fd: number;
  readonly number: number;
  readonly side: Side;
  /** undefined: the port rests. */
  latch: Latch | undefined;
  /** The port by which its packets leave. A port that rests sends nothing, whatever faces it. */
  facing: Port | undefined;
  /** After rtcp-mux: the port that has taken its place. */
  into: Port | undefined;
  readonly clear: boolean;
}

export interface PortTableOptions {
  readonly libc: Pick<Libc, 'addressOf'>;
  readonly zones: Pick<Zones, 'nameOf' | 'indexOf'>;
  readonly memory: RelayMemory;
  readonly rules: TargetRules;
  readonly targets: MediaTargets;
}

export class PortTable {
  readonly #memory: RelayMemory;
  readonly #targets: MediaTargets;
  readonly #ports: (Port | undefined)[];
  /** By side. */
  readonly #ipv6: readonly boolean[];
  readonly #sources: readonly SourceNames[];
  readonly #destinations: readonly Destinations[];
  readonly #report = { lost: 0, jitter: 0 };
  /** The packet that `take` decides about, and the sockaddr of its source. */
  readonly room: NativeBlock;
  readonly source: NativeBlock;
  /** For each port the sockaddr of its party; zeros = none. */
  readonly #names: NativeBlock;
  readonly #namesAddress: number;

  constructor(options: PortTableOptions) {
    const { libc, zones, memory, rules, targets } = options;
    this.#memory = memory;
    this.#targets = targets;
    this.#ports = new Array<Port | undefined>(memory.ports).fill(undefined);
    this.#ipv6 = rules.sides.map(({ address }) => isIpv6(address));
    this.#sources = this.#ipv6.map((ipv6) => new SourceNames(ipv6, zones));
    this.#destinations = this.#ipv6.map((ipv6) => new Destinations(ipv6, zones));
    this.room = new NativeBlock(libc, ROOM_OCTETS, false);
    this.source = new NativeBlock(libc, NAME_OCTETS);
    this.#names = new NativeBlock(libc, memory.ports * NAME_OCTETS);
    this.#namesAddress = Number(this.#names.address);
  }

  /** Returns the descriptor of a port; NONE when it has none. */
  descriptor(port: number): number {
    return this.#ports[port]?.fd ?? NONE;
  }

  /** Returns the address in memory of the sockaddr of a port's party. */
  nameAddress(port: number): number {
    return this.#namesAddress + port * NAME_OCTETS;
  }

  nameOctets(port: number): number {
    return sockaddrOctets(this.#ipv6[this.#ports[port]!.side]!);
  }

  /** Follows a message about ports. `now` is monotonic, ms. */
  apply(message: RelayMessage, now: number): void {
    switch (message.kind) {
      case 'open':
        this.#open(message.ports, message.clear, message.stream);
        return;
      case 'expect':
        this.#expect(message.port, message.source);
        return;
      case 'hold':
        this.#ports[message.port]?.latch?.hold(message.held, now);
        return;
      case 'join':
        this.#face(message.ports);
        return;
      case 'mux':
        for (const { port, into } of message.ports) this.#rest(port, this.#ports[into]);
        return;
      case 'rest':
        for (const port of message.ports) this.#rest(port, undefined);
        return;
      case 'close':
        this.#ports[message.port] = undefined;
        return;
      case 'stop':
        this.#ports.fill(undefined);
    }
  }

  /**
   * Decides about the packet of `octets` octets in `room` that came from `source`. `now` is monotonic, ms. Returns the
   * port by which it leaves, or NONE. Allocates nothing for a packet of a locked source.
   */
  take(index: number, octets: number, now: number): number {
    const { totals, cells, heardAt } = this.#memory;
    const port = this.#ports[index];
    if (!port) return NONE;
    const { latch } = port;
    if (!latch) {
      totals[Total.late]!++;
      heardAt[index] = now;
      return NONE;
    }
    const at = index * CELLS;
    const kind = mediaKind(this.room.octets, octets, port.clear);
    if (kind === MediaKind.bad) {
      totals[Total.garbage]!++;
      cells[at + Cell.foreign]!++;
      return NONE;
    }
    if (latch.locked && this.#isParty(index, this.#ipv6[port.side]!)) latch.passed(now);
    else if (!this.#admit(index, port, latch, kind, now)) return NONE;
    if (kind === MediaKind.rtcp && port.clear && readRtcpReport(this.room.octets, octets, this.#report)) {
      cells[at + Cell.lost] = this.#report.lost;
      cells[at + Cell.jitter] = this.#report.jitter;
    }
    cells[at + Cell.packets]!++;
    cells[at + Cell.octets]! += octets;
    cells[at + Cell.lastAt] = now;
    const facing = port.facing?.into ?? port.facing;
    if (facing?.latch && this.#names.words[facing.index * NAME_WORDS] !== 0) return facing.index;
    totals[Total['no-target']]!++;
    return NONE;
  }

  #open(openings: readonly PortOpening[], clear: boolean, stream: number): void {
    for (const { port: index, number, fd, side } of openings) {
      const latch = new Latch();
      this.#ports[index] = { index, number, fd, side, clear, latch, facing: undefined, into: undefined };
      this.#memory.begin(index, stream);
      this.#send(index, '', 0);
    }
    this.#face(openings);
  }

  #face(pairs: readonly FacingPorts[]): void {
    for (const { port, facing } of pairs) {
      const known = this.#ports[port];
      if (known) known.facing = this.#ports[facing];
    }
  }

  #rest(index: number, into: Port | undefined): void {
    const port = this.#ports[index];
    if (!port) return;
    port.latch = undefined;
    port.into = into;
  }

  /** Returns true when the source is the party of the port, octet for octet. */
  #isParty(index: number, ipv6: boolean): boolean {
    const names = this.#names.words;
    const source = this.source.words;
    const at = index * NAME_WORDS;
    if (names[at] !== source[0]) return false;
    if (!ipv6) return names[at + 1] === source[1];
    // Not the flow label, the second word.
    for (let i = 2; i < 7; i++) if (names[at + i] !== source[i]) return false;
    return true;
  }

  #admit(index: number, port: Port, latch: Latch, kind: MediaKind, now: number): boolean {
    const { totals, cells } = this.#memory;
    const words = this.source.words;
    const address = this.#sources[port.side]!.text(words, 0);
    const from = portOf(words[0]!);
    const allowed = this.#targets.allows(port.side, address, from, port.number);
    const outcome = allowed ? latch.take(kind, this.room.octets, address, from, now) : LatchOutcome.foreign;
    if (outcome === LatchOutcome.pass) {
      totals[Total.latches]!++;
      this.#send(index, latch.address, latch.port);
      this.#memory.lock(index, this.#names.words.subarray(index * NAME_WORDS, (index + 1) * NAME_WORDS));
      return true;
    }
    const foreign = outcome === LatchOutcome.foreign;
    totals[foreign ? Total.foreign : Total.learning]!++;
    if (foreign) cells[index * CELLS + Cell.foreign]!++;
    return false;
  }

  #expect(index: number, source: ExpectedSource | undefined): void {
    const port = this.#ports[index];
    if (!port?.latch) return;
    // A party that expects no media sends none either.
    if (!source) port.latch = new Latch();
    else port.latch.expect(source);
    const { latch } = port;
    if (!latch.locked) this.#memory.unlock(index);
    const allowed = this.#targets.allows(port.side, latch.address, latch.port, port.number);
    this.#send(index, allowed ? latch.address : '', latch.port);
  }

  /** Stores the place of a port's party; none where `address` is no literal of the side's family. */
  #send(index: number, address: string, port: number): void {
    const { side } = this.#ports[index]!;
    const { words } = this.#names;
    const at = index * NAME_WORDS;
    words.fill(0, at, at + NAME_WORDS);
    const destination = address === '' ? undefined : this.#destinations[side]!.find(address);
    if (!destination) return;
    words.set(destination, at + 1);
    words[at] = familyAndPort(this.#ipv6[side]!, port);
  }
}
