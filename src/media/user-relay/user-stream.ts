// One stream of the relay in user space, as its session has it: sends messages to the thread and reads the counts.
import type { SourceNames } from '../../batch/socket-address.ts';
import type { ExpectedSource } from '../latch.ts';
import { type LegPorts, type LegStatistics, type LegTarget, type RelayStream, Side, type Way } from '../media-relay.ts';
import type { Offload, OffloadPort } from '../offload.ts';
import { CELLS, Cell, type RelayMemory } from './relay-memory.ts';
import type { RelayMessage } from './relay-messages.ts';
import { numbersOf, type SidePorts } from './side-ports.ts';
import { StreamPort } from './stream-port.ts';

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
  /** undefined: all packets stay in user space. */
  readonly offload: Offload | undefined;
  /** Own address of each leg, and the texts of its sources. */
  readonly addresses: readonly [string, string];
  readonly names: readonly [SourceNames, SourceNames];
  readonly onClosed: () => void;
}

export class UserStream implements RelayStream {
  readonly #options: UserStreamOptions;
  #ports: readonly [LegPorts, LegPorts];
  /** RTP ports of the legs, and their state in the offload. */
  readonly #rtp: readonly [StreamPort, StreamPort];
  readonly #offloaded: readonly [OffloadPort, OffloadPort] | undefined;
  /** Statistics of user space at the end, by side. */
  #last: readonly [LegStatistics, LegStatistics] | undefined;

  constructor(options: UserStreamOptions) {
    const { number, clear, ports, facing, sides, post, offload } = options;
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
    const [outer, inner] = [this.#portOf(Side.outside), this.#portOf(Side.inside)];
    outer.facing = inner;
    inner.facing = outer;
    this.#rtp = [outer, inner];
    this.#offloaded = offload && [offload.follow(outer), offload.follow(inner)];
  }

  /** kernel: it forwards the packets of one leg at least. */
  get way(): Way {
    return this.#offloaded?.some(({ state }) => state === 'kernel') ? 'kernel' : 'user';
  }

  get ports(): readonly [LegPorts, LegPorts] {
    return this.#ports;
  }

  expect(side: Side, { rtp, rtcp }: LegTarget): void {
    if (this.#last) return;
    const { port, rtcpPort } = this.#ports[side];
    this.#offloaded?.[side].release();
    this.#expect(side, port, rtp);
    if (rtcpPort !== port) this.#expect(side, rtcpPort, rtcp);
  }

  join(other: RelayStream | undefined): void {
    if (this.#last) return;
    const { sides, post } = this.#options;
    // The ports of a closed stream may belong to another one.
    const joined = other instanceof UserStream && !other.#last ? other : undefined;
    this.#offloaded?.[Side.outside].redirect();
    this.#rtp[Side.outside].facing = joined ? joined.#rtp[Side.outside] : this.#rtp[Side.inside];
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
    const seen = this.#last?.[side] ?? this.#read(side);
    const port = this.#offloaded?.[side];
    if (!port) return seen;
    const { packets, octets } = port.counts;
    return {
      ...seen,
      packets: seen.packets + packets,
      octets: seen.octets + octets,
      lastAt: Math.max(seen.lastAt, port.lastAt),
    };
  }

  get final(): Promise<unknown> {
    return Promise.all((this.#offloaded ?? []).map(({ final }) => final));
  }

  /** Reads the statistics of user space. */
  #read(side: Side): LegStatistics {
    const ports = this.#ports[side];
    const rtp = this.#readPort(side, ports.port);
    if (ports.port === ports.rtcpPort) return rtp;
    const rtcp = this.#readPort(side, ports.rtcpPort);
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
    const { sides, post, offload, onClosed } = this.#options;
    for (const port of this.#offloaded ?? []) offload?.close(port);
    this.#last = [this.#read(Side.outside), this.#read(Side.inside)];
    post({
      kind: 'rest',
      ports: LEGS.flatMap((leg) => numbersOf(this.#ports[leg]).map((port) => sides[leg].indexOf(port))),
    });
    for (const leg of LEGS) sides[leg].release(numbersOf(this.#ports[leg]));
    onClosed();
  }

  #expect(side: Side, port: number, source: ExpectedSource | undefined): void {
    this.#options.post({ kind: 'expect', port: this.#options.sides[side].indexOf(port), source });
  }

  #portOf(side: Side): StreamPort {
    const { number: stream, sides, memory, addresses, names, post } = this.#options;
    const { port } = this.#ports[side];
    const at = { address: addresses[side], port };
    return new StreamPort({ stream, index: sides[side].indexOf(port), at, memory, names: names[side], post });
  }

  #readPort(side: Side, port: number): LegStatistics {
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
      latched: memory.lockOf(sides[side].indexOf(port)) !== 0,
      lastAt: cells[at + Cell.lastAt]!,
    };
  }
}
