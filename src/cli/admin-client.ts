// Sends requests to the running member over its admin API.
import { formatEndpoint, isIpv6, isWildcard } from '../base/endpoint.ts';
import { type ErrorCode, SipfarmError } from '../base/errors.ts';
import type { AdminAddress } from '../config/load.ts';

/** Milliseconds that a member may take to answer; the slowest answer waits for the store. */
const PATIENCE_MS = 10_000;
/** Errors whose message is complete without the member's address. */
const OWN_CODES: readonly ErrorCode[] = ['SF_MEMBER_UNKNOWN', 'SF_ORDER_REFUSED'];
/** Errors of the store, reported by the member. */
const STORE_CODES: readonly ErrorCode[] = ['SF_STORE_UNREACHABLE', 'SF_STORE_CONFLICT', 'SF_STORE_REFUSED'];

export class AdminClient {
  readonly #base: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ bind, token }: AdminAddress) {
    const own = isWildcard(bind.address) ? (isIpv6(bind.address) ? '::1' : '127.0.0.1') : bind.address;
    this.#base = `http://${formatEndpoint({ address: own, port: bind.port })}`;
    this.#headers = token ? { authorization: `Bearer ${token.reveal()}` } : {};
  }

  /**
   * Returns the member's answer. Rejects with SF_ADMIN_UNREACHABLE, SF_MEMBER_UNKNOWN, SF_ORDER_REFUSED, SF_STORE_*, or
   * SF_ADMIN_REFUSED with the member's answer.
   */
  get(path: string): Promise<unknown> {
    return this.#ask(path, { headers: this.#headers });
  }

  /** Returns the body of any answer, also of a refusal. Rejects with SF_ADMIN_UNREACHABLE. */
  async getText(path: string): Promise<string> {
    return (await this.#fetch(path, { headers: this.#headers })).text;
  }

  /** Sends `value` as JSON. Returns and rejects as `get`. */
  put(path: string, value: unknown): Promise<unknown> {
    return this.#change('PUT', path, value);
  }

  /** Sends `value` as JSON. Returns and rejects as `get`. */
  post(path: string, value: unknown): Promise<unknown> {
    return this.#change('POST', path, value);
  }

  /** Returns and rejects as `get`. */
  delete(path: string): Promise<unknown> {
    return this.#change('DELETE', path, {});
  }

  #change(method: string, path: string, value: unknown): Promise<unknown> {
    const headers = { ...this.#headers, 'content-type': 'application/json' };
    return this.#ask(path, { method, headers, body: JSON.stringify(value) });
  }

  async #fetch(path: string, request: RequestInit): Promise<{ readonly status: number; readonly text: string }> {
    try {
      const response = await fetch(this.#base + path, {
        ...request,
        redirect: 'error',
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      return { status: response.status, text: await response.text() };
    } catch (error) {
      const { cause, message } = error as Error;
      const reason = (cause as NodeJS.ErrnoException | undefined)?.code ?? message;
      throw new SipfarmError('SF_ADMIN_UNREACHABLE', `${this.#base} does not answer (${reason})`, { cause: error });
    }
  }

  async #ask(path: string, request: RequestInit): Promise<unknown> {
    const { status, text } = await this.#fetch(path, request);
    const answer = parse(text);
    if (status < 300 && answer !== undefined) return answer;
    const { code, message } = (answer as { error?: { code?: string; message?: string } } | undefined)?.error ?? {};
    const own = OWN_CODES.find((known) => known === code);
    if (own) throw new SipfarmError(own, message ?? '');
    const stored = STORE_CODES.find((known) => known === code);
    if (stored) throw new SipfarmError(stored, `answer of ${this.#base}: ${message ?? ''}`);
    throw new SipfarmError(
      'SF_ADMIN_REFUSED',
      `${this.#base}${path} answered ${status}: ${code ?? ''} ${message ?? ''}`.trimEnd(),
    );
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
