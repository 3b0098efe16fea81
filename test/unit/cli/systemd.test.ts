import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Supervisor } from '../../../src/cli/systemd.ts';
import { FakeClock } from '../../fake/clock.ts';

function supervised(environment: Readonly<Record<string, string>>) {
  const clock = new FakeClock();
  const told: string[][] = [];
  const supervisor = new Supervisor(environment, clock, (states) => void told.push([...states]));
  return { clock, told, supervisor };
}

test('systemd is told when the member is ready, reloads, and how long its drain may take', () => {
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

test('the watchdog is fed three times in its time, from the start until the end', () => {
  const { clock, told, supervisor } = supervised({ NOTIFY_SOCKET: '/run/systemd/notify', WATCHDOG_USEC: '30000000' });
  clock.advance(29_999);
  assert.deepEqual(told, [['WATCHDOG=1'], ['WATCHDOG=1']]);
  supervisor.close();
  clock.advance(60_000);
  assert.equal(told.length, 2);
});

test('a watchdog meant for another process is not fed', () => {
  const { clock, told } = supervised({ NOTIFY_SOCKET: '/s', WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' });
  clock.advance(60_000);
  assert.deepEqual(told, []);
});

test('without systemd nobody is told anything', () => {
  const { clock, told, supervisor } = supervised({ WATCHDOG_USEC: '30000000' });
  supervisor.ready('works');
  supervisor.stopping(1);
  clock.advance(60_000);
  assert.deepEqual(told, []);
});
