// Loads the few C functions of batch I/O and of the media relay through koffi. koffi is an optional dependency, so its
// absence is a normal case.
import { createRequire } from 'node:module';
import { endianness } from 'node:os';

/** An address in memory of this process; 0n is NULL. The memory there must not move: see `NativeBlock`. */
export type Address = bigint;

/** The same as a number, which is exact: addresses of a process have 47 bits. Calls with it allocate nothing. */
type PlainAddress = number;

/** Each function returns what its manual page describes. After -1, `errno` has the reason. */
export interface Libc {
  socket(family: number, type: number, protocol: number): number;
  socketpair(family: number, type: number, protocol: number, pair: Address): number;
  setsockopt(fd: number, level: number, option: number, value: Address, octets: number): number;
  bind(fd: number, name: Address, octets: number): number;
  close(fd: number): number;
  recvmmsg(fd: number, messages: Address, count: number, flags: number, timeout: Address): number;
  sendmmsg(fd: number, messages: Address, count: number, flags: number): number;
  recvfrom(
    fd: number,
    bytes: PlainAddress,
    octets: number,
    flags: number,
    name: PlainAddress,
    nameOctets: PlainAddress,
  ): number;
  sendto(
    fd: number,
    bytes: PlainAddress,
    octets: number,
    flags: number,
    name: PlainAddress,
    nameOctets: number,
  ): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: PlainAddress): number;
  epoll_wait(epoll: number, events: PlainAddress, most: number, ms: number): number;
  eventfd(value: number, flags: number): number;
  read(fd: number, bytes: PlainAddress, octets: number): number;
  write(fd: number, bytes: PlainAddress, octets: number): number;
  if_nametoindex(name: string): number;
  /** Returns 0 when there is no such interface; else its name is at `room`. */
  if_indextoname(index: number, room: Address): number | bigint;
  errno(): number;
  addressOf(bytes: Buffer): Address;
}

/** The used part of koffi. Its own types are not imported, because a build must work without the package. */
interface Koffi {
  load(path: null): { func(definition: string): (...values: never[]) => number };
  errno(): number;
  address(value: Buffer): bigint;
}

/** Pointers are declared as numbers: koffi then passes them unchanged and dereferences none. */
const DEFINITIONS = {
  socket: 'int socket(int, int, int)',
  socketpair: 'int socketpair(int, int, int, uintptr_t)',
  setsockopt: 'int setsockopt(int, int, int, uintptr_t, uint32_t)',
  bind: 'int bind(int, uintptr_t, uint32_t)',
  close: 'int close(int)',
  recvmmsg: 'int recvmmsg(int, uintptr_t, unsigned int, int, uintptr_t)',
  sendmmsg: 'int sendmmsg(int, uintptr_t, unsigned int, int)',
  recvfrom: 'intptr_t recvfrom(int, uintptr_t, size_t, int, uintptr_t, uintptr_t)',
  sendto: 'intptr_t sendto(int, uintptr_t, size_t, int, uintptr_t, uint32_t)',
  epoll_create1: 'int epoll_create1(int)',
  epoll_ctl: 'int epoll_ctl(int, int, int, uintptr_t)',
  epoll_wait: 'int epoll_wait(int, uintptr_t, int, int)',
  eventfd: 'int eventfd(unsigned int, int)',
  read: 'intptr_t read(int, uintptr_t, size_t)',
  write: 'intptr_t write(int, uintptr_t, size_t)',
  if_nametoindex: 'unsigned int if_nametoindex(const char *)',
  if_indextoname: 'uintptr_t if_indextoname(unsigned int, uintptr_t)',
} as const;

/** Loads koffi and finds the functions in this process. Throws an error with the reason where that is not possible. */
export function loadLibc(): Libc {
  const { platform, arch } = process;
  if (platform !== 'linux' || (arch !== 'x64' && arch !== 'arm64') || endianness() !== 'LE')
    throw new Error(`the layouts of ${platform} on ${arch} are not known`);
  const koffi = createRequire(import.meta.url)('koffi') as Koffi;
  const library = koffi.load(null);
  const functions = Object.entries(DEFINITIONS).map(([name, definition]) => [name, library.func(definition)]);
  return {
    ...(Object.fromEntries(functions) as Omit<Libc, 'errno' | 'addressOf'>),
    errno: () => koffi.errno(),
    addressOf: (bytes) => koffi.address(bytes),
  };
}
