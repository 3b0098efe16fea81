// Wall clocks that jump while calls run: `npm run test:faults`. A small preloaded library shifts the clocks of the
// members' programs and of no other process.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import { FAULT_TOOLS, Rig } from './rig.ts';

const LIMIT = { timeout: 120_000 };
const HOUR = 3600;
const SOURCE = join(import.meta.dirname, 'clock-shift.c');
const lacking = spawnSync('cc', ['--version']).status === 0 ? false : 'needs cc';

describe('wall clocks', { skip: without(...LAB_TOOLS, ...FAULT_TOOLS) || lacking, timeout: 200_000 }, () => {
  let dir: string;
  let rig: Rig;
  const file = (k: number): string => join(dir, `shift-${k}`);

  /** Lets the clock of member k run that many seconds ahead from now on. */
  function shift(k: number, seconds: number): void {
    const value = Buffer.alloc(8);
    value.writeBigInt64LE(BigInt(seconds));
    const descriptor = openSync(file(k), 'r+');
    writeSync(descriptor, value, 0, 8, 0);
    closeSync(descriptor);
  }

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'sipfarm-clock-'));
    const library = join(dir, 'clock-shift.so');
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', library, SOURCE, '-ldl']);
    for (const k of [1, 2, 3]) writeFileSync(file(k), Buffer.alloc(8));
    rig = await Rig.start([1, 2, 3], { env: (k) => ({ LD_PRELOAD: library, CLOCK_SHIFT: file(k) }) });
  }, LIMIT);
  after(() => {
    rig?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it(
    'that jump by an hour, forward and back, cause no failed call and no loss of a lease or a seat',
    LIMIT,
    async (t) => {
      const before = rig.epochs();
      const load = rig.load({ rate: 60 });
      for (const [k, seconds] of [
        [1, HOUR],
        [2, -HOUR],
        [3, HOUR],
        [3, -HOUR],
        [1, 0],
        [2, 0],
        [3, 0],
      ] as const) {
        await wait(2500);
        shift(k, seconds);
      }
      await wait(6000);
      const calls = await load.stop();
      const hours = (k: number): Set<string> => new Set(rig.logged(k).map(({ time }) => time.slice(0, 13)));
      t.diagnostic(`hours in the logs: ${rig.members.map((k) => [...hours(k)].join(' ')).join(', ')}`);
      rig.assertAllGood(t, 'clocks jumped', calls);
      assert.deepEqual(rig.epochs(), before, 'the view has changed');
      for (const k of rig.members)
        assert.deepEqual(
          rig.logged(k).filter(({ msg }) => /^isolated|lost its seat|^rejoined/.test(msg)),
          [],
        );
      // Check that the members noticed the jumps.
      assert.ok(
        rig.members.some((k) => hours(k).size > 1),
        'no clock has jumped',
      );
    },
  );
});
