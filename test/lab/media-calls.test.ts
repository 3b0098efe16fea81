// Calls with RTP of real programs through a farm with relayed media: baresip and SIPp as clients, SIPp as server, and
// two clients that call each other through a proxy behind each member.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { clientAddress, VIP } from './addresses.ts';
import { Baresip } from './baresip.ts';
import { Farm, sumOf } from './farm.ts';
import { Lab } from './lab.ts';
import { assertRtp, MediaFarm } from './media-load.ts';
import { MediaPhone } from './media-phones.ts';
import { nft, PLANS, shell, withMedia } from './media-plans.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

const LIMIT = { timeout: 240_000 };
const PLAN = PLANS['multi-ip']!;

/** Returns the sum of a count of media packets over all members. */
async function packets(farm: Farm, outcome: string): Promise<number> {
  const texts = await farm.metrics();
  return texts.reduce((sum, text) => sum + sumOf(text, 'sipfarm_media_packets_total', { outcome }), 0);
}

describe('calls with RTP to a server behind each member, with media.anchor always', {
  skip: without(...LAB_TOOLS, 'etcd', 'baresip'),
}, () => {
  let media: MediaFarm;
  before(async () => {
    media = await MediaFarm.start();
  }, LIMIT);
  after(() => media?.close());

  it(
    'carries the voice of a baresip to the server and back: all packets of the server reach the client',
    LIMIT,
    async () => {
      const { lab, farm } = media;
      lab.forgetSources();
      const baresip = await Baresip.start(lab, clientAddress(2), `alice@${VIP}`);
      await baresip.command('dial', `sip:echo@${VIP}`);
      await until(
        async () => (await packets(farm, 'forwarded')) >= 100,
        () => `no RTP passes: ${baresip.output}`,
      );
      await baresip.command('hangup');
      await media.idle();
      const [ended, ...others] = media.ended();
      assert.ok(ended && others.length === 0);
      const [, relay = ''] = /incoming rtp for 'audio' established, receiving from (\S+)/.exec(baresip.output) ?? [];
      assert.match(relay, /^198\.51\.100\.10[123]:20\d{3}$/);
      assert.equal(lab.sources().get(relay), ended.server);
      assert.ok(ended.server >= 50 && ended.client >= ended.server, JSON.stringify(ended));
    },
  );

  it('loses no call and no port when a member is restarted', LIMIT, async () => {
    const before = media.ended().length;
    const result = await media.load({ calls: 100, rate: 12, lengthMs: 800, restart: [2] });
    await media.idle();
    assertRtp(media.ended().slice(before), 100, result);
  });
});

describe('calls with RTP to a server at another host, with media.offload on', {
  skip: without(...LAB_TOOLS, 'etcd', 'baresip'),
}, () => {
  let media: MediaFarm;
  before(async () => {
    media = await MediaFarm.start(true);
  }, LIMIT);
  after(() => media?.close());

  it('carries the voice of a baresip in the kernel, by the address of the relay', LIMIT, async () => {
    const { lab } = media;
    lab.forgetSources();
    const baresip = await Baresip.start(lab, clientAddress(2), `alice@${VIP}`);
    await baresip.command('dial', `sip:echo@${VIP}`);
    await until(
      async () => (await media.inKernel()) >= 200,
      () => `no RTP passes in the kernel: ${baresip.output}`,
    );
    await baresip.command('hangup');
    await media.idle();
    await media.hasEnded(1);
    const [ended] = media.ended();
    const [, relay = ''] = /incoming rtp for 'audio' established, receiving from (\S+)/.exec(baresip.output) ?? [];
    assert.match(relay, /^198\.51\.100\.10[123]:20\d{3}$/);
    assert.equal(lab.sources().get(relay), ended!.server, 'all packets of the server, and no other, reach the client');
    assert.ok(ended!.server >= 200 && ended!.client >= ended!.server, JSON.stringify(ended));
  });

  it('carries the calls of SIPp in the kernel, and no member leaves a table', LIMIT, async () => {
    const [before, forwarded] = [media.ended().length, await media.inKernel()];
    const result = await media.load({ calls: 20, rate: 10, lengthMs: 3000, restart: [] });
    await media.idle();
    await media.hasEnded(before + 20);
    assertRtp(media.ended().slice(before), 20, result);
    assert.ok((await media.inKernel()) > forwarded);
    assert.equal(await media.stop(), '');
  });
});

