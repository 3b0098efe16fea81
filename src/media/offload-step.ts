// Decides when the packets of a port go into the kernel, and when they come back. Pure.
//
//    state     condition, the first that fits                            step
//    leaving                                                              stay
//    kernel    another lock at either port; or silence                    remove
//    kernel    else                                                       stay
//    user      the source of either port is not locked                    stay
//    user      no packet has come to user space since it left the kernel  stay
//    user      these two sources cannot be in the kernel                  stay
//    user      before the next try                                        stay
//    user      else                                                       add

/** leaving: the kernel may still forward packets. */
export type OffloadState = 'user' | 'kernel' | 'leaving';

/** Numbers of the locks of a port, and of the port by which its packets leave; 0 = no source is locked. */
export interface Locks {
  readonly own: number;
  readonly far: number;
}

export interface OffloadFacts {
  readonly state: OffloadState;
  readonly locks: Locks;
  /** Those of the path, or of the last try. */
  readonly tried: Locks;
  /** The last try was refused, and no later one with the same locks can succeed. */
  readonly barred: boolean;
  /** Readings in a row in which the path had no packet. */
  readonly quiet: number;
  /** Packets that have come to user space: now, and when the last path ended. */
  readonly packets: number;
  readonly packetsBefore: number;
  /** Time of the next try. */
  readonly notBefore: number;
}

/**
 * Readings without a packet after which a path ends. The first may have begun with the path. User space then measures
 * the silence of the party again, and lets it come back from another place after a new offer.
 */
const MOST_QUIET = 2;
/** Time until the second try, and the longest one between two, ms. */
const FIRST_MS = 1000;
const LONGEST_MS = 32_000;

export function nextStep(facts: OffloadFacts, now: number): 'add' | 'remove' | 'stay' {
  const { state, locks, tried, quiet } = facts;
  if (state === 'leaving') return 'stay';
  const same = locks.own === tried.own && locks.far === tried.far;
  if (state === 'kernel') return same && quiet < MOST_QUIET ? 'stay' : 'remove';
  if (locks.own === 0 || locks.far === 0 || facts.packets <= facts.packetsBefore) return 'stay';
  if ((same && facts.barred) || now < facts.notBefore) return 'stay';
  return 'add';
}

/** Returns the time until the next try after so many in a row, ms. */
export function pauseAfter(tries: number): number {
  return Math.min(FIRST_MS * 2 ** Math.max(0, tries - 1), LONGEST_MS);
}
