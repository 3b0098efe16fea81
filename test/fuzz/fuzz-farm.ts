// A farm for the fuzzer: three living members, a drained one, one that dies and comes back, a node outside with the
// farm key, a SIP server behind each, and phones. Inputs come at every entrance, and calls must work meanwhile.
import type { DatagramSocket } from '../../src/base/network.ts';
import { UNBOUND } from '../../src/relay/envelope.ts';
import { StreamLink } from '../../src/relay/stream-link.ts';
import { FakeFarm, type FakeMember, type FaultLine, type UdpPhone } from '../fake/farm.ts';
import type { FakeStream } from '../fake/network.ts';
import { type Message, respond } from '../fake/sip.ts';
import { Call, serve } from '../unit/farm/calls.ts';
import { Dice } from './dice.ts';
import { Frames, messageIn, stun } from './frames.ts';
import { Messages } from './messages.ts';
import { Mutations } from './mutations.ts';
import { type SlowInput, SlowInputs } from './slow.ts';
import { Tokens } from './tokens.ts';
import { COMING_AND_GOING, DRAINED, OUTSIDE, optionsOf, PROXY } from './variants.ts';

export const ENTRANCES = ['datagram', 'connection', 'relay datagram', 'relay stream', 'server'] as const;
export type FuzzEntrance = (typeof ENTRANCES)[number];
/** Percentages of the inputs. */
const SHARES: Readonly<Record<FuzzEntrance, number>> = {
  datagram: 48,
  connection: 14,
  'relay datagram': 16,
  'relay stream': 6,
  server: 16,
};

const STREAMS = 24;
const SOURCES = ['192.0.2.7', '192.0.2.9', '203.0.113.9', '198.51.100.77', '10.0.0.2'];
export class FuzzFarm {
  readonly farm: FakeFarm;
  readonly counts: Record<FuzzEntrance, number> = {
    datagram: 0,
    connection: 0,
    'relay datagram': 0,
    'relay stream': 0,
    server: 0,
  };
  /** Number of calls that have worked. */
  calls = 0;
  /** Inputs of the current batch. */
  readonly batch: { readonly where: string; readonly bytes: Buffer }[] = [];
  readonly #variant: number;
  readonly #dice: Dice;
  /**
   * Random choices for answers. Their number depends on owners, so they may not use the random numbers of the inputs.
   */
  readonly #mood: Dice;
  readonly #tokens: Tokens;
  readonly #messages: Messages;
  readonly #mutations: Mutations;
  readonly #frames: Frames;
  readonly #link: StreamLink;
  readonly #phones: UdpPhone[] = [];
  readonly #streams: FakeStream[] = [];
  /** Calls that last from the first input to the last. */
  readonly #lasting: Call[] = [];
  #rogue: DatagramSocket | undefined;
  readonly #slow = new SlowInputs();
  #callNumber = 0;

