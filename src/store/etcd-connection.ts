// One connection to etcd, hardened. By default npm etcd3 retries by itself, has no deadlines, and trusts silent
// channels. Here a request is sent once, to one host, with a fresh deadline. After a failure `renew` moves on to the
// next host.
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
  /** PEM. `ca` alone verifies the server; `cert` and `key` authenticate this client to it. */
  readonly tls?: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
}

/** Makes a server without a leader end the call or stream. Otherwise it would keep this client on old data forever. */
const hasLeader: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      metadata.set('hasleader', 'true');
      next(metadata, listener);
    },
  });

/** Most octets of one answer. Answers are paged; this bounds one page of large values. */
const MAX_ANSWER_OCTETS = 64 * 1024 * 1024;

/** The server refuses pings in intervals below 5 s. */
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
      // rootCertificate undefined means the system's own roots. etcd3 passes that on but does not declare it.
      credentials: {
        rootCertificate: tls.ca as Buffer,
        ...(tls.key && { privateKey: tls.key }),
        ...(tls.cert && { certChain: tls.cert }),
      },
    }),
    grpcOptions: {
      'grpc.keepalive_time_ms': PING_MS,
      'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
      // etcd counts pings on a connection without calls as abuse and closes it. The deadline of the next request
      // detects a dead idle connection.
      'grpc.keepalive_permit_without_calls': 0,
      'grpc.max_receive_message_length': MAX_ANSWER_OCTETS,
      // Otherwise channels to one host share a TCP connection, and a new instance would get the dead one back.
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

  /** `requestMs`: deadline of one attempt of a unary call. `first`: index of the first host. */
  constructor(access: EtcdAccess, requestMs: number, first: number) {
    this.#access = access;
    this.#requestMs = requestMs;
    this.#next = first % access.hosts.length;
  }

  /** The client: created on first use, connected by the first request. */
  get client(): Etcd3 {
    this.#client ??= new Etcd3(etcdOptions(this.#access, this.#access.hosts[this.#next]!, this.#requestMs));
    return this.#client;
  }

  /** URL of the current host. */
  get host(): string {
    return this.#access.hosts[this.#next]!;
  }

  /**
   * Closes `failed`. The next use creates a new instance for the next host. Does nothing when `failed` is not current
   * any more.
   */
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

/** Returns a URL of etcd without credentials. The URL is shown, and etcd takes no credentials there. */
export function withoutCredentials(url: string): string {
  return url.replace(/\/\/[^/]*@/, '//');
}

/** Most characters of an error text that is passed on. */
const MAX_REASON = 200;

/**
 * Returns the error of a request for people to read: `connect ECONNREFUSED 127.0.0.1:2379`, without the text of grpc.
 */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const [, cause] = /Last error: (?:Error: )?(.*?)\. Resolution note:/s.exec(text) ?? [];
  const [, waited] = /DEADLINE_EXCEEDED: Deadline exceeded after ([\d.]+)s/.exec(text) ?? [];
  return (cause ?? (waited ? `no answer in ${Number(waited).toFixed(1)} s` : text)).slice(0, MAX_REASON);
}

/**
 * Meaning of a request's error.
 * - unclear: no answer, or one that leaves the outcome open. Repeat the request at another host.
 * - lease-gone: the lease does not exist any more.
 * - compacted: the requested history does not exist any more.
 * - refused: a repetition would fail, too.
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
