// The rules for a description that has passed a media relay, checked without the code of src/sdp: line by line.
import assert from 'node:assert/strict';

const UDP = /^(?:RTP\/S?AVPF?|UDP\/TLS\/RTP\/SAVPF?|udptl|UDP\/.+)$/i;
const MEDIA = /^m=[^ ]+ +(\d+) +([^ ]+)/;
const CONNECTION = /^c=IN +IP[46] +([^ /]+)/;
const RTCP = /^a=rtcp:(\d+)(?: IN IP[46] (\S+))?$/;
const ICE =
  /^a=(?:candidate|end-of-candidates|ice-lite|ice-mismatch|ice-options|ice-pacing|ice-pwd|ice-ufrag|remote-candidates)(?::|$)/;
/** Longer attributes pass unread. */
const LONG_LINE = 1024 + 'a='.length;
const ZEROS = /^[0.:]+$/;

/** Returns true when an address and a port are the relay's. */
export type IsRelay = (address: string, port: number) => boolean;

interface Section {
  readonly lines: string[];
  readonly connections: string[];
}

const linesOf = (text: string): string[] => text.split('\n').map((line) => line.replace(/\r$/, ''));

/** Returns the lines before the first m= line, and those of each stream. */
function sectionsOf(text: string): [Section, ...Section[]] {
  const sections: [Section, ...Section[]] = [{ lines: [], connections: [] }];
  for (const line of linesOf(text)) {
    if (line.startsWith('m=')) sections.push({ lines: [], connections: [] });
    const section = sections.at(-1)!;
    section.lines.push(line);
    const address = CONNECTION.exec(line)?.[1];
    if (address !== undefined) section.connections.push(address);
  }
  return sections;
}

/** Returns the addresses that hold for a stream. */
const addressesOf = ({ connections }: Section, session: Section): readonly string[] =>
  connections.length > 0 ? connections : session.connections;

/**
 * Checks that every stream over UDP has the relay's place, and its RTCP too, and all others the one that they have in
 * `before`. Returns the places of the relayed streams. An address of zeros, the old sign of hold, may stay.
 */
export function assertRelayed(before: string, after: string, isRelay: IsRelay): (readonly [string, string])[] {
  const [session, ...streams] = sectionsOf(after);
  const [givenSession, ...given] = sectionsOf(before);
  const places: [string, string][] = [];
  for (const [i, stream] of streams.entries()) {
    const { lines } = stream;
    const [, port = '', protocol = ''] = MEDIA.exec(lines[0]!) ?? [];
    const addresses = addressesOf(stream, session);
    if (Number(port) === 0) continue;
    if (!UDP.test(protocol)) {
      assert.deepEqual([lines[0], addresses], [given[i]!.lines[0], addressesOf(given[i]!, givenSession)]);
      continue;
    }
    // It had the place of a leg before and keeps it: the description comes by another way again.
    if (lines.join() === given[i]!.lines.join() && addresses.every((address) => isRelay(address, Number(port))))
      continue;
    assert.ok(addresses.length > 0, `no address holds for ${lines[0]}`);
    for (const address of addresses)
      assert.ok(ZEROS.test(address) || isRelay(address, Number(port)), `${lines[0]} leads to ${address}`);
    const shown = addresses.find((address) => !ZEROS.test(address));
    if (shown !== undefined) places.push([shown, port]);
    for (const line of lines) {
      const [rtcp, at, address = shown] = RTCP.exec(line) ?? [];
      if (rtcp === undefined || address === undefined || Number(at) > 0xffff) continue;
      assert.ok(isRelay(address, Number(at)), `${rtcp} of ${lines[0]}`);
    }
  }
  return places;
}

/** Parts of lines that a relay may replace. */
const blank = (line: string): string =>
  line
    .replace(/^(m=[^ ]+ +)\d+/, '$1P')
    .replace(/^(c=IN +)IP[46] +[^ /]+/, '$1A')
    .replace(/^(o=[^ ]+ +[^ ]+ +[^ ]+ +IN +)IP[46] +[^ ]+/, '$1A')
    .replace(/^a=rtcp:\d+/, 'a=rtcp:P')
    .replace(/^(a=rtcp:P +IN +)IP[46] +[^ ]+/, '$1A');

/**
 * Checks that all octets but addresses, ports and the lines that a relay adds are those of `before`. `withoutIce`: the
 * lines of ICE are missing.
 */
export function assertUntouched(before: string, after: string, isRelay: IsRelay, withoutIce: boolean): void {
  const isKept = (line: string): boolean => !withoutIce || line.length > LONG_LINE || !ICE.test(line);
  const [given, made] = [before.split('\n').filter((line) => isKept(line.replace(/\r$/, ''))), after.split('\n')];
  let at = 0;
  for (const line of made) {
    const added =
      /^c=IN IP4 ([\d.]+)\r?$/.exec(line) ?? /^a=candidate:sipfarm \d UDP \d+ ([\d.]+) \d+ typ host\r?$/.exec(line);
    const known = given[at] ?? '';
    if (line === known || blank(line) === blank(known)) {
      at++;
      continue;
    }
    // A line that is added behind a last line without an end gives that one an end.
    if (at === given.length - 1 && blank(`${known}\r`) === blank(line)) {
      at++;
      continue;
    }
    assert.ok(added && isRelay(added[1]!, -1), `${JSON.stringify(line)} is neither ${JSON.stringify(known)} nor new`);
  }
  assert.ok(at >= given.length, `a line is missing: ${JSON.stringify(given[at])}`);
}
