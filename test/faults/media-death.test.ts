// The host of a member dies in a call with relayed media: `npm run test:faults`. The audio goes on through the member
// that adopts the call.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { clientAddress, VIP } from '../lab/addresses.ts';
import { Farm, sumOf } from '../lab/farm.ts';
import { Lab } from '../lab/lab.ts';
import { MediaPhone } from '../lab/media-phones.ts';
import { MEMBERS_USED, PLANS, withMedia } from '../lab/media-plans.ts';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { until } from '../lab/until.ts';
import { FAULT_TOOLS } from './rig.ts';

const PLAN = PLANS['multi-ip']!;
const CALLER = clientAddress(6);
const CALLEE = clientAddress(7);
/** Half a minute of audio. */
const PACKETS = 1500;

it('a call whose host dies has its audio again at both ends, and ends by the BYE of its caller', {
  skip: without(...LAB_TOOLS, ...FAULT_TOOLS),
  timeout: 180_000,
}, async (t) => {
  const lab = Lab.open('nat');
  t.after(() => lab.close());
  await PLAN.prepare(lab);
  const adjust = withMedia(PLAN, 'multi-ip', {});
  const farm = await Farm.start(lab, { proxiesTo: `${CALLEE}:5060`, adjust });
  const answerer = await MediaPhone.start(lab, 'c', {
    ...{ role: 'answerer', packets: PACKETS, sip: `${CALLEE}:5060`, rtp: `${CALLEE}:7000` },
  });
  const caller = await MediaPhone.start(lab, 'c', {
    ...{ role: 'caller', callId: 'death', packets: PACKETS, to: `${VIP}:5060` },
    ...{ sip: `${CALLER}:5060`, rtp: `${CALLER}:6000` },
  });
  const forwarded = async (k: number): Promise<number> =>
    sumOf((await farm.get(k, '/metrics')).body, 'sipfarm_media_packets_total', { outcome: 'forwarded' });
  let lost = 0;
  await until(
    async () => {
      for (const k of MEMBERS_USED) if ((await forwarded(k)) >= 100) lost = k;
      return lost !== 0;
    },
    () => 'no RTP passes',
  );
  farm.die(lost);
  const left = MEMBERS_USED.filter((k) => k !== lost);
  lab.pool(left);
  await PLAN.prepare(lab);
  const [called, answered] = [await caller.ended(), await answerer.ended()];
  t.diagnostic(`longest gap of the audio: ${called.gapMs} ms at the caller, ${answered.gapMs} ms at the callee`);
  for (const { heard, place } of [called, answered]) {
    assert.equal(heard.length, 2);
    const [before, after] = heard;
    assert.ok(before!.from.startsWith(`198.51.100.10${lost}:`) && after!.from === place, JSON.stringify(heard));
    assert.equal(after!.sequences.at(-1), PACKETS - 1);
  }
  assert.equal(called.place.split(':')[0], answered.place.split(':')[0]);
  const texts = await Promise.all(left.map(async (k) => (await farm.get(k, '/metrics')).body));
  const reanchored = texts.map((text) => sumOf(text, 'sipfarm_media_reanchored_total', { outcome: 'answered' }));
  assert.equal(Math.max(...reanchored), 2);
  await until(
    async () => {
      const now = await Promise.all(left.map(async (k) => (await farm.get(k, '/metrics')).body));
      return now.every((text) => sumOf(text, 'sipfarm_media_ports', { state: 'used' }) === 0);
    },
    () => 'ports are in use after the BYE',
  );
});
