// One TCP connection: its states from the first octet to the last, its queue, and its time limits.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NO_GUARD } from '../../../src/base/guard.ts';
import type { CloseReason } from '../../../src/transport/close-reason.ts';
import { Connection, type ConnectionOwner } from '../../../src/transport/connection.ts';
import type { FrameFault } from '../../../src/transport/framer.ts';
import { DEFAULT_LIMITS, type TransportLimits } from '../../../src/transport/limits.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork, type FakeStream } from '../../fake/network.ts';
import { message, VIP } from './bench.ts';

const MEMBER = { address: VIP, port: 5060 };
const CLIENT = { address: '192.0.2.9', port: 5060 };

/** A connection with the party at its other end, and the calls that its table would get. */
class Rig implements ConnectionOwner {
  readonly clock = new FakeClock();
  readonly network = new FakeNetwork({ clock: this.clock });
  readonly limits: TransportLimits;
  readonly guard: ConnectionOwner['guard'];
  readonly messages: string[] = [];
  readonly faults: string[] = [];
  readonly closed: CloseReason[] = [];
  readonly unsent: string[] = [];
  keepalives = 0;
  gone = 0;
  /** Octets that the connection holds by its reports. */
  held = 0;
  onText: (connection: Connection, text: string) => void = () => {};
  onFault: (connection: Connection, fault: FrameFault) => void = () => {};
  #connection: Connection | undefined;
  #party: FakeStream | undefined;
  #received = '';

  constructor(limits: Partial<TransportLimits> = {}, guard = NO_GUARD) {
    this.limits = { ...DEFAULT_LIMITS, ...limits };
    this.guard = guard;
  }

  /** Accepts a connection of a client. `reads`: whether the client reads its octets. */
  async accepted({ reads = true } = {}): Promise<this> {
    await this.network.listenTcp(MEMBER, (stream) => this.#start(stream as FakeStream, true), { halfOpen: true });
    this.#party = this.network.connectTcp(MEMBER, CLIENT);
    this.#watch(this.#party, reads);
    await this.network.settle();
    return this;
  }

  /** Opens a connection to a server. `listens`: whether one is there. */
  async dialled({ listens = true } = {}): Promise<this> {
    if (listens)
      await this.network.listenTcp(CLIENT, (stream) => {
        this.#party = stream as FakeStream;
        this.#watch(this.#party, true);
      });
    this.#start(this.network.connectTcp(CLIENT, MEMBER), false);
    return this;
  }

  get connection(): Connection {
    return this.#connection!;
  }

  get party(): FakeStream {
    return this.#party!;
  }

  /** All octets that the other side has received. */
  get text(): string {
    return this.#received;
  }

  async write(text: string): Promise<void> {
    this.party.write(Buffer.from(text, 'latin1'));
    await this.network.settle();
  }

  async send(text: string): Promise<boolean> {
    const sent = this.connection.send(Buffer.from(text, 'latin1'));
    await this.network.settle();
    return sent;
  }

  /** Closes the sending half of the other side. */
  async shut(): Promise<void> {
    this.party.end();
    await this.network.settle();
  }

  /** Lets the time pass, then sweeps as the table does. */
  async sweepAfter(ms: number): Promise<void> {
    this.clock.advance(ms);
    this.connection.sweep(this.clock.now());
    await this.network.settle();
  }

  now(): number {
    return this.clock.now();
  }

  onMessage(connection: Connection, bytes: Buffer, start: number, end: number): void {
    const text = bytes.toString('latin1', start, end);
    this.messages.push(text);
    this.onText(connection, text);
  }

  onKeepalive(): void {
    this.keepalives++;
  }

  onFrameFault(connection: Connection, fault: FrameFault): void {
    this.faults.push(fault);
    this.onFault(connection, fault);
  }

  onStageFault(): void {}

  onHeld(change: number): void {
    this.held += change;
  }

  onClosed(_connection: Connection, reason: CloseReason): void {
    this.closed.push(reason);
  }

  onGone(): void {
    this.gone++;
  }

  onUnsent(bytes: Buffer): void {
    this.unsent.push(bytes.toString('latin1'));
  }

  #start(stream: FakeStream, accepted: boolean): void {
    const options = { id: 1, listener: 0, stream, remote: CLIENT, local: MEMBER, accepted, source: undefined };
    this.#connection = new Connection(options, this, []);
    this.#connection.start();
  }

  #watch(stream: FakeStream, reads: boolean): void {
    stream.on('error', () => {});
    if (!reads) return;
    stream.on('data', (chunk: Buffer) => {
      this.#received += chunk.toString('latin1');
    });
  }
}

