// The first stage of a connection behind a proxy: reads the PROXY header, which names the client.
import type { CloseReason } from './close-reason.ts';
import type { ProxyHeader, ProxyOutcome } from './proxy-protocol.ts';
import type { ProxyOpening, ProxyRule } from './proxy-rule.ts';
import type { Stage, StageExit } from './stage.ts';

export interface ProxyStageOptions {
  readonly opening: ProxyOpening;
  readonly rule: ProxyRule;
  /** Scratch that all stages share. */
  readonly header: ProxyHeader;
  /** Milliseconds in which the header must be complete. */
  readonly headerMs: () => number;
  /**
   * Called once, when the client is known. `header` has its addresses with outcome `proxied`. Returns false if the
   * connection was closed meanwhile.
   */
  readonly onKnown: (outcome: ProxyOutcome, header: ProxyHeader) => boolean;
}

const NOTHING = Buffer.alloc(0);

export class ProxyStage implements Stage {
  readonly #options: ProxyStageOptions;
  readonly #exit: StageExit;
  /** True once it is certain that no header follows. */
  #over = false;

  constructor(options: ProxyStageOptions, exit: StageExit) {
    this.#options = options;
    this.#exit = exit;
  }

  get held(): number {
    return this.#options.opening.held.length;
  }

  take(chunk: Buffer): void {
    const { opening, header } = this.#options;
    if (this.#over) this.#exit.pass(chunk);
    else if (!opening.waiting) this.#watch(chunk);
    else {
      const outcome = opening.take(chunk, header);
      if (outcome !== undefined) this.#decide(outcome);
    }
  }

  expire(openMs: number): void {
    const { opening, headerMs } = this.#options;
    if (this.#over || !opening.waiting || openMs < headerMs()) return;
    const outcome = opening.expire();
    if (outcome !== undefined) this.#decide(outcome);
  }

  ended(reason: CloseReason): void {
    const { opening, rule } = this.#options;
    const cut = !this.#over && opening.waiting && opening.held.length > 0;
    if (cut && (reason === 'peer' || reason === 'error')) rule.outcomes.cut.n++;
    this.#over = true;
  }

  /** Acts on the outcome of the first octets. */
  #decide(outcome: ProxyOutcome): void {
    const { opening, rule, header, onKnown } = this.#options;
    rule.outcomes[outcome].n++;
    const accepted = outcome === 'proxied' || outcome === 'local' || outcome === 'unknown';
    if (!accepted) this.#over = true;
    if (!accepted && outcome !== 'none') {
      this.#exit.fail('proxy-header');
      return;
    }
    if (!onKnown(outcome, header)) return;
    const rest = opening.held;
    opening.held = NOTHING;
    if (rest.length === 0) return;
    if (this.#over) this.#exit.pass(rest);
    else this.#watch(rest);
  }

  /** Checks the octets after a header for a second one. */
  #watch(chunk: Buffer): void {
    const seen = this.#options.opening.watch(chunk);
    if (seen !== 'so-far') this.#over = true;
    if (seen === 'nested') {
      this.#options.rule.outcomes.nested.n++;
      this.#exit.fail('proxy-header');
    } else this.#exit.pass(chunk);
  }
}
