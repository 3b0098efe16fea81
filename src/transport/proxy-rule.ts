// Decides which PROXY headers a listener accepts, and buffers the octets of a connection until that is decided.
import { AddressList } from '../base/address-list.ts';
import { type Cell, CellFamily, cellsBy } from '../metrics/counters.ts';
import {
  beginsHeader,
  mayBeKeepAlive,
  PROXY_OUTCOMES,
  type ProxyHeader,
  type ProxyOutcome,
  type Reading,
  readStreamHeader,
} from './proxy-protocol.ts';

/** Settings that all listeners behind a proxy share. */
export interface ProxySettings {
  /** Addresses of the proxies whose headers are accepted. */
  readonly trusted: () => AddressList;
  /** `simple`: datagrams to clients whose own came with the simple header carry that header. */
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

/** Returns the rule of a listener; undefined when it takes no headers. Without `settings` no proxy is trusted. */
export function proxyRule(
  listener: { readonly name: string; readonly proxyProtocol?: 'off' | 'accept' | 'require' },
  settings: ProxySettings | undefined,
): ProxyRule | undefined {
  const { name, proxyProtocol = 'off' } = listener;
  if (proxyProtocol === 'off') return undefined;
  const outcomes = Object.keys(PROXY_OUTCOMES) as ProxyOutcome[];
  const headers = settings?.headers ?? new CellFamily({ name: '', help: '', labels: ['listener', 'outcome'] });
  return {
    required: proxyProtocol === 'require',
    trusted: settings?.trusted ?? (() => NOBODY),
    answerHeader: settings?.answerHeader ?? (() => 'none'),
    outcomes: cellsBy(headers, 'outcome', outcomes, { listener: name }),
  };
}

/** Returns the outcome for octets that read as `reading`. A header from an untrusted address is not inspected. */
export function outcomeOf(reading: Reading, header: ProxyHeader, trusted: boolean, required: boolean): ProxyOutcome {
  if (reading === 'none') return required ? 'missing' : 'none';
  if (!trusted) return 'untrusted';
  if (reading === 'header') return header.outcome;
  return reading === 'part' ? 'cut' : reading;
}

const NOTHING = Buffer.alloc(0);
/** Octets after a header that show whether a second one follows: the length of `PROXY `. */
const WATCHED_OCTETS = 6;

/**
 * The beginning of an accepted connection until its client is known, and the first octets after a header.
 * Holds at most 4,096 octets while it waits.
 */
export class ProxyOpening {
  readonly trusted: boolean;
  readonly #required: boolean;
  /** Octets that are part of a header, or could be. */
  held: Buffer = NOTHING;
  /** First octets after the header; undefined until the header has been read. */
  #behind: Buffer | undefined;

  constructor(trusted: boolean, required: boolean) {
    this.trusted = trusted;
    this.#required = required;
  }

  /** True until it is decided whether there is a header. */
  get waiting(): boolean {
    return this.#behind === undefined;
  }

  /**
   * Takes octets received while `waiting`. Returns undefined to wait for more.
   * Afterwards `held` has the octets after the header, or, without a header, all octets received.
   */
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

  /** Ends the wait for a header. Returns undefined when nothing has come and no header is required. */
  expire(): ProxyOutcome | undefined {
    if (this.#required) return 'timeout';
    if (this.held.length === 0) return undefined;
    return mayBeKeepAlive(this.held, 0, this.held.length) ? 'none' : 'timeout';
  }

  /** Checks the octets after the header. `nested`: another header. `over`: no other header is possible any more. */
  watch(chunk: Buffer): 'nested' | 'over' | 'so-far' {
    const behind = Buffer.concat([this.#behind ?? NOTHING, chunk.subarray(0, WATCHED_OCTETS)]);
    if (beginsHeader(behind, 0, behind.length)) return 'nested';
    this.#behind = behind;
    return behind.length >= WATCHED_OCTETS ? 'over' : 'so-far';
  }
}
