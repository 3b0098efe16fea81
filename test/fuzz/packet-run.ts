// Packets for the fuzzer of media: datagrams of any source at the ports of a relay in user space, whose streams open,
// close, join and change meanwhile. Its system is fake. A model of the rules in docs/media.md decides about every
// packet beside the relay. An error has the packet that breaks a rule.
import assert from 'node:assert/strict';
import { type RelayStream, Side } from '../../src/media/media-relay.ts';
import { INSIDE, OUTSIDE, type RelayRig, relayRig } from '../unit/media/user-relay/relay-rig.ts';
import { Dice } from './dice.ts';
import { LegModel, type Place } from './leg-model.ts';
import { MediaPackets } from './media-packets.ts';

const SILENCE_MS = 500;
const MOST_STREAMS = 5;
/** Share of the inputs that change a stream instead. */
const CHANGES = 0.05;
const ADMITTED = ['forwarded', 'no-target', 'send-error'] as const;
const { outside, inside } = Side;

/** Places that parties name, and of other sources: good ones, private, on hold, of no host, and of the relay itself. */
const PLACES: readonly Place[] = [
  ['192.0.2.7', 4000],
  ['192.0.2.7', 4000],
  ['192.0.2.7', 4002],
  ['192.0.2.8', 4000],
  ['192.0.3.7', 4000],
  ['10.1.2.3', 4000],
  ['10.0.0.9', 5000],
  ['10.0.0.9', 5002],
  ['198.18.0.1', 4000],
  ['0.0.0.0', 4000],
  ['127.0.0.1', 4000],
  ['224.0.0.1', 4000],
  ['255.255.255.255', 4000],
  ['192.0.2.7', 0],
  [INSIDE, 5062],
  [INSIDE, 30_000],
  [INSIDE, 30_003],
  [OUTSIDE, 20_002],
];

/** Places at the beginning of the list that a party may have. */
const GOOD = 9;

export interface PacketReport {
  packets: number;
  forwarded: number;
  /** Sources that were locked. */
  latches: number;
  /** Streams that were opened. */
  streams: number;
}

interface StreamModel {
  readonly stream: RelayStream;
  /** By side; RTP first, then RTCP where it has a port of its own. */
  readonly legs: readonly [LegModel[], LegModel[]];
  joined: StreamModel | undefined;
  open: boolean;
}

/** Delivers `count` packets. Rejects when the relay breaks a rule. */
export async function fuzzPackets(seed: number, count: number): Promise<PacketReport> {
  const dice = new Dice(seed);
  const rig = await relayRig({
    sides: [
      { address: OUTSIDE, first: 20_000, last: 20_019 },
      { address: INSIDE, first: 30_000, last: 30_019 },
    ],
    own: [{ address: INSIDE, port: 5062 }],
    restMs: 100,
    random: (below) => dice.int(below),
  });
  const run = new PacketRun(dice, rig);
  while (run.report.packets < count) {
    if (dice.chance(CHANGES)) run.change();
    else run.packet();
  }
  assert.deepEqual(rig.faults, []);
  return { ...run.report, latches: rig.relay.total('latches'), forwarded: rig.relay.total('forwarded') };
}

class PacketRun {
  readonly report: PacketReport = { packets: 0, forwarded: 0, latches: 0, streams: 0 };
  readonly #dice: Dice;
  readonly #rig: RelayRig;
  readonly #packets: MediaPackets;
  readonly #streams: StreamModel[] = [];

  constructor(dice: Dice, rig: RelayRig) {
    this.#dice = dice;
    this.#rig = rig;
    this.#packets = new MediaPackets(dice);
  }

