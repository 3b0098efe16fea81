// Which PROXY headers a listener believes, and what becomes of the octets of a connection until that is decided.
import { AddressList } from '../base/address-list.ts';
import type { Cell, CellFamily } from '../metrics/counters.ts';
import {
  beginsHeader,
  mayBeKeepAlive,
  PROXY_OUTCOMES,
  type ProxyHeader,
  type ProxyOutcome,
  type Reading,
  readStreamHeader,
} from './proxy-protocol.ts';

/** What all listeners behind a proxy share. */
export interface ProxySettings {
  /** Whose headers are believed. */
  readonly trusted: () => AddressList;
  /** Whether a datagram to a client whose own came with the simple header carries that header. */
  readonly answerHeader: () => 'none' | 'simple';
  /** proxy_headers_total */
  readonly headers: CellFamily<'listener' | 'outcome'>;
}

/** The rule of one listener. */
export interface ProxyRule {
  readonly required: boolean;
  readonly trusted: () => AddressList;
  readonly answerHeader: () => 'none' | 'simple';
  readonly outcomes: Readonly<Record<ProxyOutcome, Cell>>;
}

const NOBODY = new AddressList([]);

/** The rule of a listener; undefined for one that takes no headers. Without `settings` nobody is believed. */
export function proxyRule(
  listener: { readonly name: string; readonly proxyProtocol?: 'off' | 'accept' | 'require' },
  settings: ProxySettings | undefined,
): ProxyRule | undefined {
  const { name, proxyProtocol = 'off' } = listener;
  if (proxyProtocol === 'off') return undefined;
  const outcomes = Object.keys(PROXY_OUTCOMES) as ProxyOutcome[];
  const cells = outcomes.map(
    (outcome) => [outcome, settings?.headers.cell({ listener: name, outcome }) ?? { n: 0 }] as const,
  );
  return {
    required: proxyProtocol === 'require',
    trusted: settings?.trusted ?? (() => NOBODY),
    answerHeader: settings?.answerHeader ?? (() => 'none'),
    outcomes: Object.fromEntries(cells) as Record<ProxyOutcome, Cell>,
  };
}

/** What becomes of octets that read as `reading`. A header of somebody who is not trusted is not looked into. */
export function outcomeOf(reading: Reading, header: ProxyHeader, trusted: boolean, required: boolean): ProxyOutcome {
  if (reading === 'none') return required ? 'missing' : 'none';
  if (!trusted) return 'untrusted';
  if (reading === 'header') return header.outcome;
  return reading === 'part' ? 'cut' : reading;
}

const NOTHING = Buffer.alloc(0);
/** Octets behind a header that tell whether they are a second one: those of `PROXY ` in front of the line. */
const WATCHED_OCTETS = 6;

/** The beginning of an accepted connection, before it is known whose it is, and the few octets behind a header. Holds 4,096 octets at most. */
export class ProxyOpening {
  readonly trusted: boolean;
  readonly #required: boolean;
  /** Octets that are part of a header, or could be. */
  held: Buffer = NOTHING;
  /** The first octets behind the header; undefined until that is read. */
  #behind: Buffer | undefined;

  constructor(trusted: boolean, required: boolean) {
    this.trusted = trusted;
    this.#required = required;
  }

  /** True until it is known whether there is a header. */
  get waiting(): boolean {
    return this.#behind === undefined;
  }

  /** Takes what came while `waiting`. Undefined: wait for more. With a header `held` is then what follows it, without one all that came. */
  take(chunk: Buffer, header: ProxyHeader): ProxyOutcome | undefined {
    this.held = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk]);
    const { held } = this;
    const reading = readStreamHeader(held, 0, held.length, header);
    if (reading === 'part') return undefined;
    if (reading === 'header') {
      this.held = held.subarray(header.end);
      this.#behind = NOTHING;
    }
    return outcomeOf(reading, header, this.trusted, this.#required);
  }

  /** No more comes in time. Undefined: nothing has come at all, and nothing must. */
  expire(): ProxyOutcome | undefined {
    if (this.#required) return 'timeout';
    if (this.held.length === 0) return undefined;
    return mayBeKeepAlive(this.held, 0, this.held.length) ? 'none' : 'timeout';
  }

  /** Looks at what follows the header: `nested` for another header, `over` when that cannot be any more. */
  watch(chunk: Buffer): 'nested' | 'over' | 'so-far' {
    const behind = Buffer.concat([this.#behind ?? NOTHING, chunk.subarray(0, WATCHED_OCTETS)]);
    if (beginsHeader(behind, 0, behind.length)) return 'nested';
    this.#behind = behind;
    return behind.length >= WATCHED_OCTETS ? 'over' : 'so-far';
  }
}
