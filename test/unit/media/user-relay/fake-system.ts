// The system calls of the media relay in memory, and its thread in the thread of the test: nothing happens between two
// lines of a test. Sockets receive what the test delivers, and record what they send.
import assert from 'node:assert/strict';
import { readAddress } from '../../../../src/base/address-octets.ts';
import { ADDRESS4, ADDRESS6, C, EPOLL_EVENT } from '../../../../src/batch/layout.ts';
import type { Libc } from '../../../../src/batch/libc.ts';
import { Destinations, familyAndPort } from '../../../../src/batch/socket-address.ts';
import { MediaTargets } from '../../../../src/media/user-relay/media-targets.ts';
import { PortTable } from '../../../../src/media/user-relay/port-table.ts';
import { RelayLoop } from '../../../../src/media/user-relay/relay-loop.ts';
import { RelayMemory } from '../../../../src/media/user-relay/relay-memory.ts';
import type { RelayMessage } from '../../../../src/media/user-relay/relay-messages.ts';
import type { StartThread } from '../../../../src/media/user-relay/thread-handle.ts';

export const zones = { indexOf: () => 0, nameOf: String };

export interface Datagram {
  readonly from: string;
  readonly to: string;
  readonly bytes: Buffer;
}

interface Socket {
  place: string;
  readonly received: { readonly from: string; readonly bytes: Buffer }[];
  /** Number of this socket in an epoll set. */
  data: number | undefined;
}

const FIRST_FD = 100;

/** Returns the octets of a sockaddr. */
function sockaddr(place: string): Buffer {
  const [address = '', port = ''] = place.split(' ');
  const ipv6 = address.includes(':');
  const words = [familyAndPort(ipv6, Number(port)), ...new Destinations(ipv6, zones).find(address)!];
  const bytes = Buffer.alloc(ipv6 ? ADDRESS6.octets : ADDRESS4.octets);
  for (const [i, word] of words.entries()) bytes.writeUInt32LE(word, 4 * i);
  return bytes;
}

/** Returns `address port` of a sockaddr. */
function placeOf(bytes: Buffer): string {
  const ipv6 = bytes.readUInt16LE(0) === C.AF_INET6;
  const at = ipv6 ? ADDRESS6.address : ADDRESS4.address;
  return `${readAddress(bytes, at, ipv6 ? 16 : 4)} ${bytes.readUInt16BE(2)}`;
}

export class FakeSystem {
  readonly sent: Datagram[] = [];
  /** Places that another program has. */
  readonly foreign = new Set<string>();
  /** Options of sockets, in the order of their setting. */
  readonly options: { readonly option: number; readonly value: number }[] = [];
  /** Errors of the next calls by name. */
  readonly refusals: { call: string; errno: number }[] = [];
  readonly #sockets = new Map<number, Socket>();
  readonly #memory: { readonly at: number; readonly bytes: Buffer }[] = [];
  #nextAddress = 0x7f00_0000_0000;
  #nextFd = FIRST_FD;
  #errno = 0;
  #wakes = 0;

