// The body of a probe frame, with which members check each other and exchange whom they cannot reach.
//
//    octet 0      1 question, 2 answer
//    octets 1-4   number of the question, repeated in the answer
//    octets 5-8   oldest epoch of a call that the sender holds; 0 = none
//    octets 9-10  count of members that the sender cannot reach, then 2 octets for the number of each

export const PROBE_QUESTION = 1;
export const PROBE_ANSWER = 2;

const HEAD = 11;
/** Maximum of unreachable members in a probe; with more gone, no majority is left to report them. Bounds its size. */
const MAX_NAMED = 256;

export const MAX_PROBE_OCTETS = HEAD + 2 * MAX_NAMED;

/** The fields of a probe. Reused: filled by `readProbe`. */
export class Probe {
  answer = false;
  question = 0;
  heldSince = 0;
  readonly unreachable = new Set<number>();
}

/** Writes a probe into `to` at 0. Returns its octets, at most MAX_PROBE_OCTETS. */
export function writeProbe(
  type: typeof PROBE_QUESTION | typeof PROBE_ANSWER,
  question: number,
  heldSince: number,
  unreachable: ReadonlySet<number>,
  to: Buffer,
): number {
  to[0] = type;
  to.writeUInt32BE(question, 1);
  to.writeUInt32BE(heldSince, 5);
  let at = HEAD;
  for (const number of unreachable) {
    if (at === MAX_PROBE_OCTETS) break;
    to.writeUInt16BE(number, at);
    at += 2;
  }
  to.writeUInt16BE((at - HEAD) / 2, 9);
  return at;
}

/** Reads the probe `bytes[start..end)` into `out`. Returns false when it is no probe. */
export function readProbe(bytes: Buffer, start: number, end: number, out: Probe): boolean {
  if (end - start < HEAD) return false;
  const type = bytes[start]!;
  const named = bytes.readUInt16BE(start + 9);
  if ((type !== PROBE_QUESTION && type !== PROBE_ANSWER) || named > MAX_NAMED || end - start !== HEAD + 2 * named)
    return false;
  out.answer = type === PROBE_ANSWER;
  out.question = bytes.readUInt32BE(start + 1);
  out.heldSince = bytes.readUInt32BE(start + 5);
  out.unreachable.clear();
  for (let at = start + HEAD; at < end; at += 2) out.unreachable.add(bytes.readUInt16BE(at));
  return true;
}
