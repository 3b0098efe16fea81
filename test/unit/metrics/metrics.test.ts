import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { addProcessMetrics, makeMetrics } from '../../../src/metrics/metrics.ts';
import { DROP_REASONS } from '../../../src/packet/verdict.ts';

const REASONS = Object.keys(DROP_REASONS);

test('every drop reason has a series with 0 from the start', async () => {
  const { registry } = makeMetrics(new Registry(), { version: '1', dropReasons: REASONS });
  const text = await registry.metrics();
  for (const reason of REASONS)
    assert.ok(text.includes(`sipfarm_verdicts_total{verdict="drop",reason="${reason}"} 0\n`), reason);
});

test('a cell that the packet path increments is read at each scrape', async () => {
  const metrics = makeMetrics(new Registry(), { version: '1', dropReasons: REASONS });
  metrics.received.cell({ listener: 'edge', class: 'sip' }).n += 3;
  metrics.storeRequest.observe({ operation: 'get' }, 0.002);
  const text = await metrics.registry.metrics();
  assert.match(text, /^sipfarm_received_packets_total\{listener="edge",class="sip"\} 3$/m);
  assert.match(text, /^sipfarm_store_request_seconds_count\{operation="get"\} 1$/m);
});

test('the gauges read the node at each scrape', async () => {
  const { registry, sources } = makeMetrics(new Registry(), { version: '1.2.3', dropReasons: [] });
  assert.match(await registry.metrics(), /^sipfarm_store_up 0$/m);
  sources.ownedCalls = () => 12;
  sources.members = () => ({ active: 2, draining: 1, disabled: 0, relay: 4 });
  sources.storeUp = () => true;
  const text = await registry.metrics();
  assert.match(text, /^sipfarm_owned_calls 12$/m);
  assert.match(text, /^sipfarm_members\{state="draining"\} 1$/m);
  assert.match(text, /^sipfarm_members\{state="relay"\} 4$/m);
  assert.match(text, /^sipfarm_store_up 1$/m);
  assert.match(text, /^sipfarm_build_info\{version="1\.2\.3"\} 1$/m);
  const [, busy] = /^sipfarm_event_loop_utilization (\S+)$/m.exec(text) ?? [];
  assert.ok(Number(busy) >= 0 && Number(busy) <= 1, busy);
});

test('members of one process have their own counters', async () => {
  const one = makeMetrics(new Registry(), { version: '1', dropReasons: [] });
  const two = makeMetrics(new Registry(), { version: '1', dropReasons: [] });
  one.sendErrors.cell({ listener: 'edge' }).n++;
  assert.ok(!(await two.registry.metrics()).includes('listener="edge"'));
});

test('the process metrics of prom-client are added on request', async () => {
  const registry = new Registry();
  addProcessMetrics(registry);
  assert.match(await registry.metrics(), /^process_cpu_seconds_total /m);
});
