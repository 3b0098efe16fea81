// Paths in the kernel: their transactions, counters and faults, with an nft that the test controls.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import type { KernelPath } from '../../../src/media/kernel/kernel-path.ts';
import { KernelPaths, type KernelPathsOptions, type PathHandle } from '../../../src/media/kernel/kernel-paths.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeNft } from '../../fake/nft.ts';

/** The path of the k-th call. */
function path(k: number): KernelPath {
  return {
    from: { address: '203.0.113.5', port: 4000 + k },
    at: { address: '198.51.100.1', port: 20_000 + k },
    by: { address: '10.0.0.11', port: 30_000 + k },
    to: { address: '10.0.0.40', port: 5000 + k },
  };
}

const HOST = { isLocal: (address: string) => address === '10.0.0.11', lacks: () => '' };

async function rig(changes: Partial<KernelPathsOptions> = {}) {
  const clock = new FakeClock();
  const nft = new FakeNft(clock);
  const log = pino({ enabled: false });
  const started = await KernelPaths.start({
    member: 'fe1',
    capacity: 8,
    addresses: ['198.51.100.1', '10.0.0.11'],
    host: HOST,
    clock,
    log,
    openNft: nft.open,
    ...changes,
  });
  if (typeof started === 'string') throw new Error(started);
  const paths = started;
  const failed: string[] = [];
  /** Advances the time, with turns of the event loop for each step. */
  const pass = async (ms: number, step = 10): Promise<void> => {
    for (let passed = 0; passed < ms; passed += step) {
      clock.advance(step);
      await turn();
    }
  };
  const add = (k: number): PathHandle => {
    const handle = paths.add(path(k), (reason) => failed.push(`${k} ${reason}`));
    if (typeof handle === 'string') throw new Error(`path ${k}: ${handle}`);
    return handle;
  };
  const refusal = (k: number): unknown => paths.add(path(k), () => {});
  /** Forwards packets by one path, so that others may follow, and forgets the transactions. */
  const prove = async (): Promise<PathHandle> => {
    const handle = add(0);
    nft.left.set(1, 1);
    await pass(1100);
    nft.runs.length = 0;
    return handle;
  };
  return { clock, nft, paths, failed, pass, add, refusal, prove };
}

const isResolved = async (promise: Promise<void>): Promise<boolean> => {
  let resolved = false;
  void promise.then(() => {
    resolved = true;
  });
  await turn();
  return resolved;
};

