// Calls with RTP by SIPp through a farm with relayed media, and restarts of members meanwhile. The server sends the RTP
// back. There is one behind each member, or one at a host of its own, so that the kernel can forward.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clientAddress, memberAddress, SHARED_SERVER, VIP } from './addresses.ts';
import { Farm, sumOf } from './farm.ts';
import { Lab } from './lab.ts';
import { FORWARD, MEMBERS_USED, PLANS, shell, withMedia } from './media-plans.ts';
import { Sipp, type SippResult } from './sipp.ts';
import { until } from './until.ts';

/** Half a second of silence in G.711. */
const AUDIO = Buffer.alloc(4000, 0xff);
const SERVER = { scenario: 'uas-echo', load: true, port: 5070, media: { port: 7000, echo: true } } as const;
const CALLER_MEDIA = 7000;
const PLAN = PLANS['multi-ip']!;

interface MediaMember {
  readonly media: object;
}

/** Returns the configuration of member k with the SIP server at a host of its own. */
function farFrom(k: number, config: MediaMember): object {
  return {
    ...config,
    media: { ...config.media, inside: memberAddress(k), offload: 'on' },
    service: {
      ...{ kind: 'upstream', dialogs: 'own', health: { method: 'none' } },
      ...{ server: `sip:${SHARED_SERVER}:${SERVER.port}`, bind: `${memberAddress(k)}:5062` },
    },
  };
}

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

  /** Starts three members and what sends RTP back. `offload`: the kernel forwards it. */
  static async start(offload = false): Promise<MediaFarm> {
    const lab = Lab.open('nat');
    try {
      await PLAN.prepare(lab);
      writeFileSync(join(lab.dir, 'audio'), AUDIO);
      if (offload) await Promise.all(MEMBERS_USED.map((k) => shell(lab, `m${k}`, FORWARD)));
      const servers = offload
        ? [Sipp.start(lab, { name: 'server', host: 'k', address: SHARED_SERVER, ...SERVER })]
        : MEMBERS_USED.map((k) =>
            Sipp.start(lab, { name: `server-${k}`, host: `m${k}`, address: '127.0.0.1', ...SERVER }),
          );
      const media = withMedia(PLAN, 'multi-ip', { restSeconds: 1 });
      const adjust = (k: number, config: object): object =>
        offload ? farFrom(k, media(k, config) as MediaMember) : media(k, config);
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

  /** Waits for the log lines of that many calls. They come some seconds after a call whose packets the kernel counts. */
  async hasEnded(calls: number): Promise<void> {
    await until(
      () => this.ended().length >= calls,
      () => `${this.ended().length} of ${calls} calls have ended in the logs`,
      120,
    );
  }

  /** Returns the packets that the kernel has forwarded for the members that run. */
  async inKernel(): Promise<number> {
    const labels = { way: 'kernel', outcome: 'forwarded' };
    const texts = await this.farm.metrics();
    return texts.reduce((sum, text) => sum + sumOf(text, 'sipfarm_media_packets_total', labels), 0);
  }

  /** Stops all members. Returns the tables of nftables that are left at them. */
  async stop(): Promise<string> {
    for (const k of MEMBERS_USED) this.farm.signal(k, 'SIGTERM');
    const codes = await Promise.all(MEMBERS_USED.map((k) => this.farm.ended(k)));
    assert.deepEqual(
      codes,
      MEMBERS_USED.map(() => 0),
    );
    const listed = await Promise.all(MEMBERS_USED.map((k) => this.lab.run(`m${k}`, 'nft', ['list', 'tables'])));
    return listed.map(({ stdout }) => stdout).join('');
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
