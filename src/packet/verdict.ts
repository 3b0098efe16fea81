// Lists every outcome that a packet can have at this member. Metric labels, log fields and tests use these words.

/** Reasons to drop a packet without an answer. Each is a value of the label `reason` of sipfarm_verdicts_total. */
export const DROP_REASONS = {
  'no-via': 'a request without a readable Via: there is no target for an answer',
  'bad-response': 'a response that breaks the grammar: status above 699, bad CSeq, no Via, Call-ID, From or To',
  'bad-ack': 'an ACK that breaks the grammar; ACK has no answer',
  'stray-response': 'a response whose top Via has no token of this farm (RFC 6026)',
  'forged-token': 'a response whose token fails its MAC, or has a kind that is not allowed there',
  'stale-token': 'a token of an earlier start of a member, for state that lived in that process',
  'stateless-ack': 'the ACK of an error that a member answered statelessly',
  'owner-gone': 'the owner is gone, and no other member can handle this packet',
  'next-via': 'the next Via of a response cannot be read, or names no host: broadcast, multicast, unspecified',
  'flow-lost': 'a message for a closed connection; a request also gets an answer',
  'rate-limit': 'an error answer above the rate allowed to one source prefix',
  amplification: 'an error answer that would be larger than the request',
  'service-busy': 'too many messages of the service wait for name resolution',
  fenced:
    'a packet that this member owns, while the fence is up: it stood still, or its peers refuse it by a newer view',
  'before-seat': 'a datagram at a listener before this member had its seat in the view',
  'internal-error':
    'a packet that caused a fault of sipfarm itself: a log line names the place, and the member goes on',
  'from-stranger': 'a packet at the service port from another host than the SIP server',
} as const;

export type DropReason = keyof typeof DROP_REASONS;

/** Status codes that a member answers itself, statelessly. */
export type ReplyStatus = 100 | 200 | 400 | 405 | 430 | 481 | 482 | 483 | 491 | 500 | 501 | 503 | 505 | 513;

export type Verdict =
  | { readonly kind: 'local' }
  | { readonly kind: 'relay'; readonly to: number }
  | { readonly kind: 'reply'; readonly status: ReplyStatus }
  | { readonly kind: 'drop'; readonly reason: DropReason };

/** The one local verdict. Verdicts are made once and reused, so that the hot path allocates none. */
export const LOCAL: Verdict = { kind: 'local' };

const relays: Verdict[] = [];
const replies = new Map<ReplyStatus, Verdict>();
const drops = new Map<DropReason, Verdict>();

/** Returns the verdict to relay to member number `to`. */
export function relayTo(to: number): Verdict {
  relays[to] ??= { kind: 'relay', to };
  return relays[to];
}

/** Returns the verdict to answer with `status`, statelessly. */
export function replyWith(status: ReplyStatus): Verdict {
  const verdict = replies.get(status) ?? { kind: 'reply', status };
  replies.set(status, verdict);
  return verdict;
}

/** Returns the verdict to drop, counted under `reason`. */
export function drop(reason: DropReason): Verdict {
  const verdict = drops.get(reason) ?? { kind: 'drop', reason };
  drops.set(reason, verdict);
  return verdict;
}
