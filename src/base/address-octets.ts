// IP literals to the 4 or 16 octets they stand for, and back: what tokens, relay frames and PROXY headers carry.

/** Writes the address's 4 or 16 octets at `at`; returns their number. `address` is an IP literal as every socket reports it; '' is written as 0.0.0.0. */
export function writeAddress(address: string, to: Uint8Array, at: number): number {
  if (!address.includes(':')) {
    let octet = 0;
    let out = at;
    to.fill(0, at, at + 4);
    for (let i = 0; i < address.length; i++) {
      const character = address.charCodeAt(i);
      if (character === 46) {
        to[out++] = octet;
        octet = 0;
      } else octet = octet * 10 + character - 48;
    }
    to[out] = octet;
    return 4;
  }
  const zone = address.indexOf('%');
  const [head = '', tail] = (zone < 0 ? address : address.slice(0, zone)).split('::');
  to.fill(0, at, at + 16);
  const left = writeGroups(head, to, at);
  if (tail !== undefined) {
    const room = new Uint8Array(16);
    const right = writeGroups(tail, room, 0);
    to.set(room.subarray(0, right), at + 16 - right);
  } else if (left !== 16) to.fill(0, at, at + 16);
  return 16;
}

function writeGroups(groups: string, to: Uint8Array, at: number): number {
  if (groups === '') return 0;
  let out = at;
  for (const group of groups.split(':')) {
    if (group.includes('.')) out += writeAddress(group, to, out);
    else {
      const number = Number.parseInt(group, 16);
      to[out++] = number >>> 8;
      to[out++] = number;
    }
  }
  return out - at;
}

/** The inverse of `writeAddress` for 4 or 16 octets. IPv6 comes out in RFC 5952 form, IPv4-mapped addresses as plain IPv4. */
export function readAddress(from: Uint8Array, at: number, octets: number): string {
  if (octets === 4) return `${from[at]}.${from[at + 1]}.${from[at + 2]}.${from[at + 3]}`;
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((from[at + i]! << 8) | from[at + i + 1]!);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) return readAddress(from, at + 12, 4);
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > bestLength) {
      best = i;
      bestLength = run;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  return best < 0 ? hex.join(':') : `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLength).join(':')}`;
}
