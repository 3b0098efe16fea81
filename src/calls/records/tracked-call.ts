// One call as the journal keeps it while it changes: what its record says, and how that stands in the store. Calls that rest are in packed-calls.ts.
import type { Way } from '../../packet/flow.ts';
import type { CallRecord, CallRecordState, Leg, RecordMethod } from './call-record.ts';
import { type CapturedMessage, legText, topBranch, type Vias, withoutVia } from './leg-text.ts';
import type { RecordBody } from './record-octets.ts';

/** A leg as the packet path hands it over. */
export interface CapturedLeg {
  readonly from: Leg['from'];
  /** Kept: give a copy of a reused one. */
  readonly flow: Readonly<Way>;
  readonly request: CapturedMessage;
  /** Of our Via on a `server` leg; empty for a `client` leg. */
  readonly branch: string;
}

interface TrackedLeg {
  readonly from: Leg['from'];
  flow: Readonly<Way>;
  moved: boolean;
  readonly branch: string;
  request: string | CapturedMessage;
  answer: string | CapturedMessage | undefined;
}

/** Where a record stands in the store. */
export const Stored = { nowhere: 0, pending: 1, dialog: 2 } as const;
export type Stored = (typeof Stored)[keyof typeof Stored];

/** Where a record in this state belongs. */
export function storedAs(state: CallRecordState): Stored {
  return state === 'confirmed' ? Stored.dialog : Stored.pending;
}

export class TrackedCall {
  readonly entry: number;
  method: RecordMethod;
  callId: string;
  /** Milliseconds since 1970. */
  since: number;
  /** Of the view in which it became this member's: the second chance goes by that. */
  epoch: number;
  state: CallRecordState | 'gone' = 'trying';
  #legs: TrackedLeg[] = [];
  stored: Stored = Stored.nowhere;
  /** A write of it had no answer: it may stand or not. */
  inDoubt = false;
  /** The store has lost what was ours, but perhaps not this: it was written before that was noticed. */
  maybeStale = false;
  /** What stands in the store is not what should. */
  dirty = false;
  /** It is in the commit that is under way. */
  writing = false;
  /** The seat was lost while it was held: whose it is will be seen when there is a seat again. */
  ownershipOpen = false;
  /** When its first write is due, monotonic milliseconds. */
  due = 0;

  constructor(entry: number, method: RecordMethod, callId: string, since: number, epoch: number) {
    this.entry = entry;
    this.method = method;
    this.callId = callId;
    this.since = since;
    this.epoch = epoch;
  }

  /** Rings, or is tried: it may get further legs and answers. */
  get open(): boolean {
    return this.state === 'trying' || this.state === 'early';
  }

  get legs(): number {
    return this.#legs.length;
  }

  /** Octets of the texts that have been made. */
  get octets(): number {
    let octets = 0;
    for (const { request, answer } of this.#legs) octets += lengthOf(request) + lengthOf(answer);
    return octets;
  }

  hasBranch(branch: string): boolean {
    return this.#legs.some((leg) => leg.branch === branch);
  }

  addLeg({ from, flow, request, branch }: CapturedLeg): void {
    this.#legs.push({ from, flow, moved: false, branch, request, answer: undefined });
  }

  /** The first 2xx of the leg of `branch` stays. */
  setAnswer(branch: string, answer: CapturedMessage): void {
    const leg = this.#legs.find((each) => each.branch === branch);
    if (leg) leg.answer ??= answer;
  }

  /** The party of leg number `index` is reached by another way now. */
  moveLeg(index: number, way: Readonly<Way>): void {
    const leg = this.#legs[index];
    if (!leg) return;
    leg.flow = way;
    leg.moved = true;
  }

  /** Forgets the legs. */
  empty(): void {
    this.#legs = [];
  }

  /** Takes the legs of a record that was read. */
  takeLegs(legs: readonly Leg[]): void {
    this.#legs = legs.map(({ from, flow, moved = false, request, answer }) => {
      return { from, flow, moved, branch: from === 'server' ? topBranch(request) : '', request, answer };
    });
  }

  /** Makes the texts, so that the messages themselves are kept no longer. False when a request is too long for a record. */
  makeTexts(): boolean {
    for (const leg of this.#legs) {
      const vias = this.#vias(leg);
      if (typeof leg.request !== 'string') {
        const text = legText(leg.request, vias);
        if (text === undefined) return false;
        leg.request = text;
      } else if (vias === 'none') leg.request = withoutVia(leg.request);
      if (typeof leg.answer === 'object') leg.answer = legText(leg.answer, 'none');
    }
    return true;
  }

  /** What a call that rests is kept as. */
  get body(): RecordBody {
    const { method, callId, since, epoch } = this;
    return { method, callId, since, epoch, legs: this.#plainLegs() };
  }

  /** The record of a call in `state`, as this incarnation of its owner would write it now. */
  record(state: CallRecordState, incarnation: number): CallRecord {
    return recordOf(this.body, state, incarnation);
  }

  #vias(leg: TrackedLeg): Vias {
    return this.state === 'confirmed' ? 'none' : leg.from === 'client' ? 'all' : 'top';
  }

  #plainLegs(): Leg[] {
    return this.#legs.flatMap((leg) => {
      const { from, flow, request, answer } = leg;
      const moved = leg.moved && ({ moved: true } as const);
      const asked = typeof request === 'string' ? request : legText(request, this.#vias(leg));
      const told = typeof answer === 'object' ? legText(answer, 'none') : answer;
      const rest = { request: asked ?? '', ...(told !== undefined && { answer: told }) };
      return asked === undefined ? [] : [{ from, flow, ...moved, ...rest }];
    });
  }
}

/** The record that says this of a call in `state`. */
export function recordOf(body: RecordBody, state: CallRecordState, incarnation: number): CallRecord {
  const { method, callId, since, epoch, legs } = body;
  return { v: 1, state, method, callId, incarnation, epoch, since: new Date(since).toISOString(), legs };
}

function lengthOf(text: string | CapturedMessage | undefined): number {
  return typeof text === 'string' ? text.length : 0;
}
