// What `sipfarm doctor` knows before it judges. Collected once (collect.ts); the checks are pure functions of it and of the configuration.

import type { MemberRecord } from '../membership/member-record.ts';
import type { PeerInfo } from '../relay/peers.ts';

export interface InterfaceFacts {
  readonly name: string;
  /** lo, or an interface of kind dummy: no neighbour is there to ask for an address. */
  readonly inner: boolean;
  readonly up: boolean;
  readonly addresses: readonly { readonly address: string; readonly prefix: number }[];
}

export interface RouteFacts {
  readonly device: string;
  /** Octets of the largest IP packet that this host sends there unbroken; what the path has told it included. */
  readonly mtu: number;
}

/** An address of the configuration that sipfarm binds. */
export interface BoundFacts {
  /** The system's error when it is bound; undefined when it can be. */
  readonly refused: string | undefined;
  /** Whether packets to it are this host's own; undefined where the routes cannot be read. */
  readonly local: boolean | undefined;
}

/** What a peer's relay address answered. */
export interface PathFacts {
  readonly tcp: 'open' | 'refused' | 'silent';
  /** Octets of the largest IP packet of those tried, up to the MTU of the route, that reached the peer; undefined when the peer answers none. */
  readonly passes: number | undefined;
}

export interface StoreFacts {
  /** Why it does not answer; undefined when it does. */
  readonly trouble: string | undefined;
  /** Median of some reads, ms. */
  readonly medianMs: number;
  readonly slowestMs: number;
  /** It takes a transaction as large as sipfarm makes them. */
  readonly takesLarge: boolean;
  /** By host, where its /metrics can be read. */
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
  /** Ids of the members it says it cannot reach. */
  readonly misses: readonly string[];
}

export interface MemberFacts {
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly peers: readonly SeenPeer[];
  /** Frames and tokens that failed their check while the doctor looked. */
  readonly forgedFrames: number;
  readonly forgedTokens: number;
}

/** What `relay.mode: transparent` needs of this host. */
export interface RawFacts {
  /** Why the doctor could open no raw socket; undefined when it could. */
  readonly trouble: string | undefined;
  /** `module`: the native module does not load. `right`: it does, but the system refuses. */
  readonly lacks: 'module' | 'right' | undefined;
  /** Rights that systemd leaves the service, as it writes them; undefined when there is no such unit. */
  readonly unitRights: string | undefined;
}

export interface HostFacts {
  /** Path of the configuration file. */
  readonly file: string;
  readonly interfaces: readonly InterfaceFacts[];
  /** By address, of all that are bound but wildcards; what cannot be had is absent. */
  readonly bound: ReadonlyMap<string, BoundFacts>;
  /** Path under /proc/sys and value; what cannot be read is absent. */
  readonly sysctl: ReadonlyMap<string, string>;
  /** The same, by the files that are read at boot. */
  readonly persisted: ReadonlyMap<string, string>;
  /** Names of the loaded kernel modules. */
  readonly modules: ReadonlySet<string>;
  /** UDP entries of the connection tracker with the port of a listener; undefined when the table cannot be read. */
  readonly tracked: number | undefined;
  /** Some rule keeps packets out of the connection tracker; undefined when the rules cannot be read. */
  readonly untracked: boolean | undefined;
  readonly openFiles: { readonly limit: number; readonly of: 'the running member' | 'this shell' } | undefined;
  /** Device of the default route. */
  readonly defaultDevice: string | undefined;
  /** By address: peers and single probe sources. */
  readonly routes: ReadonlyMap<string, RouteFacts>;
  /** Since boot, from /proc/net/snmp. */
  readonly datagrams: { readonly bufferFull: number; readonly fragmentsLost: number };
  /** Records of all members in the store, this one included. */
  readonly records: readonly MemberRecord[];
  /** By the relay address of a peer. */
  readonly paths: ReadonlyMap<string, PathFacts>;
  /** Names of the farm keys in the configuration. */
  readonly keys: readonly string[];
  /** undefined with the memory store. */
  readonly store: StoreFacts | undefined;
  /** undefined with relay.mode envelope. */
  readonly raw: RawFacts | undefined;
  /** undefined when no running member answers. */
  readonly member: MemberFacts | undefined;
}
