// One connection to etcd, hardened: npm etcd3 as it comes retries by itself, has no deadlines and trusts silent channels. Here a request is
// sent once, to one host, with a fresh deadline; who fails moves the connection on to the next host (`renew`).
import { InterceptingCall, type Interceptor } from '@grpc/grpc-js';
import { noop } from 'cockatiel';
import {
  ClientClosedError,
  castGrpcError,
  Etcd3,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  GRPCGenericError,
  GRPCOutOfRangeError,
  GRPCResourceExhastedError,
  type IOptions,
  isRecoverableError,
} from 'etcd3';

export interface EtcdAccess {
  /** `http://host:port` or `https://host:port`; not mixed. */
  readonly hosts: readonly string[];
  readonly user?: string;
  readonly password?: string;
  /** PEM. `ca` alone checks the server; `cert` and `key` name us to it. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
}

/** A server without leader ends the call or stream, instead of keeping us on old news for ever. */
const hasLeader: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      metadata.set('hasleader', 'true');
      next(metadata, listener);
    },
  });

/** Answers are paged; this bounds one page of large values. */
const MAX_ANSWER_OCTETS = 64 * 1024 * 1024;

/** The server refuses pings more often than every 5 s. */
const PING_MS = 10_000;
const PING_TIMEOUT_MS = 3000;

function etcdOptions(access: EtcdAccess, host: string, requestMs: number): IOptions {
  const { user, password, tls } = access;
  return {
    hosts: [host],
    faultHandling: { global: noop, host: () => noop },
    defaultCallOptions: (call) => (call.isStream ? {} : { deadline: Date.now() + requestMs }),
    ...(user !== undefined && { auth: { username: user, password: password ?? '' } }),
    ...(tls && {
      // rootCertificate undefined means the system's own roots, which etcd3 passes on but does not declare.
      credentials: {
        rootCertificate: tls.ca as Buffer,
        ...(tls.key && { privateKey: tls.key }),
        ...(tls.cert && { certChain: tls.cert }),
      },
    }),
    grpcOptions: {
      'grpc.keepalive_time_ms': PING_MS,
      'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
      // etcd counts pings on a connection without calls as abuse and closes it; a dead idle connection is found by the next request's deadline.
      'grpc.keepalive_permit_without_calls': 0,
      'grpc.max_receive_message_length': MAX_ANSWER_OCTETS,
      // Else channels of one host share one TCP connection, and a new instance would get the dead one back.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1000,
      interceptors: [hasLeader],
    },
  };
}

export class EtcdConnection {
  readonly #access: EtcdAccess;
  readonly #requestMs: number;
  #next: number;
  #client: Etcd3 | undefined;

  /** `requestMs`: deadline of one attempt of a unary call. `first`: index of the host to begin with. */
  constructor(access: EtcdAccess, requestMs: number, first: number) {
    this.#access = access;
    this.#requestMs = requestMs;
    this.#next = first % access.hosts.length;
  }

  /** Opened on first use; connects on the first request. */
  get client(): Etcd3 {
    this.#client ??= new Etcd3(etcdOptions(this.#access, this.#access.hosts[this.#next]!, this.#requestMs));
    return this.#client;
  }

  /** The URL of the host that is asked now. */
  get host(): string {
    return this.#access.hosts[this.#next]!;
  }

  /** Throws `failed` away; the next use opens a new instance to the next host. Does nothing when that has happened already. */
  renew(failed: Etcd3): void {
    if (this.#client !== failed) return;
    this.#client = undefined;
    this.#next = (this.#next + 1) % this.#access.hosts.length;
    failed.close();
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }
}

/** A URL of etcd without credentials: it is shown, and etcd takes none there. */
export function withoutCredentials(url: string): string {
  return url.replace(/\/\/[^/]*@/, '//');
}

/** Longest text of an error that goes on. */
const MAX_REASON = 200;

/** An error of a request for people to read: `connect ECONNREFUSED 127.0.0.1:2379`, not what grpc wraps around it. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const [, cause] = /Last error: (?:Error: )?(.*?)\. Resolution note:/s.exec(text) ?? [];
  const [, waited] = /DEADLINE_EXCEEDED: Deadline exceeded after ([\d.]+)s/.exec(text) ?? [];
  return (cause ?? (waited ? `no answer in ${Number(waited).toFixed(1)} s` : text)).slice(0, MAX_REASON);
}

/**
 * What an error of a request means.
 * unclear: no answer, or one that says nothing about the outcome; ask again elsewhere. lease-gone, compacted: as they say. refused: never again so.
 */
export type EtcdFault = 'unclear' | 'lease-gone' | 'compacted' | 'refused';

export function etcdFault(raw: unknown): EtcdFault {
  if (!(raw instanceof Error)) return 'refused';
  const error = castGrpcError(raw);
  if (error instanceof EtcdLeaseInvalidError) return 'lease-gone';
  if (error instanceof GRPCOutOfRangeError) return error.message.includes('compacted') ? 'compacted' : 'refused';
  if (error instanceof GRPCResourceExhastedError) {
    return /space exceeded|larger than max/.test(error.message) ? 'refused' : 'unclear';
  }
  if (error instanceof EtcdInvalidAuthTokenError || error instanceof ClientClosedError) return 'unclear';
  if (isRecoverableError(error)) return 'unclear';
  // An error of the client itself (a closed channel) has no class of its own.
  return error instanceof GRPCGenericError && error.constructor === GRPCGenericError ? 'unclear' : 'refused';
}
