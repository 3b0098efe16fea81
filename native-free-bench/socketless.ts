// A real member without sockets, in this process: what goes into its doors is a call, what it sends goes nowhere and is counted.
import { Duplex } from 'node:stream';
import { systemClock } from '../src/base/clock.ts';
import { type DatagramHandlers, type Network, nodeNetwork } from '../src/base/network.ts';
import type { FarmNode } from '../src/node/farm-node.ts';
import { memberConfig, type Place, PORTS, startMember } from './farm.ts';

export const PLACE: Place = { address: '127.0.0.1', client: '127.0.0.1' };
export const CLIENT = { address: '198.51.100.77', port: 5060 };
export const FRONT = { address: PLACE.address, port: PORTS.front };

/** Timers of a member keep no process alive, and it has no sockets that would: whoever uses this ends by `process.exit`. */
setInterval(() => {}, 60_000);

class Void {
  sent = 0;
  readonly handlers = new Map<number, DatagramHandlers>();
  readonly network: Network = {
    ...nodeNetwork,
    bindUdp: async (local, handlers) => {
      this.handlers.set(local.port, handlers);
      return { local, send: () => void this.sent++, close: async () => {} };
    },
    listenTcp: async (local) => ({ local, close: async () => {} }),
    // Nobody answers: the datagram side is what is measured.
    connectTcp: () => new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() }),
  };
}

export interface SocketlessMember {
  readonly node: FarmNode;
  sent(): number;
  /** A datagram from outside. */
  front(bytes: Buffer): void;
  /** A datagram on the relay link. */
  relay(bytes: Buffer): void;
}

/** Member 1 in a farm of so many; `changes` of its configuration. */
export async function socketlessMember(
  members: number,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<SocketlessMember> {
  const nowhere = new Void();
  const node = await startMember({
    config: memberConfig(PLACE, changes),
    members,
    place: PLACE,
    clock: systemClock,
    network: () => nowhere.network,
  });
  const [front, relay] = [nowhere.handlers.get(PORTS.front)!, nowhere.handlers.get(PORTS.relay)!];
  return {
    node,
    sent: () => nowhere.sent,
    front: (bytes) => front.onDatagram(bytes, CLIENT.address, CLIENT.port),
    relay: (bytes) => relay.onDatagram(bytes, PLACE.address, PORTS.peer),
  };
}
