// Orders the servers of a name (RFC 2782) as a function of a number: equal numbers give equal orders. A stateless proxy
// needs that, so that a retransmission goes to the same target as its request (RFC 3263 4.4). With a true random number
// the result is plain RFC 2782.

import type { ListenerKind } from '../packet/transport-kind.ts';

export interface SrvTarget {
  readonly transport: ListenerKind;
  /** IP literal, without brackets. */
  readonly address: string;
  readonly port: number;
}

/** One host with its addresses: one list per address family, the preferred family first. */
export interface Server {
  readonly weight: number;
  readonly families: readonly (readonly SrvTarget[])[];
}

/** Groups of servers by rank. Within a group the weights decide. */
export type Ranking = readonly (readonly Server[])[];

let state = 0;

/** Returns the next of a series of 32-bit numbers determined by `state` (splitmix32). */
function draw(): number {
  state = (state + 0x9e3779b9) | 0;
  let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** Returns all targets of `ranking` in the order of trial. `choice` is any number; its low 32 bits count. */
export function orderTargets(ranking: Ranking, choice: number): SrvTarget[] {
  state = choice | 0;
  const targets: SrvTarget[] = [];
  for (const group of ranking) {
    // Servers of weight 0 come first, so that they have the small chance that RFC 2782 requires.
    const left = group.length > 1 ? [...group].sort((a, b) => Math.sign(a.weight) - Math.sign(b.weight)) : [...group];
    while (left.length > 0) {
      const [server] = left.splice(left.length > 1 ? weightedIndex(left) : 0, 1);
      for (const family of server!.families) {
        const first = family.length > 1 ? draw() % family.length : 0;
        for (let i = 0; i < family.length; i++) targets.push(family[(first + i) % family.length]!);
      }
    }
  }
  return targets;
}

/**
 * Returns the index of the first server with a running sum of weights that reaches the drawn number (RFC 2782,
 * "Weight"). The number is drawn from 0 to the whole sum.
 */
function weightedIndex(servers: readonly Server[]): number {
  let sum = 0;
  for (const server of servers) sum += server.weight;
  // RFC 2782 leaves the order among servers of weight 0 open. Here each is equally likely.
  if (sum === 0) return draw() % servers.length;
  const drawn = draw() % (sum + 1);
  let running = 0;
  for (let i = 0; i < servers.length; i++) {
    running += servers[i]!.weight;
    if (running >= drawn) return i;
  }
  return servers.length - 1;
}
