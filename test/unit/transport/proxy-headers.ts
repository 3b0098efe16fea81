// PROXY headers, valid and invalid, for tests of their readers. Written from the specification and not from the reader.
import { isIPv6 } from 'node:net';

export const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

export interface Ends {
  readonly client: string;
  readonly clientPort: number;
  readonly here: string;
  readonly herePort: number;
}

export const ENDS: Ends = { client: '203.0.113.7', clientPort: 40_001, here: '198.51.100.1', herePort: 5060 };
export const ENDS6: Ends = { client: '2001:db8::7', clientPort: 40_006, here: '2001:db8:1::1', herePort: 5061 };

function octetsOf(address: string): number[] {
  if (!isIPv6(address)) return address.split('.').map(Number);
  const [head = '', tail] = address.split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const all = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right];
  return all.map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 0xff]);
}

const two = (number: number): number[] => [number >> 8, number & 0xff];

export function tlv(type: number, value: Uint8Array): Buffer {
  return Buffer.from([type, ...two(value.length), ...value]);
}

/** Returns a header of version 2; any octet of the fixed part can be set, also to a wrong value. */
export function version2(
  kind: 'tcp' | 'udp',
  ends: Ends = ENDS,
  {
    tlvs = Buffer.alloc(0),
    versionCommand = 0x21,
    family,
    length,
  }: {
    readonly tlvs?: Buffer;
    readonly versionCommand?: number;
    readonly family?: number;
    readonly length?: number;
  } = {},
): Buffer {
  const addresses = [...octetsOf(ends.client), ...octetsOf(ends.here), ...two(ends.clientPort), ...two(ends.herePort)];
  const code = (isIPv6(ends.client) ? 0x20 : 0x10) | (kind === 'tcp' ? 1 : 2);
  return Buffer.concat([
    SIGNATURE,
    Buffer.from([versionCommand, family ?? code, ...two(length ?? addresses.length + tlvs.length), ...addresses]),
    tlvs,
  ]);
}

/** Returns a header with command LOCAL; the receiver has to skip `rest`. */
export function local(rest = Buffer.alloc(0)): Buffer {
  return Buffer.concat([SIGNATURE, Buffer.from([0x20, 0x00, ...two(rest.length)]), rest]);
}

/** Returns a header with command PROXY and no family. */
export function unspecified(): Buffer {
  return Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x00, 0, 0])]);
}

export function version1(ends: Ends = ENDS): string {
  const family = isIPv6(ends.client) ? 6 : 4;
  return `PROXY TCP${family} ${ends.client} ${ends.here} ${ends.clientPort} ${ends.herePort}\r\n`;
}

/** Returns Cloudflare's simple header. */
export function simple(ends: Ends = ENDS): Buffer {
  const wide = (address: string): number[] =>
    isIPv6(address) ? octetsOf(address) : [...Array<number>(10).fill(0), 0xff, 0xff, ...octetsOf(address)];
  return Buffer.from([
    0x56,
    0xec,
    ...wide(ends.client),
    ...wide(ends.here),
    ...two(ends.clientPort),
    ...two(ends.herePort),
  ]);
}
