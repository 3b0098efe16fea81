// The service `upstream`: forwards statelessly between clients and the SIP server on this host. Via, Record-Route and
// Path of the farm, each with a token, lead all later messages back to this member. The server keeps all call state.
import { AddressList } from '../../base/address-list.ts';
import { asHostPort, type Endpoint, formatEndpoint, type HostPort, hostText, SIP_PORT } from '../../base/endpoint.ts';
import { SipfarmError } from '../../base/errors.ts';
import { NO_GUARD } from '../../base/guard.ts';
import type { ConnectedUdpSocket, DatagramSocket } from '../../base/network.ts';
import type { Config } from '../../config/schema.ts';
import { finalReply } from '../../egress/stateless-reply.ts';
import type { MemberRecord } from '../../membership/member-record.ts';
import { MAGIC_COOKIE, mintToken, readBranchToken, Token, TokenKind } from '../../ownership/token.ts';
import type { Way } from '../../packet/flow.ts';
import type { Packet } from '../../packet/packet.ts';
import type { ReplyStatus } from '../../packet/verdict.ts';
import { Method, Scan, scan } from '../../sip/scan.ts';
import { skipLineEnds } from '../../transport/classify.ts';
import type { IdleSettings } from '../inserted/idle-calls.ts';
import { Inserted } from '../inserted/inserted.ts';
import { OwnVias, type Reach } from '../inserted/own-vias.ts';
import type { Service, ServiceFactory, ServiceParts, ServiceStatus, Succession } from '../service.ts';
import { serviceContext } from '../shared/context.ts';
import { OwnNames } from '../shared/own-names.ts';
import type { NatSigns } from '../shared/place.ts';
import { Takeover } from '../takeover/takeover.ts';
import { Inward } from './inward.ts';
import { Outward } from './outward.ts';
import type { PathRule } from './path.ts';
import { type HealthSettings, ServerHealth } from './server-health.ts';

interface UpstreamSettings {
  /** The SIP server; host is an IP literal or a name. */
  readonly server: { readonly host: string; readonly port: number };
  readonly bind: Endpoint;
  readonly advertise: Endpoint;
  /** Sources that may send to `bind`; undefined: the addresses of the server's name. */
  readonly allow: AddressList | undefined;
  readonly dialogs: 'own' | 'shared';
  /** Names of the farm in URIs of clients. */
  readonly names: readonly HostPort[];
  /** How long a call may ring. */
  readonly ringingSeconds: number;
  readonly health: HealthSettings;
  /** Handling of calls whose media is silent. */
  readonly idle: IdleSettings;
  readonly path: PathRule;
  /** Signs that count as a NAT in front of a client. */
  readonly nat: NatSigns;
}

export interface UpstreamOptions extends ServiceParts {
  readonly settings: UpstreamSettings;
}

/** Milliseconds between two lookups of a server name. */
const SERVER_LOOKUP_MS = 30_000;
const NEVER_IDLE: IdleSettings = { idleSeconds: 0, onIdle: 'log' };
const KEEPALIVE = Buffer.from('\r\n\r\n');

