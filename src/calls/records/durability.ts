// Where is a call's record, where does it belong, and how certain is that? One number per call, for tracked and packed
// calls, and its transitions. Pure.
//
// Fields of the value:
//   wanted         where the record belongs: nowhere (the call is over), pending, dialog
//   stored         where it is in the store, by the last answer
//   writing        target of the write under way, or none
//   dirty          the record in the store is out of date
//   inDoubt        a write had no answer: the store may have applied it or not
//   maybeStale     the store has lost this member's records; a record written after the loss may be there
//   ownershipOpen  the seat was lost while this member held the call; the next reading decides about its owner
//   unseen         the reading under way has not found the record yet
// A record is "possible" when stored is not nowhere or inDoubt is set.
//
// Event             When                                  Change                                   Action
// begun             any                                   wanted pending, dirty, not open          queue
// begunUnread       inDoubt                               as begun, stored nowhere                 queue
//                   else                                  as begun                                 queue
// changed           any                                   dirty                                    queue
// confirmed         any                                   wanted dialog, dirty                     queue
// over              nothing possible, stale or writing    wanted nowhere                           drop
//                   else                                  wanted nowhere, dirty                    queue
// seatLost          any                                   ownershipOpen                            none
// picked            any                                   not dirty                                none
// started           any                                   writing := wanted                        none
// written           writing                               stored := writing, not maybeStale         none
// notWritten        writing                               not writing, dirty                       queue
// unanswered        writing                               not writing, dirty, inDoubt              queue
//   (these three)   not writing                           none                                     none
// missing           any                                   stored nowhere, not writing, dirty       queue
// missingSeatLost   any                                   stored nowhere, not writing              taken
// found<Place>      any                                   stored := place                          none
// certain           any                                   not inDoubt                              none
// certainSeatLost   stored nowhere                        not inDoubt                              taken
//                   else                                  not inDoubt                              none
// wiped             wanted nowhere                        none                                     none
//                   else                                  maybeStale if it was stored,             none
//                                                         stored nowhere, not inDoubt, dirty
// reading           open or possible                      unseen                                   none
//                   else                                  not unseen                               none
// seen<Place>       possible, not inDoubt                 not unseen                               none
//                   else                                  stored := place, certain, not unseen     none
// read, readWiped   open, not possible, not maybeStale    not unseen                               drop
// readWiped         else                                  as read when seen
// read              seen, open, wanted somewhere          not open                                 regained
//                   seen                                  not open                                 kept
//                   unseen, wanted nowhere                not unseen                               drop
//                   unseen, not possible, open            not unseen                               drop
//                   unseen, not possible, not open        not unseen                               none
//                   unseen, stored nowhere, not open      not unseen, not inDoubt, dirty           queue
//                   unseen, else                          not unseen                               taken
// settled           dirty                                 none                                     none
//                   wanted nowhere                        none                                     drop
//                   at rest (see RESTING)                 none                                     pack
//                   else                                  none                                     none
//
// Reasons for the rows of "read": A record that was never written was given up with the seat, and the slot's owner has
// begun the call anew. A call in doubt whose seat was never lost cannot have been adopted: its write has not reached
// the store. Another member has adopted a call whose expected record is missing while the sentinel is there.
import type { CallRecordState } from './call-record.ts';

/** The key under which a record is in the store. */
export const Stored = { nowhere: 0, pending: 1, dialog: 2 } as const;
export type Stored = (typeof Stored)[keyof typeof Stored];

/** Bit field; see the head of the file. */
export type Durability = number;

/** Bits of the value. The first three are all that can differ between packed calls. */
export const Flag = { maybeStale: 1, ownershipOpen: 2, unseen: 4, inDoubt: 8, dirty: 16 } as const;
const { maybeStale, ownershipOpen, unseen, inDoubt, dirty } = Flag;
const PACKED_FLAGS = maybeStale | ownershipOpen | unseen;

const STORED_SHIFT = 5;
const WANTED_SHIFT = 7;
/** 0 = no write under way, otherwise its target + 1. */
const WRITING_SHIFT = 9;
const STORED = 3 << STORED_SHIFT;
const WANTED = 3 << WANTED_SHIFT;
const WRITING = 3 << WRITING_SHIFT;
const VALUE = (1 << 11) - 1;
const ACTION_SHIFT = 11;

