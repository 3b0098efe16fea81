// One changing call in the journal: the content of its record, and the record's durability. Resting calls are in
// packed-calls.ts.
import type { Way } from '../../packet/flow.ts';
import type { CallRecord, CallRecordState, CseqShift, Leg, RecordMethod } from './call-record.ts';
import {
  type Action,
  actionOf,
  BEGUN,
  type Durability,
  type DurabilityEvent,
  next,
  Stored,
  valueAfter,
  wantedOf,
  writingOf,
} from './durability.ts';
import { type CapturedMessage, legText, topBranch, type Vias, withContact, withoutVia } from './leg-text.ts';
import type { MediaRecord } from './media-record.ts';
import type { RecordBody } from './record-octets.ts';

/** A leg as the packet path supplies it. */
export interface CapturedLeg {
  readonly from: Leg['from'];
  /** The journal keeps the object: a reused one must be copied. */
  readonly flow: Readonly<Way>;
  readonly request: CapturedMessage;
  /** Branch of this farm's Via on a `server` leg; empty for a `client` leg. */
  readonly branch: string;
}

interface TrackedLeg {
  readonly from: Leg['from'];
  flow: Readonly<Way>;
  moved: boolean;
  readonly branch: string;
  request: string | CapturedMessage;
  answer: string | CapturedMessage | undefined;
  shift?: CseqShift | undefined;
}

export class TrackedCall {
  readonly entry: number;
  method: RecordMethod;
  callId: string;
  /** Milliseconds since 1970. */
  since: number;
  /** Epoch of the view in which this member got the call; the second chance depends on it. */
  epoch: number;
  /** Place of the record in the store, and what is known about it. */
  durability: Durability = BEGUN;
  /** A provisional response with a To tag has come. */
  early = false;
  #legs: TrackedLeg[] = [];
  /** Time at which its first write is due, monotonic milliseconds. */
  due = 0;

  constructor(entry: number, method: RecordMethod, callId: string, since: number, epoch: number) {
    this.entry = entry;
    this.method = method;
    this.callId = callId;
    this.since = since;
    this.epoch = epoch;
  }

  /** Applies an event to the durability. Returns the action that it requires. */
  apply(event: DurabilityEvent): Action {
    const result = next(this.durability, event);
    this.durability = valueAfter(result);
    return actionOf(result);
  }

  /** Returns whether this flag of the durability is set. */
  is(flag: number): boolean {
    return (this.durability & flag) !== 0;
  }

  /** True while the call is part of the commit under way. */
  get writing(): boolean {
    return writingOf(this.durability) !== -1;
  }

  get state(): CallRecordState | 'gone' {
    const wanted = wantedOf(this.durability);
    if (wanted === Stored.pending) return this.early ? 'early' : 'trying';
    return wanted === Stored.dialog ? 'confirmed' : 'gone';
  }

  /** True while no 2xx has confirmed the call: it may get further legs and answers. */
  get open(): boolean {
    return wantedOf(this.durability) === Stored.pending;
  }

  get gone(): boolean {
    return wantedOf(this.durability) === Stored.nowhere;
  }

  get legs(): number {
    return this.#legs.length;
  }

  /** Octets of the texts made so far. */
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

  /** Sets the 2xx of the leg with this branch; its first one stays. */
  setAnswer(branch: string, answer: CapturedMessage): void {
    const leg = this.#legs.find((each) => each.branch === branch);
    if (leg) leg.answer ??= answer;
  }

  /** Sets the new way to the party of leg number `index`. */
  moveLeg(index: number, way: Readonly<Way>): void {
    const leg = this.#legs[index];
    if (!leg) return;
    leg.flow = way;
    leg.moved = true;
  }

  /** Sets the shifts of CSeq of leg number `index`. */
  shiftLeg(index: number, shift: CseqShift): void {
    const leg = this.#legs[index];
    if (leg) leg.shift = shift;
  }

  /** Sets the Contact of the party of leg number `index`. Without effect when its message is missing or too long. */
  setContact(index: number, contact: string): void {
    const leg = this.#legs[index];
    if (!leg) return;
    const at = leg.from === 'client' ? 'request' : 'answer';
    const said = leg[at];
    const text = typeof said === 'object' ? legText(said, at === 'answer' ? 'none' : this.#vias(leg)) : said;
    leg[at] = (text !== undefined && withContact(text, contact)) || said!;
  }

  /** Removes the legs. */
  empty(): void {
    this.#legs = [];
  }

  /** Takes the legs of a record from the store. */
  takeLegs(legs: readonly Leg[]): void {
    this.#legs = legs.map(({ from, flow, moved = false, request, answer, shift }) => {
      return { from, flow, moved, branch: from === 'server' ? topBranch(request) : '', request, answer, shift };
    });
  }

  /**
   * Makes the texts, so that the messages are no longer kept. Returns false when a request is too long for a record.
   */
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

  /** The content for PackedCalls. */
  get body(): RecordBody {
    const { method, callId, since, epoch } = this;
    return { method, callId, since, epoch, legs: this.#plainLegs() };
  }

  /**
   * Returns the record of the call, written by this incarnation of its owner, with this media; undefined when the call
   * is over.
   */
  record(incarnation: number, media: MediaRecord | undefined): CallRecord | undefined {
    const { state } = this;
    return state === 'gone' ? undefined : recordOf(this.body, state, incarnation, media);
  }

  #vias(leg: TrackedLeg): Vias {
    return this.state === 'confirmed' ? 'none' : leg.from === 'client' ? 'all' : 'top';
  }

  #plainLegs(): Leg[] {
    return this.#legs.flatMap((leg) => {
      const { from, flow, request, answer, shift } = leg;
      const moved = leg.moved && ({ moved: true } as const);
      const asked = typeof request === 'string' ? request : legText(request, this.#vias(leg));
      const told = typeof answer === 'object' ? legText(answer, 'none') : answer;
      const rest = { request: asked ?? '', ...(told !== undefined && { answer: told }), ...(shift && { shift }) };
      return asked === undefined ? [] : [{ from, flow, ...moved, ...rest }];
    });
  }
}

/** Returns the record with this body and media for a call in `state`. */
export function recordOf(
  body: RecordBody,
  state: CallRecordState,
  incarnation: number,
  media: MediaRecord | undefined,
): CallRecord {
  const { method, callId, since: begun, epoch, legs } = body;
  const since = new Date(begun).toISOString();
  return { v: 1, state, method, callId, incarnation, epoch, since, legs, ...(media && { media }) };
}

function lengthOf(text: string | CapturedMessage | undefined): number {
  return typeof text === 'string' ? text.length : 0;
}
