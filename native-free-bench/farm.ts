// A farm with one real member, number 1. The others are only records and seats in a memory store.
import type { Logger } from 'pino';
import type { Clock } from '../src/base/clock.ts';
import { makeLog } from '../src/base/log.ts';
import type { Network } from '../src/base/network.ts';
import { parseConfig } from '../src/config/load.ts';
import type { Config } from '../src/config/schema.ts';
import type { MemberRecord } from '../src/membership/member-record.ts';
import { type Metrics, makeMetrics, makeRegistry } from '../src/metrics/metrics.ts';
import { FarmNode } from '../src/node/farm-node.ts';
import type { Seat, View } from '../src/ownership/view.ts';
import { DROP_REASONS } from '../src/packet/verdict.ts';
import { ENVELOPE_VERSION, OLDEST_ENVELOPE_VERSION } from '../src/relay/envelope.ts';
import { MemoryFarm } from '../src/store/memory-store.ts';
import { MAX_WRITES, type Store } from '../src/store/store.ts';

/** The farm key of every run. It protects nothing, because no packet leaves the machine. */
export const SECRET = '5b'.repeat(32);
export const OWN = 1;
/** Its incarnation. */
export const OWN_START = 1;
const SEED = '0123456789abcdef0123456789abcdef';

/** Sockets of the real member, and of the programs around it. */
export interface Place {
  /** Address of all programs except the client. */
  readonly address: string;
  /** Address of the client. A member sends no bare packets for a client with one of the member's own addresses. */
  readonly client: string;
}
/** The transparent port (relay.mode transparent) is the port after the relay link. No socket is at `discard`. */
export const PORTS = {
  discard: 9,
  front: 5060,
  inner: 5062,
  relay: 5064,
  hatch: 5065,
  server: 5070,
  client: 5080,
  peer: 5090,
} as const;

/**
 * Returns the record of another member. The relay links of all of them are at the peer's port, the load generator's
 * sink. `bare`: their transparent ports are there instead, and frames are lost, so that none counts as a bare packet.
 */
export function peerRecord(number: number, { address }: Place, bare = false): MemberRecord {
  const id = `fe${number}`;
  const peer = `${address}:${PORTS.peer}`;
  const relay = bare ? `${address}:${PORTS.discard}` : peer;
  const edge = { name: 'edge', transport: 'udp', bind: peer, advertise: peer } as const;
  const listeners = [bare ? { ...edge, transparent: peer } : edge];
  const versions = { sipfarm: 'bench', min: OLDEST_ENVELOPE_VERSION, max: ENVELOPE_VERSION };
  const startedAt = '2026-01-01T00:00:00.000Z';
  return {
    v: 1,
    id,
    number,
    incarnation: 1,
    role: 'member',
    state: 'active',
    weight: 100,
    relay,
    listeners,
    versions,
    startedAt,
    host: 'bench',
    claim: id,
  };
}

/** The view of `members` members of one weight, the real one among them. */
export function benchView(members: number): View {
  const seats = Array.from({ length: members }, (_, i): Seat => {
    const number = i + OWN;
    return { id: `fe${number}`, number, incarnation: 1, weight: 100, state: 'active' };
  });
  return { v: 1, epoch: 1, seed: SEED, seats, history: [] };
}

/**
 * Writes view, records and numbers into `store`. The member that joins as fe1 finds its seat and changes nothing.
 * `bare`: see peerRecord.
 */
export async function fillStore(store: Store, members: number, place: Place, bare = false): Promise<void> {
  const lease = await store.grantLease(86_400);
  await store.commit([
    { key: 'view', value: benchView(members) },
    {
      key: `numbers/${OWN}`,
      value: { v: 1, member: 'fe1', incarnation: OWN_START - 1, lastSeen: new Date().toISOString() },
    },
  ]);
  const others = Array.from({ length: members - 1 }, (_, i) => peerRecord(OWN + 1 + i, place, bare));
  for (let at = 0; at < others.length; at += MAX_WRITES)
    await store.commit(
      others.slice(at, at + MAX_WRITES).map((value) => ({ key: `members/${value.id}`, value, lease })),
    );
}

/** The configuration of the real member. `changes` are sections that replace those here. */
export function memberConfig({ address }: Place, changes: Readonly<Record<string, unknown>> = {}): Config {
  const text = JSON.stringify({
    farm: 'bench',
    member: 'fe1',
    store: { kind: 'memory' },
    listeners: [{ name: 'edge', transport: 'udp', bind: `${address}:${PORTS.front}`, answer: 'direct' }],
    balancer: { mode: 'dsr' },
    keys: [SECRET],
    relay: { bind: `${address}:${PORTS.relay}` },
    rampSeconds: 0,
    service: {
      kind: 'upstream',
      server: `sip:${address}:${PORTS.server}`,
      bind: `${address}:${PORTS.inner}`,
      health: { method: 'none' },
    },
    // Results are read from the standard output.
    log: { level: 'silent' },
    ...changes,
  });
  return parseConfig('bench', text, {}).config;
}

export interface MemberOptions {
  readonly config: Config;
  /** Number of members of the farm, with the real one. */
  readonly members: number;
  readonly place: Place;
  readonly clock: Clock;
  /** Left out: a memory store. */
  readonly store?: Store;
  readonly network: (log: Logger, metrics: Metrics) => Network;
}

/** The real member, built and started in this process. */
export async function startMember({
  config,
  members,
  place,
  clock,
  network,
  ...given
}: MemberOptions): Promise<FarmNode> {
  const store = given.store ?? new MemoryFarm(clock).open();
  await fillStore(store, members, place, config.relay.mode === 'transparent');
  const log = makeLog({ level: config.log.level });
  const metrics = makeMetrics(makeRegistry(), { version: 'bench', dropReasons: Object.keys(DROP_REASONS) });
  const own = network(log, metrics);
  const node = new FarmNode({ config, version: 'bench', network: own, clock, store, metrics, log, admin: 'none' });
  await node.start();
  return node;
}
