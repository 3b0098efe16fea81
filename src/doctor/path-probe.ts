// Probes a peer's relay address: by a TCP connection, and by UDP packets of growing size to a closed port. Linux sends
// the packets unfragmented (path MTU discovery). The peer's kernel reports each arrival by an ICMP message, so the peer
// needs no program for it.
import type { Clock } from '../base/clock.ts';
import { type Endpoint, isIpv6 } from '../base/endpoint.ts';
import type { Network } from '../base/network.ts';
import type { PathFacts } from './facts.ts';

/** A port of the range that traceroute uses; usually no program listens there. */
const CLOSED_PORT = 33_434;
const KNOCK_MS = 400;
const CONNECT_MS = 1500;
/**
 * Octets of the smallest probe. The peer's kernel reports at most six arrivals in a row, then one a second. The search
 * below causes fewer.
 */
const SMALL = 100;
/** Octets of IP packets that common links and tunnels carry. */
const SIZES = [576, 1000, 1200, 1280, 1350, 1380, 1400, 1420, 1440, 1460, 1480, 1492, 1500, 4000, 8000, 8980, 9000];
/** Octets of the largest packet that is tried: jumbo frames. */
export const MAX_PACKET = 9000;

interface ProbeDeps {
  readonly network: Network;
  readonly clock: Clock;
}

function wait(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => void clock.after(ms, resolve));
}

/** Returns whether an IP packet of `octets` reached the host of `to`: its kernel reported the port as closed. */
async function arrives({ network, clock }: ProbeDeps, to: string, octets: number): Promise<boolean> {
  let arrived = false;
  const heads = isIpv6(to) ? 48 : 28;
  const refused = Promise.withResolvers<void>();
  try {
    const socket = await network.connectUdp({ address: to, port: CLOSED_PORT }, () => {
      arrived = true;
      refused.resolve();
    });
    socket.probe(Buffer.alloc(octets - heads));
    await Promise.race([refused.promise, wait(clock, KNOCK_MS)]);
    await socket.close();
  } catch {
    // No route: nothing arrives.
  }
  return arrived;
}

/**
 * Returns the largest of the usual sizes up to `mtu` that reaches `to`. undefined: no small packet is answered, or only
 * packets below the smallest usual size.
 */
async function largestPassing(deps: ProbeDeps, to: string, mtu: number): Promise<number | undefined> {
  if (!(await arrives(deps, to, SMALL))) return undefined;
  if ((await arrives(deps, to, mtu)) || (await arrives(deps, to, mtu))) return mtu;
  const sizes = SIZES.filter((size) => size < mtu);
  let [low, high] = [0, sizes.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (await arrives(deps, to, sizes[middle]!)) low = middle + 1;
    else high = middle;
  }
  return low === 0 ? undefined : sizes[low - 1];
}

async function connects({ network, clock }: ProbeDeps, to: Endpoint): Promise<PathFacts['tcp']> {
  const stream = network.connectTcp(to);
  const answer = new Promise<PathFacts['tcp']>((resolve) => {
    stream.once('connect', () => resolve('open'));
    stream.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED' ? 'refused' : 'silent'));
  });
  const late = wait(clock, CONNECT_MS).then((): PathFacts['tcp'] => 'silent');
  const result = await Promise.race([answer, late]);
  stream.destroy();
  return result;
}

/**
 * Probes the relay address of a peer, in a few seconds at most. Never rejects. `mtu`: octets of the largest packet to
 * try.
 */
export async function probePath(deps: ProbeDeps, relay: Endpoint, mtu: number): Promise<PathFacts> {
  const [tcp, passes] = await Promise.all([connects(deps, relay), largestPassing(deps, relay.address, mtu)]);
  return { tcp, passes };
}
