// Each row of the bench runs once, with a few packets or operations. No figure is checked.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import type { CallsResult } from '../../native-free-bench/calls.ts';
import { MACRO_ROWS, type MacroResult, type MacroRow, runMacro } from '../../native-free-bench/macro.ts';
import type { MicroSamples } from '../../native-free-bench/micro.ts';
import { inOwnNetwork } from '../../native-free-bench/own-network.ts';
import type { ScaleResult } from '../../native-free-bench/scale.ts';
import { without } from '../lab/missing.ts';

const FOLDER = join(import.meta.dirname, '..', '..', 'native-free-bench');
const PACKETS = 40;

async function script<T>(name: string, options: unknown): Promise<T> {
  const args = ['--expose-gc', join(FOLDER, name), JSON.stringify(options)];
  return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout) as T;
}

test('each small row runs and returns its allocations', async () => {
  const samples = await script<MicroSamples[]>('micro.ts', { rounds: 1, ms: 1, operations: PACKETS });
  assert.ok(samples.length >= 11);
  for (const { name, ns, octets } of samples) assert.deepEqual([ns.length, octets.length], [1, 1], name);
});

for (const records of [0, 1, 2])
  test(`the measured calls are owned during the memory measurement, with ${records} recorded legs`, async () => {
    const { calls, heap, stored } = await script<CallsResult>('calls.ts', { calls: PACKETS, records });
    assert.equal(calls, PACKETS);
    assert.ok(heap > 0);
    assert.ok(records === 0 ? stored === 0 : stored > 500 * records, 'records are told to the store');
  });

test('each row about simulated farms runs, and slots move close to the minimum', async () => {
  const options = { sizes: [3, 20], rounds: 1, packets: PACKETS, etcdSeconds: 0, idleSeconds: 0.1 };
  const { rows } = await script<ScaleResult>('scale.ts', options);
  const share = (group: string): number => rows.find((row) => row.group === group && row.name === '20 members')!.median;
  assert.ok(Math.abs(share('slots moved by a join') / share('slots moved by a join, ideal') - 1) < 0.2);
  assert.ok(rows.some(({ group }) => group === 'memory of a member'));
});

for (const compiled of [true, false])
  test(`packets pass the member in each row, with a ${compiled ? 'compiled' : 'JavaScript'} generator`, async () => {
    const rows = Object.keys(MACRO_ROWS) as MacroRow[];
    const result = await runMacro({
      cores: undefined,
      rounds: 1,
      ms: 5000,
      packets: PACKETS,
      rows,
      columns: ['dgram', 'bare'],
      latencyRate: 0,
      compiled,
      progress: () => {},
    });
    for (const row of rows)
      for (const name of ['a member with dgram sockets', 'a bare dgram forwarder'])
        assert.ok(
          (result.rows.find((each) => each.group === row && each.name === name)?.median ?? 0) > 0,
          `${row}, ${name}`,
        );
  });

const BARE = `
import { runMacro } from '${join(FOLDER, 'macro.ts')}';
const options = { rounds: 1, ms: 5000, packets: ${PACKETS}, columns: ['transparent'], latencyRate: 0, progress: () => {} };
console.log(JSON.stringify(await runMacro(options)));
`;

test('bare packets pass in each row, in their own network namespace', {
  skip: without('namespaces', 'ip', 'raw-socket'),
}, async () => {
  const there = inOwnNetwork({ file: process.execPath, args: ['--input-type=module', '-e', BARE] });
  assert.ok(there, 'a network namespace can be made');
  const { rows, notes } = JSON.parse((await promisify(execFile)(there.file, there.args)).stdout) as MacroResult;
  for (const row of Object.keys(MACRO_ROWS))
    assert.ok((rows.find(({ group }) => group === row)?.median ?? 0) > 0, `${row}: ${notes.join()}`);
});