const accepted = (limits: Partial<TransportLimits> = {}): Promise<Rig> => new Rig(limits).accepted();

describe('an open connection', () => {
  test('sends answers, whose buffer may be reused at once', async () => {
    const rig = await accepted();
    const scratch = Buffer.from('answer');
    rig.onText = (connection) => {
      assert.ok(connection.send(scratch));
      scratch.fill('x');
    };
    await rig.write(message());
    assert.equal(rig.text, 'answer');
  });

  test('gets one pong for all pings in a chunk, and none for a single CRLF', async () => {
    const rig = await accepted();
    await rig.write('\r\n\r\n');
    assert.equal(rig.text, '\r\n');
    await rig.write('\r\n\r\n'.repeat(1_000));
    assert.equal(rig.text, '\r\n\r\n');
    await rig.write('\r\n');
    assert.equal(rig.text, '\r\n\r\n');
    assert.equal(rig.keepalives, 1_001);
  });

  test('stays open by NULs between messages, which are not answered', async () => {
    const rig = await accepted({ silentMs: 10_000, idleMs: 30_000 });
    for (const keepalive of ['\0', '\r\n\0', '\0\0\0\0', message('one'), '\0']) {
      await rig.write(keepalive);
      await rig.sweepAfter(9_000);
    }
    await rig.write(message('two'));
    assert.deepEqual(rig.messages, [message('one'), message('two')]);
    assert.deepEqual([rig.text, rig.party.destroyed, rig.closed, rig.keepalives], ['', false, [], 7]);
  });

  test('is reported as closed and as gone once when the other side closes it, and sends nothing more', async () => {
    const rig = await accepted();
    await rig.write(message('done', '', 'ACK'));
    await rig.shut();
    assert.deepEqual([rig.closed, rig.gone, rig.connection.state], [['peer'], 1, { kind: 'gone' }]);
    assert.equal(await rig.send('late'), false);
    rig.connection.destroy('stop');
    assert.deepEqual([rig.closed, rig.gone], [['peer'], 1]);
  });

  for (const [method, hasCalls] of [
    ['INVITE', true],
    ['OPTIONS', false],
    ['REGISTER', false],
    ['SUBSCRIBE', false],
  ] as const)
    test(`has ${hasCalls ? '' : 'no '}calls after ${method} in either direction`, async () => {
      const [inward, outward] = [await accepted(), await accepted()];
      await inward.write(message('in', '', method));
      await outward.send(message('out', '', method));
      assert.deepEqual([inward.connection.hasCalls, outward.connection.hasCalls], [hasCalls, hasCalls]);
    });

  test('of a slow reader is destroyed by the message that exceeds its queue, but the first may be longer', async () => {
    const rig = await new Rig({ sendQueueBytes: 100 }).accepted({ reads: false });
    assert.equal(await rig.send('x'.repeat(100_000)), true);
    assert.equal(rig.connection.queued, 100_000);
    assert.equal(await rig.send('x'), false);
    assert.deepEqual([rig.closed, rig.gone], [['send-queue'], 1]);
  });

  test('whose handling throws ends at the guard, and takes no more octets', async () => {
    const caught: unknown[] = [];
    const guard = {
      caught: (entrance: string, error: unknown) => void caught.push([entrance, String(error)]),
    };
    const rig = await new Rig({}, guard).accepted();
    rig.onText = () => {
      throw new Error('fault');
    };
    await rig.write(message('one') + message('two'));
    assert.deepEqual(caught, [['connection', 'Error: fault']]);
    assert.deepEqual([rig.messages, rig.closed, rig.held], [[message('one')], ['error'], 0]);
    assert.ok(rig.party.destroyed);
  });
});

describe('a framing fault', () => {
  const broken = message().replace('Content-Length: 0', 'Content-Length: +5');

  test('still gets its answer, then the connection closes and nothing after the fault is a message', async () => {
    const rig = await accepted();
    rig.onFault = (connection) => assert.ok(connection.send(Buffer.from('400')));
    await rig.write(`${broken}hello${message('smuggled')}`);
    assert.deepEqual([rig.faults, rig.messages, rig.text], [['bad-length'], [], '400']);
    assert.deepEqual([rig.closed, rig.gone, rig.party.destroyed], [['framing'], 1, true]);
  });

  test('of a client that does not read the answer ends after the linger time, and is reported once', async () => {
    const rig = await new Rig({ lingerMs: 2_000 }).accepted({ reads: false });
    rig.onFault = (connection) => void connection.send(Buffer.alloc(400_000));
    await rig.write('\x01');
    assert.deepEqual([rig.closed, rig.gone, rig.connection.state.kind], [['framing'], 0, 'closing']);
    await rig.sweepAfter(1_999);
    assert.equal(rig.gone, 0);
    await rig.sweepAfter(1);
    assert.deepEqual([rig.closed, rig.gone, rig.connection.state.kind], [['framing'], 1, 'gone']);
  });
});