  private constructor(farm: FakeFarm, link: StreamLink, seed: number, variant: number) {
    this.farm = farm;
    this.#link = link;
    this.#variant = variant;
    this.#dice = new Dice(seed);
    this.#mood = new Dice(seed + 1);
    this.#tokens = new Tokens(this.#dice, {
      living: this.living.map(({ number }) => number),
      drained: farm.member(DRAINED).number,
      gone: farm.member(COMING_AND_GOING).number,
      outside: farm.member(OUTSIDE).number,
    });
    this.#messages = new Messages(this.#dice, this.#tokens);
    this.#mutations = new Mutations(this.#dice, this.#tokens);
    this.#frames = new Frames(this.#dice, this.#tokens);
  }

  static async start(seed: number, variant: number): Promise<FuzzFarm> {
    const links: StreamLink[] = [];
    const { listen } = StreamLink.prototype;
    StreamLink.prototype.listen = function (local) {
      links.push(this);
      return listen.call(this, local);
    };
    const farm = await FakeFarm.start(optionsOf(variant)).finally(() => {
      StreamLink.prototype.listen = listen;
    });
    const made = new FuzzFarm(farm, links[0]!, seed, variant);
    await made.#open();
    return made;
  }

  get living(): readonly FakeMember[] {
    return [2, 3, 4].map((index) => this.farm.member(index));
  }

  /** Log lines of the guards. */
  get faults(): readonly FaultLine[] {
    return this.farm.members.flatMap(({ faults }) => faults);
  }

  async #open(): Promise<void> {
    const { farm } = this;
    const servers = serve(farm, { shared: this.#variant % 2 === 1 });
    for (const { server } of servers) {
      const takeCall = server.script;
      server.script = (message) => {
        if (message.callId.startsWith('good-')) takeCall(message, server);
        else this.#react(message, (text) => server.send(text));
      };
    }
    for (const [address, port] of [
      ['192.0.2.7', 5060],
      ['192.0.2.9', 5060],
      ['203.0.113.9', 33_333],
    ] as const) {
      const phone = await farm.phone(address, port);
      phone.onMessage = (message) => this.#react(message, (text) => phone.send(text));
      this.#phones.push(phone);
    }
    this.#rogue = await farm.network.bindUdp(
      { address: '10.0.9.9', port: 5064 },
      { onDatagram: () => {}, onSendError: () => {} },
    );
    const { handle } = farm.network;
    farm.network.handle = (handlers, bytes, from, to) => {
      const began = performance.now();
      handle(handlers, bytes, from, to);
      if (to.port === 5062) this.#slow.note('service port', bytes, began);
      else if (to.port === 5064) this.#slow.note('relay port', bytes, began);
    };
    farm.choose = () => this.#mood.pick(this.living);
    await farm.drive(farm.member(2).node.api.orders.give(`fe${DRAINED}`, { order: 'drain' }));
    await farm.until(() => farm.member(DRAINED).node.state === 'drained', 'the member is drained');
    for (const transport of ['udp', 'tcp'] as const)
      for (const owner of this.living) this.#lasting.push(await this.#begin(transport, owner));
  }

  /** Sends `count` inputs and waits until all their effects have settled. */
  async feed(count: number): Promise<void> {
    this.batch.length = 0;
    for (let i = 0; i < count; i++) this.#one();
    await this.farm.settle();
    this.farm.clock.advance(10);
    await this.farm.settle();
    this.#forget();
  }

  /** Lets time pass for timers, records and probes. */
  async pass(ms: number): Promise<void> {
    await this.farm.pass(ms, 50);
    this.#forget();
  }

  /** Kills the changing member or starts it again. Its SIP server lives on. */
  async turn(): Promise<void> {
    const member = this.farm.member(COMING_AND_GOING);
    if (member.alive) await this.farm.kill(member, { serverLives: true });
    else await this.farm.enter(COMING_AND_GOING);
  }

  /** Checks that a whole call from a new phone works; throws when it does not. */
  async call(transport: 'udp' | 'tcp'): Promise<void> {
    await this.#end(await this.#begin(transport, this.#mood.pick(this.living)));
  }

  /** Number of packets in frames of the node outside that members have accepted. */
  get taken(): number {
    const { id: peer } = this.farm.member(OUTSIDE);
    return this.farm.sum(({ relayed }) => relayed, { direction: 'in', peer });
  }

  /** Checks that the calls from before the first input end normally; throws when they do not. */
  async endLasting(): Promise<void> {
    for (const call of this.#lasting.splice(0)) await this.#end(call);
  }

  async #begin(transport: 'udp' | 'tcp', owner: FakeMember): Promise<Call> {
    const { farm } = this;
    const id = ++this.#callNumber;
    const address = `192.0.${3 + ((id >> 8) % 200)}.${id & 255}`;
    const phone = transport === 'udp' ? await farm.phone(address) : await farm.tcpPhone(address);
    const call = new Call(farm, phone, this.#callIdOf(owner, `good-${id}`));
    call.invite();
    await this.#answered(call, 'INVITE');
    return call;
  }

  /**
   * Returns a Call-ID in a slot of the member by its own view, because the views of others may still have a dead
   * member.
   */
  #callIdOf(owner: FakeMember, prefix: string): string {
    for (let i = 0; ; i++)
      if (owner.node.api.owner(`${prefix}-${i}`).owner?.number === owner.number) return `${prefix}-${i}`;
  }

  async #end(call: Call): Promise<void> {
    call.bye();
    await this.#answered(call, 'BYE');
    this.calls++;
    this.#forget();
  }

  async #answered(call: Call, method: string): Promise<void> {
    await this.farm.until(() => call.final.has(method), `${method} of ${call.callId} is answered`, 40_000);
    const status = call.final.get(method);
    if (status !== 200) throw new Error(`${method} of ${call.callId} is answered ${status}`);
  }

  /** Returns the slowest input. A repeated frame would be refused as a replay, so its message is measured. */
  slowest(): Promise<SlowInput | undefined> {
    const { server, node } = this.living[0]!;
    return this.#slow.slowest(
      (where, bytes) => {
        if (where === 'service port') this.farm.network.hand(bytes, server.at, server.edge);
        else node.transport.inject(0, where === 'relay port' ? messageIn(bytes) : bytes, '192.0.2.7', 5060);
      },
      () => this.farm.settle(),
    );
  }

  async stop(): Promise<void> {
    for (const stream of this.#streams) stream.destroy();
    await this.#rogue?.close();
    await this.farm.stop();
  }

  #one(): void {
    let roll = this.#dice.int(100);
    const where = ENTRANCES.find((entrance) => {
      roll -= SHARES[entrance];
      return roll < 0;
    })!;
    this.counts[where]++;
    if (where === 'datagram') this.#datagram();
    else if (where === 'connection') this.#connection();
    else if (where === 'server') this.#server();
    else this.#relay(where);
  }

  #message(side: 'client' | 'server'): Buffer {
    const dice = this.#dice;
    if (dice.chance(0.01))
      return dice.pick([dice.octets(dice.length(300)), stun(dice), Buffer.alloc(dice.int(5)), Buffer.from('\r\n\r\n')]);
    return this.#mutations.of(this.#messages.any(side), this.#messages.any(side));
  }

  #note(where: string, bytes: Buffer): void {
    this.batch.push({ where, bytes });
  }

  #datagram(): void {
    const dice = this.#dice;
    const proxied = this.#variant === 2 && dice.chance(0.4);
    const bytes = proxied ? this.#frames.proxied('udp', this.#message('client')) : this.#message('client');
    const member = dice.pick(this.farm.behind);
    this.#note('datagram', bytes);
    // The member may change its octets; the recorded ones stay the same.
    const given = Buffer.from(bytes);
    const source = proxied && dice.chance(0.9) ? PROXY : dice.pick(SOURCES);
    const port = dice.pick([5060, 5060, 33_333, 1, 0]);
    const began = performance.now();
    member.node.transport.inject(0, given, source, port);
    this.#slow.note('datagram', bytes, began);
  }

  #connection(): void {
    const dice = this.#dice;
    const index = dice.int(STREAMS);
    let stream = this.#streams[index];
    const fresh = !stream || stream.destroyed || dice.chance(0.2);
    if (fresh) {
      stream?.destroy();
      const proxied = this.#variant === 2 && dice.chance(0.5);
      stream = this.farm.network.connectTcp(
        { address: '198.51.100.1', port: 5060 },
        { address: proxied ? PROXY : dice.pick(SOURCES) },
      );
      stream.on('error', () => {});
      stream.on('data', () => {});
      this.#streams[index] = stream;
    }
    const proxied = fresh && this.#variant === 2 && dice.chance(0.8);
    const bytes = proxied ? this.#frames.proxied('tcp', this.#message('client')) : this.#message('client');
    this.#note('connection', bytes);
    const pieces = dice.pick([1, 1, 2, 3, 6, bytes.length < 100 ? bytes.length : 8]);
    let at = 0;
    for (let left = pieces; left > 0; left--) {
      const until = left === 1 ? bytes.length : at + dice.int(bytes.length - at + 1);
      if (until > at && stream && !stream.destroyed) stream.write(Buffer.from(bytes.subarray(at, until)));
      at = until;
    }
  }

  #server(): void {
    const dice = this.#dice;
    const member = dice.pick(this.living);
    const bytes = this.#message('server');
    this.#note('server', bytes);
    if (dice.chance(0.02)) this.#phones[0]!.send(bytes.toString('latin1'), member.server.edge);
    else member.server.send(bytes.toString('latin1'));
  }

  #relay(where: 'relay datagram' | 'relay stream'): void {
    const dice = this.#dice;
    const receiver = dice.pick(this.living);
    const outside = this.farm.member(OUTSIDE).node.api.farm().incarnation;
    const epoch = receiver.node.api.view()?.epoch ?? 1;
    const gone = this.farm.member(COMING_AND_GOING);
    const others = gone.alive ? [999, 0] : [999, 0, gone.number];
    const message = this.#message(dice.chance(0.5) ? 'client' : 'server');
    const bound = where === 'relay stream' ? UNBOUND : receiver.node.api.farm().incarnation;
    const frame = dice.chance(0.02)
      ? dice.octets(dice.length(300))
      : this.#frames.of(message, receiver.number, bound, outside, epoch, others);
    this.#note(where, frame);
    if (where === 'relay datagram') {
      if (frame.length <= 65_507) this.#rogue?.send(frame, receiver.address, 5064);
      return;
    }
    const sent = Buffer.alloc(4 + frame.length);
    sent.writeUInt32BE(dice.chance(0.99) ? frame.length : dice.int(100_000), 0);
    sent.set(frame, 4);
    this.#link.send(receiver.number, sent);
  }

  /** Reacts to a message of the fuzzer at a server or a phone, mostly with nothing. */
  #react(message: Message, send: (text: string) => void): void {
    this.#messages.capture(Buffer.from(message.text, 'latin1'));
    this.#tokens.learn(message.text);
    const mood = this.#mood;
    if (message.status !== 0 || message.method === 'ACK' || mood.chance(0.4)) return;
    if (mood.chance(0.3)) {
      const via = `Via: SIP/2.0/UDP 10.0.0.2:5070;branch=z9hG4bKp${mood.int(1e6)}\r\n`;
      const start = `${message.method} sip:bob@192.0.2.9 SIP/2.0\r\n`;
      send(start + via + message.text.slice(message.text.indexOf('\r\n') + 2));
      return;
    }
    const headers = ['Contact: <sip:bob@192.0.2.9>', ...(mood.chance(0.2) ? ['Session-Expires: 90'] : [])];
    send(respond(message, mood.pick([100, 180, 200, 200, 200, 302, 486, 487, 430, 481]), { toTag: 'b', headers }));
  }

  /** Clears the messages that the farm has recorded. */
  #forget(): void {
    for (const { left, entered, server } of this.farm.members)
      for (const list of [left, entered, server.requests, server.responses, server.asked]) list.length = 0;
    for (const { got, from } of this.#phones) {
      got.length = 0;
      from.length = 0;
    }
  }
}