  /** Places with an open socket. */
  get places(): string[] {
    return [...this.#sockets.values()]
      .map(({ place }) => place)
      .filter((place) => place !== '')
      .sort();
  }

  /** Open descriptors of all kinds. */
  get descriptors(): number {
    return this.#sockets.size;
  }

  /** Lets a datagram arrive. Returns false when no socket is there. */
  deliver(from: string, to: string, bytes: Buffer): boolean {
    const socket = [...this.#sockets.values()].find(({ place }) => place === to);
    socket?.received.push({ from, bytes });
    return socket !== undefined;
  }

  get waiting(): boolean {
    return (
      this.#wakes > 0 || [...this.#sockets.values()].some((each) => each.data !== undefined && each.received.length > 0)
    );
  }

  readonly libc: Libc = {
    errno: () => this.#errno,
    addressOf: (bytes) => {
      const at = this.#nextAddress;
      this.#memory.push({ at, bytes });
      this.#nextAddress += bytes.length + 4096;
      return BigInt(at);
    },
    socket: () => this.#refused('socket') ?? this.#open(),
    epoll_create1: () => this.#open(),
    eventfd: () => this.#open(),
    setsockopt: (_fd, _level, option, value) => {
      this.options.push({ option, value: this.#at(Number(value), 4).readUInt32LE(0) });
      return 0;
    },
    bind: (fd, name, octets) => {
      const place = placeOf(this.#at(Number(name), octets));
      if (this.foreign.has(place) || this.places.includes(place)) return this.#fail(C.EADDRINUSE);
      this.#sockets.get(fd)!.place = place;
      return 0;
    },
    close: (fd) => {
      assert.ok(this.#sockets.delete(fd), `descriptor ${fd} is not open`);
      return 0;
    },
    epoll_ctl: (_epoll, operation, fd, event) => {
      const socket = this.#sockets.get(fd)!;
      const known = socket.data !== undefined;
      if (known === (operation === C.EPOLL_CTL_ADD)) return this.#fail(C.EINVAL);
      const bytes = this.#at(event, EPOLL_EVENT.octets);
      socket.data = operation === C.EPOLL_CTL_ADD ? bytes.readUInt32LE(EPOLL_EVENT.data) : undefined;
      return 0;
    },
    epoll_wait: (_epoll, events, most) => {
      const ready = [...this.#sockets.values()].filter((each) => each.data !== undefined && each.received.length > 0);
      for (const [i, { data }] of ready.slice(0, most).entries())
        this.#at(events + i * EPOLL_EVENT.octets, EPOLL_EVENT.octets).writeUInt32LE(data!, EPOLL_EVENT.data);
      return Math.min(ready.length, most);
    },
    read: () => {
      this.#wakes = 0;
      return 8;
    },
    write: () => {
      this.#wakes++;
      return 8;
    },
    recvfrom: (fd, bytes, octets, _flags, name, nameOctets) => {
      const refused = this.#refused('recvfrom');
      if (refused !== undefined) return refused;
      const next = this.#sockets.get(fd)?.received.shift();
      if (!next) return this.#fail(C.EAGAIN);
      this.#at(bytes, octets).set(next.bytes);
      const from = sockaddr(next.from);
      this.#at(name, from.length).set(from);
      this.#at(nameOctets, 4).writeUInt32LE(from.length);
      return next.bytes.length;
    },
    sendto: (fd, bytes, octets, _flags, name, nameOctets) => {
      const refused = this.#refused('sendto');
      if (refused !== undefined) return refused;
      const to = placeOf(this.#at(name, nameOctets));
      this.sent.push({ from: this.#sockets.get(fd)!.place, to, bytes: Buffer.from(this.#at(bytes, octets)) });
      return octets;
    },
    if_nametoindex: () => 0,
    if_indextoname: () => 0,
    socketpair: () => this.#fail(C.EINVAL),
    recvmmsg: () => this.#fail(C.EINVAL),
    sendmmsg: () => this.#fail(C.EINVAL),
  };

  #open(): number {
    this.#sockets.set(this.#nextFd, { place: '', received: [], data: undefined });
    return this.#nextFd++;
  }

  #fail(errno: number): number {
    this.#errno = errno;
    return -1;
  }

  #refused(call: string): number | undefined {
    const index = this.refusals.findIndex((each) => each.call === call);
    if (index < 0) return undefined;
    return this.#fail(this.refusals.splice(index, 1)[0]!.errno);
  }

  #at(address: number, octets: number): Buffer {
    // Later blocks have higher addresses.
    let [low, high] = [0, this.#memory.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#memory[middle]!.at <= address) low = middle + 1;
      else high = middle;
    }
    const block = this.#memory[low - 1];
    assert.ok(block && address + octets <= block.at + block.bytes.length, `nothing lies at ${address.toString(16)}`);
    return block.bytes.subarray(address - block.at, address - block.at + octets);
  }
}

/** The thread of the relay, which runs when the test lets it. */
export class FakeThread {
  readonly messages: RelayMessage[] = [];
  readonly #system: FakeSystem;
  readonly #now: () => number;
  #loop: RelayLoop | undefined;
  #end: (error: Error) => void = () => {};

  constructor(system: FakeSystem, now: () => number) {
    this.#system = system;
    this.#now = now;
  }

  readonly start: StartThread = async (data, { onFault, onEnd }) => {
    const { libc } = this.#system;
    const memory = new RelayMemory(data.ports, data.buffer);
    const targets = new MediaTargets(data.targets);
    this.#loop = new RelayLoop({
      libc,
      memory,
      table: new PortTable({ libc, zones, memory, rules: data.targets, targets }),
      epoll: data.epoll,
      wake: data.wake,
      now: this.#now,
      nextMessage: () => this.messages.shift(),
      onFault,
    });
    this.#end = onEnd;
    return {
      post: (message) => this.messages.push(structuredClone(message)),
      join: async () => {
        this.run();
        onEnd(new Error('stopped'));
      },
    };
  };

  /** Handles all messages and packets that wait. */
  run(): void {
    while (this.#system.waiting && this.#loop?.turn());
  }

  /** Ends as by a fault of its own. */
  die(): void {
    this.#end(new Error('out of memory'));
  }
}
