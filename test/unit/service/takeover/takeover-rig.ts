// An adopted call for the tests of this folder: its record, a member that has it now, and what this member sends for
// it.
import type { TestContext } from 'node:test';
import { NO_GUARD } from '../../../../src/base/guard.ts';
import type { CallRecord, Leg } from '../../../../src/calls/records/call-record.ts';
import type { Way } from '../../../../src/packet/flow.ts';
import { OwnVias, type Reach } from '../../../../src/service/inserted/own-vias.ts';
import { Surrogate } from '../../../../src/service/takeover/surrogate.ts';
import { compose, Message } from '../../../fake/sip.ts';
import { EDGE } from '../../ingress/way-farm.ts';
import { type ContextRig, contextRig } from '../shared/context-rig.ts';

export const CALL_ID = 'adopted';
export const CALLER = { address: '192.0.2.7', port: 5060 };
export const CALLER_VIA = 'SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKalice';
const INVITE = ['From: <sip:alice@example.org>;tag=a', `Call-ID: ${CALL_ID}`, 'CSeq: 7 INVITE', 'Max-Forwards: 70'];

/** Returns an INVITE of the call without To tag; with another method its CANCEL or the ACK of its error. */
export function ofCaller(method = 'INVITE', via = CALLER_VIA): Buffer {
  const lines = INVITE.map((line) => line.replace('7 INVITE', `7 ${method}`));
  return Buffer.from(
    compose(`${method} sip:bob@example.org SIP/2.0`, [`Via: ${via}`, 'To: <sip:bob@example.org>', ...lines]),
  );
}

/** Returns a response of the callee `name` to the INVITE that left under its branch. */
export function ofCallee(name: string, status: number, branch = branchTo(name)): Buffer {
  return Buffer.from(
    compose(`SIP/2.0 ${status} Fine`, [
      `Via: SIP/2.0/UDP 198.51.100.1:5060;branch=${branch}`,
      `To: <sip:bob@example.org>;tag=${name}`,
      `Contact: <sip:${name}@192.0.2.99>`,
      ...INVITE,
    ]),
  );
}

export function branchTo(name: string): string {
  return `z9hG4bK${name}`;
}

export class TakeoverRig {
  readonly #rig: ContextRig;
  readonly surrogate: Surrogate;
  /** Replaces RFC 3263 and the recorded ways: by default a party is where its leg names it. */
  reach: Reach = async (_message, known) => known;

  constructor(rig: ContextRig) {
    this.#rig = rig;
    this.surrogate = new Surrogate(
      rig.context,
      rig.farm.clock,
      (message, known) => this.reach(message, known),
      new OwnVias(rig.context),
      NO_GUARD,
    );
  }

  get context() {
    return this.#rig.context;
  }

  get member() {
    return this.#rig.member;
  }

  get clock() {
    return this.#rig.farm.clock;
  }

  flowTo(address: string, port = 5060, listener = EDGE): Way {
    return { ...this.#rig.member.flow(listener, { address, port }), target: -1, nat: false };
  }

  /** Returns the leg of the caller. */
  clientLeg(): Leg {
    return { from: 'client', flow: this.flowTo(CALLER.address), request: ofCaller().toString('latin1') };
  }

  /** Returns the leg of the callee `name` at `address`, answered or not. */
  serverLeg(name: string, address: string, answered = false): Leg {
    const via = `SIP/2.0/UDP 198.51.100.1:5060;branch=${branchTo(name)}`;
    const answer = answered ? { answer: ofCallee(name, 200).toString('latin1') } : {};
    return {
      from: 'server',
      flow: this.flowTo(address),
      request: ofCaller('INVITE', via).toString('latin1'),
      ...answer,
    };
  }

  record(...legs: readonly Leg[]): CallRecord {
    const since = '2026-01-01T00:00:00.000Z';
    return { v: 1, state: 'early', method: 'INVITE', callId: CALL_ID, incarnation: 1, epoch: 1, since, legs };
  }

  /** Returns the messages that have left since the last call, after all that they cause. */
  async messages(): Promise<readonly (Message & { readonly to: string })[]> {
    const { network, out } = this.#rig.farm;
    await network.settle();
    return out.splice(0).map(({ text, to }) => Object.assign(new Message(text), { to }));
  }

  /** Returns the same as lines: method or status, and receiver. */
  async sent(): Promise<readonly string[]> {
    const messages = await this.messages();
    return messages.map(({ status, method, to }) => `${status || method} ${to.split(':')[0]}`);
  }

  /** Advances the time in steps of half a second. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 500) {
      this.clock.advance(500);
      await this.#rig.farm.network.settle();
    }
  }
}

export async function takeoverRig(t: TestContext): Promise<TakeoverRig> {
  const rig = new TakeoverRig(await contextRig(t));
  t.after(() => rig.surrogate.close());
  return rig;
}
