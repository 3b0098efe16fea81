// The anchor and call records: what an operator sees of a call whose ports are gone. The descriptions that it rewrites
// are in test/unit/farm/media.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import type { MediaRecord } from '../../../src/calls/records/media-record.ts';
import { type AnchorParts, makeAnchor } from '../../../src/media/anchor.ts';
import { CellFamily } from '../../../src/metrics/counters.ts';
import { FakeRelay, Side } from '../../fake/media-relay.ts';

const stream = (port: number) =>
  ({
    ports: [port, port + 1, port + 2, port + 3],
    shown: ['203.0.113.11', '10.0.0.1'],
    clear: true,
    mux: [false, false],
    targets: [null, null],
  }) as const;

const parts = (relay: FakeRelay): AnchorParts => ({
  relay,
  addresses: () => ['203.0.113.11', '10.0.0.1'],
  sideOf: () => Side.inside,
  settings: () => ({ anchor: 'always', origin: 'keep', ice: 'first' }),
});
const descriptions = () => new CellFamily({ name: 'descriptions', help: '', labels: ['outcome'] });

test('a sweep looks at 20,000 calls and the next one at those behind them, so that all are seen in turn', () => {
  const anchor = makeAnchor(parts(new FakeRelay()), pino({ enabled: false }), descriptions());
  for (let call = 1; call <= 25_000; call++)
    anchor.restore(call, String(call), [{ names: ['ta'], facing: 1, direct: true, streams: [] }]);
  const seen: number[] = [];
  const sweep = (over: number): number => {
    const before = seen.length;
    anchor.sweep((call) => {
      seen.push(call);
      return call === over;
    });
    return seen.length - before;
  };
  assert.deepEqual([sweep(7), sweep(20_001), sweep(0)], [20_000, 5000, 20_000]);
  assert.deepEqual([new Set(seen).size, seen.filter((call) => call === 7).length, seen.at(-1)], [25_000, 1, 20_002]);
});

test('ports of a record that are not free are logged with the call, in one line', () => {
  const lines: { readonly callId: string; readonly ports: unknown }[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const relay = new FakeRelay();
  relay.foreign.add(10_000).add(10_006);
  const anchor = makeAnchor(parts(relay), log, descriptions());
  const record: MediaRecord = [{ names: ['ta'], facing: 1, streams: [stream(10_000), stream(10_004), stream(10_008)] }];
  anchor.restore(1, 'one', record);
  anchor.restore(2, 'two', [{ names: ['ta'], facing: 1, streams: [stream(10_012)] }]);
  const logged = lines.map(({ callId, ports }) => ({ callId, ports }));
  assert.deepEqual(logged, [{ callId: 'one', ports: [stream(10_000).ports, stream(10_004).ports] }]);
  assert.deepEqual(
    relay.live.map(({ ports }) => ports[Side.outside].port),
    [10_008, 10_012],
  );
});

test('the counts of a party that has ended are logged when they are final', async () => {
  const lines: { readonly callId: string; readonly streams: unknown }[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const relay = new FakeRelay();
  const anchor = makeAnchor(parts(relay), log, descriptions());
  anchor.restore(1, 'one', [{ names: ['ta'], facing: 1, streams: [stream(10_000)] }]);
  const [relayed] = relay.streams;
  const counted = Promise.withResolvers<void>();
  Object.assign(relayed!, { counts: { packets: 5, octets: 860 }, final: counted.promise });
  anchor.clear();
  await turn();
  assert.deepEqual(lines, []);
  relayed!.counts = { packets: 250, octets: 43_000 };
  counted.resolve();
  await turn();
  const counts = { packets: 250, octets: 43_000, foreign: 0 };
  assert.deepEqual(
    lines.map(({ callId, streams }) => ({ callId, streams })),
    [{ callId: 'one', streams: [{ client: counts, server: counts }] }],
  );
});
