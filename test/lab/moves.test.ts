// Parties that move during a call, through the whole laboratory: balancer, farm, and a Kamailio behind each member. It
// calls the callee through the farm.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { type Scene, SPELLINGS } from '../tools/movers/wire.ts';
import { clientAddress, entrance, memberAddress } from './addresses.ts';
import { Farm, sumOf } from './farm.ts';
import { APPLICATION, PROXY } from './kamailio.ts';
import { Lab } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

const PROGRAM = join(import.meta.dirname, '..', 'tools', 'movers', 'main.ts');
const LIMIT = { timeout: 240_000 };
const MEMBERS = [1, 2, 3] as const;
/** The member that dies. */
const VICTIM = 3;
/** Call-IDs that are needed of each owner. */
const IDS = 24;
const NAME = 'sip.example.com';
/** One call through a proxy counts on both sides of it. */
const COUNTED = 2;
/** The way of a NOTIFY of the callee, the last hop first: the farm's two values on each side of the server. */
const NOTIFY_WAY = ['farm', PROXY.member, PROXY.server, PROXY.member, 'farm'];

/** By case what the parties saw. */
const EXPECTED: Readonly<Record<string, unknown>> = {
  'a client whose NAT gives it a new port': [200, false, true],
  'a client that comes back on another connection': [200, false, true],
  'a proxy in front that sends from another port': [200, false, true],
  'a CANCEL that spells the Request-URI otherwise': [487, true],
  'a client behind a NAT that does not ask for its port': [200, true],
  'a client whose Contact alone is private': [200, true],
  'a subscriber that refreshes by the route set of NOTIFY': [NOTIFY_WAY, true, 200],
  'a subscriber whose first NOTIFY comes before the 200': [NOTIFY_WAY, true, 200],
  "a Route with the farm's name": [],
  "a call that the server sends straight to the farm's address": [true, 200, true],
  'a spiral through an application server': [1, true, true],
  'a call that the server sends to the farm again': [true, 200, true],
  'a call that the server sends to the farm again without a Record-Route': [true, 200, true],
  'a connection with NULs between messages': [200, true, false],
  'a client that has shut its sending half': [200, 200, true],
  'a callee that writes the Vias in other spellings': SPELLINGS.map(() => 200),
  'a server that writes the Vias in other spellings': SPELLINGS.map(() => 200),
  'late copies behind the BYE': [200, 200],
  'a client that has moved, its owner dead since': [200, false, true],
  'a client that moves behind the death of its owner': [200, false, true],
  'a client that comes back on another connection behind the death of its owner': [200, false, true],
  'a proxy in front that sends from another port, the owner dead since': [200, false, true],
  'a client behind a NAT that does not ask for its port, its owner dead since': [200, true],
  'a subscription whose owner is dead': [200, NOTIFY_WAY.length, 1],
  'a client that hangs up by the Route of a dead owner': true,
  'a caller that ends a call which passes the farm twice, the owner dead since': true,
  'a callee that ends a call which passes the farm twice, the owner dead since': [200, true],
  'a call through an application server, the owner dead since': true,
  'a callee that answers in another spelling, the owner dead since': [200, true],
};
/**
 * Calls whose Route is removed: one address and three owners; three addresses where each member has one for clients.
 */
const ROUTED = { nat: 3, dsr: 3, tunnel: 3, none: 9 } as const;

interface Owner {
  readonly owner: { readonly id: string } | null;
  readonly heldHere: boolean;
  readonly record: object | null;
}

async function ownerOf(farm: Farm, k: number, callId: string): Promise<Owner> {
  let body = '';
  // On a busy machine an answer may take longer than the request waits.
  const asked = async (): Promise<boolean> => {
    ({ body } = await farm.get(k, `/v1/owner?callId=${encodeURIComponent(callId)}`));
    return body !== '';
  };
  await until(asked, () => `member ${k} does not answer: ${farm.logTail(k)}`);
  return JSON.parse(body) as Owner;
}

