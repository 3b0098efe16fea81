// The relay link of this member: sends packets and egress messages to other members, and receives theirs.
//
//    relay ──> transparent-link (relay.mode transparent) ──> transparent port of the owner ──> onPacket
//    relay, egress ──> encode ──┬── datagram-link ──┬──> decode ──> sender with record and seat, not replayed?
//                               └── stream-link ────┘                   └──> onPacket, onEgress, prober
//
// Frames with a connection use stream-link, others datagram-link. Frames over the MTU use stream-link if it is up.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import { type Guard, NO_GUARD } from '../base/guard.ts';
import { listenerCode, SERVICE_SIDE } from '../base/listener-code.ts';
import type { Network } from '../base/network.ts';
import { type Cell, type CellFamily, cellsBy } from '../metrics/counters.ts';
import type { Keyring } from '../ownership/keyring.ts';
import { HOP_LIMIT } from '../ownership/owner-lookup.ts';
import { emptyWay, type Flow, type Way } from '../packet/flow.ts';
import { Packet } from '../packet/packet.ts';
import { DatagramLink, MAX_DATAGRAM_OCTETS } from './datagram-link.ts';
import {
  decodeFrame,
  ENVELOPE_VERSION,
  type EnvelopeVersion,
  encodeFrame,
  Frame,
  FrameKind,
  headOctets,
  MAX_FRAME_OCTETS,
  UNBOUND,
} from './envelope.ts';
import { type Peer, type PeerInfo, type PeerSeat, Peers, type SenderFault } from './peers.ts';
import { Probe, readProbe } from './probe.ts';
import { Prober } from './prober.ts';
import { REFUSE_REASONS, type RefuseReason } from './refuse-reason.ts';
import { LENGTH_OCTETS } from './stream-framer.ts';
import { StreamLink } from './stream-link.ts';
import { TransparentLink, type TransparentListener, type TransparentPort } from './transparent-link.ts';

export type { PeerInfo, PeerSeat } from './peers.ts';
export type { TransparentListener, TransparentPort } from './transparent-link.ts';

/** This member now. Read per frame: return one object and keep it up to date. */
export interface RelaySelf {
  /** 0 while this member has no number yet: no frames are sent or accepted. */
  readonly number: number;
  readonly incarnation: number;
  /** Epoch of the view that this member uses. */
  readonly epoch: number;
  /** Oldest epoch from which this member may hold a call: that of its oldest call, else the current one. */
  readonly heldSince: number;
}

export interface RelayHandlers {
  /**
   * Takes a packet for this member's owner lookup. The object is reused: copy fields to keep. `packet.listener` is an
   * index of this member's listeners.
   */
  onPacket(packet: Packet): void;
  /** Sends `bytes[start..end)` by `flow`, which this member holds. The flow object is reused. */
  onEgress(flow: Way, bytes: Buffer, start: number, end: number): void;
  /** Takes back a request that `flow.member` could not send: the connection is gone. The flow object is reused. */
  onReturned(flow: Way, bytes: Buffer, start: number, end: number): void;
  /** Called when the SIP server of member `from` has made a call whose slot this member owns. */
  onMade(from: number, callKey: number): void;
  /** Called when a member uses a newer view, which should be read now. At most once a second for one epoch. */
  onNewerEpoch(epoch: number): void;
  /**
   * Takes the members that a majority of the other seated members cannot reach; called when the set changes. Never
   * contains this member. Always empty with fewer than three seats.
   */
  onSuspects(numbers: ReadonlySet<number>): void;
  /** Called for each datagram whose frame has a MAC that none of the keys made. */
  onBadMac?(address: string, port: number): void;
}