/**
 * Action that an event requires. queue: the call waits for a write. drop: it is forgotten. pack: it rests from now on.
 * taken: it is forgotten, another member has it. kept: this member still has it; regained: it was open whether it does.
 */
export const Action = { none: 0, queue: 1, drop: 2, pack: 3, taken: 4, kept: 5, regained: 6 } as const;
export type Action = (typeof Action)[keyof typeof Action];

export type DurabilityEvent =
  | 'begun'
  | 'begunUnread'
  | 'changed'
  | 'confirmed'
  | 'over'
  | 'seatLost'
  | 'picked'
  | 'started'
  | 'written'
  | 'notWritten'
  | 'unanswered'
  | 'missing'
  | 'missingSeatLost'
  | 'foundNowhere'
  | 'foundPending'
  | 'foundDialog'
  | 'certain'
  | 'certainSeatLost'
  | 'wiped'
  | 'reading'
  | 'seenPending'
  | 'seenDialog'
  | 'read'
  | 'readWiped'
  | 'settled';

/** Returns the key under which a record in this state belongs. */
export function storedAs(state: CallRecordState): Stored {
  return state === 'confirmed' ? Stored.dialog : Stored.pending;
}

/** A call that has just begun. */
export const BEGUN: Durability = dirty | (Stored.pending << WANTED_SHIFT);

/** Value of a call whose up-to-date record is in the store at `place`. */
export function storedAt(place: Stored): Durability {
  return (place << WANTED_SHIFT) | (place << STORED_SHIFT);
}

/** A confirmed call with an up-to-date record and nothing open. */
export const RESTING: Durability = storedAt(Stored.dialog);

/** Value of a packed call after the event wiped. */
const RESTING_WIPED: Durability = maybeStale | dirty | (Stored.dialog << WANTED_SHIFT);

/** Returns the value of a packed call with these flags. */
export function valueOfPacked(flags: number): Durability {
  return ((flags & maybeStale) === 0 ? RESTING : RESTING_WIPED) | flags;
}

/** Returns the flags that a packed call with this value has; -1 when no packed call can have it. */
export function packedFlags(value: Durability): number {
  const flags = value & PACKED_FLAGS;
  return valueOfPacked(flags) === value ? flags : -1;
}

export function storedOf(value: Durability): Stored {
  return ((value & STORED) >> STORED_SHIFT) as Stored;
}

export function wantedOf(value: Durability): Stored {
  return ((value & WANTED) >> WANTED_SHIFT) as Stored;
}

/** Returns the target of the write under way; -1 when there is none. */
export function writingOf(value: Durability): Stored | -1 {
  return (((value & WRITING) >> WRITING_SHIFT) - 1) as Stored | -1;
}

/**
 * Returns the value after an event in the low bits and the required action in the high bits: one number, because this
 * runs for each event of each call. See `valueAfter` and `actionOf`.
 */
export function next(value: Durability, event: DurabilityEvent): number {
  switch (event) {
    case 'begun':
      return begun(value);
    case 'begunUnread':
      // Without the seat, the deletion of the ended call may have succeeded unheard. A missing record then does not
      // show an adoption of this call.
      return begun((value & inDoubt) === 0 ? value : value & ~STORED);
    case 'changed':
      return step(value | dirty, Action.queue);
    case 'confirmed':
      return step(withWanted(value, Stored.dialog) | dirty, Action.queue);
    case 'over':
      return over(withWanted(value, Stored.nowhere));
    case 'seatLost':
      return value | ownershipOpen;
    case 'picked':
      return value & ~dirty;
    case 'started':
      return (value & ~WRITING) | ((wantedOf(value) + 1) << WRITING_SHIFT);
    case 'written':
    case 'notWritten':
    case 'unanswered':
      return (value & WRITING) === 0 ? value : afterWrite(value, event);
    case 'missing':
      return step((value & ~(WRITING | STORED)) | dirty, Action.queue);
    case 'missingSeatLost':
      return step(value & ~(WRITING | STORED), Action.taken);
    case 'foundNowhere':
      return withStored(value, Stored.nowhere);
    case 'foundPending':
      return withStored(value, Stored.pending);
    case 'foundDialog':
      return withStored(value, Stored.dialog);
    case 'certain':
      return value & ~inDoubt;
    case 'certainSeatLost':
      return step(value & ~inDoubt, (value & STORED) === 0 ? Action.taken : Action.none);
    case 'wiped':
      return wiped(value);
    case 'reading':
      return (value & ownershipOpen) !== 0 || isPossible(value) ? value | unseen : value & ~unseen;
    case 'seenPending':
      return seen(value, Stored.pending);
    case 'seenDialog':
      return seen(value, Stored.dialog);
    case 'read':
      return judged(value, (value & unseen) === 0);
    case 'readWiped':
      return judged(value, true);
    case 'settled':
      return step(value, actionAtRest(value));
  }
}

