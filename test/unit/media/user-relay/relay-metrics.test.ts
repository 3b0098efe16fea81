import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Side } from '../../../../src/media/media-relay.ts';
import { showRelay } from '../../../../src/media/user-relay/relay-metrics.ts';
import { makeMetrics, makeRegistry } from '../../../../src/metrics/metrics.ts';
import { CLIENT, OUTSIDE, openCall, relayRig, rtp } from './relay-rig.ts';

test('the metrics have the counts of the relay at the time of the scrape, zeros included', async () => {
  const { relay, system, thread } = await relayRig();
  const metrics = makeMetrics(makeRegistry(), { version: '1', dropReasons: [] });
  showRelay(metrics, relay, () => ({ packets: 7, octets: 1204 }));
  const stream = openCall(relay);
  for (const port of [4000, 4000, 4444]) system.deliver(`${CLIENT} ${port}`, `${OUTSIDE} 20000`, rtp(port));
  thread.run();
  system.foreign.add(`${OUTSIDE} 20008`);
  stream.close();
  assert.ok(relay.open({ clear: true, single: false, facing: Side.inside, ofNewCall: true }));
  const lines = (await metrics.registry.metrics()).split('\n').filter((line) => line.startsWith('sipfarm_media'));
  const wanted = [
    'sipfarm_media_packets_total{way="user",outcome="forwarded"} 2',
    'sipfarm_media_packets_total{way="user",outcome="foreign"} 1',
    'sipfarm_media_packets_total{way="user",outcome="late"} 0',
    'sipfarm_media_octets_total{way="user"} 344',
    'sipfarm_media_packets_total{way="kernel",outcome="forwarded"} 7',
    'sipfarm_media_octets_total{way="kernel"} 1204',
    'sipfarm_media_streams{way="user"} 1',
    'sipfarm_media_streams{way="kernel"} 0',
    'sipfarm_media_latches_total{way="user"} 1',
    'sipfarm_media_ports{side="outside",state="used"} 2',
    'sipfarm_media_ports{side="outside",state="resting"} 3',
    'sipfarm_media_ports{side="outside",state="foreign"} 1',
    'sipfarm_media_ports{side="inside",state="free"} 6',
  ];
  assert.deepEqual(
    wanted.filter((line) => !lines.includes(line)),
    [],
    lines.join('\n'),
  );
  assert.equal(relay.ports(Side.outside).used, 2);
});
