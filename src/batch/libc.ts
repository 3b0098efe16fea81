// The few C functions behind batch I/O, called through koffi: an optional dependency, so its absence is a normal case.
import { createRequire } from 'node:module';
import { endianness } from 'node:os';

/** An address in memory of this process; 0n is NULL. What it points at must not move: see `NativeBlock`. */
export type Address = bigint;

/** Every function answers as its manual page says; after -1 `errno` tells why. */
export interface Libc {
  socket(family: number, type: number, protocol: number): number;
  socketpair(family: number, type: number, protocol: number, pair: Address): number;
  setsockopt(fd: number, level: number, option: number, value: Address, octets: number): number;
  bind(fd: number, name: Address, octets: number): number;
  close(fd: number): number;
  recvmmsg(fd: number, messages: Address, count: number, flags: number, timeout: Address): number;
  sendmmsg(fd: number, messages: Address, count: number, flags: number): number;
  if_nametoindex(name: string): number;
  /** 0 when there is none; else the name stands at `room`. */
  if_indextoname(index: number, room: Address): number | bigint;
  errno(): number;
  addressOf(bytes: Buffer): Address;
}

/** The part of koffi that is used. Its own types are not imported: a build must do without the package. */
interface Koffi {
  load(path: null): { func(definition: string): (...values: never[]) => number };
  errno(): number;
  address(value: Buffer): bigint;
}

/** Pointers are declared as numbers: koffi then passes them on as they are, and looks into nothing. */
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

/** Loads koffi and finds the functions in this process. Throws, with the reason in words, where that cannot be done. */
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
