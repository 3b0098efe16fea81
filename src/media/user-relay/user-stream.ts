// One stream of the relay in user space, as its session has it: sends messages to the thread and reads the counts.
import type { ExpectedSource } from '../latch.ts';
import { type LegPorts, type LegStatistics, type LegTarget, type RelayStream, Side } from '../media-relay.ts';
import { CELLS, Cell, type RelayMemory } from './relay-memory.ts';
import type { RelayMessage } from './relay-messages.ts';
import { numbersOf, type SidePorts } from './side-ports.ts';

const LEGS = [Side.outside, Side.inside] as const;

const NO_STATISTICS: LegStatistics = {
  packets: 0,
  octets: 0,
  foreign: 0,
  lost: -1,
  jitter: -1,
  latched: false,
  lastAt: 0,
};

export interface UserStreamOptions {
  readonly number: number;
  readonly clear: boolean;
  readonly ports: readonly [LegPorts, LegPorts];
  /** Network of the inner leg. */
  readonly facing: Side;
  /** Ports of the two legs: those of the outside, and those of the network that the inner leg faces. */
  readonly sides: readonly [SidePorts, SidePorts];
  readonly memory: RelayMemory;
  readonly post: (message: RelayMessage) => void;
}

export class UserStream implements RelayStream {
  readonly #options: UserStreamOptions;
  #ports: readonly [LegPorts, LegPorts];
  /** Statistics at the end, by side. */
  #last: readonly [LegStatistics, LegStatistics] | undefined;

  constructor(options: UserStreamOptions) {
    const { number, clear, ports, facing, sides, post } = options;
    this.#options = options;
    this.#ports = ports;
    const openings = LEGS.flatMap((side) => {
      const opposite = numbersOf(ports[1 - side]!).map((port) => sides[1 - side]!.indexOf(port));
      return numbersOf(ports[side]).map((port, i) => ({
        port: sides[side].indexOf(port),
        number: port,
        fd: sides[side].descriptor(port),
        side: side === Side.outside ? side : facing,
        facing: opposite[i]!,
      }));
    });
    post({ kind: 'open', stream: number, clear, ports: openings });
  }

  get ports(): readonly [LegPorts, LegPorts] {
    return this.#ports;
  }

  expect(side: Side, { rtp, rtcp }: LegTarget): void {
    if (this.#last) return;
    const { port, rtcpPort } = this.#ports[side];
    this.#expect(side, port, rtp);
    if (rtcpPort !== port) this.#expect(side, rtcpPort, rtcp);
  }

  join(other: RelayStream | undefined): void {
    if (this.#last) return;
    const { sides, post } = this.#options;
    // The ports of a closed stream may belong to another one.
    const joined = other instanceof UserStream && !other.#last ? other : undefined;
    const to = joined ? joined.ports[Side.outside] : this.#ports[Side.inside];
    const toSide = sides[joined ? Side.outside : Side.inside];
    const { port, rtcpPort } = this.#ports[Side.outside];
    const pair = (from: number, facing: number) => ({
      port: sides[Side.outside].indexOf(from),
      facing: toSide.indexOf(facing),
    });
    post({
      kind: 'join',
      ports: port === rtcpPort ? [pair(port, to.port)] : [pair(port, to.port), pair(rtcpPort, to.rtcpPort)],
    });
  }

  mux(): void {
    if (this.#last) return;
    const { sides, post } = this.#options;
    const pairs = LEGS.map((leg) => ({ side: sides[leg], ...this.#ports[leg] })).filter(
      ({ port, rtcpPort }) => port !== rtcpPort,
    );
    if (pairs.length === 0) return;
    post({
      kind: 'mux',
      ports: pairs.map(({ side, port, rtcpPort }) => ({ port: side.indexOf(rtcpPort), into: side.indexOf(port) })),
    });
    for (const { side, rtcpPort } of pairs) side.release([rtcpPort]);
    this.#ports = this.#ports.map(({ port }) => ({ port, rtcpPort: port })) as [LegPorts, LegPorts];
  }

  statistics(side: Side): LegStatistics {
    if (this.#last) return this.#last[side];
    const ports = this.#ports[side];
    const rtp = this.#read(side, ports.port);
    if (ports.port === ports.rtcpPort) return rtp;
    const rtcp = this.#read(side, ports.rtcpPort);
    return {
      packets: rtp.packets + rtcp.packets,
      octets: rtp.octets + rtcp.octets,
      foreign: rtp.foreign + rtcp.foreign,
      lost: rtcp.lost < 0 ? rtp.lost : rtcp.lost,
      jitter: rtcp.jitter < 0 ? rtp.jitter : rtcp.jitter,
      latched: rtp.latched,
      lastAt: Math.max(rtp.lastAt, rtcp.lastAt),
    };
  }

  close(): void {
    if (this.#last) return;
    this.#last = [this.statistics(Side.outside), this.statistics(Side.inside)];
    const { sides, post } = this.#options;
    post({
      kind: 'rest',
      ports: LEGS.flatMap((leg) => numbersOf(this.#ports[leg]).map((port) => sides[leg].indexOf(port))),
    });
    for (const leg of LEGS) sides[leg].release(numbersOf(this.#ports[leg]));
  }

  #expect(side: Side, port: number, source: ExpectedSource | undefined): void {
    this.#options.post({ kind: 'expect', port: this.#options.sides[side].indexOf(port), source });
  }

  #read(side: Side, port: number): LegStatistics {
    const { sides, memory, number } = this.#options;
    const { cells } = memory;
    const at = sides[side].indexOf(port) * CELLS;
    // The thread has not read the message yet.
    if (cells[at + Cell.stream] !== number) return NO_STATISTICS;
    return {
      packets: cells[at + Cell.packets]!,
      octets: cells[at + Cell.octets]!,
      foreign: cells[at + Cell.foreign]!,
      lost: cells[at + Cell.lost]!,
      jitter: cells[at + Cell.jitter]!,
      latched: cells[at + Cell.latched] === 1,
      lastAt: cells[at + Cell.lastAt]!,
    };
  }
}
