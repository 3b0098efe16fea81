// Reports calls for the admin server: those with a record on this node, those in the store, and the record of a
// Call-ID.

import { formatEndpoint } from '../base/endpoint.ts';
import type { CallJournal } from '../calls/records/call-journal.ts';
import { type CallRecord, parseCallRecord, recordKey } from '../calls/records/call-record.ts';
import type { MediaRecord } from '../calls/records/media-record.ts';
import { recordPages } from '../calls/records/record-pages.ts';
import type { Way } from '../media/media-relay.ts';
import type { OwnerTables } from '../ownership/owner-tables.ts';
import { CallHash, hashCallIdText } from '../ownership/slots.ts';
import { HeaderName } from '../sip/header-name.ts';
import { HeaderLine, nextHeader } from '../sip/headers.ts';
import { NameAddr, parseNameAddr } from '../sip/name-addr.ts';
import type { Store } from '../store/store.ts';
import type { CallList, CallSummary } from './status.ts';

export interface CallStatusOptions {
  readonly store: Store;
  readonly routing: { readonly tables: OwnerTables; readonly identity: { readonly number: number } };
  /** undefined when no calls are recorded. */
  readonly callRecovery: { readonly journal: CallJournal } | undefined;
  /** Returns the way of the stream of this member with this outer port; undefined when there is none. */
  readonly wayOf: (port: number) => Way | undefined;
}

/** Members whose keys are read at the same time. */
const AT_ONCE = 16;

export class CallStatus {
  readonly #of: CallStatusOptions;

  constructor(options: CallStatusOptions) {
    this.#of = options;
  }

  /**
   * Returns calls of this member: first those whose record is written and unchanged, longest first, then those that
   * change. With `all`: calls of every member, from the store. Rejects with SF_STORE_*.
   */
  async list(limit: number, all: boolean): Promise<CallList> {
    const calls: CallSummary[] = [];
    for await (const call of all ? this.#stored() : this.#own()) {
      if (calls.length === limit) return { calls, more: true };
      calls.push(call);
    }
    return { calls, more: false };
  }

  /**
   * Returns the record of a Call-ID; null when there is none. Searches this member, then the slot's owner and its
   * earlier owners, then every member with a seat. Rejects with SF_STORE_*.
   */
  async recordOf(callId: string): Promise<CallSummary | null> {
    const { routing, callRecovery } = this.#of;
    const { tables, identity } = routing;
    const hash = new CallHash();
    hashCallIdText(tables.slotKey, callId, hash);
    for (const entry of [hash.key, -hash.key]) {
      const record = callRecovery?.journal.recordOf(entry);
      if (record) return this.#summary(identity.number, record);
    }
    const owners = [tables.slots[hash.slot]!, ...tables.earlier.map(({ slots }) => slots[hash.slot]!)];
    const likely = [...new Set(owners)].filter((number) => number !== 0);
    const rest = [...tables.seats.keys()].filter((number) => !likely.includes(number));
    for (const numbers of [likely, ...chunks(rest)]) {
      const found = await Promise.all(numbers.map((number) => this.#stands(number, hash.key, callId)));
      const first = found.find((each) => each !== undefined);
      if (first) return first;
    }
    return null;
  }

  *#own(): Generator<CallSummary, void, void> {
    const { callRecovery, routing } = this.#of;
    for (const { record } of callRecovery?.journal.tracked() ?? [])
      yield this.#summary(routing.identity.number, record);
  }

  async *#stored(): AsyncGenerator<CallSummary, void, void> {
    for await (const page of recordPages(this.#of.store, 'calls/'))
      for (const { owner, record } of page) yield this.#summary(owner, record);
  }

  async #stands(number: number, key: number, callId: string): Promise<CallSummary | undefined> {
    const { store } = this.#of;
    const keys = [key, -key].flatMap((entry) => [
      recordKey(number, 'confirmed', entry),
      recordKey(number, 'trying', entry),
    ]);
    for (const entry of await Promise.all(keys.map((each) => store.get(each)))) {
      const record = parseCallRecord(entry?.value);
      if (record?.callId === callId) return this.#summary(number, record);
    }
    return undefined;
  }

  #summary(owner: number, record: CallRecord): CallSummary {
    const { callId, state, method, since, incarnation, epoch, legs, media } = record;
    const { routing, wayOf } = this.#of;
    const isOwn = owner === routing.identity.number;
    const first = legs[0]?.request ?? '';
    return {
      callId,
      state,
      method,
      since,
      owner: { number: owner, id: routing.tables.seats.get(owner)?.id ?? '' },
      incarnation,
      epoch,
      from: uriIn(first, HeaderName.FROM),
      to: uriIn(first, HeaderName.TO),
      legs: legs.map(({ from, flow, answer }) => ({
        from,
        remote: flow.address === '' ? `connection ${flow.connection}` : formatEndpoint(flow),
        answered: answer !== undefined,
      })),
      ...(media && { media: mediaSummary(media, isOwn ? wayOf : () => undefined) }),
    };
  }
}

/** Returns the relayed streams of the parties that have some. */
function mediaSummary(media: MediaRecord, wayOf: CallStatusOptions['wayOf']): NonNullable<CallSummary['media']> {
  return media.flatMap(({ names, streams }) => {
    const own = streams.filter((stream) => stream !== null && typeof stream !== 'number');
    const shown = own.map(({ ports: [port], shown: [address], targets: [target] }) => {
      const way = wayOf(port);
      return {
        public: formatEndpoint({ address, port }),
        target: target ? formatEndpoint(target) : '',
        ...(way && { way }),
      };
    });
    // The first character of a name is its kind.
    return shown.length === 0 ? [] : [{ party: names.at(-1)!.slice(1), streams: shown }];
  });
}

function chunks(numbers: readonly number[]): number[][] {
  return Array.from({ length: Math.ceil(numbers.length / AT_ONCE) }, (_, i) =>
    numbers.slice(i * AT_ONCE, (i + 1) * AT_ONCE),
  );
}

/** Returns the URI of the first header `name` of a leg's text, unchanged; empty when there is none. */
function uriIn(text: string, name: HeaderName): string {
  const bytes = Buffer.from(text, 'latin1');
  const line = new HeaderLine();
  const value = new NameAddr();
  const start = bytes.indexOf('\r\n') + 2;
  for (let at = start; nextHeader(bytes, at, bytes.length, line); at = line.lineEnd)
    if (line.name === name && parseNameAddr(bytes, line.valueStart, line.valueEnd, value))
      return bytes.toString('latin1', value.uriStart, value.uriEnd);
  return '';
}
