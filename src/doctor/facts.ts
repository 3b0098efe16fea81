// Defines the facts that `sipfarm doctor` collects before its checks. collect.ts collects them once. The checks are
// pure functions of them and of the configuration.

import type { MemberRecord } from '../membership/member-record.ts';
import type { PeerInfo } from '../relay/peers.ts';

export interface InterfaceFacts {
  readonly name: string;
  /** lo, or an interface of kind dummy: it has no neighbour that could send ARP requests. */
  readonly inner: boolean;
  readonly up: boolean;
  readonly addresses: readonly { readonly address: string; readonly prefix: number }[];
}

export interface RouteFacts {
  readonly device: string;
  /**
   * Octets of the largest IP packet that this host sends there unfragmented, including what path MTU discovery found.
   */
  readonly mtu: number;
}

/** An address of the configuration that sipfarm binds. */
export interface BoundFacts {
  /** The system's error on binding; undefined when it can be bound. */
  readonly refused: string | undefined;
  /** Whether the address is local to this host; undefined when the routes cannot be read. */
  readonly local: boolean | undefined;
}

/** Result of probing a peer's relay address. */
export interface PathFacts {
  readonly tcp: 'open' | 'refused' | 'silent';
  /**
   * Octets of the largest probe packet, up to the MTU of the route, that reached the peer; undefined when the peer
   * answers no probe.
   */
  readonly passes: number | undefined;
}

export interface StoreFacts {
  /** Reason why the store does not answer; undefined when it does. */
  readonly trouble: string | undefined;
  /** Median of some reads, ms. */
  readonly medianMs: number;
  readonly slowestMs: number;
  /** True when the store takes a transaction of the largest size that sipfarm makes. */
  readonly takesLarge: boolean;
  /** One entry per host of the store; values are undefined where its /metrics cannot be read. */
  readonly hosts: readonly StoreHostFacts[];
}

export interface StoreHostFacts {
  readonly host: string;
  /** Its wall clock minus this host's, ms. */
  readonly clockAheadMs: number | undefined;
  /** Share of the quota that the database takes, 0 to 1. */
  readonly full: number | undefined;
  /** Revisions that have not been compacted away. */
  readonly history: number | undefined;
}

/** A peer as the running member sees it (`/v1/peers`). */
export interface SeenPeer extends Pick<PeerInfo, 'id'> {
  readonly relay: string;
  readonly seated: boolean;
  readonly reachable: boolean;
  /** Ids of the members that it reports as unreachable. */
  readonly misses: readonly string[];
}

/** Media ports of one member of this host (`/v1/ports`). */
export interface MediaFacts {
  readonly member: string;
  /** Why it opens no new streams; '' = it does. */
  readonly trouble: string;
  /** Address and ports of each side; empty while no relay counts them. */
  readonly sides: readonly { readonly address: string; readonly free: number; readonly all: number }[];
}

export interface MemberFacts {
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly peers: readonly SeenPeer[];
  readonly media: readonly MediaFacts[];
  /** Frames and tokens that failed their check while the doctor watched. */
  readonly forgedFrames: number;
  readonly forgedTokens: number;
}

/** Facts of this host for `relay.mode: transparent`. */
export interface RawFacts {
  /** Reason why the doctor could not open a raw socket; undefined when it could. */
  readonly trouble: string | undefined;
  /** `module`: the native module does not load. `right`: it loads, but the system refuses the socket. */
  readonly lacks: 'module' | 'right' | undefined;
  /** Rights that systemd gives the service, in the form of the unit file; undefined when there is no such unit. */
  readonly unitRights: string | undefined;
}

/** Facts of this host for the media relay in the kernel. */
export interface OffloadFacts {
  /** `media.offload`. */
  readonly mode: 'auto' | 'on';
  /** Local addresses of the media ports, the one towards the clients first. */
  readonly addresses: readonly string[];
  /** refused: a trial of the table of a member failed. */
  readonly nft: 'usable' | 'missing' | 'refused';
  /** See `RawFacts`. */
  readonly unitRights: string | undefined;
  /** Chains that drop what is passed on by default, as family, table and name. */
  readonly dropping: readonly string[];
}

export interface HostFacts {
  /** Path of the configuration file. */
  readonly file: string;
  readonly interfaces: readonly InterfaceFacts[];
  /** By address: all bound addresses except wildcards. An address without facts is absent. */
  readonly bound: ReadonlyMap<string, BoundFacts>;
  /** Value by path under /proc/sys. An unreadable setting is absent. */
  readonly sysctl: ReadonlyMap<string, string>;
  /** Value by path under /proc/sys, from the files that are read at boot. */
  readonly persisted: ReadonlyMap<string, string>;
  /** Names of the loaded kernel modules. */
  readonly modules: ReadonlySet<string>;
  /** UDP entries of the connection tracker with the port of a listener; undefined when the table cannot be read. */
  readonly tracked: number | undefined;
  /** True when some rule keeps packets out of the connection tracker; undefined when the rules cannot be read. */
  readonly untracked: boolean | undefined;
  readonly openFiles: { readonly limit: number; readonly of: 'the running member' | 'this shell' } | undefined;
  /** Device of the default route. */
  readonly defaultDevice: string | undefined;
  /** By address: peers and single probe sources. */
  readonly routes: ReadonlyMap<string, RouteFacts>;
  /** Counters since boot, from /proc/net/snmp. */
  readonly datagrams: { readonly bufferFull: number; readonly fragmentsLost: number };
  /** Records of all members in the store, including this one's. */
  readonly records: readonly MemberRecord[];
  /** By the relay address of a peer. */
  readonly paths: ReadonlyMap<string, PathFacts>;
  /** Names of the farm keys in the configuration. */
  readonly keys: readonly string[];
  /** undefined with the memory store. */
  readonly store: StoreFacts | undefined;
  /** undefined with relay.mode envelope. */
  readonly raw: RawFacts | undefined;
  /** undefined without media. */
  readonly offload: OffloadFacts | undefined;
  /** undefined when no running member answers. */
  readonly member: MemberFacts | undefined;
}
