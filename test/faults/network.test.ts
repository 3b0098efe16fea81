// A relay link that loses, doubles and reorders frames while calls run: `npm run test:faults`.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { memberAddress } from '../lab/addresses.ts';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { FAULT_TOOLS, Rig } from './rig.ts';

const LIMIT = { timeout: 120_000 };
/** Percentages of frames that are lost, doubled, and sent on a slow lane where others overtake them. */
const [LOST, DOUBLED, SLOW] = [5, 5, 20];
/** A frame of 1,000 octets takes about 13 ms on this lane. */
const LANE = '600kbit';

/** Adds these faults to the relay frames that member k sends by UDP. */
async function spoil(rig: Rig, k: number): Promise<void> {
  const doubled = rig.members
    .filter((other) => other !== k)
    .map(
      (other) =>
        `ip daddr ${memberAddress(other)} ${chance(DOUBLED)} counter dup to ${memberAddress(other)} device "eth0"`,
    );
  const rules = `table ip spoil {
    chain out {
      type filter hook postrouting priority 0
      ${chance(LOST)} counter drop
      ${chance(SLOW)} counter meta priority set 1:20
      ${doubled.join('\n')}
    }
  }`;
  const script = `tc qdisc add dev eth0 root handle 1: htb default 10
    tc class add dev eth0 parent 1: classid 1:10 htb rate 1gbit quantum 60000
    tc class add dev eth0 parent 1: classid 1:20 htb rate ${LANE} burst 1600 quantum 1600
    nft '${rules}'`;
  const { code, stderr } = await rig.lab.run(`m${k}`, 'sh', ['-ec', script]);
  assert.equal(code, 0, stderr);
}

const chance = (percent: number): string => `udp dport 5064 numgen random mod 100 < ${percent}`;

/** Returns the numbers of lost, slow and doubled frames of all members together. */
async function spoilt(rig: Rig): Promise<number[]> {
  const counts = [0, 0, 0];
  for (const k of rig.members) {
    const { stdout } = await rig.lab.run(`m${k}`, 'nft', ['list', 'table', 'ip', 'spoil']);
    const found = [...stdout.matchAll(/packets (\d+)/g)].map(([, packets]) => Number(packets));
    for (const [i, packets] of found.entries()) counts[Math.min(i, 2)]! += packets;
  }
  return counts;
}

describe('a bad relay link', { skip: without(...LAB_TOOLS, ...FAULT_TOOLS), timeout: 200_000 }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  }, LIMIT);
  after(() => rig?.close());

  it(`with ${LOST} % lost, ${DOUBLED} % doubled and ${SLOW} % late frames causes no failed call`, LIMIT, async (t) => {
    for (const k of rig.members) await spoil(rig, k);
    const load = rig.load({ rate: 60 });
    await wait(15_000);
    const calls = await load.stop();
    const counts = await spoilt(rig);
    t.diagnostic(`frames lost, slow, doubled: ${counts.join(', ')}`);
    for (const count of counts) assert.ok(count > 0, 'the link was not spoilt');
    rig.assertAllGood(t, 'bad relay link', calls);
  });
});