export interface RelayOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly log: Logger;
  /** UDP and TCP. */
  readonly bind: Endpoint;
  /** Maximum octets of an IP packet that reaches every other member unfragmented; 1500 by default. */
  readonly mtu?: number;
  readonly keys: () => Keyring;
  readonly self: () => RelaySelf;
  /** Names of this member's listeners, in the order of their indexes; at most 256. */
  readonly listeners: readonly string[];
  /**
   * Returns true when that member has this listener, so that it can send the answers, although this member has none of
   * that name. Left out: always false.
   */
  readonly knowsListener?: (member: number, code: number) => boolean;
  /** Those of `listeners` with a transparent port (relay.mode transparent); none by default. */
  readonly transparent?: readonly TransparentListener[];
  readonly metrics: {
    /** Frames of kind packet and egress. */
    readonly relayed: CellFamily<'direction' | 'peer'>;
    /** Frames lost at this member, by REFUSE_REASONS. */
    readonly refused: CellFamily<'reason'>;
    /** Packets sent and received transparently. */
    readonly transparent: CellFamily<'direction' | 'outcome'>;
    /** Seconds of one hop: half of a probe's round trip. */
    readonly hop?: { observe(seconds: number): void };
  };
  readonly handlers: RelayHandlers;
  /** Left out: exceptions propagate to the network. */
  readonly guard?: Guard;
}

const DEFAULT_MTU = 1500;
/** At most one refusal a second to a peer, and ten a second to all unknown senders together. */
const REFUSAL_MS = 1000;
const STRANGER_REFUSAL_MS = 100;
/** Refusals 'other-incarnation' are more frequent: until one arrives, all datagrams of the peer are lost. */
const CORRECTION_MS = 100;
/** Body of a refusal: the sequence number of the refused frame. */
const REFUSAL_OCTETS = 6;
const NEWER_EPOCH_MS = 1000;
/** Attempts to bind port 0: the port that the system picks for UDP may be in use for TCP. */
const PORT_ATTEMPTS = 8;
const KEY_OCTETS = 8;
/** Value of the local port in a frame with a flow whose party is behind a NAT. */
const BEHIND_NAT = 1;

export class RelayLink {
  readonly #options: RelayOptions;
  readonly #guard: Guard;
  readonly #mtu: number;
  readonly #refused: Readonly<Record<RefuseReason, Cell>>;
  readonly #peers: Peers;
  /** Listener codes by index of this member, and indexes by code; -1 where this member has no such listener. */
  readonly #codes: Uint8Array;
  readonly #indexes = new Int16Array(256).fill(-1);
  readonly #prober: Prober;
  readonly #datagrams: DatagramLink;
  readonly #streams: StreamLink;
  readonly #transparent: TransparentLink | undefined;
  readonly #in = new Frame();
  readonly #out = new Frame();
  readonly #packet = new Packet();
  readonly #flow: Way = emptyWay();
  readonly #probe = new Probe();
  readonly #refusal = Buffer.alloc(REFUSAL_OCTETS);
  #sequence = 0;
  #newest = 0;
  /** The peer whose frame was the last one with a newer epoch than this member's view, and that epoch. */
  #newer = 0;
  #newerEpoch = 0;
  /** The newest epoch in which a peer has refused a frame of this member because it has no seat. */
  #refusedIn = 0;
  #outrunAt = 0;
  #announcedEpoch = 0;
  #announcedAt = 0;
  #strangerRefusedAt = Number.NEGATIVE_INFINITY;

