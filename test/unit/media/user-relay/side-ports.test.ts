import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PortAllocator } from '../../../../src/media/port-allocator.ts';
import { RelayMemory } from '../../../../src/media/user-relay/relay-memory.ts';
import { type BindFault, SidePorts } from '../../../../src/media/user-relay/side-ports.ts';

/** Ports 20000 to 20003 with the indexes 100 to 103, and binds that fail as `faults` has it. */
function made(faults: Readonly<Record<number, BindFault>> = {}) {
  const open = new Set<number>();
  const shut: number[] = [];
  const memory = new RelayMemory(200);
  const time = { now: 0 };
  const ports = new SidePorts({
    allocator: new PortAllocator({
      first: 20_000,
      last: 20_003,
      restMs: 100,
      foreignMs: 1000,
      reservedPairs: 0,
      random: () => 0,
    }),
    memory,
    firstIndex: 100,
    firstPort: 20_000,
    ports: 4,
    now: () => time.now,
    bind(port) {
      const fault = faults[port];
      if (fault === undefined) open.add(port);
      return fault ?? port;
    },
    close: (fd) => assert.ok(open.delete(fd), `${fd} is not open`),
    shut: (index) => shut.push(index),
  });
  const opened = (): number[] => [...open].sort();
  return { ports, opened, shut, memory, time };
}

describe('the ports of a side', () => {
  test('are open when they are handed out', () => {
    const { ports, opened } = made();
    assert.deepEqual(ports.take(false), { port: 20_000, rtcpPort: 20_001 });
    assert.deepEqual(ports.take(true), { port: 20_002, rtcpPort: 20_002 });
    assert.deepEqual(opened(), [20_000, 20_001, 20_002]);
    assert.deepEqual([ports.indexOf(20_002), ports.descriptor(20_002)], [102, 20_002]);
  });

  test('come both or not at all: the first is closed when another program has the second', () => {
    const { ports, opened } = made({ 20001: 'foreign', 20003: 'foreign' });
    assert.equal(ports.take(false), undefined);
    assert.deepEqual(opened(), []);
    assert.deepEqual({ ...ports.allocator.counts }, { free: 0, used: 0, resting: 2, foreign: 2 });
  });

  test('are not tried one after the other when the system has no descriptors', () => {
    const { ports } = made({ 20000: 'failed' });
    assert.equal(ports.take(false), undefined);
    assert.equal(ports.allocator.counts.free, 2);
  });

  test('are shut once when they have rested', () => {
    const { ports, shut, time } = made();
    ports.take(false);
    ports.release([20_000, 20_001]);
    time.now = 99;
    ports.sweep();
    assert.deepEqual(shut, []);
    time.now = 100;
    ports.sweep();
    ports.sweep();
    assert.deepEqual(shut, [100, 101]);
  });

  test('are used again without another bind before they are shut, and not shut then', () => {
    const { ports, shut, time, opened } = made();
    ports.take(false);
    ports.release([20_000, 20_001]);
    time.now = 100;
    assert.ok(ports.claim({ port: 20_000, rtcpPort: 20_001 }));
    ports.sweep();
    assert.deepEqual([shut, opened()], [[], [20_000, 20_001]]);
  });

  test('are not bound while the thread has their last descriptor', () => {
    const { ports, time, memory } = made();
    ports.take(false);
    ports.release([20_000, 20_001]);
    time.now = 100;
    ports.sweep();
    assert.equal(ports.claim({ port: 20_000, rtcpPort: 20_001 }), false);
    memory.held.fill(0);
    time.now = 200;
    assert.equal(ports.claim({ port: 20_000, rtcpPort: 20_001 }), true);
  });

  test('are claimed both or not at all', () => {
    const { ports, opened } = made();
    assert.ok(ports.claim({ port: 20_001, rtcpPort: 20_001 }));
    assert.equal(ports.claim({ port: 20_000, rtcpPort: 20_001 }), false);
    assert.deepEqual(opened(), [20_001]);
    assert.deepEqual({ ...ports.allocator.counts }, { free: 2, used: 1, resting: 1, foreign: 0 });
  });

  test('are all closed when there is no thread', () => {
    const { ports, opened } = made();
    ports.take(false);
    ports.take(true);
    ports.release([20_000, 20_001]);
    ports.closeAll();
    ports.closeAll();
    assert.deepEqual(opened(), []);
  });
});
