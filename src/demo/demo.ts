// `sipfarm demo`: a farm in one process on loopback. An embedded stateless balancer gives every packet to another
// member. The owner of a call answers it. The terminal shows how many packets each member received, relayed and
// handled.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { formatEndpoint } from '../base/endpoint.ts';
import { makeLog } from '../base/log.ts';
import type { ByteStream, DatagramSocket, Network } from '../base/network.ts';
import { parseConfig } from '../config/load.ts';
import { type Metrics, makeMetrics, makeRegistry } from '../metrics/metrics.ts';
import { FarmNode } from '../node/farm-node.ts';
import { DROP_REASONS } from '../packet/verdict.ts';
import { EtcdStore } from '../store/etcd-store.ts';
import { MemoryFarm } from '../store/memory-store.ts';
import type { Store } from '../store/store.ts';
import { Scoreboard } from './scoreboard.ts';
import { type Frontend, SprayBalancer } from './spray-balancer.ts';

export interface DemoOptions {
  /** 1-16. */
  readonly members: number;
  /** Port of the balancer on 127.0.0.1, UDP and TCP. 0 = a free one. */
  readonly port: number;
  /** URL of etcd. Left out: the memory store. */
  readonly etcd?: string;
}

export interface DemoContext {
  readonly network: Network;
  readonly clock: Clock;
  readonly version: string;
  /** Writes to the terminal. */
  readonly write: (text: string) => void;
  /** The terminal understands cursor movement. */
  readonly live: boolean;
}

const ADDRESS = '127.0.0.1';
/** Listener indexes of a demo member. */
const UDP = 0;
const TCP = 1;

/** One member of the demo. */
interface DemoMember {
  readonly id: string;
  readonly node: FarmNode;
  readonly metrics: Metrics;
}

export class Demo {
  readonly #options: DemoOptions;
  readonly #context: DemoContext;
  readonly #balancer: SprayBalancer;
  readonly #members: DemoMember[] = [];
  readonly #stores: Store[] = [];
  #board: Scoreboard | undefined;
  #port: number;

  constructor(options: DemoOptions, context: DemoContext) {
    this.#options = options;
    this.#context = context;
    this.#port = options.port;
    this.#balancer = new SprayBalancer(context.network, { address: ADDRESS, port: options.port });
  }

  /** Port for SIP clients. */
  get port(): number {
    return this.#port;
  }

  /** The members' counters, for the scoreboard and for tests. */
  get members(): readonly DemoMember[] {
    return this.#members;
  }

  /** Starts balancer and members. Rejects with SF_BIND_FAILED or SF_STORE_*; what was started is stopped again. */
  async start(): Promise<void> {
    const { members, etcd } = this.#options;
    const memory = new MemoryFarm(this.#context.clock);
    const secret = randomBytes(32).toString('hex');
    try {
      const vip = await this.#balancer.start();
      this.#port = vip.local.port;
      // Named by port: simultaneous demos do not mix in one etcd, and successive demos leave one farm there.
      const farm = `demo-${this.#port}`;
      for (let index = 1; index <= members; index++) {
        const store =
          etcd === undefined ? memory.open() : new EtcdStore({ hosts: [etcd], farm, clock: this.#context.clock });
        this.#stores.push(store);
        this.#members.push(await this.#startMember(`fe${index}`, farm, secret, store, vip));
      }
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.#balancer.pool(this.#members.map(({ node }) => frontend(node)));
    this.#showStart();
  }

  async stop(): Promise<void> {
    this.#board?.stop();
    this.#balancer.pool([]);
    for (const { node } of this.#members) await node.stop();
    await this.#balancer.stop();
    await Promise.all(this.#stores.map((store) => store.close()));
  }

  async #startMember(id: string, farm: string, secret: string, store: Store, vip: DatagramSocket): Promise<DemoMember> {
    const { network, clock, version } = this.#context;
    const own = formatEndpoint(vip.local);
    const { config } = parseConfig(
      'demo',
      JSON.stringify({
        farm,
        member: id,
        store: { kind: 'memory' },
        keys: [secret],
        listeners: [
          { name: 'edge', transport: 'udp', bind: own, answer: 'direct' },
          { name: 'edge-tcp', transport: 'tcp', bind: own },
        ],
        balancer: { mode: 'dsr' },
        relay: { bind: `${ADDRESS}:0` },
        rampSeconds: 0,
        service: { kind: 'answer' },
        admin: { bind: `${ADDRESS}:0` },
        log: { level: 'warn' },
      }),
      {},
    );
    const metrics = makeMetrics(makeRegistry(), { version, dropReasons: Object.keys(DROP_REASONS) });
    const node = new FarmNode({
      config,
      version,
      network,
      clock,
      store,
      metrics,
      log: makeLog({ level: 'warn', fields: { member: id } }),
      sockets: new Map([['edge', vip]]),
      handedIn: new Set(['edge-tcp']),
    });
    await node.start();
    return { id, node, metrics };
  }

  #showStart(): void {
    const { write, live, clock } = this.#context;
    const { members } = this.#options;
    const admin = this.#members[0]?.node.adminAt;
    write(
      [
        `A farm of ${members} ${members === 1 ? 'member' : 'members'} behind a stateless balancer at ` +
          `${ADDRESS}:${this.#port}, UDP and TCP.`,
        'Every packet goes to another member than the one before. Make calls through it:',
        '',
        `    sipp ${ADDRESS}:${this.#port} -sn uac -m 100`,
        '',
        `Status: npx sipfarm members --admin ${admin ? formatEndpoint(admin) : ''}   Stop: Ctrl-C`,
        '',
      ].join('\n'),
    );
    this.#board = new Scoreboard(this.#members, write, live);
    this.#board.start(clock);
  }
}

function frontend(node: FarmNode): Frontend {
  return {
    datagram: (bytes: Buffer, address: string, port: number) => node.transport.inject(UDP, bytes, address, port),
    connection: (stream: ByteStream) => node.transport.accept(TCP, stream),
  };
}