  constructor(options: RelayOptions) {
    const { network, clock, log, keys, self, listeners, transparent = [], metrics, handlers } = options;
    this.#options = options;
    this.#guard = options.guard ?? NO_GUARD;
    this.#mtu = options.mtu ?? DEFAULT_MTU;
    const reasons = Object.keys(REFUSE_REASONS) as RefuseReason[];
    this.#refused = cellsBy(metrics.refused, 'reason', reasons);
    this.#codes = Uint8Array.from(listeners, listenerCode);
    for (const [index, code] of this.#codes.entries()) this.#indexes[code] = index;
    this.#peers = new Peers(
      metrics.relayed,
      () => clock.now(),
      () => this.#sequence,
    );
    this.#datagrams = new DatagramLink(
      network,
      (bytes, address, port) => this.#onFrame(bytes, 0, bytes.length, 0, address, port),
      this.#refused['send-error'],
    );
    this.#streams = new StreamLink({
      network,
      clock,
      log,
      keys,
      number: () => self().number,
      onFrame: (from, bytes, start, end) => this.#onFrame(bytes, start, end, from, '', 0),
      onUndelivered: (frame) => this.#takeBack(frame),
      refused: this.#refused,
    });
    this.#transparent =
      transparent.length === 0
        ? undefined
        : new TransparentLink({
            network,
            listeners: transparent,
            mtu: this.#mtu,
            self,
            packets: metrics.transparent,
            sendErrors: this.#refused['send-error'],
            onPacket: (packet) => handlers.onPacket(packet),
            guard: this.#guard,
          });
    this.#prober = new Prober({
      clock,
      peers: this.#peers,
      self,
      send: (peer, body, octets) => this.#sendProbe(peer, body, octets),
      onSuspects: (numbers) => handlers.onSuspects(numbers),
      onLongSilence: (peer) => this.#streams.cut(peer.number),
      observeHop: (seconds) => metrics.hop?.observe(seconds),
    });
  }

  /** This member's bound transparent ports; empty before `start`. */
  get transparentPorts(): readonly TransparentPort[] {
    return this.#transparent?.transparentPorts ?? [];
  }

  /**
   * Binds UDP and TCP and starts the probes. Resolves to the bound endpoint (one port for both). Rejects with
   * SF_BIND_FAILED or SF_TRANSPARENT_UNAVAILABLE; then nothing stays open.
   */
  async start(): Promise<Endpoint> {
    const { bind } = this.#options;
    await this.#openTransparentPorts();
    for (let attempt = 1; ; attempt++) {
      try {
        const local = await this.#datagrams.bind(bind);
        await this.#streams.listen(local);
        this.#prober.start();
        return local;
      } catch (error) {
        await this.#datagrams.close();
        if (bind.port === 0 && attempt < PORT_ATTEMPTS) continue;
        await this.#transparent?.stop();
        const reason = error instanceof Error ? error.message : String(error);
        throw new SipfarmError('SF_BIND_FAILED', `relay link at ${formatEndpoint(bind)}: ${reason}`, { cause: error });
      }
    }
  }

  async #openTransparentPorts(): Promise<void> {
    try {
      await this.#transparent?.start();
    } catch (error) {
      if (error instanceof SipfarmError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new SipfarmError('SF_BIND_FAILED', `relay link, transparent port of a listener: ${reason}`, {
        cause: error,
      });
    }
  }

  /** Closes sockets and connections; queued frames are lost. */
  async stop(): Promise<void> {
    this.#prober.stop();
    await this.#transparent?.stop();
    await this.#streams.close();
    await this.#datagrams.close();
  }

  /**
   * Takes the records of all members; the own record may be included. Members with neither record nor seat are removed.
   * Must be called again when the own number changes.
   */
  setPeers(records: readonly PeerInfo[]): void {
    this.#peers.setRecords(records, this.#options.self().number);
    this.#transparent?.setOwnAddresses(records.flatMap(({ addresses }) => addresses ?? []));
    this.#connect();
  }

  /** This member has joined, or joined anew under another incarnation. */
  joined(): void {
    this.#prober.joined();
  }

  /** Takes the seats of the current view. Before the first call no frame is refused for a missing seat. */
  setSeats(seats: readonly PeerSeat[]): void {
    this.#peers.setSeats(seats);
    // The store's epoch counts, even if a frame from before a restored backup had a higher one.
    this.#newest = 0;
    this.#connect();
  }

  /**
   * Sends the peers `heldSince` at once instead of with the next probe. After a new view this ends second chances
   * sooner.
   */
  announceView(): void {
    this.#refusedIn = 0;
    this.#newerEpoch = 0;
    this.#prober.ask();
  }

  /**
   * Sends the packet to member `to`, one hop further. Returns false when there is no such peer or no room; the caller
   * still has the packet.
   */
  relay(to: number, packet: Packet): boolean {
    const peer = this.#peers.get(to);
    const self = this.#options.self();
    if (!peer || self.number === 0) return false;
    if (this.#transparent?.send(peer.targets, packet)) return true;
    const frame = this.#out;
    frame.kind = FrameKind.packet;
    frame.secondChance = packet.secondChance;
    frame.hops = packet.hops + 1;
    // Packets made here (the answer to a request that could not be sent) have ingress 0.
    frame.ingress = packet.ingress || self.number;
    frame.ingressIncarnation = packet.ingressIncarnation;
    frame.listener = packet.listener < 0 ? packet.listenerCode : this.#codes[packet.listener]!;
    frame.connection = packet.connection;
    frame.address = packet.address;
    frame.port = packet.port;
    frame.localAddress = packet.localAddress;
    frame.localPort = packet.localPort;
    return this.#send(peer, self, packet.bytes, packet.start, packet.end);
  }

  /**
   * Sends `bytes[start..end)` to `flow.member`, which sends it by `flow`. Returns false when there is no such peer
   * (this member is none) or no room.
   */
  egress(flow: Readonly<Flow & Partial<Way>>, bytes: Buffer, start: number, end: number): boolean {
    return this.#sendByFlow(FrameKind.egress, flow.member, flow, bytes, start, end);
  }

  /**
   * Returns `bytes[start..end)` to member `to`: `flow`, a connection of this member, is gone. Return value as of
   * `egress`.
   */
  giveBack(to: number, flow: Readonly<Way>, bytes: Buffer, start: number, end: number): boolean {
    return this.#sendByFlow(FrameKind.returned, to, flow, bytes, start, end);
  }

  /** Notifies `to`, the slot's owner, of a call made by the SIP server here. No effect when there is no such peer. */
  announce(to: number, callKey: number): void {
    const peer = this.#peers.get(to);
    const self = this.#options.self();
    if (!peer || self.number === 0) return;
    const body = Buffer.allocUnsafe(KEY_OCTETS);
    body.writeDoubleBE(callKey, 0);
    this.#stamp(peer.number, peer.version, peer.incarnation, self);
    this.#sendControl(FrameKind.made, peer.relay, body, KEY_OCTETS);
  }

  #sendByFlow(
    kind: FrameKind,
    to: number,
    flow: Readonly<Flow & Partial<Way>>,
    bytes: Buffer,
    start: number,
    end: number,
  ): boolean {
    const peer = this.#peers.get(to);
    const self = this.#options.self();
    if (!peer || self.number === 0) return false;
    const frame = this.#out;
    frame.kind = kind;
    frame.secondChance = 0;
    frame.hops = 0;
    frame.ingress = flow.member;
    frame.ingressIncarnation = flow.incarnation;
    frame.listener = flow.listener;
    frame.connection = flow.connection;
    frame.address = flow.address;
    frame.port = flow.port;
    frame.localAddress = '';
    frame.localPort = flow.nat ? BEHIND_NAT : 0;
    return this.#send(peer, self, bytes, start, end);
  }

  /**
   * Returns false for a member that has not answered a probe for a second, and for an unknown one. A new peer counts as
   * reachable during its first second.
   */
  reachable(number: number): boolean {
    return this.#peers.get(number)?.reachable === true;
  }

  /** Returns the oldest epoch from which the peer may hold a call; 0 = not reachable; 1 = no probe from it yet. */
  heldSince(number: number): number {
    const peer = this.#peers.get(number);
    return peer?.reachable ? peer.heldSince : 0;
  }

  /** Returns the milliseconds since a frame first had a newer epoch than this member's view; 0 = none has. */
  outrunFor(): number {
    return this.#newest > this.#options.self().epoch ? Math.max(this.#options.clock.now() - this.#outrunAt, 1) : 0;
  }

  /**
   * Returns a reachable peer with a newer view than this member's; 0 = none is known. Read per packet. 0 also after a
   * refusal by a newer view: peers then take no packets from this member.
   */
  newer(): number {
    if (this.#newerEpoch <= this.#options.self().epoch || this.evicted) return 0;
    return this.reachable(this.#newer) ? this.#newer : 0;
  }

  /** True after a refusal by a newer view than this member's own: in that view it has no seat. Read per packet. */
  get evicted(): boolean {
    return this.#refusedIn > this.#options.self().epoch;
  }

  /** Returns the numbers of the peers that have answered a question sent at `since` (Clock.now, ms) or later. */
  answeredSince(since: number): readonly number[] {
    return [...this.#peers.all()].filter(({ provenAt }) => provenAt >= since).map(({ number }) => number);
  }

  /** Returns the numbers of the peers that answer probes. */
  reachablePeers(): readonly number[] {
    return [...this.#peers.all()].filter(({ reachable }) => reachable).map(({ number }) => number);
  }

  /**
   * Returns the members that the peer cannot reach, by its last probe. Probes may still arrive from a peer that is not
   * reachable itself.
   */
  missesOf(number: number): readonly number[] {
    return [...(this.#peers.get(number)?.misses ?? [])];
  }

  #connect(): void {
    this.#streams.setPeers([...this.#peers.all()].map(({ info }) => info));
  }

  /** Sends the frame `#out` with its message by stream or datagram. Returns false when too long or without room. */
  #send(peer: Peer, self: RelaySelf, bytes: Buffer, start: number, end: number): boolean {
    const frame = this.#out;
    const octets = headOctets(frame) + end - start;
    if (octets > MAX_FRAME_OCTETS) return false;
    const oversized = octets + peer.overhead > this.#mtu;
    // While the connection is down, an oversized frame is sent as IP fragments: possible loss is better than waiting.
    const byStream =
      frame.connection !== 0 || (oversized && (octets > MAX_DATAGRAM_OCTETS || this.#streams.up(peer.number)));
    // TLS prevents replay on a connection, and a frame that waits for one is valid for the next incarnation, too.
    this.#stamp(peer.number, peer.version, byStream ? UNBOUND : peer.incarnation, self);
    const { keys } = this.#options;
    if (byStream) {
      const room = Buffer.allocUnsafe(LENGTH_OCTETS + octets);
      room.writeUInt32BE(octets, 0);
      encodeFrame(keys(), frame, bytes, start, end, room, LENGTH_OCTETS);
      if (!this.#streams.send(peer.number, room)) return false;
    } else {
      // A new buffer for each frame: the socket reads it later.
      const room = Buffer.allocUnsafe(octets);
      encodeFrame(keys(), frame, bytes, start, end, room, 0);
      this.#datagrams.send(room, peer.relay);
    }
    peer.sent.n++;
    return true;
  }

  #stamp(receiver: number, version: EnvelopeVersion, bound: number, self: RelaySelf): void {
    const frame = this.#out;
    frame.version = version;
    frame.bound = bound;
    frame.sender = self.number;
    frame.senderIncarnation = self.incarnation;
    frame.receiver = receiver;
    frame.epoch = self.epoch;
    frame.sequence = ++this.#sequence;
  }

  #sendProbe(peer: Peer, body: Buffer, octets: number): void {
    const self = this.#options.self();
    if (self.number === 0) return;
    this.#stamp(peer.number, peer.version, peer.incarnation, self);
    this.#sendControl(FrameKind.probe, peer.info.relay, body, octets);
  }

  /** Sends the stamped frame `#out` with a body made by this link, as a datagram. */
  #sendControl(kind: FrameKind, to: Endpoint, body: Buffer, octets: number): void {
    const { keys } = this.#options;
    const frame = this.#out;
    frame.kind = kind;
    frame.secondChance = 0;
    frame.hops = 0;
    frame.ingress = 0;
    frame.ingressIncarnation = 0;
    frame.listener = 0;
    frame.connection = 0;
    frame.address = '';
    frame.port = 0;
    frame.localAddress = '';
    frame.localPort = 0;
    const room = Buffer.allocUnsafe(headOctets(frame) + octets);
    encodeFrame(keys(), frame, body, 0, octets, room, 0);
    this.#datagrams.send(room, to);
  }

  /** Takes a frame from the connection of member `from`, or if `from` is 0 from a datagram of `address`:`port`. */
  #onFrame(bytes: Buffer, start: number, end: number, from: number, address: string, port: number): void {
    try {
      this.#take(bytes, start, end, from, address, port);
    } catch (error) {
      this.#guard.caught('relay', error, bytes, start, end);
    }
  }

  #take(bytes: Buffer, start: number, end: number, from: number, address: string, port: number): void {
    const frame = this.#in;
    const refused = this.#refused;
    const self = this.#options.self();
    // On a connection TLS keeps the order and prevents replay.
    const fresh = from !== 0;
    const fault = decodeFrame(bytes, start, end, this.#options.keys(), fresh ? UNBOUND : self.incarnation, frame);
    if (fault === 'short' || fault === 'not-a-frame' || fault === 'version') {
      refused[fault].n++;
      return;
    }
    if (frame.receiver !== self.number || self.number === 0) {
      refused['not-for-me'].n++;
      return;
    }
    if (fault !== null) {
      refused[fault].n++;
      if (fault === 'mac' && !fresh) this.#options.handlers.onBadMac?.(address, port);
      if (fault === 'other-incarnation' && frame.kind !== FrameKind.refusal) this.#refuse(fault, address, port);
      return;
    }
    const known = this.#peers.get(frame.sender);
    // The epoch of an unknown sender counts, too: its MAC is good, and this member may lack the view that seats it. A
    // version 1 datagram may be an old replay, so it counts only from a peer that reads no newer version.
    const recent = fresh || frame.version >= (known?.version ?? ENVELOPE_VERSION);
    if (recent && frame.epoch > self.epoch) this.#announceNewerEpoch(frame.epoch);
    if (fresh && frame.sender !== from) {
      refused['unknown-sender'].n++;
      return;
    }
    if (known && frame.kind === FrameKind.refusal && frame.end - frame.start === REFUSAL_OCTETS) {
      const refused = bytes.readUIntBE(frame.start, REFUSAL_OCTETS);
      // The refused frame was bound to the right incarnation of the peer, so the peer refuses this sender.
      if (frame.senderIncarnation === known.incarnation && this.#peers.isOfNow(known, refused))
        this.#refusedIn = Math.max(this.#refusedIn, frame.epoch);
      this.#peers.corrected(known, frame.senderIncarnation, refused);
      return;
    }
    let proven = false;
    if (known && frame.kind === FrameKind.probe) {
      if (!readProbe(bytes, frame.start, frame.end, this.#probe)) {
        refused.kind.n++;
        return;
      }
      proven = recent && this.#prober.proves(known, this.#probe);
      if (proven) this.#peers.answered(known, this.#probe.question, frame);
    }
    const strange = this.#peers.check(frame, fresh, self.epoch);
    if (strange !== null) {
      refused[strange].n++;
      if (strange === 'unproven') this.#challenge(known!);
      else if (frame.kind !== FrameKind.refusal) this.#refuse(strange, address, port);
      return;
    }
    const peer = known!;
    if (!fresh) {
      // The answer to a current question carries the sender's current sequence number, however far ahead.
      const used = peer.window.take(frame.sequence, proven);
      if (used !== null) {
        refused[used].n++;
        return;
      }
    }
    if (recent && frame.epoch > self.epoch) {
      this.#newer = frame.sender;
      this.#newerEpoch = frame.epoch;
    }
    switch (frame.kind) {
      case FrameKind.packet:
        peer.received.n++;
        this.#takePacket(bytes);
        return;
      case FrameKind.egress:
        peer.received.n++;
        this.#handOver(bytes, self.number, this.#options.handlers.onEgress);
        return;
      case FrameKind.returned:
        peer.received.n++;
        this.#handOver(bytes, frame.sender, this.#options.handlers.onReturned);
        return;
      case FrameKind.probe:
        this.#prober.onProbe(peer, this.#probe);
        // The refusal also stops a member that cannot read the store: it is no owner any more.
        if (this.#peers.isSeatless(frame, self.epoch)) this.#refuse('no-seat', '', 0);
        return;
      case FrameKind.made:
        if (frame.end - frame.start === KEY_OCTETS)
          this.#options.handlers.onMade(peer.number, bytes.readDoubleBE(frame.start));
        else refused.kind.n++;
        return;
      case FrameKind.refusal:
        return;
      default:
        refused.kind.n++;
    }
  }

  /** Passes the packet of `#in` to `onPacket`. */
  #takePacket(bytes: Buffer): void {
    const frame = this.#in;
    if (frame.hops > HOP_LIMIT) {
      this.#refused.hops.n++;
      return;
    }
    const listener = this.#indexes[frame.listener]!;
    const known = listener >= 0 || frame.listener === SERVICE_SIDE;
    if (!known && !this.#options.knowsListener?.(frame.ingress, frame.listener)) {
      this.#refused.listener.n++;
      return;
    }
    const { epoch } = this.#options.self();
    const packet = this.#packet.begin(bytes, frame.start, frame.end).cameRelayed(frame, listener, epoch);
    this.#options.handlers.onPacket(packet);
  }

  /** Calls `take` with the message of `#in` and its flow, which `member` holds or has held. */
  #handOver(bytes: Buffer, member: number, take: RelayHandlers['onEgress']): void {
    const frame = this.#in;
    const flow = this.#flow;
    flow.member = member;
    flow.incarnation = frame.ingressIncarnation;
    flow.listener = frame.listener;
    flow.connection = frame.connection;
    flow.address = frame.address;
    flow.port = frame.port;
    flow.nat = frame.localPort === BEHIND_NAT;
    take(flow, bytes, frame.start, frame.end);
  }

  /** Handles an own frame that waited for a connection to a removed member: it goes through the packet path again. */
  #takeBack(bytes: Buffer): void {
    const frame = this.#in;
    try {
      if (decodeFrame(bytes, 0, bytes.length, this.#options.keys(), UNBOUND, frame) !== null) return;
      if (frame.kind === FrameKind.packet) this.#takePacket(bytes);
      else if (frame.kind === FrameKind.egress) this.#handOver(bytes, frame.receiver, this.#options.handlers.onEgress);
    } catch (error) {
      this.#guard.caught('relay', error, bytes, 0, bytes.length);
    }
  }

  /** Probes a peer to get its incarnation: by its answer, or its refusal of a question to another incarnation. */
  #challenge(peer: Peer): void {
    const now = this.#options.clock.now();
    if (now - peer.challengedAt < REFUSAL_MS) return;
    peer.challengedAt = now;
    this.#prober.askOne(peer);
  }

  #announceNewerEpoch(epoch: number): void {
    const { clock, handlers } = this.#options;
    const now = clock.now();
    if (this.outrunFor() === 0) this.#outrunAt = now;
    this.#newest = Math.max(this.#newest, epoch);
    if (epoch <= this.#announcedEpoch && now - this.#announcedAt < NEWER_EPOCH_MS) return;
    this.#announcedEpoch = epoch;
    this.#announcedAt = now;
    handlers.onNewerEpoch(epoch);
  }

  /**
   * Sends a refusal of the frame `#in`, with this member's incarnation and epoch. A peer's refusal goes to the address
   * in its record, because a replayed frame can come from anywhere. An unknown sender's goes to the datagram's source.
   */
  #refuse(fault: SenderFault | 'other-incarnation', address: string, port: number): void {
    const { clock, self } = this.#options;
    const now = clock.now();
    const { sender, senderIncarnation, version, sequence } = this.#in;
    const peer = this.#peers.get(sender);
    if (!peer) {
      if (address === '' || now - this.#strangerRefusedAt < STRANGER_REFUSAL_MS) return;
      this.#strangerRefusedAt = now;
    } else if (fault === 'other-incarnation') {
      if (now - peer.correctedAt < CORRECTION_MS) return;
      peer.correctedAt = now;
    } else {
      if (now - peer.refusedAt < REFUSAL_MS) return;
      peer.refusedAt = now;
    }
    // Bound to the incarnation that sent the frame, not to the stored one.
    this.#stamp(sender, peer?.version ?? version, senderIncarnation, self());
    this.#refusal.writeUIntBE(sequence, 0, REFUSAL_OCTETS);
    const octets = this.#out.version === ENVELOPE_VERSION ? REFUSAL_OCTETS : 0;
    this.#sendControl(FrameKind.refusal, peer?.relay ?? { address, port }, this.#refusal, octets);
  }
}