describe('a client that has shut its sending half', () => {
  /** Sends `methods` and `rest`, then closes the sending half. */
  async function halfClosed(methods: readonly string[], limits: Partial<TransportLimits> = {}, rest = '') {
    const rig = await accepted(limits);
    await rig.write(methods.map((method) => message(method, '', method)).join('') + rest);
    await rig.shut();
    return rig;
  }

  test('gets the answers to all its requests, then the end, and is reported as closed once', async () => {
    const rig = await halfClosed(['OPTIONS', 'REGISTER', 'ACK']);
    assert.deepEqual([rig.connection.state, rig.closed], [{ kind: 'answering' }, []]);
    assert.ok(await rig.send('SIP/2.0 100 one '));
    assert.ok(await rig.send('SIP/2.0 200 two '));
    assert.equal(rig.party.destroyed, false);
    assert.ok(await rig.send('SIP/2.0 401 three'));
    assert.equal(rig.text, 'SIP/2.0 100 one SIP/2.0 200 two SIP/2.0 401 three');
    assert.ok(rig.party.destroyed);
    assert.deepEqual([rig.closed, rig.gone], [['half-closed'], 1]);
  });

  test('gets no request, because it could not answer', async () => {
    const rig = await halfClosed(['OPTIONS']);
    assert.equal(rig.connection.taking, false);
    assert.equal(await rig.send(message('back', '', 'BYE')), false);
    assert.equal(rig.text, '');
  });

  test('is closed at once when it waits for no answer', async () => {
    const rig = await halfClosed(['ACK']);
    assert.deepEqual([rig.party.destroyed, rig.closed], [true, ['peer']]);
  });

  test('is closed at once when it has all its answers', async () => {
    const rig = await accepted();
    rig.onText = (connection) => void connection.send(Buffer.from('SIP/2.0 200 '));
    await rig.write(message('one', '', 'INVITE') + message('two', '', 'OPTIONS'));
    await rig.shut();
    assert.deepEqual([rig.party.destroyed, rig.closed], [true, ['peer']]);
  });

  for (const [methods, seconds] of [
    [['OPTIONS', 'REGISTER'], 32],
    [['INVITE'], 212],
    [['INVITE', 'OPTIONS'], 212],
  ] as const)
    test(`is closed ${seconds} s after ${methods.join(' and ')} without an answer`, async () => {
      const rig = await halfClosed(methods);
      await rig.sweepAfter(seconds * 1_000 - 1_000);
      assert.deepEqual([rig.party.destroyed, rig.closed], [false, []]);
      await rig.sweepAfter(1_000);
      assert.deepEqual([rig.party.destroyed, rig.closed], [true, ['half-closed']]);
    });

  test('gets the 200 of each branch of its INVITE, and is closed 64*T1 after the last one', async () => {
    const rig = await halfClosed(['INVITE']);
    for (const answer of ['SIP/2.0 200 a', 'SIP/2.0 200 b', 'SIP/2.0 200 c']) assert.ok(await rig.send(answer));
    await rig.sweepAfter(31_000);
    assert.ok(await rig.send('SIP/2.0 200 d'));
    await rig.sweepAfter(31_000);
    assert.equal(rig.party.destroyed, false);
    await rig.sweepAfter(1_000);
    assert.ok(rig.party.destroyed);
  });

  test('is closed at once when its last request is 64*T1 old', async () => {
    const rig = await accepted();
    await rig.write(message('one', '', 'OPTIONS'));
    rig.clock.advance(32_000);
    await rig.shut();
    assert.deepEqual([rig.party.destroyed, rig.closed], [true, ['peer']]);
  });

  test('in the middle of a message is freed of that part, and still gets its answers', async () => {
    const rig = await halfClosed(['OPTIONS'], {}, message('half').slice(0, 80));
    assert.equal(rig.held, 0);
    await rig.sweepAfter(11_000);
    assert.ok(await rig.send('SIP/2.0 200 '));
    assert.equal(rig.text, 'SIP/2.0 200 ');
  });

  test('that does not read its answer is destroyed after the linger time', async () => {
    const rig = await new Rig({ lingerMs: 2_000 }).accepted({ reads: false });
    await rig.write(message('one', '', 'OPTIONS'));
    await rig.shut();
    assert.ok(await rig.send(`SIP/2.0 200 ${'x'.repeat(400_000)}`));
    assert.deepEqual([rig.closed, rig.gone], [['half-closed'], 0]);
    await rig.sweepAfter(2_000);
    assert.deepEqual([rig.closed, rig.gone], [['half-closed'], 1]);
  });
});

