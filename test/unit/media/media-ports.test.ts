// The address plan of a running member: its start, changed addresses and settings, and its claim after a lost lease.
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { pino } from 'pino';
import { type ErrorCode, SipfarmError } from '../../../src/base/errors.ts';
import { type MediaConfig, mediaSection } from '../../../src/config/media-section.ts';
import { MediaPorts } from '../../../src/media/media-ports.ts';
import type { MediaPlan, PlanSettings } from '../../../src/media/plan.ts';
import { FakeClock } from '../../fake/clock.ts';

const G1 = '203.0.113.11';

let clock: FakeClock;
let local: Set<string>;
let settings: PlanSettings | undefined;
/** Advertised address of each claim. */
let claimed: string[];
/** Runs during the next claim. */
let during: (() => void) | undefined;
/** Outcomes of the next claims; after them all succeed. */
let outcomes: (false | ErrorCode)[];
/** `level: message` of each log line. */
let lines: string[];
let ports: MediaPorts;

const section = (changes: Partial<MediaConfig> = {}): PlanSettings => ({
  media: { ...mediaSection.parse({ bind: '10.0.0.11', plan: 'multi-ip' }), inside: '127.0.0.1', ...changes },
  ownWan: changes.wan ?? G1,
  worker: { index: 0, count: 1 },
});

beforeEach(() => {
  clock = new FakeClock();
  local = new Set(['10.0.0.11']);
  settings = section();
  [claimed, outcomes, lines] = [[], [], []];
  const write = (text: string): void => {
    const { level, msg } = JSON.parse(text) as { level: number; msg: string };
    lines.push(`${level}: ${msg}`);
  };
  ports = new MediaPorts({
    ...{ clock, random: () => 0, local: () => local, settings: () => settings },
    log: pino({ level: 'info' }, { write }),
    claims: {
      claim: async ({ advertised }: MediaPlan) => {
        claimed.push(advertised);
        const run = during;
        during = undefined;
        run?.();
        const outcome = outcomes.shift() ?? true;
        if (typeof outcome === 'string') throw new SipfarmError(outcome, `${outcome} of the test`);
        return outcome;
      },
    },
  });
});

/** Lets everything run that waits for no timer. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function pass(ms: number): Promise<void> {
  await settle();
  clock.advance(ms);
  await settle();
}

describe('the start', () => {
  test('claims the ports of the plan', async () => {
    await ports.start();
    assert.deepEqual(claimed, [G1]);
    assert.deepEqual([ports.plan?.bind, ports.plan?.advertised], ['10.0.0.11', G1]);
    assert.equal(ports.trouble, undefined);
  });

  test('does nothing without the section', async () => {
    settings = undefined;
    await ports.start();
    await ports.refresh();
    assert.deepEqual([ports.plan, claimed], [undefined, []]);
  });

  test('is refused for an address of another host, before anything is claimed', async () => {
    local.clear();
    await assert.rejects(ports.start(), { code: 'SF_MEDIA_ADDRESS' });
    assert.deepEqual(claimed, []);
  });

  for (const code of ['SF_MEDIA_PORTS', 'SF_STORE_REFUSED'] as const)
    test(`is refused when the claim is: ${code}`, async () => {
      outcomes = [code];
      await assert.rejects(ports.start(), { code });
    });

  test('waits for the lease and for the store', async () => {
    outcomes = [false, 'SF_STORE_UNREACHABLE', 'SF_STORE_CONFLICT'];
    let started = false;
    void ports.start().then(() => {
      started = true;
    });
    await settle();
    for (const expected of [false, false, true]) {
      await pass(2000);
      assert.equal(started, expected);
    }
    assert.equal(claimed.length, 4);
  });

  test('ends when the member stops meanwhile', async () => {
    outcomes = Array(1000).fill(false);
    const start = ports.start();
    await settle();
    ports.stop();
    await start;
    assert.equal(claimed.length, 1);
  });
});

describe('a running member', () => {
  beforeEach(() => ports.start());

  test('reads its addresses again by a timer, and reports a missing one until it is back', async () => {
    const before = ports.plan;
    local.clear();
    await pass(30_000);
    assert.equal(ports.trouble?.code, 'SF_MEDIA_ADDRESS');
    assert.equal(ports.plan, before, 'open streams go on');
    await pass(30_000);
    local.add('10.0.0.11');
    await pass(30_000);
    assert.equal(ports.trouble, undefined);
    assert.deepEqual(lines, ['50: no new media streams', '30: new media streams are possible again']);
    assert.equal(claimed.length, 1);
  });

  test('reads them at once by a refresh', async () => {
    local.clear();
    await ports.refresh();
    assert.match(ports.trouble?.message ?? '', /media\.bind 10\.0\.0\.11 is no address/);
  });

  test('shows a new advertised address at once, and claims again', async () => {
    settings = section({ wan: '203.0.113.12' });
    await ports.refresh();
    assert.equal(ports.plan?.advertised, '203.0.113.12');
    assert.deepEqual(claimed, [G1, '203.0.113.12']);
  });

  test('keeps what has open sockets, and logs it once', async () => {
    settings = section({ ports: { first: 20_000, last: 20_999 } });
    await ports.refresh();
    await ports.refresh();
    assert.deepEqual([ports.plan?.first, claimed.length], [10_000, 1]);
    assert.deepEqual(lines, ['40: media changes need a restart']);
  });

  test('reports cluster-wide settings that do not fit, and goes on with its plan', async () => {
    settings = section({ plan: 'single-ip' });
    await ports.refresh();
    assert.equal(ports.trouble?.code, 'SF_MEDIA_PLAN');
    assert.equal(ports.plan?.kind, 'multi-ip');
  });

  test('claims again with its next lease', async () => {
    ports.rejoined();
    await settle();
    assert.equal(claimed.length, 2);
  });

  test('reports ports that another member has claimed meanwhile, and tries on', async () => {
    outcomes = ['SF_MEDIA_PORTS'];
    ports.rejoined();
    await settle();
    assert.equal(ports.trouble?.code, 'SF_MEDIA_PORTS');
    await pass(30_000);
    assert.equal(ports.trouble, undefined);
    assert.equal(claimed.length, 3);
  });

  test('claims once more when its lease ends during a claim', async () => {
    during = () => ports.rejoined();
    ports.rejoined();
    await settle();
    assert.equal(claimed.length, 3);
    await pass(30_000);
    assert.equal(claimed.length, 3);
  });

  test('does nothing after its stop', async () => {
    ports.stop();
    ports.rejoined();
    await pass(60_000);
    assert.equal(claimed.length, 1);
  });
});
