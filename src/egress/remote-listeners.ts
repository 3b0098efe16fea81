// The listeners of the other nodes, as their records tell them: where this node cannot answer by itself, and where a node that has no way
// to the clients sends by a member. Built by cold code whenever the records change, read per packet.

import { parseEndpoint } from '../base/endpoint.ts';
import { listenerCode } from '../base/listener-code.ts';
import type { SeatRole } from '../ownership/view.ts';
import { type Advertised, advertisedIn } from '../packet/advertised.ts';
import type { Packet } from '../packet/packet.ts';
import { isListenerKind, type ListenerKind } from '../packet/transport-kind.ts';
import type { Listener } from '../transport/transport.ts';

/** What the way back of a request is made from. */
export type ListenerTraits = Pick<Listener, 'code' | 'answer' | 'proxyProtocol'>;

/** A listener of another node. What is sent by it leaves through that node, so its `answer` is always `ingress`. */
export interface RemoteListener extends ListenerTraits {
  /** Number of the node that holds it. */
  readonly member: number;
  readonly transport: ListenerKind;
  readonly ipv6: boolean;
  readonly advertise: Advertised;
}

/** The part of a member's record that is read here. */
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

export interface DoorsOptions {
  /** This node's own listeners. */
  readonly own: readonly Listener[];
  /** This node's role. */
  readonly role: SeatRole;
}

const NO_DOORS: readonly RemoteListener[] = [];

export class RemoteListeners {
  readonly #options: DoorsOptions;
  /** By member number. */
  #all: ReadonlyMap<number, readonly RemoteListener[]> = new Map();
  /** By member number and listener code: those whose clients this node cannot answer from a listener of its own. */
  #elsewhere: ReadonlyMap<number, RemoteListener> = new Map();

  constructor(options: DoorsOptions) {
    this.#options = options;
  }

  /** The records of all nodes; that of `self` is left out. */
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
   * The listener of that member when what came to it is answered through it, whatever this node's own settings: this node has none of the name,
   * or one of the two is not in the farm and its clients know it by another address, or this node has no way to clients at all.
   */
  elsewhere(member: number, code: number): RemoteListener | undefined {
    return this.#elsewhere.size === 0 ? undefined : this.#elsewhere.get(listenerKey(member, code));
  }

  /** What the packet came to, as its answer sees it; undefined when nobody has such a listener any more. */
  traitsOf(packet: Packet): ListenerTraits | undefined {
    return this.elsewhere(packet.ingress, packet.listenerCode) ?? this.#options.own[packet.listener];
  }

  /** The first listener of that member by which messages leave with this transport and address family: not one whose clients are told another transport. */
  fitting(member: number, transport: ListenerKind, ipv6: boolean): RemoteListener | undefined {
    for (const remote of this.#all.get(member) ?? NO_DOORS)
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
    const ipv6 = parseEndpoint(bind)?.address.includes(':') ?? false;
    const answer = 'ingress' as const;
    return [{ member: number, code: listenerCode(name), transport, ipv6, advertise, answer, proxyProtocol }];
  });
}
