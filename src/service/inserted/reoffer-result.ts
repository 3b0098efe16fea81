// The result of the final response to a re-INVITE that a member has sent in the name of a party. Pure.

/** Outcomes of a re-INVITE: the label `outcome` of media_reanchored_total. */
export const REOFFER_OUTCOMES = {
  answered: 'its reader sends to the ports of this member now',
  refused: 'its reader refused it and keeps the signalling of the call',
  glare: 'its reader had a re-INVITE of its own under way each time',
  'no-answer': 'its reader did not answer',
  gone: 'its reader does not have the dialog any more',
  'no-offer': 'no description is recorded for the reader, or no ports were free',
  'no-way': 'no way leads to the reader, or its CSeq numbers are used up',
} as const;
export type ReofferOutcome = keyof typeof REOFFER_OUTCOMES;

/** Attempts for one reader. */
export const MAX_ATTEMPTS = 5;

/** Returns the outcome; 'again' for another attempt. `attempt`: 0 for the first. */
export function resultOf(status: number, attempt: number): ReofferOutcome | 'again' {
  if (status < 300) return 'answered';
  if (status === 491) return attempt + 1 < MAX_ATTEMPTS ? 'again' : 'glare';
  if (status === 408) return 'no-answer';
  // The users end such a call themselves: a BYE of this member could end one that only this reader has lost.
  return status === 481 ? 'gone' : 'refused';
}

/**
 * Returns the milliseconds until the next attempt after a 491, in the range of the party in whose name the re-INVITE is
 * sent (RFC 3261 14.1): the one that made the Call-ID waits longer. `seed`: any whole number, different per call.
 */
export function pauseOf(byOpener: boolean, seed: number): number {
  const tens = Math.abs(seed);
  return byOpener ? 2100 + 10 * (tens % 191) : 10 * (tens % 201);
}
