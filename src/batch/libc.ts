// Loads the few C functions of batch I/O through koffi. koffi is an optional dependency, so its absence is a normal
// case.
import { createRequire } from 'node:module';
import { endianness } from 'node:os';

/** An address in memory of this process; 0n is NULL. The memory there must not move: see `NativeBlock`. */
export type Address = bigint;

/** Each function returns what its manual page describes. After -1, `errno` has the reason. */
export interface Libc {
  socket(family: number, type: number, protocol: number): number;
  socketpair(family: number, type: number, protocol: number, pair: Address): number;
  setsockopt(fd: number, level: number, option: number, value: Address, octets: number): number;
  bind(fd: number, name: Address, octets: number): number;
  close(fd: number): number;
  recvmmsg(fd: number, messages: Address, count: number, flags: number, timeout: Address): number;
  sendmmsg(fd: number, messages: Address, count: number, flags: number): number;
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
