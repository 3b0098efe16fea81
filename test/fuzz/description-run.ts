// Descriptions for the fuzzer of media: whole messages pass the anchor of a member, whose relay has a fake system. An
// error has the message that breaks a rule.
import assert from 'node:assert/strict';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { type Anchor, type AnchorRule, makeAnchor } from '../../src/media/anchor.ts';
import { Side } from '../../src/media/media-relay.ts';
import { counter } from '../../src/metrics/counters.ts';
import { findSdp } from '../../src/sdp/body.ts';
import { Edit } from '../../src/sip/edit.ts';
import { Scan, scan } from '../../src/sip/scan.ts';
import { INSIDE, OUTSIDE, type RelayRig, relayRig, rtp } from '../unit/media/user-relay/relay-rig.ts';
import { assertRelayed, assertUntouched } from './described.ts';
import { Descriptions, PORTS } from './descriptions.ts';
import { Dice } from './dice.ts';
import { isForbidden } from './forbidden.ts';

const CALLS = 6;
/** Address of the outside ports in descriptions. */
const WAN = '203.0.113.11';
const RANGES = { outside: [20_000, 20_255], inside: [30_000, 30_255] } as const;
const SOURCES = ['192.0.2.7', '192.0.2.7', '198.18.0.1', '10.1.2.3', ''];
const RULES: readonly AnchorRule[] = ['always', 'always', 'always', 'always', 'always', 'nat', 'never'];
/** Sources of packets: those that descriptions name, and strangers. */
const PARTIES = ['192.0.2.7', '192.0.2.7', '10.0.0.9', '198.18.0.1'];
/** Messages between two ends of calls, with packets at all ports before. */
const ROUND = 50;
/** Octets of a message in an error. */
const MOST_SHOWN = 2000;

export interface DescriptionReport {
  messages: number;
  relayed: number;
  /** Packets that left the relay. */
  sent: number;
}

/** Returns true for the address and port of a leg; port -1 stands for any. */
function isRelay(address: string, port: number): boolean {
  const range = { [WAN]: RANGES.outside, [INSIDE]: RANGES.inside }[address];
  return range !== undefined && (port === -1 || (port >= range[0] && port <= range[1]));
}

/** Lets `count` messages pass. Rejects when one breaks a rule. */
export async function fuzzDescriptions(seed: number, count: number): Promise<DescriptionReport> {
  const dice = new Dice(seed);
  const [outside, inside] = [RANGES.outside, RANGES.inside].map(([first, last]) => ({ first, last }));
  const rig = await relayRig({
    sides: [
      { address: OUTSIDE, advertised: WAN, ...outside! },
      { address: INSIDE, ...inside! },
    ],
    restMs: 100,
    random: (below) => dice.int(below),
  });
  const run = new DescriptionRun(dice, rig);
  for (let i = 1; i <= count; i++) {
    run.one();
    if (i % ROUND === 0) run.endRound();
  }
  return run.report;
}

class DescriptionRun {
  readonly report: DescriptionReport = { messages: 0, relayed: 0, sent: 0 };
  readonly #dice: Dice;
  readonly #rig: RelayRig;
  readonly #descriptions: Descriptions;
  readonly #anchor: Anchor;
  readonly #scan = new Scan();
  readonly #again = new Scan();
  readonly #edit = new Edit();
  readonly #relayed: { n: number };
  #anchorRule: AnchorRule = 'always';
  #ice: 'first' | 'remove' = 'first';

