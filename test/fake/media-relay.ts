// A media relay without packets: it hands out ports in order and keeps what the session sets.
import type { LegPorts, LegStatistics, LegTarget, RelayStream, StreamOptions } from '../../src/media/media-relay.ts';
import { Side } from '../../src/media/media-relay.ts';
import type { RunningRelay } from '../../src/node/media-part.ts';

export class FakeRelayStream implements RelayStream {
  readonly options: StreamOptions;
  ports: readonly [LegPorts, LegPorts];
  readonly targets: [LegTarget | undefined, LegTarget | undefined] = [undefined, undefined];
  joined: RelayStream | undefined;
  muxed = false;
  open = true;
  /** Statistics of both sides, and when they are final. */
  counts: Partial<LegStatistics> = {};
  final: Promise<unknown> = Promise.resolve();
  /** Monotonic time of the last packet, by side. */
  readonly lastAt: [number, number] = [0, 0];

  constructor(options: StreamOptions, ports: readonly [LegPorts, LegPorts]) {
    this.options = options;
    this.ports = ports;
  }

  expect(side: Side, target: LegTarget): void {
    this.targets[side] = target;
  }

  join(other: RelayStream | undefined): void {
    this.joined = other;
  }

  mux(): void {
    this.muxed = true;
    const [{ port: outer }, { port: inner }] = this.ports;
    this.ports = [
      { port: outer, rtcpPort: outer },
      { port: inner, rtcpPort: inner },
    ];
  }

  statistics(side: Side = Side.outside): ReturnType<RelayStream['statistics']> {
    const lastAt = this.lastAt[side];
    return { packets: 0, octets: 0, foreign: 0, lost: -1, jitter: -1, latched: false, lastAt, ...this.counts };
  }

  close(): void {
    this.open = false;
  }

  /** Returns the RTP target of a side as `address:port`; '' = none. */
  to(side: Side): string {
    const rtp = this.targets[side]?.rtp;
    return rtp ? `${rtp.address}:${rtp.port}` : '';
  }
}

export class FakeRelay implements RunningRelay {
  readonly streams: FakeRelayStream[] = [];
  /** Streams that may be open at one time. */
  most = 100;
  /** Ports of other programs. */
  readonly foreign = new Set<number>();
  #next = 10_000;

  open(options: StreamOptions): RelayStream | undefined {
    if (this.live.length >= this.most) return undefined;
    const legs = [this.#legs(options.single), this.#legs(options.single)] as const;
    const stream = new FakeRelayStream(options, legs);
    this.streams.push(stream);
    return stream;
  }

  reopen(options: StreamOptions, ports: readonly [LegPorts, LegPorts]): RelayStream | undefined {
    if (ports.some(({ port }) => this.#isUsed(port))) return undefined;
    const stream = new FakeRelayStream(options, ports);
    this.streams.push(stream);
    return stream;
  }

  total(): number {
    return 0;
  }

  ports(): ReturnType<RunningRelay['ports']> {
    const used = 4 * this.live.length;
    return { free: 4 * this.most - used, used, resting: 0, foreign: 0 };
  }

  wayOf(port: number): 'user' | undefined {
    return this.live.some(({ ports: [outer] }) => outer.port === port) ? 'user' : undefined;
  }

  get ways(): RunningRelay['ways'] {
    return { user: this.live.length, kernel: 0 };
  }

  async stop(): Promise<void> {}

  get live(): FakeRelayStream[] {
    return this.streams.filter(({ open }) => open);
  }

  #legs(single: boolean): LegPorts {
    while (this.#isUsed(this.#next)) this.#next += 2;
    const port = this.#next;
    this.#next += 2;
    return { port, rtcpPort: single ? port : port + 1 };
  }

  #isUsed(port: number): boolean {
    return this.foreign.has(port) || this.live.some(({ ports }) => ports.some((leg) => leg.port === port));
  }
}

export { Side };
