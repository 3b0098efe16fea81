// Parties that move in mid call, through the whole laboratory: balancer, farm, and behind each member a Kamailio that calls the callee through the farm.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { clientAddress, entrance } from './addresses.ts';
import { Farm } from './farm.ts';
import { Lab } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

const PROGRAM = join(import.meta.dirname, '..', 'tools', 'movers.ts');
const LIMIT = { timeout: 120_000 };

/** By case what the callee and the places of the caller saw. */
const EXPECTED = {
  'a client whose NAT gives it a new port': [200, false, true],
  'a client that comes back on another connection': [200, false, true],
  'a proxy in front that sends from another port': [200, false, true],
  'a CANCEL that spells the Request-URI otherwise': [487, true],
  'a client that has moved, its owner dead since': [200, false, true],
} as const;

/** The member that holds the call, by what the farm says of it. */
async function ownerOf(farm: Farm, callId: string): Promise<number> {
  for (const k of [1, 2, 3]) {
    const { body } = await farm.get(k, `/v1/owner?callId=${encodeURIComponent(callId)}`);
    if (JSON.parse(body).heldHere === true) return k;
  }
  throw new Error(`nobody holds ${callId}`);
}

for (const mode of ['nat', 'dsr'] as const)
  describe(`parties that move, in ${mode} mode`, { skip: without(...LAB_TOOLS, 'etcd', 'kamailio') }, () => {
    let lab: Lab;
    const saw = new Map<string, unknown>();

    before(async () => {
      lab = Lab.open(mode);
      const farm = await Farm.start(lab, { proxiesTo: `${clientAddress(7)}:5060` });
      const child = lab.exec('c', process.execPath, [PROGRAM, entrance(mode), clientAddress(6), clientAddress(7)]);
      let noise = '';
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        noise += text;
      });
      for await (const line of createInterface({ input: child.stdout! })) {
        const said = JSON.parse(line);
        if (said.name) saw.set(said.name, said.seen);
        if (!said.wait) continue;
        const owner = await ownerOf(farm, said.wait);
        farm.die(owner);
        const others = [1, 2, 3].filter((k) => k !== owner);
        await until(
          async () => {
            const answers = await Promise.all(
              others.map((k) => farm.get(k, `/v1/owner?callId=${encodeURIComponent(said.wait)}`)),
            );
            return answers.some(({ body }) => JSON.parse(body).heldHere === true);
          },
          () => `nobody has adopted ${said.wait}`,
        );
        child.kill('SIGUSR2');
      }
      assert.equal(saw.size, Object.keys(EXPECTED).length, noise);
    }, LIMIT);
    after(() => lab?.close());

    for (const [name, expected] of Object.entries(EXPECTED)) it(name, () => assert.deepEqual(saw.get(name), expected));
  });