export class Upstream implements Service {
  readonly #options: UpstreamOptions;
  readonly #takeover: Takeover;
  readonly #inserted: Inserted;
  readonly #names: OwnNames;
  readonly #inward: Inward;
  readonly #outward: Outward;
  readonly #health: ServerHealth;
  readonly #scan = new Scan();
  readonly #token = new Token();
  #socket: DatagramSocket | undefined;
  #probeSocket: ConnectedUdpSocket | undefined;
  #server: Endpoint | undefined;
  #lookups: { cancel(): void } | undefined;
  #questions = 0;
  #ringingSeconds: number;
  #idle: IdleSettings;
  #stopped = false;
  /** Last value given to `onHealth`. */
  #reportedUp = false;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    const { settings, transport } = options;
    const faceOfServer = asHostPort(settings.advertise);
    const others = [
      ...[settings.bind, ...transport.listeners.map(({ bind }) => bind)].map(asHostPort),
      ...transport.listeners.map(({ advertise }) => advertise),
    ];
    this.#names = new OwnNames(faceOfServer, others, settings.names);
    const context = serviceContext(options, settings.advertise, this.#names, () => settings.nat);
    this.#ringingSeconds = settings.ringingSeconds;
    this.#idle = settings.idle;
    const reach: Reach = (message, known) => this.#outward.reach(message, known);
    const vias = new OwnVias(context);
    const inserted = new Inserted({
      ...{ context, vias, reach, clock: options.clock, guard: options.guard ?? NO_GUARD, log: options.log },
      inward: (message) => this.#inward.asReceived(message),
      toServer: (message) => this.#toServer(message),
      settings: () => this.#idle,
      ...{ reanchored: options.reanchored, idle: options.idleCalls },
    });
    this.#inserted = inserted;
    const takeover = new Takeover({
      ...{ context, reach, vias, inserted },
      answers: options.answers,
      clock: options.clock,
      again: options.again,
      ringingSeconds: () => this.#ringingSeconds,
      guard: options.guard ?? NO_GUARD,
      dialogs: settings.dialogs,
    });
    this.#takeover = takeover;
    this.#inward = new Inward({
      clock: options.clock,
      ...{ takeover, inserted, context },
      answers: options.answers,
      toServer: (message) => this.#toServer(message),
      serverUp: () => this.#up,
      fenced: () => options.fence?.up === true,
      dialogs: settings.dialogs,
      path: settings.path,
    });
    this.#outward = new Outward({
      ...{ takeover, inserted, context },
      locator: options.locator,
      answerServer: (message, status, address, port) => this.#answerServer(message, status, address, port),
      toServer: (message, address, port) => this.#toServer(message, address, port),
      forbidden: options.forbidden,
      exitChoice: options.exitChoice,
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

  get #up(): boolean {
    return this.#health.up && this.#server !== undefined;
  }

  get #trouble(): string | undefined {
    const { host, port } = this.#options.settings.server;
    if (this.#server === undefined) return `the SIP server ${host} is not found in DNS`;
    return this.#health.up ? undefined : `the SIP server ${hostText(host)}:${port} does not answer`;
  }

  get status(): ServiceStatus {
    const { host, port } = this.#options.settings.server;
    const server = formatEndpoint({ address: host, port });
    return { kind: 'upstream', up: this.#up, server, answered: 0, trouble: this.#trouble };
  }

  get succession(): Succession {
    return this.#takeover;
  }

  apply({ names, ownership, media }: Config): void {
    this.#names.setNames(names);
    this.#ringingSeconds = ownership.ringingSeconds;
    this.#idle = media ?? NEVER_IDLE;
  }

  setRecords(records: readonly MemberRecord[]): void {
    this.#names.setRecords(records);
  }

  /** A lost connection is no event of a call: the server's next message to the client shows it. */
  flowClosed(): void {}

  /** The server goes on with its calls; the members send it no new ones. */
  drain(): void {}

  handle(packet: Packet, message: Scan): void {
    if (message.isRequest) this.#inward.request(packet, message);
    else this.#outward.responseFromClient(packet, message);
  }

  /** Tries another way for a request of the server. `lost`: its connection at another member. Keeps `message`. */
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
    this.#inserted.start();
  }

  /**
   * Resolves with the first verdict on the server, after `ms` at the latest, and when the service stops. Call it after
   * `start`.
   */
  async firstVerdict(ms: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(ms, late.resolve);
    await Promise.race([this.#health.judged, late.promise]);
    timer.cancel();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#health.stop();
    this.#inward.stop();
    this.#takeover.clear();
    this.#inserted.stop();
    this.#lookups?.cancel();
    await Promise.all([this.#socket?.close(), this.#probeSocket?.close()]);
    this.#socket = undefined;
    this.#probeSocket = undefined;
  }

  /** Reports a change of `status.up`: requests need a server that answers, and its address. */
  #reportHealth(): void {
    if (this.#up === this.#reportedUp) return;
    this.#reportedUp = this.#up;
    this.#options.onHealth(this.#up);
  }

  /** Looks up the server; a literal needs no lookup. The old address stays while DNS does not answer. Never rejects. */
  async #findServer(): Promise<void> {
    await this.#locateServer();
    this.#reportHealth();
  }

  async #locateServer(): Promise<void> {
    const { locator, settings, network, log } = this.#options;
    const found = await locator.locate(settings.server.host, settings.server.port, 'udp', 0);
    const target = found === 'busy' ? undefined : found[0];
    if (!target || (target.address === this.#server?.address && target.port === this.#server.port)) return;
    this.#server = { address: target.address, port: target.port };
    if (settings.health.method !== 'keepalive') return;
    const old = this.#probeSocket;
    this.#probeSocket = undefined;
    await old?.close();
    try {
      this.#probeSocket = await network.connectUdp(this.#server, () => this.#health.refused());
    } catch (error) {
      log.warn({ err: error }, 'the SIP server cannot be probed; the next lookup tries again');
      this.#server = undefined;
    }
  }

  #toServer(message: Buffer, address?: string, port?: number): void {
    const server = this.#server;
    if (!server) return;
    const to = address ?? server.address;
    const toPort = port ?? server.port;
    this.#socket?.send(message, to, toPort);
    const { tap } = this.#options.egress.taps;
    if (tap !== null) tap.seen('to-server', message, { address: to, port: toPort });
  }

  #fromServer(bytes: Buffer, address: string, port: number): void {
    const { settings, drops, routing, fence } = this.#options;
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
      // Tokens need the member's number: without it no answer would return here.
      if (routing.tables.self === 0) this.#answerServer(message, 503, address, port);
      else this.#outward.request(message, address, port);
      return;
    }
    const check =
      message.branchStart < 0
        ? 'none'
        : readBranchToken(routing.keys, message.bytes, message.branchStart, message.branchEnd, this.#token);
    if (check !== 'valid') drops[check === 'none' ? 'stray-response' : 'forged-token'].n++;
    else if (this.#token.kind === TokenKind.transaction) {
      if (this.#token.incarnation === routing.tables.incarnation) this.#health.answered();
    } else if (this.#token.kind === TokenKind.inward) this.#inward.responseFromServer(message);
    else drops['forged-token'].n++;
  }

  #answerServer(message: Scan, status: ReplyStatus, address: string, port: number): void {
    if (message.method === Method.ACK) return;
    const reply = finalReply(message, status, { address, port });
    if (reply) this.#toServer(reply, address, message.via.rport >= 0 ? port : message.via.port || SIP_PORT);
  }

  #ask(): void {
    if (this.#options.settings.health.method === 'keepalive') this.#probeSocket?.probe(KEEPALIVE);
    else this.#askOptions();
  }

  /**
   * Sends OPTIONS (RFC 3261 11) from the service's port. The branch is a token of this member, so that the answer
   * returns to this process.
   */
  #askOptions(): void {
    const { settings, routing } = this.#options;
    const { keys, tables } = routing;
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
    this.#reportHealth();
    const server = `${hostText(settings.server.host)}:${settings.server.port}`;
    if (up) log.info({ server }, 'the SIP server answers');
    else log.warn({ server }, 'the SIP server does not answer: new requests get 503, this member is not ready');
  }
}

/** The factory of `service.kind: upstream`. */
export const makeUpstream: ServiceFactory = (config, parts) => {
  const { service, names, ownership, media } = config;
  if (service.kind !== 'upstream') throw new SipfarmError('SF_INTERNAL', `no section of upstream: ${service.kind}`);
  const allow = service.allow && new AddressList(service.allow);
  const settings = { ...service, allow, names, ringingSeconds: ownership.ringingSeconds, idle: media ?? NEVER_IDLE };
  return new Upstream({ ...parts, settings });
};
