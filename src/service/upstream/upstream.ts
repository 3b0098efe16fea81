// The service `upstream`: a stateless-forwarding edge for the SIP server on this host. What the farm writes into messages (Via,
// Record-Route, Path, each with a token) brings everything back to this member; the server keeps all call state.
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { AddressList } from '../../base/address-list.ts';
import type { Clock } from '../../base/clock.ts';
import {
  asHostPort,
  type Endpoint,
  formatEndpoint,
  formatPlace,
  type HostPort,
  hostText,
  SIP_PORT,
} from '../../base/endpoint.ts';
import { SipfarmError } from '../../base/errors.ts';
import { type Guard, NO_GUARD } from '../../base/guard.ts';
import type { DatagramSocket, KnockSocket, Network } from '../../base/network.ts';
import type { CallJournal } from '../../calls/call-journal.ts';
import type { CallRecord } from '../../calls/call-record.ts';
import type { CallTable } from '../../calls/call-table.ts';
import type { Cell, CellFamily } from '../../metrics/counters.ts';
import type { Way } from '../../ownership/flow.ts';
import type { Keyring } from '../../ownership/keyring.ts';
import type { OwnerTables } from '../../ownership/owner-tables.ts';
import { MAGIC_COOKIE, mintToken, readBranchToken, Token, TokenKind } from '../../ownership/token.ts';
import type { DropReason, ReplyStatus } from '../../ownership/verdict.ts';
import type { Answers } from '../../relay/answers.ts';
import type { Doors } from '../../relay/doors.ts';
import type { Egress } from '../../relay/egress.ts';
import type { Exits } from '../../relay/exits.ts';
import { buildReply } from '../../sip/reply.ts';
import { Method, Scan, scan } from '../../sip/scan.ts';
import { skipLineEnds } from '../../transport/classify.ts';
import type { Packet } from '../../transport/packet.ts';
import type { Transport } from '../../transport/transport.ts';
import type { Service } from '../service.ts';
import { type Edge, edgeScratch } from './edge.ts';
import type { ForbiddenTargets } from './forbidden-targets.ts';
import { Heir } from './heir.ts';
import { Inward } from './inward.ts';
import type { Locator } from './locate.ts';
import { Outward } from './outward.ts';
import { OwnNames } from './own-names.ts';
import { hasEnded, rememberParties } from './parties.ts';
import type { PathRule } from './path.ts';
import type { NatSigns } from './place.ts';
import { type HealthSettings, ServerHealth } from './server-health.ts';
import { Side } from './stamp.ts';

export interface UpstreamSettings {
  /** The SIP server; host is an IP literal or a name. */
  readonly server: { readonly host: string; readonly port: number };
  readonly bind: Endpoint;
  readonly advertise: Endpoint;
  /** Who may send to `bind`; undefined: whoever the server's name leads to. */
  readonly allow: AddressList | undefined;
  readonly dialogs: 'own' | 'shared';
  /** By which clients reach the farm. */
  readonly names: readonly HostPort[];
  readonly health: HealthSettings;
  readonly forbidden: ForbiddenTargets;
  readonly path: PathRule;
  /** Signs that count as a NAT in front of a client. */
  readonly nat: NatSigns;
}

export interface UpstreamOptions {
  readonly settings: UpstreamSettings;
  readonly world: { readonly keys: Keyring; readonly tables: OwnerTables };
  readonly network: Network;
  readonly clock: Clock;
  readonly log: Logger;
  /** Left out: what is thrown goes on to the network. */
  readonly guard?: Guard;
  readonly transport: Transport;
  readonly egress: Egress;
  readonly doors: Doors;
  /** Given to a node that sends through members. */
  readonly exits?: Exits;
  readonly answers: Answers;
  readonly calls: CallTable;
  /** Left out: no call is recorded. */
  readonly journal?: CallJournal;
  readonly locator: Locator;
  readonly handled: CellFamily<'from' | 'kind'>;
  readonly sendErrors: CellFamily<'listener'>;
  readonly drops: Readonly<Record<DropReason, Cell>>;
  /** Up while this member must not act as owner. Left out: it never is. */
  readonly fence?: { readonly up: boolean };
  /** Has `owner`, who owns the slot, know of a call that the SIP server here has made. Left out: nobody. */
  readonly announce?: (owner: number, callKey: number) => void;
  readonly ringingSeconds: () => number;
  /** Sends a packet on its way once more, from the owner lookup on. */
  readonly again: (packet: Packet) => void;
  /** The server has come up or gone down. */
  readonly onHealth: (up: boolean) => void;
}

/** How often a server that is a name is looked up anew, in milliseconds. */
const SERVER_LOOKUP_MS = 30_000;
/** To tag of what the server is answered: no token, because the server may pass the answer on, and its ACK must then reach the server. */
const FINAL_TAG = randomBytes(8).toString('hex');
const KEEPALIVE = Buffer.from('\r\n\r\n');