  constructor(dice: Dice, rig: RelayRig) {
    this.#dice = dice;
    this.#rig = rig;
    this.#descriptions = new Descriptions(dice);
    const outcomes = counter(new Registry(), 'descriptions', 'by outcome', ['outcome']);
    this.#relayed = outcomes.cell({ outcome: 'relayed' });
    this.#anchor = makeAnchor(
      {
        relay: rig.relay,
        addresses: () => [WAN, INSIDE],
        sideOf: (address) => (address.startsWith('10.') ? Side.inside : Side.outside),
        settings: () => ({ anchor: this.#anchorRule, origin: dice.pick(['keep', 'replace']), ice: this.#ice }),
      },
      pino({ enabled: false }),
      outcomes,
    );
  }

  /** Lets one message pass in any direction and checks it. */
  one(): void {
    const dice = this.#dice;
    const call = 1 + dice.int(CALLS);
    const { isRequest, bytes } = this.#descriptions.message(`call-${call}`);
    this.report.messages++;
    if (scan(bytes, 0, bytes.length, false, this.#scan) !== null) return;
    this.#anchorRule = dice.pick(RULES);
    this.#ice = dice.chance(0.8) ? 'first' : 'remove';
    try {
      this.#pass(call, isRequest, bytes);
    } catch (cause) {
      throw new Error(`message ${this.report.messages}: ${JSON.stringify(bytes.toString('latin1', 0, MOST_SHOWN))}`, {
        cause,
      });
    }
  }

  /** Sends a packet to every port, ends some calls, and lets their ports rest. */
  endRound(): void {
    const { system, thread, clock, faults } = this.#rig;
    const ports = Array.from({ length: PORTS }, (_, i) => 4000 + 2 * i);
    for (const place of system.places)
      for (const port of ports) system.deliver(`${this.#dice.pick(PARTIES)} ${port}`, place, rtp(1));
    thread.run();
    for (const { to } of system.sent) assert.ok(!isForbidden(to), `a packet has left for ${to}`);
    this.report.sent += system.sent.length;
    system.sent.length = system.options.length = 0;
    assert.deepEqual(faults, []);
    this.#anchor.sweep(() => this.#dice.chance(0.5));
    clock.advance(1000);
    thread.run();
  }

  #pass(call: number, isRequest: boolean, bytes: Buffer): void {
    const dice = this.#dice;
    const anchor = this.#anchor;
    const message = this.#scan;
    const edit = this.#edit.beginScan(message);
    const editor = {
      replace: (start: number, end: number, piece: Uint8Array | string) => void edit.replace(start, end, piece),
      setContentLength: (octets: number) => void edit.setContentLength(message, octets),
    };
    const relayed = this.#relayed.n;
    const toClient = dice.chance(0.5);
    if (isRequest && toClient) anchor.requestToClient(message, call, dice.chance(0.3), editor);
    else if (isRequest) anchor.requestFromClient(message, call, dice.pick(SOURCES), dice.chance(0.3), editor);
    else if (toClient) anchor.responseToClient(message, call, editor);
    else anchor.responseFromClient(message, message.via, call, dice.pick(SOURCES), editor);
    const made = edit.apply();
    // More splices than an edit takes: such a message is refused.
    if (!made) return;
    const given = bytes.subarray(0, message.end);
    if (this.#relayed.n === relayed) assert.ok(made.equals(given), 'a description that is not relayed has changed');
    else this.#check(given, made);
  }

  #check(given: Buffer, made: Buffer): void {
    this.report.relayed++;
    const message = this.#scan;
    assert.equal(scan(made, 0, made.length, false, this.#again), null);
    assert.equal(this.#again.end, made.length, 'Content-Length');
    const length = /^Content-Length: \d+/m;
    assert.equal(
      made.toString('latin1', 0, this.#again.bodyStart).replace(length, ''),
      given.toString('latin1', 0, message.bodyStart).replace(length, ''),
    );
    const type = given.toString('latin1', message.contentTypeStart, message.contentTypeEnd);
    const { start, end } = findSdp(type, given, message.bodyStart, message.end)!;
    const [before, after] = [start - message.bodyStart, message.end - end];
    const body = made.subarray(this.#again.bodyStart);
    assert.ok(body.subarray(0, before).equals(given.subarray(message.bodyStart, start)));
    assert.ok(body.subarray(body.length - after).equals(given.subarray(end)));
    const text = body.toString('latin1', before, body.length - after);
    const described = given.toString('latin1', start, end);
    for (const [address, port] of assertRelayed(described, text, isRelay)) this.#descriptions.learn(address, port);
    assertUntouched(described, text, isRelay, this.#ice === 'remove');
  }
}