describe('calls between two clients through the proxy behind a member, with media.anchor nat', {
  skip: without(...LAB_TOOLS, 'etcd', 'kamailio'),
}, () => {
  const PACKETS = 50;
  const ALL = Array.from({ length: PACKETS }, (_, i) => i);
  const CALLEE = clientAddress(7);
  /** A client behind a NAT that gives it other ports. */
  const HIDDEN = '192.168.7.7';
  const NAT = clientAddress(16);
  let lab: Lab;
  let farm: Farm;

  before(async () => {
    lab = Lab.open('nat');
    await PLAN.prepare(lab);
    const rule = `ip saddr ${HIDDEN} meta l4proto udp snat to ${NAT}:40000-49999`;
    const chain = `chain out { type nat hook postrouting priority srcnat; ${rule}; }`;
    await shell(lab, 'c', `ip addr add ${HIDDEN}/32 dev lo`);
    await nft(lab, 'c', `table ip home {\n${chain}\n}`);
    const adjust = withMedia(PLAN, 'multi-ip', { anchor: 'nat' });
    farm = await Farm.start(lab, { proxiesTo: `${CALLEE}:5060`, adjust });
  }, LIMIT);
  after(() => lab?.close());

  /** Makes a call from an address; returns the reports of both phones. */
  async function call(address: string) {
    const answerer = await MediaPhone.start(lab, 'c', {
      ...{ role: 'answerer', patient: true, packets: PACKETS },
      ...{ sip: `${CALLEE}:5060`, rtp: `${CALLEE}:7000` },
    });
    const caller = await MediaPhone.start(lab, 'c', {
      ...{ role: 'caller', callId: `from-${address}`, packets: PACKETS },
      ...{ sip: `${address}:5060`, rtp: `${address}:6000`, to: `${VIP}:5060` },
    });
    return { called: await caller.ended(), answered: await answerer.ended() };
  }

  it('leaves the media of clients without a NAT alone', LIMIT, async () => {
    const address = clientAddress(6);
    const { called, answered } = await call(address);
    assert.deepEqual([called.place, answered.place], [`${CALLEE}:7000`, `${address}:6000`]);
    assert.deepEqual(called.heard, [{ from: `${CALLEE}:7000`, sequences: ALL, payload: 'answerer 0' }]);
    assert.deepEqual(answered.heard, [{ from: `${address}:6000`, sequences: ALL, payload: 'caller 0' }]);
    assert.equal(await packets(farm, 'forwarded'), 0);
  });

  it('relays the media of a client behind a NAT, and each packet once', LIMIT, async () => {
    const { called, answered } = await call(HIDDEN);
    const [address, port] = called.place.split(':');
    assert.match(called.place, /^198\.51\.100\.10[123]:20\d{3}$/);
    assert.equal(answered.place.split(':')[0], address);
    assert.notEqual(answered.place.split(':')[1], port);
    assert.deepEqual(called.heard, [{ from: called.place, sequences: ALL, payload: 'answerer 0' }]);
    // Two packets go by until the relay has learned the port that the NAT has given.
    assert.deepEqual(answered.heard, [{ from: answered.place, sequences: ALL.slice(2), payload: 'caller 2' }]);
    // All that has come, and one packet of RTCP for the client, whose own one is still unknown.
    assert.equal(await packets(farm, 'forwarded'), 2 * PACKETS - 2 + 1);
    assert.equal(await packets(farm, 'learning'), 2 + 1);
  });
});

describe('a call that the service answer takes, with media.anchor always', {
  skip: without(...LAB_TOOLS, 'etcd'),
}, () => {
  it('sends the caller its own packets back, by the address and the ports of the relay', LIMIT, async (t) => {
    const PACKETS = 50;
    const lab = Lab.open('nat', [1]);
    t.after(() => lab.close());
    await PLAN.prepare(lab);
    const section = withMedia(PLAN, 'multi-ip', { inside: undefined });
    const adjust = (k: number, config: object): object => ({ ...section(k, config), service: { kind: 'answer' } });
    const farm = await Farm.start(lab, { bare: true, members: [1], adjust });
    const caller = await MediaPhone.start(lab, 'c', {
      ...{ role: 'caller', callId: 'echo', packets: PACKETS },
      ...{ sip: `${clientAddress(0)}:5060`, rtp: `${clientAddress(0)}:6000`, to: `${VIP}:5060` },
    });
    const { place, heard, rtcp } = await caller.ended();
    assert.match(place, /^198\.51\.100\.101:20\d{3}$/);
    const sequences = Array.from({ length: PACKETS }, (_, i) => i);
    assert.deepEqual(heard, [{ from: place, sequences, payload: 'caller 0' }]);
    assert.deepEqual(rtcp, [place.replace(/\d+$/, (port) => String(Number(port) + 1))]);
    assert.equal(await packets(farm, 'forwarded'), PACKETS + 1);
  });
});