export class Upstream implements Service {
  readonly #options: UpstreamOptions;
  readonly #edge: Edge;
  /** What becomes of the calls of members that are gone. */
  readonly heir: Heir;
  /** The names of the farm in a Route. */
  readonly names: OwnNames;
  readonly #inward: Inward;
  readonly #outward: Outward;
  readonly #health: ServerHealth;
  readonly #scan = new Scan();
  readonly #token = new Token();
  #socket: DatagramSocket | undefined;
  #knocker: KnockSocket | undefined;
  #server: Endpoint | undefined;
  #lookups: { cancel(): void } | undefined;
  #questions = 0;
  #stopped = false;
  /** What `onHealth` was told last. */
  #told = false;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    const { settings, transport } = options;
    const faceOfServer = asHostPort(settings.advertise);
    const others = [
      ...[settings.bind, ...transport.listeners.map(({ bind }) => bind)].map(asHostPort),
      ...transport.listeners.map(({ advertise }) => advertise),
    ];
    this.names = new OwnNames(faceOfServer, others, settings.names);
    this.#edge = {
      ...options,
      names: this.names,
      serverSide: new Side({ ...faceOfServer, transport: 'udp' }),
      listenerSides: transport.listeners.map(({ advertise }) => new Side(advertise)),
      serverHostPort: formatEndpoint(settings.advertise),
      listenerHostPorts: transport.listeners.map(({ advertise }) => formatPlace(advertise)),
      natSigns: () => settings.nat,
      ...edgeScratch(),
    };
    const heir = new Heir({
      ...options,
      edge: this.#edge,
      guard: options.guard ?? NO_GUARD,
      dialogs: settings.dialogs,
      reach: (message, known) => this.#outward.reach(message, known),
    });
    this.heir = heir;
    this.#inward = new Inward({
      heir,
      edge: this.#edge,
      answers: options.answers,
      toServer: (message) => this.#toServer(message),
      serverUp: () => this.up,
      dialogs: settings.dialogs,
      path: settings.path,
    });
    this.#outward = new Outward({
      heir,
      edge: this.#edge,
      locator: options.locator,
      answerServer: (message, status, address, port) => this.#answerServer(message, status, address, port),
      toServer: (message, address, port) => this.#toServer(message, address, port),
      forbidden: settings.forbidden,
      exits: options.exits,
      guard: options.guard ?? NO_GUARD,
      dialogs: settings.dialogs,
      serverAt: () => this.#server,
      isServer: (address, port) => address === this.#server?.address && port === this.#server.port,
    });
    this.#health = new ServerHealth(
      settings.health,
      options.clock,
      () => this.#ask(),
      (up) => this.#noteHealth(up),
    );
  }

  get up(): boolean {
    return this.#health.up && this.#server !== undefined;
  }

  get trouble(): string | undefined {
    const { host, port } = this.#options.settings.server;
    if (this.#server === undefined) return `the SIP server ${host} is not found in DNS`;
    return this.#health.up ? undefined : `the SIP server ${hostText(host)}:${port} does not answer`;
  }

  /** The call of this record has ended here before it was read. */
  hasEnded(entry: number, record: CallRecord): boolean {
    return hasEnded(this.#edge, entry, record);
  }

  /** A call that this member has read again from its own record. */
  remember(entry: number, record: CallRecord): void {
    rememberParties(this.#edge, entry, record);
  }

  handle(packet: Packet, message: Scan): void {
    if (message.isRequest) this.#inward.request(packet, message);
    else this.#outward.responseFromClient(packet, message);
  }

  /** A request of the server that another member was to send by `lost`, which is gone. `message` is kept. */
  returned(message: Buffer, lost: Readonly<Way>): void {
    this.#outward.returned(message, lost);
  }

  async start(): Promise<void> {
    const { network, settings, sendErrors, clock, guard = NO_GUARD } = this.#options;
    const failed = sendErrors.cell({ listener: 'service' });
    try {
      this.#socket = await network.bindUdp(settings.bind, {
        onDatagram: (bytes, address, port) => {
          try {
            this.#fromServer(bytes, address, port);
          } catch (error) {
            guard.caught('server', error, bytes, 0, bytes.length);
          }
        },
        onSendError: () => {
          failed.n++;
        },
      });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new SipfarmError('SF_BIND_FAILED', `service.bind ${formatEndpoint(settings.bind)}: ${reason}`, {
        cause: error,
      });
    }
    await this.#findServer();
    if (this.#stopped) return;
    this.#lookups = clock.every(SERVER_LOOKUP_MS, () => void this.#findServer());
    this.#health.start();
  }

  /** Resolves when it is known whether the server answers, after `ms` at the latest, and when the service stops. To be called after `start`. */
  async firstVerdict(ms: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(ms, late.resolve);
    await Promise.race([this.#health.judged, late.promise]);
    timer.cancel();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#health.stop();
    this.heir.clear();
    this.#lookups?.cancel();
    await Promise.all([this.#socket?.close(), this.#knocker?.close()]);
    this.#socket = undefined;
    this.#knocker = undefined;
  }

  /** Tells when requests can be served and when not: it takes a server that answers, and its address. */
  #tellUp(): void {
    if (this.up === this.#told) return;
    this.#told = this.up;
    this.#options.onHealth(this.up);
  }

  /** Looks the server up; a literal is known at once. The old address stays while DNS does not answer. Never rejects. */
  async #findServer(): Promise<void> {
    await this.#lookServerUp();
    this.#tellUp();
  }

  async #lookServerUp(): Promise<void> {
    const { locator, settings, network, log } = this.#options;
    const found = await locator.locate(settings.server.host, settings.server.port, 'udp', 0);
    const target = found === 'busy' ? undefined : found[0];
    if (!target || (target.address === this.#server?.address && target.port === this.#server.port)) return;
    this.#server = { address: target.address, port: target.port };
    if (settings.health.method !== 'keepalive') return;
    const old = this.#knocker;
    this.#knocker = undefined;
    await old?.close();
    try {
      this.#knocker = await network.knockUdp(this.#server, () => this.#health.refused());
    } catch (error) {
      log.warn({ err: error }, 'the SIP server cannot be knocked at; tried again with its next lookup');
      this.#server = undefined;
    }
  }

  #toServer(message: Buffer, address?: string, port?: number): void {
    const server = this.#server;
    if (server) this.#socket?.send(message, address ?? server.address, port ?? server.port);
  }

  #fromServer(bytes: Buffer, address: string, port: number): void {
    const { settings, drops, world, fence } = this.#options;
    if (port === 0 || !(settings.allow ? settings.allow.matches(address) : address === this.#server?.address)) {
      drops['from-stranger'].n++;
      return;
    }
    if (fence?.up) {
      drops.fenced.n++;
      return;
    }
    const message = this.#scan;
    const start = skipLineEnds(bytes, 0, bytes.length);
    if (start === bytes.length) return;
    const fault = scan(bytes, start, bytes.length, false, message);
    if (fault) {
      if (message.isRequest) this.#answerServer(message, 400, address, port);
      else drops['bad-response'].n++;
      return;
    }
    if (message.isRequest) {
      // Before the member has its number nothing it writes would lead back to it.
      if (world.tables.self === 0) this.#answerServer(message, 503, address, port);
      else this.#outward.request(message, address, port);
      return;
    }
    const check =
      message.branchStart < 0
        ? 'none'
        : readBranchToken(world.keys, message.bytes, message.branchStart, message.branchEnd, this.#token);
    if (check !== 'valid') drops[check === 'none' ? 'stray-response' : 'forged-token'].n++;
    else if (this.#token.kind === TokenKind.transaction) {
      if (this.#token.incarnation === world.tables.incarnation) this.#health.answered();
    } else if (this.#token.kind === TokenKind.inward) this.#inward.responseFromServer(message);
    else drops['forged-token'].n++;
  }

  #answerServer(message: Scan, status: ReplyStatus, address: string, port: number): void {
    if (message.method === Method.ACK) return;
    const reply = buildReply(message, status, '', FINAL_TAG, { address, port }, [], Number.POSITIVE_INFINITY);
    if (reply) this.#toServer(reply, address, message.via.rport >= 0 ? port : message.via.port || SIP_PORT);
  }

  #ask(): void {
    if (this.#options.settings.health.method === 'keepalive') this.#knocker?.knock(KEEPALIVE);
    else this.#askOptions();
  }

  /** OPTIONS (RFC 3261 11) from the service's own port, under a branch of ours, so that the answer finds this process. */
  #askOptions(): void {
    const { settings, world } = this.#options;
    const { keys, tables } = world;
    const { host, port } = settings.server;
    const value = new Uint8Array(8);
    new DataView(value.buffer).setUint32(0, ++this.#questions);
    const own = formatEndpoint(settings.advertise);
    const branch = MAGIC_COOKIE + mintToken(keys, TokenKind.transaction, tables.self, tables.incarnation, value);
    const lines = [
      `OPTIONS sip:${hostText(host)}:${port} SIP/2.0`,
      `Via: SIP/2.0/UDP ${own};branch=${branch};rport`,
      'Max-Forwards: 70',
      `From: <sip:sipfarm@${own}>;tag=${tables.self}`,
      `To: <sip:${hostText(host)}:${port}>`,
      `Call-ID: health-${tables.self}-${tables.incarnation}-${this.#questions}@${own}`,
      `CSeq: ${this.#questions} OPTIONS`,
      'Content-Length: 0',
    ];
    this.#toServer(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`));
  }

  #noteHealth(up: boolean): void {
    const { log, settings } = this.#options;
    this.#tellUp();
    const server = `${hostText(settings.server.host)}:${settings.server.port}`;
    if (up) log.info({ server }, 'the SIP server answers');
    else log.warn({ server }, 'the SIP server does not answer: new requests get 503, this member is not ready');
  }
}
