// The listeners of the other nodes, from their records. Two uses: answers that this node cannot send itself, and
// messages of a node without own listeners for clients. Cold code builds them whenever the records change; the packet
// path reads them.

import { isIpv6, parseEndpoint } from '../base/endpoint.ts';
import { listenerCode } from '../base/listener-code.ts';
import type { SeatRole } from '../ownership/view.ts';
import { type Advertised, advertisedIn } from '../packet/advertised.ts';
import type { Packet } from '../packet/packet.ts';
import { isListenerKind, type ListenerKind } from '../packet/transport-kind.ts';
import type { Listener } from '../transport/transport.ts';

/** The properties of a listener that decide the way back of a request. */
export type ListenerTraits = Pick<Listener, 'code' | 'answer' | 'proxyProtocol'>;

/** A listener of another node. Messages by it leave through that node, so its `answer` is always `ingress`. */
export interface RemoteListener extends ListenerTraits {
  /** Number of the node that has it. */
  readonly member: number;
  readonly transport: ListenerKind;
  readonly ipv6: boolean;
  readonly advertise: Advertised;
}

/** The fields of a member's record that are read here. */
export interface RemoteListenerRecord {
  readonly number: number;
  readonly role: SeatRole;
  readonly listeners: readonly {
    readonly name: string;
    readonly transport: string;
    readonly bind: string;
    readonly advertise: string;
    readonly told?: string;
    readonly proxied?: boolean;
  }[];
}

export interface RemoteListenersOptions {
  /** This node's own listeners. */
  readonly own: readonly Listener[];
  /** This node's role. */
  readonly role: SeatRole;
}

const NO_LISTENERS: readonly RemoteListener[] = [];

export class RemoteListeners {
  readonly #options: RemoteListenersOptions;
  /** By member number. */
  #all: ReadonlyMap<number, readonly RemoteListener[]> = new Map();
  /** By member number and listener code: listeners whose clients this node cannot answer from its own listeners. */
  #elsewhere: ReadonlyMap<number, RemoteListener> = new Map();

  constructor(options: RemoteListenersOptions) {
    this.#options = options;
  }

  /** Takes the records of all nodes except `self`. */
  setRecords(records: readonly RemoteListenerRecord[], self: number): void {
    const all = new Map<number, readonly RemoteListener[]>();
    const elsewhere = new Map<number, RemoteListener>();
    for (const record of records) {
      if (record.number === self) continue;
      const remoteListeners = remoteListenersOf(record);
      all.set(record.number, remoteListeners);
      for (const remote of remoteListeners)
        if (this.#isElsewhere(remote, record.role)) elsewhere.set(listenerKey(remote.member, remote.code), remote);
    }
    this.#all = all;
    this.#elsewhere = elsewhere;
  }

  /**
   * Returns the listener of that member if answers to its packets must leave through it, whatever this node's settings.
   * There are three cases: this node has no such listener; or one of the two nodes is outside the farm and advertises
   * another address; or this node has role `relay`, which has no listeners for clients.
   */
  elsewhere(member: number, code: number): RemoteListener | undefined {
    return this.#elsewhere.size === 0 ? undefined : this.#elsewhere.get(listenerKey(member, code));
  }

  /** Returns the traits of the listener that received the packet; undefined when no node has it any more. */
  traitsOf(packet: Packet): ListenerTraits | undefined {
    return this.elsewhere(packet.ingress, packet.listenerCode) ?? this.#options.own[packet.listener];
  }

  /**
   * Returns the first listener of that member that advertises this transport and has this address family. A TCP
   * listener that advertises TLS does not fit TCP.
   */
  fitting(member: number, transport: ListenerKind, ipv6: boolean): RemoteListener | undefined {
    for (const remote of this.#all.get(member) ?? NO_LISTENERS)
      if (remote.advertise.transport === transport && remote.ipv6 === ipv6) return remote;
    return undefined;
  }

  #isElsewhere(remote: RemoteListener, role: SeatRole): boolean {
    const { own, role: ownRole } = this.#options;
    const mine = own.find(({ code }) => code === remote.code);
    if (!mine || mine.transport !== remote.transport || ownRole === 'relay') return true;
    if (role === 'member' && ownRole === 'member') return false;
    const [told, theirs] = [mine.advertise, remote.advertise];
    return told.host !== theirs.host || told.port !== theirs.port || told.transport !== theirs.transport;
  }
}

function listenerKey(member: number, code: number): number {
  return member * 256 + code;
}

function remoteListenersOf({ number, listeners }: RemoteListenerRecord): RemoteListener[] {
  return listeners.flatMap((listener): RemoteListener[] => {
    const { name, transport, bind, proxied } = listener;
    const advertise = advertisedIn(listener);
    if (!advertise || !isListenerKind(transport)) return [];
    const proxyProtocol = proxied ? 'require' : 'off';
    const ipv6 = isIpv6(parseEndpoint(bind)?.address ?? '');
    const answer = 'ingress' as const;
    return [{ member: number, code: listenerCode(name), transport, ipv6, advertise, answer, proxyProtocol }];
  });
}
