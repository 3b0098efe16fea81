// The history of each call, read from the messages that SIPp recorded at caller and callee.
import { readFileSync } from 'node:fs';

/**
 * One call at its caller. Times are milliseconds of the wall clock; an absent time means that the event did not happen.
 */
export interface History {
  readonly callId: string;
  /** Kind of the call: the first part of the called user. */
  readonly kind: string;
  readonly invited: number;
  tried?: number;
  rang?: number;
  answered?: number;
  acked?: number;
  reinvited?: number;
  /** Time of the 200 to its re-INVITE. */
  renewed?: number;
  byeSent?: number;
  over?: number;
  cancelled?: number;
  /** Final answer to the INVITE other than 2xx. */
  refused?: { readonly status: number; readonly at: number };
  /** Final answers other than 2xx to requests after the INVITE, as `METHOD status`. */
  readonly faults: string[];
  /** Requests after the INVITE that have a final answer, by CSeq. */
  readonly finals: Set<string>;
}

/** Result of a call. Lost: it was answered and its BYE was not, or its re-INVITE or BYE was refused. */
export type Fate = 'complete' | 'refused' | 'silent' | 'lost';
/** Progress of a call at a moment. */
export type Phase = 'none' | 'trying' | 'ringing' | 'established' | 'ended';

interface Message {
  readonly at: number;
  readonly isSent: boolean;
  readonly start: string;
  readonly callId: string;
  readonly cseq: string;
  readonly text: string;
}

const HEAD = /^-{20,} (\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d+)\r?\n\S+ message (sent|received)[^\n]*\n\r?\n/gm;

function* messages(file: string): Generator<Message> {
  const trace = readFileSync(file, 'latin1');
  const heads = [...trace.matchAll(HEAD)];
  for (const [i, head] of heads.entries()) {
    const text = trace.slice(head.index + head[0].length, heads[i + 1]?.index);
    const callId = /^Call-ID: *(\S+)/im.exec(text)?.[1];
    const cseq = /^CSeq: *(\d+ \w+)/im.exec(text)?.[1];
    if (callId === undefined || cseq === undefined) continue;
    const start = text.slice(0, text.indexOf('\n')).trim();
    // SIPp writes local time, which this process parses in the same time zone.
    yield {
      at: new Date(head[1]!.replace(' ', 'T').slice(0, 23)).getTime(),
      isSent: head[2] === 'sent',
      start,
      callId,
      cseq,
      text,
    };
  }
}

/** Returns the calls of a caller's trace, in the order of their begin. */
export function histories(file: string): History[] {
  const calls = new Map<string, History>();
  for (const { at, isSent, start, callId, cseq } of messages(file)) {
    const known = calls.get(callId);
    if (!known) {
      const kind = /^INVITE sip:([a-z]+)/.exec(start)?.[1];
      if (isSent && kind !== undefined) calls.set(callId, { callId, kind, invited: at, faults: [], finals: new Set() });
    } else if (isSent) noteSent(known, cseq, at);
    else if (start.startsWith('SIP/2.0 ')) noteAnswer(known, cseq, Number(start.slice(8, 11)), at);
  }
  return [...calls.values()];
}

function noteSent(call: History, cseq: string, at: number): void {
  if (cseq === '1 ACK') call.acked ??= at;
  else if (cseq === '2 INVITE') call.reinvited ??= at;
  else if (cseq === '3 BYE') call.byeSent ??= at;
}

/** Records an answer. Only the first final answer to a request counts, as for a client transaction (RFC 3261 17.1). */
function noteAnswer(call: History, cseq: string, status: number, at: number): void {
  if (status >= 200 && cseq !== '1 INVITE') {
    if (call.finals.has(cseq)) return;
    call.finals.add(cseq);
  }
  const isGood = status >= 200 && status < 300;
  if (cseq === '1 INVITE') {
    if (status === 100) call.tried ??= at;
    else if (status < 200) call.rang ??= at;
    else if (isGood) call.answered ??= at;
    else call.refused ??= { status, at };
  } else if (cseq === '1 CANCEL' && isGood) call.cancelled ??= at;
  else if (cseq === '2 INVITE' && isGood) call.renewed ??= at;
  else if (cseq === '3 BYE' && isGood) call.over ??= at;
  else if (status >= 300) call.faults.push(`${cseq.slice(2)} ${status}`);
}

/** A readable message of one call. */
export interface Sight {
  readonly at: number;
  readonly text: string;
}

/** Returns the messages of a call at one end, with the last octets of each Via branch, which identify its element. */
export function sights(file: string, end: string, wanted: string): Sight[] {
  return [...messages(file)]
    .filter(({ callId }) => callId === wanted)
    .map(({ at, isSent, start, cseq, text }) => {
      const branches = [...text.matchAll(/;branch=([^;,\s]+)/g)].map(([, branch]) => branch!.slice(-8));
      const what = start.startsWith('SIP/2.0 ') ? start.slice(8) : start.slice(0, start.indexOf(' '));
      return { at, text: `${end} ${isSent ? '->' : '<-'} ${what} (${cseq}) via ${branches.join(' ')}` };
    });
}

export function fate(call: History): Fate {
  if (call.kind === 'cancel') return call.cancelled !== undefined && call.refused?.status === 487 ? 'complete' : 'lost';
  if (call.answered !== undefined) return call.over !== undefined && call.faults.length === 0 ? 'complete' : 'lost';
  return call.refused ? 'refused' : 'silent';
}

export function phase(call: History, at: number): Phase {
  const before = (time: number | undefined): boolean => time !== undefined && time <= at;
  if (!before(call.invited)) return 'none';
  if (before(call.over) || before(call.refused?.at)) return 'ended';
  if (before(call.answered)) return 'established';
  return before(call.rang) ? 'ringing' : 'trying';
}

/** One call at a callee. */
export interface Leg {
  readonly callId: string;
  /** Via branches of the INVITEs that began it: several when several proxies called, or one proxy twice. */
  readonly branches: Set<string>;
  answered: boolean;
  ended: boolean;
}

/** Returns the calls of a callee's trace, by Call-ID. */
export function legs(file: string): Map<string, Leg> {
  const calls = new Map<string, Leg>();
  for (const { isSent, start, callId, cseq, text } of messages(file)) {
    let leg = calls.get(callId);
    if (!isSent && start.startsWith('INVITE ') && !/^To:.*;tag=/im.test(text)) {
      leg ??= { callId, branches: new Set(), answered: false, ended: false };
      calls.set(callId, leg);
      leg.branches.add(/;branch=([^;\s]+)/.exec(text)?.[1] ?? '');
    }
    if (!leg) continue;
    if (isSent && start.startsWith('SIP/2.0 200') && cseq.endsWith(' INVITE')) leg.answered = true;
    if (isSent && (start.startsWith('SIP/2.0 487') || (start.startsWith('SIP/2.0 200') && cseq.endsWith(' BYE'))))
      leg.ended = true;
  }
  return calls;
}