  /** Changes a stream as a session does. */
  change(): void {
    const dice = this.#dice;
    const model = dice.pick(this.#streams);
    const kind = dice.int(10);
    if (!model || kind === 0) this.#open();
    else if (kind === 1) this.#close(model);
    else if (kind === 2) this.#join(model);
    else if (kind === 3) this.#mux(model);
    else if (kind < 9) this.#expect(model, dice.pick([outside, inside]));
    else this.#rig.clock.advance(dice.pick([600, 1500]));
    this.#rig.thread.run();
  }

  /** Delivers one packet at a port of a stream, or at one that rests. */
  packet(): void {
    const dice = this.#dice;
    const { system, thread, clock, relay } = this.#rig;
    this.report.packets++;
    clock.advance(dice.pick([0, 0, 1, 20]));
    thread.run();
    const leg = dice.pick(dice.pick(this.#streams)?.legs.flat() ?? []);
    const from = leg && dice.chance(0.6) ? (leg.someSource(dice) ?? dice.pick(PLACES)) : dice.pick(PLACES);
    const at = leg && dice.chance(0.95) ? leg.place : dice.pick(system.places);
    if (at === undefined) return;
    const { bytes, whole } = this.#packets.next();
    const before = ADMITTED.reduce((sum, name) => sum + relay.total(name), 0);
    system.sent.length = system.options.length = 0;
    system.deliver(from.join(' '), at, bytes);
    thread.run();
    const admitted = ADMITTED.reduce((sum, name) => sum + relay.total(name), 0) - before;
    try {
      this.#check(at, from, bytes, whole, admitted);
    } catch (cause) {
      const text = `packet ${this.report.packets} from ${from.join(' ')} at ${at}: ${bytes.toString('hex', 0, 40)}`;
      throw new Error(text, { cause });
    }
  }

  #check(at: string, from: Place, bytes: Buffer, whole: boolean, admitted: number): void {
    const { system, clock } = this.#rig;
    const model = this.#streams.find(({ legs }) => legs.flat().some(({ place }) => place === at));
    const leg = model?.legs.flat().find(({ place }) => place === at);
    if (!model || !leg) {
      assert.deepEqual([admitted, system.sent], [0, []], 'a port that rests');
      return;
    }
    const verdict = leg.verdict(from, clock.now(), SILENCE_MS);
    if (whole && verdict === 'must') assert.equal(admitted, 1, 'a packet of the party is lost');
    if (admitted === 0) {
      assert.deepEqual(system.sent, []);
      leg.saw(from, clock.now());
      return;
    }
    assert.notEqual(verdict, 'never', 'a stranger has got in');
    const first = bytes[0] ?? 255;
    assert.ok(first < 4 || (first >= 20 && first < 64) || (first >= 128 && first < 192), 'no media');
    leg.lock(from, clock.now());
    const facing = facingOf(model, leg);
    const wanted = facing?.party ? [{ from: facing.place, to: facing.party, bytes }] : [];
    assert.deepEqual(system.sent, wanted);
  }

  #open(): void {
    const dice = this.#dice;
    if (this.#streams.length >= MOST_STREAMS) return;
    const facing = dice.chance(0.8) ? inside : outside;
    const stream = this.#rig.relay.open({
      clear: dice.chance(0.5),
      single: dice.chance(0.1),
      facing,
      ofNewCall: dice.chance(0.5),
    });
    if (!stream) return;
    this.report.streams++;
    const legs = [outside, inside].map((side) => {
      const { port, rtcpPort } = stream.ports[side]!;
      const network = side === outside ? outside : facing;
      return [...new Set([port, rtcpPort])].map((number) => new LegModel(network, number));
    }) as [LegModel[], LegModel[]];
    const model = { stream, legs, joined: undefined, open: true };
    this.#streams.push(model);
    for (const side of [outside, inside]) if (dice.chance(0.9)) this.#expect(model, side);
  }

  #close(model: StreamModel): void {
    model.open = false;
    model.stream.close();
    this.#streams.splice(this.#streams.indexOf(model), 1);
  }

  #join(model: StreamModel): void {
    const other = this.#dice.pick([undefined, ...this.#streams.filter((each) => each !== model)]);
    model.joined = other;
    model.stream.join(other?.stream);
  }

  #mux(model: StreamModel): void {
    model.stream.mux();
    for (const legs of model.legs) legs.length = 1;
  }

  #expect(model: StreamModel, side: Side): void {
    const dice = this.#dice;
    const some = (leg: LegModel | undefined) => {
      if (dice.chance(0.5)) return leg?.expected;
      if (dice.chance(0.1)) return undefined;
      const [address, port] = dice.pick(dice.chance(0.6) ? PLACES.slice(0, GOOD) : PLACES);
      return { address, port, signalling: dice.pick(['', '', '192.0.2.7', '198.18.0.1']) };
    };
    const [first, second] = model.legs[side];
    const [rtp, rtcp] = [some(first), some(second)];
    model.stream.expect(side, { rtp, rtcp });
    first!.expect(rtp);
    second?.expect(rtcp);
  }
}

/** Returns the leg by which packets leave that come to `leg`; undefined when that has ended. */
function facingOf(model: StreamModel, leg: LegModel): LegModel | undefined {
  const side = model.legs[outside].includes(leg) ? outside : inside;
  const other = side === outside && model.joined ? model.joined : model;
  if (!other.open) return undefined;
  const legs = other.legs[side === outside && other === model ? inside : outside];
  return legs[model.legs[side].indexOf(leg)] ?? legs[0];
}