/** Returns the value in a result of `next`. */
export function valueAfter(result: number): Durability {
  return result & VALUE;
}

/** Returns the action in a result of `next`. */
export function actionOf(result: number): Action {
  return (result >> ACTION_SHIFT) as Action;
}

/**
 * The write that a call needs. none. read: the store is read first. delete: the stored key. deleteBoth: both keys. put:
 * without an expectation, because only this member writes under its number. putOver: the same, and the other key is
 * deleted. replace: the key must be there. move: the other key must be there, and is deleted.
 */
export type WritePlan = 'none' | 'read' | 'delete' | 'deleteBoth' | 'put' | 'putOver' | 'replace' | 'move';

/** Returns the write for a call. `writePending`: calls that ring are written, too. */
export function planOf(value: Durability, writePending: boolean): WritePlan {
  if ((value & inDoubt) !== 0) return 'read';
  const stale = (value & maybeStale) !== 0;
  const [wanted, stored] = [wantedOf(value), storedOf(value)];
  if (wanted === Stored.nowhere) return stale ? 'deleteBoth' : stored === Stored.nowhere ? 'none' : 'delete';
  if (stale) return 'putOver';
  if (stored === Stored.nowhere) return wanted === Stored.pending && !writePending ? 'none' : 'put';
  return stored === wanted ? 'replace' : 'move';
}

function step(value: Durability, action: Action): number {
  return value | (action << ACTION_SHIFT);
}

function withWanted(value: Durability, place: Stored): Durability {
  return (value & ~WANTED) | (place << WANTED_SHIFT);
}

function withStored(value: Durability, place: Stored): Durability {
  return (value & ~STORED) | (place << STORED_SHIFT);
}

function isPossible(value: Durability): boolean {
  return (value & (STORED | inDoubt)) !== 0;
}

function begun(value: Durability): number {
  return step((withWanted(value, Stored.pending) & ~ownershipOpen) | dirty, Action.queue);
}

function over(value: Durability): number {
  const nothingThere = (value & (STORED | WRITING | inDoubt | maybeStale)) === 0;
  return nothingThere ? step(value, Action.drop) : step(value | dirty, Action.queue);
}

function afterWrite(value: Durability, event: 'written' | 'notWritten' | 'unanswered'): number {
  const idle = value & ~WRITING;
  if (event === 'written') return withStored(idle & ~maybeStale, writingOf(value) as Stored);
  return step(idle | dirty | (event === 'unanswered' ? inDoubt : 0), Action.queue);
}

function wiped(value: Durability): number {
  // A deletion expects nothing, and a record written after the loss must be deleted.
  if ((value & WANTED) === 0) return value;
  const stale = (value & STORED) === 0 ? 0 : maybeStale;
  return (value & ~(STORED | inDoubt)) | dirty | stale;
}

function seen(value: Durability, place: Stored): number {
  const found = isPossible(value) && (value & inDoubt) === 0 ? value : withStored(value, place);
  return found & ~(inDoubt | unseen);
}

/** `found`: the record was read, or the store has lost all records and nobody can have adopted the call. */
function judged(value: Durability, found: boolean): number {
  const open = (value & ownershipOpen) !== 0;
  const possible = isPossible(value);
  const after = value & ~unseen;
  if (open && !possible && (value & maybeStale) === 0) return step(after, Action.drop);
  if (found) return step(after & ~ownershipOpen, open && (value & WANTED) !== 0 ? Action.regained : Action.kept);
  if ((value & WANTED) === 0) return step(after, Action.drop);
  if (!possible) return step(after, open ? Action.drop : Action.none);
  if ((value & STORED) === 0 && !open) return step((after & ~inDoubt) | dirty, Action.queue);
  return step(after, Action.taken);
}

function actionAtRest(value: Durability): Action {
  if ((value & dirty) !== 0) return Action.none;
  if ((value & WANTED) === 0) return Action.drop;
  return (value & ~unseen) === RESTING ? Action.pack : Action.none;
}
