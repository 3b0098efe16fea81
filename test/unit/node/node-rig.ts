// The options of one node whose network and store note each effect in one list, for the tests of the whole node.
import { pino } from 'pino';
import { type Endpoint, formatEndpoint } from '../../../src/base/endpoint.ts';
import type { DatagramHandlers, DatagramSocket, Network, StreamServer } from '../../../src/base/network.ts';
import { parseConfig } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/schema.ts';
import { type Metrics, makeMetrics, makeRegistry } from '../../../src/metrics/metrics.ts';
import type { NodeOptions } from '../../../src/node/assemble.ts';
import { DROP_REASONS } from '../../../src/packet/verdict.ts';
import { MemoryFarm, type MemoryStore } from '../../../src/store/memory-store.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { NO_KERNEL } from '../../fake/nft.ts';

export const SECRET = 'ab'.repeat(32);
export const EDGE: Endpoint = { address: '198.51.100.1', port: 5060 };

/** Returns the configuration of fe1, which answers all calls itself. */
export function nodeConfig(more: Readonly<Record<string, unknown>> = {}): Config {
  const listener = (name: string, transport: string) => ({ name, transport, bind: formatEndpoint(EDGE) });
  const text = JSON.stringify({
    ...{ farm: 'test', member: 'fe1', rampSeconds: 0, store: { kind: 'memory' }, keys: [SECRET] },
    listeners: [listener('edge', 'udp'), listener('edge-tcp', 'tcp')],
    balancer: { mode: 'dsr', probes: ['198.51.100.254/32'] },
    relay: { bind: '10.0.0.1:5064' },
    service: { kind: 'answer' },
    log: { level: 'error' },
    ...more,
  });
  const { config } = parseConfig('test', text, {});
  // A small call table: the memory for two million calls per node would take too long.
  const ownership = { ...config.ownership, maxEntries: 1000 };
  return { ...config, ownership };
}

export class NodeRig {
  readonly clock = new FakeClock();
  readonly memory = new MemoryFarm(this.clock);
  readonly store: MemoryStore = this.memory.open();
  readonly network: FakeNetwork = new FakeNetwork({ clock: this.clock });
  readonly metrics: Metrics = makeMetrics(makeRegistry(), {
    version: 'test',
    dropReasons: Object.keys(DROP_REASONS),
  });
  /** In order: `bind udp 10.0.0.1:5064`, `close udp ...`, `write members/fe1`, `delete members/fe1`. */
  readonly effects: string[] = [];
  readonly #open = new Set<string>();

  constructor() {
    const commit = this.store.commit.bind(this.store);
    this.store.commit = (writes) => {
      for (const { key, value } of writes) this.effects.push(`${value === undefined ? 'delete' : 'write'} ${key}`);
      return commit(writes);
    };
  }

  options(config = nodeConfig(), more: Partial<NodeOptions> = {}): NodeOptions {
    const { clock, store, metrics } = this;
    return {
      ...{ config, version: 'test', network: this.#noting(), clock, store, metrics, random: () => 0, admin: 'none' },
      log: pino({ level: 'silent' }),
      kernel: NO_KERNEL,
      ...more,
    };
  }

  /** Ports that the node has open. */
  get ports(): string[] {
    return [...this.#open].sort();
  }

  /** Returns the network of the node, which notes what it opens and closes. */
  #noting(): Network {
    const { network } = this;
    const noted = <S extends DatagramSocket | StreamServer>(transport: string, socket: S): S => {
      const port = `${transport} ${formatEndpoint(socket.local)}`;
      this.#open.add(port);
      this.effects.push(`bind ${port}`);
      const close = (): Promise<void> => {
        this.#open.delete(port);
        this.effects.push(`close ${port}`);
        return socket.close();
      };
      return { ...socket, close };
    };
    const bindUdp = async (local: Endpoint, handlers: DatagramHandlers): Promise<DatagramSocket> =>
      noted('udp', await network.bindUdp(local, handlers));
    const listenTcp = async (...of: Parameters<Network['listenTcp']>): Promise<StreamServer> =>
      noted('tcp', await network.listenTcp(...of));
    return new Proxy(network, {
      get: (target, name) => {
        if (name === 'bindUdp') return bindUdp;
        if (name === 'listenTcp') return listenTcp;
        const value = Reflect.get(target, name, target) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  /** Advances clock and network until `promise` is settled. Throws after a minute of the clock. */
  async drive<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const end = (): void => {
      done = true;
    };
    promise.then(end, end);
    for (let passed = 0; !done && passed < 60_000; passed += 10) await this.pass(10);
    if (!done) throw new Error('did not end within a minute of the clock');
    return promise;
  }

  async pass(ms: number, step = 10): Promise<void> {
    for (let left = ms; left > 0; left -= step) {
      await this.network.settle();
      this.clock.advance(Math.min(step, left));
    }
    await this.network.settle();
  }
}
