// The relay in user space: the half in the main thread. It opens the sockets at once, because a session needs the port
// numbers for the message that it rewrites. The thread (relay-loop.ts) has the sockets from then on.
//
//    main thread                                         thread
//    open, expect, mux, close ──message, then wake──▸    port table, latches, packets
//    statistics, metrics      ◂──shared memory──────     counts
import { randomInt } from 'node:crypto';
import type { Logger } from 'pino';
import type { Clock, Timer } from '../../base/clock.ts';
import { type Endpoint, isIpv6 } from '../../base/endpoint.ts';
import { SipfarmError } from '../../base/errors.ts';
import type { Guard } from '../../base/guard.ts';
import { bindUdpDescriptor, setDscp, setReceiveBuffer } from '../../batch/bound-descriptor.ts';
import { C } from '../../batch/layout.ts';
import { type Libc, loadLibc } from '../../batch/libc.ts';
import { NativeBlock } from '../../batch/native-block.ts';
import { SourceNames } from '../../batch/socket-address.ts';
import { Zones } from '../../batch/zones.ts';
import {
  type LegPorts,
  type MediaRelay,
  type RelayStream,
  Side,
  type StreamOptions,
  type Way,
} from '../media-relay.ts';
import type { Offload } from '../offload.ts';
import { evenRange, PortAllocator, type PortState } from '../port-allocator.ts';
import { RelayMemory, Total } from './relay-memory.ts';
import { type MediaRange, monotonicMs, type RelayMessage, type ThreadData } from './relay-messages.ts';
import { type BindFault, numbersOf, SidePorts } from './side-ports.ts';
import { type StartThread, startRelayThread, type ThreadHandle } from './thread-handle.ts';
import { UserStream } from './user-stream.ts';

export interface UserRelayOptions {
  /** Address and ports of each side, by `Side`. Two equal ranges are one range. */
  readonly sides: readonly [MediaRange, MediaRange];
  /** Endpoints of this node that are no media ports. No media is sent there. */
  readonly own: readonly Endpoint[];
  /** Code point of the packets that leave. Left out: none is set. */
  readonly dscp?: number;
  /** Time between a stream's end and the next use of its ports, ms. */
  readonly restMs: number;
  /** Pairs of each side that new calls may not take. */
  readonly reservedPairs: number;
  /** Moves the packets of locked parties into the kernel. Left out: all stay in user space. */
  readonly offload?: Offload | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly guard: Guard;
  /** Called when the thread has ended without `stop`: no packet is forwarded any more. */
  readonly onFailure: (error: Error) => void;
  /** For tests. */
  readonly load?: () => Libc;
  readonly startThread?: StartThread;
  readonly random?: (below: number) => number;
}

/** Time until a port of another program is tried again, ms. */
const FOREIGN_MS = 60_000;
/** Time between two closings of sockets that have rested, ms. */
const SWEEP_MS = 1000;
/** Octets of the receive buffer: 200 ms of 2 Mbit/s, twice over. */
const BUFFER_OCTETS = 131_072;

export class UserRelay implements MediaRelay {
  readonly #memory: RelayMemory;
  readonly #options: UserRelayOptions;
  readonly #libc: Libc;
  readonly #zones: Zones;
  readonly #sides: readonly [SidePorts, SidePorts];
  readonly #descriptors: { epoll: number; wake: number };
  readonly #one: NativeBlock;
  readonly #sweep: Timer;
  #thread: ThreadHandle | undefined;
  #opened = 0;
  /** Open streams by their outer port. */
  readonly #streams = new Map<number, UserStream>();
  readonly #names: readonly [SourceNames, SourceNames];

  /** Starts the thread. Rejects with SF_MEDIA_UNAVAILABLE where koffi is missing or the system is another one. */
  static async start(options: UserRelayOptions): Promise<UserRelay> {
    let libc: Libc;
    try {
      libc = (options.load ?? loadLibc)();
    } catch (error) {
      throw unavailable(error);
    }
    const relay = new UserRelay(options, libc);
    try {
      await relay.#startThread();
    } catch (error) {
      await relay.stop();
      throw unavailable(error);
    }
    return relay;
  }

