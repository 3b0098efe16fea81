// Clients that have come back on a new connection, in the records of their calls: the flow of their leg is where they are now, and what the dialog
// still names is told by the Record-Route of its answer. Cold: once per new connection.
import type { CallRecord, Leg } from '../../calls/call-record.ts';
import { type Flow, readFlow } from '../../ownership/flow.ts';
import { readToken, Token } from '../../ownership/token.ts';
import { emptyFlow } from '../../relay/return-flow.ts';
import type { Edge } from './edge.ts';
import { partyTag, routeUsers } from './leg-messages.ts';

const token = new Token();

/** The party of `tag` is reached by `now`: its leg's record says so from now on. */
export function recordMove(edge: Edge, entry: number, tag: string, now: Readonly<Flow>): void {
  const { journal } = edge;
  const leg = journal?.recordOf(entry)?.legs.findIndex((each) => partyTag(each) === tag) ?? -1;
  if (leg >= 0) journal?.moved(entry, leg, { ...now });
}

/** A call has come here by its record: who of it has moved is looked for where it is, not where the dialog names it. */
export function rememberMoves(edge: Edge, entry: number, { legs }: CallRecord): void {
  for (const leg of legs) {
    const named = leg.flow.connection === 0 ? [] : connectionsIn(edge, leg);
    if (named.some((flow) => isSame(flow, leg.flow))) continue;
    // Which of them was its own is not said: nobody asks by this tag for another party's.
    for (const flow of named) edge.rebound.note(Math.abs(entry), partyTag(leg), flow, leg.flow, true);
  }
}

/** The flows over a connection that the dialog of the leg names. */
function connectionsIn(edge: Edge, leg: Leg): Flow[] {
  return routeUsers(leg.answer ?? '').flatMap((user) => {
    const octets = Buffer.from(user, 'latin1');
    const flow = emptyFlow();
    const valid = readToken(edge.world.keys, octets, 0, octets.length, token) === 'valid' && readFlow(token, flow);
    return valid && flow.connection !== 0 ? [flow] : [];
  });
}

function isSame(one: Readonly<Flow>, other: Readonly<Flow>): boolean {
  return one.connection === other.connection && one.member === other.member && one.incarnation === other.incarnation;
}