describe('paths in the kernel', () => {
  it('begin with an empty table in place of an old one', async () => {
    const { nft } = await rig();
    assert.match(
      nft.runs[0]?.text ?? '',
      /^add table inet (sipfarm_media_fe1)\ndelete table inet \1\ntable inet \1 \{/,
    );
    assert.equal(nft.runs.length, 1);
  });

  it('are not there where nft cannot make the table, and nft is closed', async () => {
    const clock = new FakeClock();
    const nft = new FakeNft(clock);
    nft.fault = 'Operation not permitted';
    const log = pino({ enabled: false });
    const options = { member: 'fe1', capacity: 8, addresses: [], host: HOST, clock, log, openNft: nft.open };
    assert.equal(await KernelPaths.start(options), 'Operation not permitted');
    assert.equal(nft.closed, 2);
  });

  it('are not there on a host that does not forward, and no table is left', async () => {
    const clock = new FakeClock();
    const nft = new FakeNft(clock);
    const host = { ...HOST, lacks: (addresses: readonly string[]) => `${addresses}: off` };
    const log = pino({ enabled: false });
    const options = { member: 'fe1', capacity: 8, addresses: ['10.0.0.11'], host, clock, log, openNft: nft.open };
    assert.equal(await KernelPaths.start(options), '10.0.0.11: off');
    assert.equal(nft.runs.at(-1)?.text, 'add table inet sipfarm_media_fe1\ndelete table inet sipfarm_media_fe1\n');
    assert.equal(nft.closed, 2);
  });

  it('change in one transaction for 50 ms, and never in two at a time', async () => {
    const { nft, pass, add, prove } = await rig();
    await prove();
    nft.slow = true;
    add(1);
    add(2);
    await pass(10);
    add(3);
    await pass(200);
    assert.equal(nft.runs.length, 1);
    nft.go();
    await pass(200);
    assert.deepEqual([nft.runs.length, nft.most], [2, 1]);
    assert.deepEqual(
      nft.runs.map(({ text }) => [...text.matchAll(/ : 3000(\d)/g)].map(([, k]) => k)),
      [['1', '2'], ['3']],
    );
    add(4);
    await pass(20);
    add(5);
    await pass(100);
    const times = nft.runs.map(({ at }) => at);
    assert.ok(
      times.every((at, i) => i === 0 || at - (times[i - 1] ?? 0) >= 50),
      times.join(' '),
    );
  });

  it('are removed for certain only when the transaction has ended', async () => {
    const { nft, pass, add, prove } = await rig();
    await prove();
    const handle = add(1);
    await pass(60);
    nft.slow = true;
    const removed = handle.remove();
    await pass(100);
    assert.equal(await isResolved(removed), false);
    nft.go();
    assert.equal(await isResolved(removed), true);
    assert.match(
      nft.runs.at(-1)?.text ?? '',
      /^delete element inet sipfarm_media_fe1 arrivals4 \{ 203.0.113.5 . 4001 . 198.51.100.1 . 20001 \}\n$/,
    );
  });

  it('are removed at once before the first transaction', async () => {
    const { nft, pass, add, prove } = await rig();
    await prove();
    assert.equal(await isResolved(add(1).remove()), true);
    await pass(100);
    assert.equal(nft.runs.length, 0);
  });

  it('have the counts of the last reading, and the packets until their end after one more', async () => {
    const { nft, pass, add, prove } = await rig();
    await prove();
    const handle = add(1);
    nft.left.set(2, 100);
    await pass(5100, 100);
    assert.deepEqual(handle.counts, { packets: 100, octets: 17_200 });
    await Promise.all([handle.remove(), pass(100)]);
    nft.left.set(2, 130);
    await pass(5100, 100);
    assert.deepEqual(handle.counts, { packets: 130, octets: 22_360 });
    assert.match(nft.runs.at(-1)?.text ?? '', /delete element inet sipfarm_media_fe1 by_port4 \{ 2 \}/);
  });

  it('are counted once more at the stop, and in all, also those that have ended', async () => {
    let readings = 0;
    const { nft, paths, pass, add, prove } = await rig({ onCounted: () => void readings++ });
    const [one, two] = [await prove(), add(1)];
    nft.left.set(2, 100);
    await pass(5100, 100);
    await Promise.all([two.remove(), pass(100)]);
    const final = Promise.all([one.final, two.final]).then(() => {});
    assert.equal(await isResolved(final), false);
    assert.deepEqual([paths.total, readings], [{ packets: 101, octets: 17_372 }, 2]);
    nft.left.set(1, 11).set(2, 130);
    await paths.stop();
    assert.equal(await isResolved(final), true);
    assert.deepEqual([one.counts.packets, two.counts.packets, readings], [11, 130, 3]);
    assert.equal(paths.total.packets, 141);
  });

  it('wait for the first one to forward a packet; one more may come with each second without any', async () => {
    const { nft, pass, add, refusal } = await rig();
    add(1);
    assert.equal(refusal(2), 'unproven');
    await pass(1100);
    add(2);
    assert.equal(refusal(3), 'unproven');
    nft.left.set(1, 1);
    await pass(1100);
    add(3);
    add(4);
  });

  it('are all reported when nft fails, and are gone for certain when it has made the table anew', async () => {
    const { nft, pass, failed, add, refusal, prove } = await rig();
    await prove();
    const [one, two] = [add(1), add(2)];
    await pass(60);
    nft.fault = 'Error: No such file or directory';
    const removed = two.remove();
    await pass(60);
    assert.deepEqual(failed, ['0 Error: No such file or directory', '1 Error: No such file or directory']);
    assert.equal(await isResolved(removed), false);
    assert.equal(await isResolved(one.remove()), false);
    assert.equal(refusal(3), 'unavailable');
    nft.fault = '';
    await pass(1100);
    assert.match(nft.runs.at(-1)?.text ?? '', /^add table/);
    assert.deepEqual([await isResolved(removed), await isResolved(one.remove())], [true, true]);
    assert.equal(refusal(3), 'unavailable');
    await pass(10_000, 100);
    add(1);
    await pass(100);
    assert.match(nft.runs.at(-1)?.text ?? '', /arrivals4 \{ 203.0.113.5 . 4001 . 198.51.100.1 . 20001 : 1 \}/);
  });

  it('are given up for ten minutes when packets come and do not leave', async () => {
    const { nft, pass, failed, add, refusal } = await rig();
    add(1);
    nft.left.set(1, 0);
    nft.came.set(1, 40);
    await pass(1100);
    assert.deepEqual(failed.length, 1);
    assert.match(failed[0] ?? '', /^1 packets arrive and do not leave/);
    await pass(590_000, 1000);
    assert.equal(refusal(1), 'unavailable');
    await pass(10_000, 1000);
    add(1);
  });

  it('stay there while nothing comes', async () => {
    const { nft, pass, failed, prove } = await rig();
    await prove();
    nft.came.set(1, 1);
    await pass(60_000, 100);
    assert.deepEqual(failed, []);
  });

  it('of a party on this host are refused', async () => {
    const { paths } = await rig();
    assert.equal(
      paths.add({ ...path(1), to: { address: '10.0.0.11', port: 5000 } }, () => {}),
      'local',
    );
  });

  it('of a crash end without a new table where media stays in user space', async () => {
    const nft = new FakeNft(new FakeClock());
    await KernelPaths.removeTable('fe1', nft.open());
    assert.deepEqual(
      nft.runs.map(({ text }) => text),
      ['add table inet sipfarm_media_fe1\ndelete table inet sipfarm_media_fe1\n'],
    );
    assert.equal(nft.closed, 1);
  });

  it('end with their table, after the transaction on its way, and with no timer', async () => {
    const { clock, nft, paths, pass, add, refusal, prove } = await rig();
    await prove();
    const handle = add(1);
    nft.slow = true;
    await pass(60);
    const stopped = paths.stop();
    await pass(60);
    assert.equal(nft.runs.length, 1);
    nft.go();
    await stopped;
    assert.deepEqual(
      nft.runs.slice(1).map(({ text }) => text),
      ['add table inet sipfarm_media_fe1\ndelete table inet sipfarm_media_fe1\n'],
    );
    assert.equal(await isResolved(handle.remove()), true);
    assert.deepEqual([refusal(2), nft.closed, clock.timers], ['unavailable', 2, 0]);
  });
});
