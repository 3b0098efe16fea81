// The answers that a client has still to get on its connection: for so long it is kept when the client has shut its sending half (RFC 9293 3.6).
import { isResponse } from './classify.ts';
import type { TransportLimits } from './limits.ts';

const [LETTER_A, LETTER_I, DIGIT_2] = [0x41, 0x49, 0x32];
/** Where the status of `SIP/2.0 200 OK` begins. */
const STATUS_AT = 8;

/**
 * Counts the client's requests and their final answers. An answer that comes twice, as that of an INVITE may, is counted twice, so the count is
 * believed only where there was no INVITE; else the time decides.
 */
export class DueAnswers {
  /** Requests without a final answer. */
  #open = 0;
  /** An INVITE has come. INFO, which begins alike, does no harm. */
  #invited = false;
  /** When the last message passed, in monotonic milliseconds. */
  #lastAt = 0;

  /** A message of the client. */
  took(bytes: Uint8Array, start: number, now: number): void {
    this.#lastAt = now;
    // ACK has no answer; no other registered method begins like it.
    if (bytes[start] === LETTER_A || isResponse(bytes, start)) return;
    this.#open++;
    if (bytes[start] === LETTER_I) this.#invited = true;
  }

  /** A response to the client. */
  gave(bytes: Uint8Array, now: number): void {
    this.#lastAt = now;
    if (this.#open > 0 && bytes[STATUS_AT]! >= DIGIT_2) this.#open--;
  }

  /** Some request has no final answer. */
  get some(): boolean {
    return this.#open > 0;
  }

  /** All have one for certain. */
  get none(): boolean {
    return this.#open === 0 && !this.#invited;
  }

  /** Answers may come yet. */
  mayCome(now: number, { answerMs, ringingMs }: TransportLimits): boolean {
    return now - this.#lastAt < (this.#open > 0 && this.#invited ? ringingMs : answerMs);
  }
}
