// A real member without sockets, in this process. Packets arrive by function calls. Packets that it sends are counted
// and dropped.
import { Duplex } from 'node:stream';
import { type Clock, systemClock } from '../src/base/clock.ts';
import type { Endpoint } from '../src/base/endpoint.ts';
import { type DatagramHandlers, type Network, nodeNetwork } from '../src/base/network.ts';
import { parseRecordKey } from '../src/calls/records/call-record.ts';
import type { FarmNode } from '../src/node/farm-node.ts';
import { MemoryFarm } from '../src/store/memory-store.ts';
import type { Store, Write } from '../src/store/store.ts';
import { memberConfig, type Place, PORTS, startMember } from './farm.ts';

export const PLACE: Place = { address: '127.0.0.1', client: '127.0.0.1' };
export const CLIENT = { address: '198.51.100.77', port: 5060 };
export const FRONT = { address: PLACE.address, port: PORTS.front };

/** Milliseconds between two looks at the event loop. They keep the process alive: its users end by `process.exit`. */
const TURN_MS = 20;
/** Most milliseconds that pass for the member between two turns of the event loop. */
const MOST_MS = 100;

/**
 * Returns the system's clock without the time in which this process stood still. On a busy core a stretch of packets
 * takes a second. By the system's clock the member would then have stood still, and its fence would drop packets.
 */
function steadyClock(): Clock {
  let lost = 0;
  let end = performance.now() + MOST_MS;
  const now = (): number => Math.min(performance.now() - lost, end);
  setInterval(() => {
    const seen = now();
    lost = performance.now() - seen;
    end = seen + MOST_MS;
  }, TURN_MS);
  return { ...systemClock, now };
}

/** Clock of the members without sockets. */
export const memberClock = steadyClock();

class Void {
  sent = 0;
  /** The last datagram. */
  last: Uint8Array = Buffer.alloc(0);
  readonly handlers = new Map<number, DatagramHandlers>();
  readonly network: Network = {
    ...nodeNetwork,
    bindUdp: async (local, handlers) => {
      this.handlers.set(local.port, handlers);
      const send = (bytes: Uint8Array): void => {
        this.sent++;
        this.last = bytes;
      };
      return { local, send, close: async () => {} };
    },
    listenTcp: async (local) => ({ local, close: async () => {} }),
    // No peer answers: only datagrams are measured.
    connectTcp: () => new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() }),
  };
}

/** A memory store that accepts call records and keeps none, because a real farm has them in etcd. */
class ForgetfulStore {
  written = 0;
  octets = 0;
  readonly store: Store;

  constructor(clock: Clock) {
    const store = new MemoryFarm(clock).open();
    this.store = new Proxy(store, {
      get: (_target, name) => {
        if (name === 'commit')
          return (writes: readonly Write[]) => store.commit(writes.filter((each) => this.#keeps(each)));
        const value = Reflect.get(store, name, store) as unknown;
        return typeof value === 'function' ? value.bind(store) : value;
      },
    });
  }

  #keeps({ key, value }: Write): boolean {
    if (!parseRecordKey(key)) return true;
    if (value !== undefined && key.includes('/dialog/')) {
      this.written++;
      this.octets += JSON.stringify(value).length;
    }
    return false;
  }
}

export interface SocketlessMember {
  readonly node: FarmNode;
  sent(): number;
  /** The last datagram it has sent. */
  last(): string;
  /** Call records of dialogs that were written, and their octets in JSON. */
  written(): number;
  octets(): number;
  /** A datagram from outside. */
  front(bytes: Buffer, client?: Endpoint): void;
  /** A datagram of the SIP server. */
  inner(bytes: Buffer): void;
  /** A datagram on the relay link. */
  relay(bytes: Buffer): void;
}

/** Starts member 1 in a farm of so many; `changes` replace sections of its configuration. */
export async function socketlessMember(
  members: number,
  changes: Readonly<Record<string, unknown>> = {},
  clock: Clock = memberClock,
): Promise<SocketlessMember> {
  const nowhere = new Void();
  const forgetful = new ForgetfulStore(clock);
  const node = await startMember({
    config: memberConfig(PLACE, changes),
    members,
    place: PLACE,
    clock,
    store: forgetful.store,
    network: () => nowhere.network,
  });
  const [front, relay, inner] = [PORTS.front, PORTS.relay, PORTS.inner].map((port) => nowhere.handlers.get(port)!) as [
    DatagramHandlers,
    DatagramHandlers,
    DatagramHandlers,
  ];
  return {
    node,
    sent: () => nowhere.sent,
    last: () => Buffer.from(nowhere.last).toString('latin1'),
    written: () => forgetful.written,
    octets: () => forgetful.octets,
    front: (bytes, { address, port } = CLIENT) => front.onDatagram(bytes, address, port),
    inner: (bytes) => inner.onDatagram(bytes, PLACE.address, PORTS.server),
    relay: (bytes) => relay.onDatagram(bytes, PLACE.address, PORTS.peer),
  };
}