describe('the time limit', () => {
  test('for a partial message runs from its first octet, whatever octets follow slowly', async () => {
    const rig = await accepted({ halfMessageMs: 10_000 });
    const text = message();
    for (let second = 0; second < 10; second++) {
      await rig.write(text[second]!);
      assert.equal(rig.party.destroyed, false);
      await rig.sweepAfter(1_000);
    }
    assert.deepEqual([rig.party.destroyed, rig.closed, rig.held], [true, ['half-message'], 0]);
  });

  test('for a partial message starts again with each message', async () => {
    const rig = await accepted({ halfMessageMs: 10_000 });
    await rig.write(message('one').slice(0, 20));
    await rig.sweepAfter(9_000);
    await rig.write(message('one').slice(20) + message('two').slice(0, 20));
    await rig.sweepAfter(9_000);
    assert.equal(rig.party.destroyed, false);
    await rig.write(message('two').slice(20));
    await rig.sweepAfter(60_000);
    assert.equal(rig.party.destroyed, false);
    assert.equal(rig.messages.length, 2);
  });

  test('closes a connection that never sends anything, and none that has sent a ping', async () => {
    const [silent, alive] = [await accepted({ silentMs: 30_000 }), await accepted({ silentMs: 30_000 })];
    await alive.write('\r\n\r\n');
    for (const rig of [silent, alive]) await rig.sweepAfter(29_999);
    assert.deepEqual([silent.closed, alive.closed], [[], []]);
    for (const rig of [silent, alive]) await rig.sweepAfter(1);
    assert.deepEqual([silent.closed, alive.closed], [['silent'], []]);
    assert.deepEqual([silent.party.destroyed, alive.party.destroyed], [true, false]);
  });

  test('closes an idle connection; traffic in either direction keeps it open', async () => {
    const rigs = [];
    for (let i = 0; i < 3; i++) rigs.push(await accepted({ idleMs: 100_000 }));
    const [idle, requesting, requested] = rigs as [Rig, Rig, Rig];
    for (const rig of rigs) {
      await rig.write(message());
      await rig.sweepAfter(60_000);
    }
    await requesting.write('\r\n\r\n');
    await requested.send('NOTIFY');
    for (const rig of rigs) await rig.sweepAfter(50_000);
    assert.deepEqual([idle.closed, requesting.closed, requested.closed], [['idle'], [], []]);
  });
});

describe('a connection that this member opens', () => {
  test('keeps its messages until it is open, then sends them in order', async () => {
    const rig = await new Rig().dialled();
    assert.deepEqual([rig.connection.state.kind, rig.connection.taking], ['opening', true]);
    for (const text of ['one ', 'two']) assert.ok(rig.connection.send(Buffer.from(text)));
    assert.equal(rig.connection.queued, 7);
    await rig.network.settle();
    assert.deepEqual([rig.text, rig.connection.state.kind], ['one two', 'open']);
  });

  test('sends its waiting messages before it closes', async () => {
    const rig = await new Rig().dialled();
    assert.ok(rig.connection.send(Buffer.from('waits')));
    rig.connection.closeFlushed('moved-on');
    assert.equal(rig.connection.send(Buffer.from('late')), false);
    await rig.network.settle();
    assert.deepEqual([rig.text, rig.closed, rig.unsent, rig.gone], ['waits', ['moved-on'], [], 1]);
  });

  test('returns its waiting messages when it is refused', async () => {
    const rig = await new Rig().dialled({ listens: false });
    assert.ok(rig.connection.send(Buffer.from('lost')));
    await rig.network.settle();
    assert.deepEqual([rig.closed, rig.gone, rig.unsent], [['connect-failed'], 1, ['lost']]);
    assert.equal(await rig.send('more'), false);
  });

  test('fails when it does not open in time', async () => {
    const rig = new Rig({ connectMs: 5_000 });
    rig.network.reaches = () => false;
    await rig.dialled();
    await rig.sweepAfter(4_999);
    assert.deepEqual(rig.closed, []);
    await rig.sweepAfter(1);
    assert.deepEqual(rig.closed, ['connect-failed']);
  });

  test('has a bounded queue until it is open', async () => {
    const rig = new Rig({ sendQueueBytes: 10_000 });
    rig.network.reaches = () => false;
    await rig.dialled();
    let taken = 0;
    while (rig.connection.send(Buffer.alloc(1_000))) taken++;
    assert.deepEqual([taken, rig.closed, rig.unsent.length], [10, ['send-queue'], 10]);
  });
});
