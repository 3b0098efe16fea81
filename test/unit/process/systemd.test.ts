import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Supervisor } from '../../../src/process/systemd.ts';
import { FakeClock } from '../../fake/clock.ts';
import { until } from '../../lab/until.ts';

function supervised(environment: Readonly<Record<string, string>>) {
  const clock = new FakeClock();
  const told: string[][] = [];
  const supervisor = new Supervisor(environment, clock, (states) => void told.push([...states]));
  return { clock, told, supervisor };
}

test('systemd is notified of readiness, reloads, and the time limit of a drain', () => {
  const { told, supervisor } = supervised({ NOTIFY_SOCKET: '/run/systemd/notify' });
  supervisor.ready('works');
  supervisor.reloading();
  supervisor.stopping(300);
  assert.deepEqual(told, [
    ['READY=1', 'STATUS=works'],
    ['RELOADING=1'],
    ['STOPPING=1', 'EXTEND_TIMEOUT_USEC=315000000', 'STATUS=draining: no new calls'],
  ]);
});

test('the watchdog is notified three times in its period, from the start until the end', () => {
  const { clock, told, supervisor } = supervised({ NOTIFY_SOCKET: '/run/systemd/notify', WATCHDOG_USEC: '30000000' });
  clock.advance(29_999);
  assert.deepEqual(told, [['WATCHDOG=1'], ['WATCHDOG=1']]);
  supervisor.close();
  clock.advance(60_000);
  assert.equal(told.length, 2);
});

test('the watchdog gets no notification while a required part does not work', () => {
  const clock = new FakeClock();
  const told: string[][] = [];
  let alive = true;
  const environment = { NOTIFY_SOCKET: '/run/systemd/notify', WATCHDOG_USEC: '30000000' };
  new Supervisor(
    environment,
    clock,
    (states) => void told.push([...states]),
    () => alive,
  );
  alive = false;
  clock.advance(20_000);
  assert.deepEqual(told, []);
  alive = true;
  clock.advance(10_000);
  assert.deepEqual(told, [['WATCHDOG=1']]);
});

test('a watchdog for another process gets no notification', () => {
  const { clock, told } = supervised({ NOTIFY_SOCKET: '/s', WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' });
  clock.advance(60_000);
  assert.deepEqual(told, []);
});

test('no notification is sent without systemd', () => {
  const { clock, told, supervisor } = supervised({ WATCHDOG_USEC: '30000000' });
  supervisor.ready('works');
  supervisor.stopping(1);
  clock.advance(60_000);
  assert.deepEqual(told, []);
});

test('notifications reach systemd in order, however long one takes', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-notify-'));
  const heard = join(folder, 'heard');
  const program = join(folder, 'systemd-notify');
  writeFileSync(program, `#!/bin/sh\n[ "$1" = RELOADING=1 ] && sleep 0.2\necho "$1" >> ${heard}\n`, { mode: 0o755 });
  const { PATH } = process.env;
  Object.assign(process.env, { PATH: `${folder}:${PATH}` });
  t.after(() => {
    Object.assign(process.env, { PATH });
    rmSync(folder, { recursive: true });
  });
  const supervisor = new Supervisor({ NOTIFY_SOCKET: '/nowhere' }, new FakeClock());
  supervisor.reloading();
  supervisor.ready('works');
  const lines = (): string[] => (existsSync(heard) ? readFileSync(heard, 'utf8').trim().split('\n') : []);
  await until(
    () => lines().length === 2,
    () => `heard ${lines()}`,
  );
  assert.deepEqual(lines(), ['RELOADING=1', 'READY=1']);
});