  private constructor(options: UserRelayOptions, libc: Libc) {
    const { sides, clock } = options;
    this.#options = options;
    this.#libc = libc;
    this.#zones = new Zones(libc);
    const [outside, inside] = sides.map(({ first, last }) => evenRange(first, last)) as [Range, Range];
    const one = isOneRange(sides);
    this.#memory = new RelayMemory(outside.ports + (one ? 0 : inside.ports));
    this.#names = sides.map(({ address }) => new SourceNames(isIpv6(address), this.#zones)) as [
      SourceNames,
      SourceNames,
    ];
    const first = this.#sideOf(Side.outside, outside, 0);
    this.#sides = [first, one ? first : this.#sideOf(Side.inside, inside, outside.ports)];
    this.#one = new NativeBlock(libc, 8);
    this.#one.words[0] = 1;
    this.#descriptors = {
      epoll: libc.epoll_create1(C.EPOLL_CLOEXEC),
      wake: libc.eventfd(0, C.EFD_CLOEXEC | C.EFD_NONBLOCK),
    };
    this.#sweep = clock.every(SWEEP_MS, () => {
      for (const side of new Set(this.#sides)) side.sweep();
    });
  }

  open(options: StreamOptions): RelayStream | undefined {
    if (!this.#thread || (options.ofNewCall && !this.#admits(options.facing))) return undefined;
    const outside = this.#sides[Side.outside].take(options.single);
    if (!outside) return undefined;
    const inside = this.#sides[options.facing].take(options.single);
    if (!inside) {
      this.#sides[Side.outside].release(numbersOf(outside));
      return undefined;
    }
    return this.#stream(options, [outside, inside]);
  }

  reopen(options: StreamOptions, ports: readonly [LegPorts, LegPorts]): RelayStream | undefined {
    if (!this.#thread || !this.#sides[Side.outside].claim(ports[Side.outside])) return undefined;
    if (!this.#sides[options.facing].claim(ports[Side.inside])) {
      this.#sides[Side.outside].release(numbersOf(ports[Side.outside]));
      return undefined;
    }
    return this.#stream(options, ports);
  }

  /** Returns a count of the whole relay. */
  total(what: keyof typeof Total): number {
    return this.#memory.totals[Total[what]]!;
  }

  /** Ports of a side by their state. */
  ports(side: Side): Readonly<Record<PortState, number>> {
    return this.#sides[side].allocator.counts;
  }

  /** Returns the way of the packets of the stream with this outer port; undefined when there is no such stream. */
  wayOf(port: number): Way | undefined {
    return this.#streams.get(port)?.way;
  }

  /** Open streams by their way. */
  get ways(): Readonly<Record<Way, number>> {
    const kernel = [...this.#streams.values()].filter(({ way }) => way === 'kernel').length;
    return { user: this.#streams.size - kernel, kernel };
  }

  /** Closes every socket and resolves when the thread has ended. */
  async stop(): Promise<void> {
    const thread = this.#thread;
    if (thread) {
      this.#post({ kind: 'stop' });
      this.#thread = undefined;
      await thread.join();
      // The thread has closed them.
      for (const side of this.#sides) side.forgetAll();
    }
    this.#close();
  }

  /** Closes what the thread has left open. */
  #close(): void {
    this.#sweep.cancel();
    for (const side of this.#sides) side.closeAll();
    const { epoll, wake } = this.#descriptors;
    // No second call may close what others have opened since.
    for (const fd of [epoll, wake]) if (fd >= 0) this.#libc.close(fd);
    this.#descriptors.epoll = this.#descriptors.wake = -1;
  }

  async #startThread(): Promise<void> {
    const { startThread = startRelayThread, sides, own, clock, guard, log, onFailure } = this.#options;
    const memory = this.#memory;
    const data: ThreadData = {
      ...this.#descriptors,
      buffer: memory.buffer,
      ports: memory.ports,
      offsetMs: clock.now() - monotonicMs(),
      targets: { sides, own },
    };
    this.#thread = await startThread(data, {
      onFault: (error) => guard.caught('media', error),
      onEnd: (error) => {
        if (!this.#thread) return;
        this.#thread = undefined;
        // The relay that is started instead needs the ports.
        this.#close();
        log.error({ code: 'SF_INTERNAL', error: error.message }, 'the thread of the media relay has ended');
        onFailure(error);
      },
    });
  }

  /** Returns true when a stream with its inner leg at `facing` leaves the reserve untouched. */
  #admits(facing: Side): boolean {
    const now = this.#options.clock.now();
    const [outer, inner] = [this.#sides[Side.outside].allocator, this.#sides[facing].allocator];
    return outer === inner ? outer.admits(2, now) : outer.admits(1, now) && inner.admits(1, now);
  }

  #sideOf(side: Side, { first, ports }: Range, firstIndex: number): SidePorts {
    const { restMs, reservedPairs, clock, random = (below) => randomInt(below), sides } = this.#options;
    const memory = this.#memory;
    const heardAt = memory.heardAt.subarray(firstIndex, firstIndex + ports);
    const last = first + ports - 1;
    return new SidePorts({
      allocator: new PortAllocator({ first, last, restMs, foreignMs: FOREIGN_MS, reservedPairs, random, heardAt }),
      memory,
      firstIndex,
      firstPort: first,
      ports,
      now: () => clock.now(),
      bind: (port) => this.#bind(sides[side].address, port),
      close: (fd) => this.#libc.close(fd),
      shut: (index) => this.#post({ kind: 'close', port: index }),
    });
  }

  #bind(address: string, port: number): number | BindFault {
    const { dscp, log } = this.#options;
    const libc = this.#libc;
    try {
      const fd = bindUdpDescriptor({ libc, zones: this.#zones }, { address, port });
      setReceiveBuffer(libc, fd, BUFFER_OCTETS);
      if (dscp !== undefined) setDscp(libc, fd, isIpv6(address), dscp);
      return fd;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EADDRINUSE') return 'foreign';
      log.error({ code: 'SF_BIND_FAILED', address, port, reason: message }, 'a media port cannot be opened');
      return 'failed';
    }
  }

  #stream({ clear, facing }: StreamOptions, ports: readonly [LegPorts, LegPorts]): RelayStream {
    const at = this.#options.sides;
    const outerPort = ports[Side.outside].port;
    const stream = new UserStream({
      number: ++this.#opened,
      clear,
      ports,
      facing,
      sides: [this.#sides[Side.outside], this.#sides[facing]],
      memory: this.#memory,
      post: (message) => this.#post(message),
      offload: this.#options.offload,
      addresses: [at[Side.outside].address, at[facing].address],
      names: [this.#names[Side.outside], this.#names[facing]],
      onClosed: () => this.#streams.delete(outerPort),
    });
    this.#streams.set(outerPort, stream);
    return stream;
  }

  #post(message: RelayMessage): void {
    if (!this.#thread) return;
    this.#thread.post(message);
    // The thread looks at the word, whatever woke it. Only the first message of several needs to wake it.
    if (Atomics.exchange(this.#memory.waiting, 0, 1) === 0)
      this.#libc.write(this.#descriptors.wake, Number(this.#one.address), 8);
  }
}

interface Range {
  readonly first: number;
  readonly ports: number;
}

/** Returns the error with the first line of its cause. For a missing module Node.js appends a list of paths. */
function unavailable(error: unknown): SipfarmError {
  const [reason] = String(error instanceof Error ? error.message : error).split('\n', 1);
  return new SipfarmError('SF_MEDIA_UNAVAILABLE', `no relay in user space: ${reason}`, { cause: error });
}

function isOneRange([one, other]: readonly [MediaRange, MediaRange]): boolean {
  return one.address === other.address && one.first === other.first && one.last === other.last;
}
