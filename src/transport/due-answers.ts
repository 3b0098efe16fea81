// Counts the answers that a client still expects on its connection. A client may shut only its sending half (RFC 9293
// 3.6). Its connection then stays open for these answers.
import { isResponse } from './classify.ts';
import type { TransportLimits } from './limits.ts';

const [LETTER_A, LETTER_I, DIGIT_2] = [0x41, 0x49, 0x32];
/** Offset of the status in `SIP/2.0 200 OK`. */
const STATUS_AT = 8;

/**
 * Counts the client's requests and their final answers. A final answer to an INVITE may come twice and is then counted
 * twice. After an INVITE the count alone is therefore not trusted: a time limit decides.
 */
export class DueAnswers {
  /** Requests without a final answer. */
  #open = 0;
  /** An INVITE has come. INFO sets this too, since it begins with the same letter; that does no harm. */
  #invited = false;
  /** Time of the last message in either direction, in monotonic milliseconds. */
  #lastAt = 0;

  /** Notes a message of the client. `now` is in monotonic milliseconds. */
  took(bytes: Uint8Array, start: number, now: number): void {
    this.#lastAt = now;
    // ACK has no answer. No other registered method begins with `A`.
    if (bytes[start] === LETTER_A || isResponse(bytes, start)) return;
    this.#open++;
    if (bytes[start] === LETTER_I) this.#invited = true;
  }

  /** Notes a response to the client. `now` is in monotonic milliseconds. */
  gave(bytes: Uint8Array, now: number): void {
    this.#lastAt = now;
    if (this.#open > 0 && bytes[STATUS_AT]! >= DIGIT_2) this.#open--;
  }

  /** True when a request has no final answer. */
  get some(): boolean {
    return this.#open > 0;
  }

  /** True when every request certainly has its final answer. Always false after an INVITE. */
  get none(): boolean {
    return this.#open === 0 && !this.#invited;
  }

  /** Returns true while answers may still come. `now` is in monotonic milliseconds. */
  mayCome(now: number, { answerMs, ringingMs }: TransportLimits): boolean {
    return now - this.#lastAt < (this.#open > 0 && this.#invited ? ringingMs : answerMs);
  }
}
