// What this member does with one packet. Every outcome is listed here, nowhere else: metric labels, log fields and tests use these words.

/** Why a packet ends here without an answer. Each is a value of the label `reason` of sipfarm_verdicts_total. */
export const DROP_REASONS = {
  'no-via': 'a request so broken that no Via can be read: there is nowhere to answer to',
  'bad-response': 'a response that breaks the grammar: status above 699, bad CSeq, no Via, Call-ID, From or To',
  'bad-ack': 'an ACK that breaks the grammar; ACK has no answer',
  'stray-response': 'a response whose top Via carries no token of this farm (RFC 6026)',
  'forged-token': 'a response whose token fails its MAC, or is of a kind that cannot stand there',
  'stale-token': 'a token of a member that has restarted since, where the state lived in the process',
  'stateless-ack': 'the ACK of an error that a member answered statelessly',
  'owner-gone': 'the owner is gone and nothing can take its place for this packet',
  'next-via': 'the next Via of a response cannot be read, or names no host: broadcast, multicast, unspecified',
  'flow-lost': 'a message for a connection that is closed; a request is answered besides',
  'rate-limit': 'an error answer above the rate allowed to one source prefix',
  amplification: 'an error answer that would be larger than the request',
  'service-busy': 'the service holds too many messages that wait for a name to be resolved',
  fenced:
    'a packet for this member as owner, which may have no seat: it stood still, or its peers refuse it by a newer view',
  'before-seat': 'a datagram that came to a listener before this member had its seat in the view',
  'internal-error':
    'a packet that met a fault of sipfarm itself: a line in the log names the place, and the member goes on',
  'from-stranger': 'a packet at the service port that does not come from the SIP server',
} as const;

export type DropReason = keyof typeof DROP_REASONS;

/** Status codes that a member answers by itself, statelessly. */
export type ReplyStatus = 100 | 200 | 400 | 405 | 430 | 481 | 482 | 483 | 500 | 501 | 503 | 505 | 513;

export type Verdict =
  | { readonly kind: 'local' }
  | { readonly kind: 'relay'; readonly to: number }
  | { readonly kind: 'reply'; readonly status: ReplyStatus }
  | { readonly kind: 'drop'; readonly reason: DropReason };

/** The one local verdict; verdicts are made once and handed out, so that the hot path allocates none. */
export const LOCAL: Verdict = { kind: 'local' };

const relays: Verdict[] = [];
const replies = new Map<ReplyStatus, Verdict>();
const drops = new Map<DropReason, Verdict>();

/** Relay to member number `to`. */
export function relayTo(to: number): Verdict {
  relays[to] ??= { kind: 'relay', to };
  return relays[to];
}

/** Answer with `status`, statelessly. */
export function replyWith(status: ReplyStatus): Verdict {
  const verdict = replies.get(status) ?? { kind: 'reply', status };
  replies.set(status, verdict);
  return verdict;
}

/** Drop, counted under `reason`. */
export function drop(reason: DropReason): Verdict {
  const verdict = drops.get(reason) ?? { kind: 'drop', reason };
  drops.set(reason, verdict);
  return verdict;
}
