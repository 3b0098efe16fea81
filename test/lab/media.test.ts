// Calls with RTP through a farm, in each address plan: the addresses in the descriptions, and every packet at both
// ends.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Farm, sumOf } from './farm.ts';
import { clientAddress, Lab, VIP } from './lab.ts';
import { MediaPhone } from './media-phones.ts';
import { MEMBERS_USED, PLANS, startWithPlan, withMedia } from './media-plans.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

const LIMIT = { timeout: 240_000 };
const PACKETS = 100;
const SEQUENCES = Array.from({ length: PACKETS }, (_, i) => i);

for (const [plan, given] of Object.entries(PLANS)) {
  const { mode, place, prepare } = given;
  describe(`media with plan ${plan} behind a balancer in mode ${mode}`, { skip: without(...LAB_TOOLS) }, () => {
    let lab: Lab;
    let farm: Farm;

    before(async () => {
      lab = Lab.open(mode);
      await prepare(lab);
      farm = await startWithPlan(lab, given, withMedia(given, plan, {}), MEMBERS_USED);
    }, LIMIT);
    after(() => lab?.close());

    it(
      'carries RTP and RTCP both ways, every packet, by the addresses of the plan; a stranger gets nothing in',
      LIMIT,
      async () => {
        const answerers = await Promise.all(
          MEMBERS_USED.map((k) =>
            MediaPhone.start(lab, `m${k}`, {
              role: 'answerer',
              sip: '127.0.0.1:5070',
              rtp: '127.0.0.1:7000',
              packets: PACKETS,
            }),
          ),
        );
        const caller = await MediaPhone.start(lab, 'c', {
          role: 'caller',
          sip: `${clientAddress(0)}:5060`,
          rtp: `${clientAddress(0)}:6000`,
          to: `${VIP}:5060`,
          callId: `media-${plan}`,
          packets: PACKETS,
          stranger: `${clientAddress(7)}:6666`,
        });
        const called = await caller.ended();
        assert.equal(called.status, 200);
        await until(
          () => answerers.some(({ report }) => report),
          () => 'no answerer has ended',
        );
        const k = 1 + answerers.findIndex(({ report }) => report);
        const answered = answerers[k - 1]!.report!;
        const { address, first, last } = place(k);
        const port = Number(called.place.split(':')[1]);
        assert.equal(called.place, `${address}:${port}`);
        assert.ok(port >= first && port <= last && port % 2 === 0, `${port} is an even port of the range`);
        assert.match(answered.place, /^127\.0\.0\.1:20\d{3}$|^127\.0\.0\.1:2[123]\d{3}$/);
        for (const [{ heard, rtcp, place: from }, payload] of [
          [called, 'answerer 0'],
          [answered, 'caller 0'],
        ] as const) {
          assert.deepEqual(heard, [{ from, sequences: SEQUENCES, payload }]);
          const [at = '', rtp = ''] = from.split(':');
          assert.deepEqual(rtcp, [`${at}:${Number(rtp) + 1}`]);
        }
        const text = (await farm.get(k, '/metrics')).body;
        const foreign = sumOf(text, 'sipfarm_media_packets_total', { outcome: 'foreign' });
        assert.equal(foreign, PACKETS, 'all packets of the stranger');
      },
    );

    it('has all ports back after the call', LIMIT, async () => {
      await until(
        async () => {
          const texts = await farm.metrics();
          return texts.every((text) => sumOf(text, 'sipfarm_media_ports', { state: 'used' }) === 0);
        },
        () => 'ports are in use',
      );
    });
  });
}