/** The members of `among` that have the call in their tables. */
async function holders(farm: Farm, callId: string, among: readonly number[]): Promise<number[]> {
  const answers = await Promise.all(among.map((k) => ownerOf(farm, k, callId)));
  return among.filter((_, i) => answers[i]!.heldHere);
}

/** So many new Call-IDs of each member. */
async function findCallIds(farm: Farm, count: number): Promise<string[][]> {
  const found: string[][] = MEMBERS.map(() => []);
  for (let i = 0; found.some((ids) => ids.length < count); i++) {
    const { owner } = await ownerOf(farm, 1, `known${i}`);
    found[Number(owner?.id.slice(1)) - 1]?.push(`known${i}`);
  }
  return found;
}

// Not the modes in which a balancer has sessions. A member cannot open one, so it reaches only registered clients
// (clients.test.ts).
for (const mode of ['nat', 'dsr', 'tunnel', 'none'] as const)
  describe(`parties that move, in ${mode} mode`, { skip: without(...LAB_TOOLS, 'etcd', 'kamailio') }, () => {
    const expected = { ...EXPECTED, "a Route with a member's address": [ROUTED[mode], []] };
    let lab: Lab;
    let farm: Farm;
    const saw = new Map<string, unknown>();
    const late: unknown[] = [];
    let counted = 0;

    const ownedCalls = async (): Promise<number> =>
      (await farm.metrics()).reduce((sum, text) => sum + sumOf(text, 'sipfarm_owned_calls'), 0);

    /** Actions while the movers wait, by their word. */
    const WHILE: Readonly<Record<string, (callIds: readonly string[]) => Promise<void>>> = {
      over: async ([callId = '']) => {
        await until(
          async () => (await ownerOf(farm, 1, callId)).record === null,
          () => `${callId} has a record for ever`,
        );
        counted = await ownedCalls();
      },
      late: async ([callId = '', another = '']) => {
        await until(
          async () => (await ownerOf(farm, 1, another)).record !== null,
          () => `${another} has no record`,
        );
        const more = (await ownedCalls()) - counted;
        late.push((await ownerOf(farm, 1, callId)).record, more);
      },
      death: async (callIds) => {
        for (const callId of callIds) assert.deepEqual(await holders(farm, callId, MEMBERS), [VICTIM], callId);
        farm.die(VICTIM);
        const others = MEMBERS.filter((k) => k !== VICTIM);
        lab.pool(others);
        for (const callId of callIds)
          await until(
            async () => (await holders(farm, callId, others)).length === 1,
            () => `nobody has adopted ${callId}`,
          );
      },
    };

    before(async () => {
      lab = Lab.open(mode);
      const adjust: Farm['adjust'] = (_, config) => ({ ...config, names: [NAME] });
      farm = await Farm.start(lab, { proxiesTo: `${clientAddress(7)}:5060`, adjust });
      const scene: Scene = {
        mode,
        door: entrance(mode),
        members: MEMBERS.map(memberAddress),
        caller: clientAddress(6),
        callee: clientAddress(7),
        application: APPLICATION,
        name: NAME,
        owned: await findCallIds(farm, IDS),
      };
      const child = lab.exec('c', process.execPath, [PROGRAM, JSON.stringify(scene)]);
      let noise = '';
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        noise += text;
      });
      for await (const line of createInterface({ input: child.stdout! })) {
        const said = JSON.parse(line);
        if (said.name) saw.set(said.name, said.seen);
        if (!said.pause) continue;
        await WHILE[said.pause]?.(said.callIds);
        child.kill('SIGUSR2');
      }
      const missing = Object.keys(expected).filter((name) => !saw.has(name));
      assert.equal(missing.length, 0, `${missing.join('; ')}: ${noise}`);
    }, LIMIT);
    after(() => lab?.close());

    for (const [name, seen] of Object.entries(expected)) it(name, () => assert.deepEqual(saw.get(name), seen));
    it('neither counts nor records late copies behind the BYE', () => assert.deepEqual(late, [null, COUNTED]));
  });
