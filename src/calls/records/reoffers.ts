// Which descriptions of an adopted call must be offered again? Its media ran through ports of a member that is gone.
// Each reader of those ports needs a re-INVITE with ports of the member that has the call now: each client, and the SIP
// server where it is itself an end of the media. Pure.
import { type CallRecord, type CseqShift, type Leg, MAX_CSEQ } from './call-record.ts';
import { partyTag, peerTag, readLeg } from './leg-reader.ts';
import { BY_TAG, type MediaRecord, type PartyRecord, type StreamRecord } from './media-record.ts';

/** A re-INVITE that one reader needs. */
export interface Reoffer {
  /** Number of the leg whose dialog it belongs to. */
  readonly leg: number;
  /** party: to the leg's party, in the name of the other one. server: to the SIP server, in the name of the party. */
  readonly to: 'party' | 'server';
  /** The party whose streams it describes. */
  readonly name: string;
  /** Side of the ports in it: 0 outer legs, 1 inner legs. */
  readonly reader: 0 | 1;
}

/**
 * Numbers that one adoption takes of the CSeq space. A request in the name of the party that opened the dialog exceeds
 * all that this party has sent since. The first number of the other party is not recorded: user agents begin below
 * 2^28.
 */
const OPENER_LEAP = 65_536;
const ANSWERER_LEAP = 2 ** 28;

/** Returns the re-INVITEs that the call needs; none for one whose readers have its owner's ports. */
export function reoffersOf({ legs, media = [] }: CallRecord): readonly Reoffer[] {
  const all: Reoffer[] = [];
  const add = (each: Reoffer): void => {
    if (!all.some(({ leg, to }) => leg === each.leg && to === each.to)) all.push(each);
  };
  const lacking = media.filter(({ direct, lost, untold }) => !direct && (lost || untold));
  // Most records have none: their legs are not parsed.
  if (lacking.length === 0) return all;
  const ours = answeredLegs(legs);
  for (const party of lacking) {
    const { names, facing } = party;
    const leg = ours.find((index) => names.includes(BY_TAG + partyTag(legs[index]!)));
    const name = names[0];
    if (leg === undefined || name === undefined) continue;
    add({ leg, to: 'party', name, reader: 0 });
    if (isReadByParty(party, media)) continue;
    // An inner leg at the outer side is for a client that is not anchored.
    const client = facing === 0 ? ours.find((index) => index !== leg) : undefined;
    if (client === undefined) add({ leg, to: 'server', name, reader: 1 });
    else add({ leg: client, to: 'party', name, reader: 1 });
  }
  return all;
}

/**
 * Returns the record as the member that adopts the call writes it: the ports are lost, and the requests that it may
 * send have numbers of their own. A call that rings has no media after its adoption.
 */
export function withLostPorts(record: CallRecord): CallRecord {
  const { media, ...rest } = record;
  if (record.state !== 'confirmed' || !media) return rest;
  return withShifts({ ...rest, media: media.map((party) => ({ ...party, lost: true })) });
}

/** Returns the record with new numbers for the re-INVITEs that it needs. */
export function withShifts(record: CallRecord): CallRecord {
  const reoffers = reoffersOf(record);
  const legs = record.legs.map((leg, index) => {
    const [toParty, toServer] = leg.shift ?? [0, 0];
    const has = (to: Reoffer['to']): boolean => reoffers.some((each) => each.leg === index && each.to === to);
    if (!has('party') && !has('server')) return leg;
    const shift: CseqShift = [
      toParty + (has('party') ? leapOf(leg, 'party') : 0),
      toServer + (has('server') ? leapOf(leg, 'server') : 0),
    ];
    // Beyond the last number the parties keep theirs, and the re-INVITE is refused.
    return shift.some((each) => each + OPENER_LEAP > MAX_CSEQ) ? leg : { ...leg, shift };
  });
  return { ...record, legs };
}

/** Returns true when requests to `to` are in the name of the party that has opened the dialog. */
export function isByOpener({ from }: Pick<Leg, 'from'>, to: Reoffer['to']): boolean {
  return (from === 'server') === (to === 'party');
}

/** Returns by how much a number exceeds all that its sender can have used since the record. */
export function leapOf(leg: Leg, to: Reoffer['to']): number {
  return isByOpener(leg, to) ? OPENER_LEAP : ANSWERER_LEAP;
}

/**
 * Returns the numbers of the answered legs. Several may be answered below one INVITE (RFC 3261 13.2.2.4): those count
 * that have the tags of the caller's dialog, where the SIP server is a proxy.
 */
export function answeredLegs(legs: readonly Leg[]): readonly number[] {
  const answered = legs.flatMap((leg, index) => (leg.answer === undefined ? [] : [index]));
  const caller = answered.find((index) => legs[index]!.from === 'client');
  if (caller === undefined) return answered;
  const peer = peerTag(legs[caller]!);
  const callee = answered.find((index) => legs[index]!.from === 'server' && partyTag(legs[index]!) === peer);
  return callee === undefined ? answered : [caller, callee];
}

/** Returns true when another party of the call reads the inner legs of this one. */
function isReadByParty(party: PartyRecord, media: MediaRecord): boolean {
  const places = new Set(streamsOf(party).map(({ shown, ports }) => `${shown[1]} ${ports[2]}`));
  return media.some(
    (other) =>
      other !== party &&
      streamsOf(other).some(({ joined }) => joined && places.has(`${joined.address} ${joined.port}`)),
  );
}

function streamsOf({ streams }: PartyRecord): readonly StreamRecord[] {
  return streams.filter((each) => each !== null && typeof each === 'object');
}

/** Returns the CSeq number of the leg's INVITE; 0 when it cannot be read. */
export function cseqOf(leg: Leg): number {
  return readLeg(leg.request)?.cseq ?? 0;
}
