// How a request of the SIP server goes on to a party: by the flow that is known, or to where its Route or its Request-URI leads. Pure.
//
// The order of RFC 3261 16.6 (items 6 and 7), with RFC 5626 5.3: a next Route value decides, else the target; but a party that has no other way than its
// flow is reached by that, and so is everybody over a connection that is open.

/** The flow: none is known; one of datagrams; a connection that is not known to be gone; one that is. */
export type FlowState = 'none' | 'datagram' | 'stream' | 'gone';

/**
 * The hop that the message names. route: a proxy that has put itself in the way. refreshed: a target that is not the one the flow was made with
 * (RFC 3261 12.2). same: that one, or nobody can tell. unreachable: nothing leads there from here (a NAT, another transport, a door of ours).
 */
export type Hop = 'route' | 'refreshed' | 'same' | 'unreachable';

/** flow: by the flow. locate: to the hop, by RFC 3263. failed: there is no way (RFC 5626 11.4: 430). */
export type Onward = 'flow' | 'locate' | 'failed';

export const ONWARD: Readonly<Record<FlowState, Readonly<Record<Hop, Onward>>>> = {
  none: { route: 'locate', refreshed: 'locate', same: 'locate', unreachable: 'locate' },
  datagram: { route: 'locate', refreshed: 'locate', same: 'flow', unreachable: 'flow' },
  stream: { route: 'flow', refreshed: 'locate', same: 'flow', unreachable: 'flow' },
  gone: { route: 'locate', refreshed: 'locate', same: 'locate', unreachable: 'failed' },
};
