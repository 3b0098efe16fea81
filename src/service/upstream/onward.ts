// Decides how a request of the SIP server continues to a party: by the recorded flow, or to its Route or Request-URI.
// Pure.
//
// Follows the order of RFC 3261 16.6 (items 6 and 7), with RFC 5626 5.3. A next Route value decides, else the target. A
// party that is reachable only by its flow is reached by it, and so is every party with an open connection.

/**
 * State of the flow. none: no flow is recorded. stream: a connection that is not known to be gone. gone: a connection
 * that is.
 */
export type FlowState = 'none' | 'datagram' | 'stream' | 'gone';

/**
 * Kind of the next hop that the message names. route: a proxy that has record-routed. refreshed: another target than
 * the flow was made with (RFC 3261 12.2). same: the target of the flow, or no target to compare. unreachable: nothing
 * leads there from here (a NAT, another transport, a listener of this farm).
 */
export type Hop = 'route' | 'refreshed' | 'same' | 'unreachable';

/**
 * flow: send by the flow. locate: send to the next hop, by RFC 3263. failed: there is no way; answer 430 (RFC 5626
 * 11.4).
 */
export type Onward = 'flow' | 'locate' | 'failed';

export const ONWARD: Readonly<Record<FlowState, Readonly<Record<Hop, Onward>>>> = {
  none: { route: 'locate', refreshed: 'locate', same: 'locate', unreachable: 'locate' },
  datagram: { route: 'locate', refreshed: 'locate', same: 'flow', unreachable: 'flow' },
  stream: { route: 'flow', refreshed: 'locate', same: 'flow', unreachable: 'flow' },
  gone: { route: 'locate', refreshed: 'locate', same: 'locate', unreachable: 'failed' },
};
