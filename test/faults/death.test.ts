// A member dies or hangs while calls run: `npm run test:faults`.
import { after, before, describe, it } from 'node:test';
import { LAB_TOOLS, without } from '../lab/missing.ts';
import {
  assertPoint,
  dieAtEveryPoint,
  hostDeath,
  POINTS,
  type Points,
  restart,
  rollingRestart,
  standstill,
} from './deaths.ts';
import { FAULT_TOOLS, Rig } from './rig.ts';

const LIMIT = { timeout: 180_000 };
const LOAD = { rate: 80, seconds: 10 };

describe('under load,', { skip: without(...LAB_TOOLS, ...FAULT_TOOLS), timeout: 600_000 }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  }, LIMIT);
  after(() => rig?.close());

  it('a rolling restart of every member causes no failed call', LIMIT, (t) => rollingRestart(t, rig, { rate: 60 }));
  it(
    'SIGKILL of a member and its server loses no ringing or established call, and all other calls are answered',
    LIMIT,
    (t) => hostDeath(t, rig, LOAD),
  );
  it('SIGKILL of sipfarm alone and its restart lose no call', LIMIT, (t) => restart(t, rig, LOAD));
  it('SIGSTOP for twice the lease and SIGCONT lose no call, and no call is handled by two members', LIMIT, (t) =>
    standstill(t, rig, LOAD),
  );
});

describe('SIGKILL of the owner of a call', {
  skip: without(...LAB_TOOLS, ...FAULT_TOOLS),
  timeout: 200_000,
}, () => {
  let rig: Rig;
  let points: Points;
  before(async () => {
    rig = await Rig.start();
    points = await dieAtEveryPoint(rig);
  }, LIMIT);
  after(() => rig?.close());

  for (const [kind, { says }] of Object.entries(POINTS)) it(says, (t) => assertPoint(t, points, kind));
  it('while it rings and is then cancelled by the caller: the callee stops ringing, the caller gets 487', (t) =>
    assertPoint(t, points, 'cancel'));
});
