// Calls with RTP by SIPp through a farm with relayed media, and restarts of members meanwhile. The server behind
// each member sends the RTP back.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clientAddress, VIP } from './addresses.ts';
import { Farm, sumOf } from './farm.ts';
import { Lab } from './lab.ts';
import { MEMBERS_USED, PLANS, withMedia } from './media-plans.ts';
import { Sipp, type SippResult } from './sipp.ts';
import { until } from './until.ts';

/** Half a second of silence in G.711. */
const AUDIO = Buffer.alloc(4000, 0xff);
const SERVER = { address: '127.0.0.1', port: 5070, media: { port: 7000, echo: true } } as const;
const CALLER_MEDIA = 7000;
const PLAN = PLANS['multi-ip']!;

export interface LoadOptions {
  readonly calls: number;
  /** Calls per second. */
  readonly rate: number;
  /** Length of a call, ms. */
  readonly lengthMs: number;
  /** Members that are restarted meanwhile, one after the other. */
  readonly restart: readonly number[];
}

/** Packets of one party's call at each side of the relay, from a member's log. */
interface Ended {
  readonly callId: string;
  readonly client: number;
  readonly server: number;
}

export class MediaFarm {
  readonly lab: Lab;
  readonly farm: Farm;
  readonly servers: readonly Sipp[];

  private constructor(lab: Lab, farm: Farm, servers: readonly Sipp[]) {
    this.lab = lab;
    this.farm = farm;
    this.servers = servers;
  }

  /** Starts three members, each with a server that sends RTP back. */
  static async start(): Promise<MediaFarm> {
    const lab = Lab.open('nat');
    try {
      await PLAN.prepare(lab);
      writeFileSync(join(lab.dir, 'audio'), AUDIO);
      const servers = MEMBERS_USED.map((k) =>
        Sipp.start(lab, { name: `server-${k}`, host: `m${k}`, scenario: 'uas-echo', load: true, ...SERVER }),
      );
      const adjust = withMedia(PLAN, 'multi-ip', { restSeconds: 1 });
      return new MediaFarm(lab, await Farm.start(lab, { bare: true, adjust }), servers);
    } catch (error) {
      lab.close();
      throw error;
    }
  }

  close(): void {
    this.lab.close();
  }

  /** Makes calls, restarts members meanwhile, and returns the result of the caller. */
  async load({ calls, rate, lengthMs: pauseMs, restart }: LoadOptions): Promise<SippResult> {
    const caller = Sipp.start(this.lab, {
      ...{ name: 'caller', host: 'c', scenario: 'uac-rtp', user: 'echo', load: true, timeoutSeconds: 200 },
      ...{ remote: `${VIP}:5060`, address: clientAddress(0), port: 5060, media: { port: CALLER_MEDIA } },
      ...{ calls, rate, pauseMs },
    });
    await until(
      () => caller.result().successful > 0,
      () => `no call works: ${caller.result().errors}`,
    );
    for (const k of restart) await this.#restart(k);
    return caller.done;
  }

  /** Restarts a member as an operator does: SIGTERM, wait for its end, start. */
  async #restart(k: number): Promise<void> {
    const { farm } = this;
    farm.signal(k, 'SIGTERM');
    await until(
      async () => !(await farm.isReady(k)),
      () => `member ${k} is still ready after SIGTERM: ${farm.logTail(k)}`,
    );
    await this.#balance(MEMBERS_USED.filter((other) => other !== k));
    assert.equal(await farm.ended(k), 0, farm.logTail(k));
    await farm.startMember(k);
    await farm.seesMembers(MEMBERS_USED.length);
    await this.#balance(MEMBERS_USED);
  }

  /** Changes the members that get new packets of SIP. The rules for media stay. */
  async #balance(pool: readonly number[]): Promise<void> {
    this.lab.pool(pool);
    await PLAN.prepare(this.lab);
  }

  /** Waits until no member has ports of a call, or a call. */
  async idle(): Promise<void> {
    const inUse = async (): Promise<number> =>
      (await this.farm.metrics()).reduce(
        (sum, text) => sum + sumOf(text, 'sipfarm_media_ports', { state: 'used' }) + sumOf(text, 'sipfarm_owned_calls'),
        0,
      );
    await until(
      async () => (await inUse()) === 0,
      () => 'ports or calls are in use',
    );
  }

  /** Returns the relayed calls that have ended, from the logs of the members. */
  ended(): Ended[] {
    return MEMBERS_USED.flatMap((k) => this.lab.log(`m${k}`).split('\n'))
      .filter((line) => line.includes('media of a party has ended'))
      .map((line) => {
        const { callId, streams } = JSON.parse(line);
        return { callId, client: streams[0].client.packets, server: streams[0].server.packets };
      });
  }
}

/** Asserts that all calls worked, and had RTP both ways: what the server sends back is what has reached it. */
export function assertRtp(ended: readonly Ended[], calls: number, result: SippResult): void {
  assert.deepEqual([result.failed, result.successful], [0, calls], result.errors);
  assert.deepEqual([ended.length, new Set(ended.map(({ callId }) => callId)).size], [calls, calls]);
  for (const each of ended) {
    assert.ok(each.client > 0 && each.server > 0, `RTP goes one way: ${JSON.stringify(each)}`);
    assert.ok(each.server <= each.client, JSON.stringify(each));
  }
}
