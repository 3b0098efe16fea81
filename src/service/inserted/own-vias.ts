// Writes the Via of the transactions that this member begins itself. Its branch is a token with a number of its own, so
// the responses come back to this member, and nobody else can make one.
import type { Clock } from '../../base/clock.ts';
import type { Guard } from '../../base/guard.ts';
import { mintToken, TokenKind } from '../../ownership/token.ts';
import type { Flow, Way } from '../../packet/flow.ts';
import { type ServiceContext, sentByOfFlow } from '../shared/context.ts';

/** Finds the flow that leads to the receiver of a request now (`Outward.reach`). `known`: the recorded one. */
export type Reach = (message: Buffer, known: Readonly<Way>) => Promise<Readonly<Way> | undefined>;

/** The ways by which this member sends requests of its own. */
export interface InsertingOptions {
  readonly context: ServiceContext;
  readonly clock: Clock;
  readonly guard: Guard;
  readonly vias: OwnVias;
  readonly reach: Reach;
  /**
   * Returns a client's request as the SIP server receives it, without a Via of the farm; undefined when it cannot be.
   */
  readonly inward: (message: Buffer) => Buffer | undefined;
  readonly toServer: (message: Buffer) => void;
}

export interface OwnVia {
  readonly value: string;
  readonly branch: string;
  readonly sentBy: string;
}

export class OwnVias {
  readonly #context: ServiceContext;
  #branches = 0;

  constructor(context: ServiceContext) {
    this.#context = context;
  }

  /** Returns the Via for a request by this flow; undefined when there is no such listener. */
  byFlow(flow: Readonly<Flow>): OwnVia | undefined {
    const ours = sentByOfFlow(this.#context, flow);
    return ours && this.#via(ours.via, TokenKind.outward);
  }

  /** Returns the Via for a request to the SIP server. */
  toServer(): OwnVia {
    return this.#via(this.#context.serverSentBy.via, TokenKind.inward);
  }

  #via(line: Buffer, kind: typeof TokenKind.outward | typeof TokenKind.inward): OwnVia {
    const { keys, tables } = this.#context.routing;
    const unique = Buffer.alloc(8);
    unique.writeUInt32BE(tables.incarnation, 0);
    unique.writeUInt32BE(++this.#branches >>> 0, 4);
    const token = mintToken(keys, kind, tables.self, 0, unique);
    const value = `${line.toString('latin1').slice('Via: '.length)}${token}`;
    const [sentBy = '', branch = ''] = value.slice(value.indexOf(' ') + 1).split(';branch=');
    return { value, branch, sentBy };
  }
}
