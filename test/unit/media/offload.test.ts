// The offload of many ports. The packets themselves are in user-relay/offloaded-streams.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Offload, type RelayPort } from '../../../src/media/offload.ts';
import { FakeClock } from '../../fake/clock.ts';

/** A port whose source is locked. It faces itself. */
function locked(port: number): RelayPort {
  const made: RelayPort = {
    at: { address: '10.0.0.1', port },
    get facing() {
      return made;
    },
    lock: port,
    packets: 1,
    sourceOf: () => ({ address: '192.0.2.7', port }),
    hold: () => {},
  };
  return made;
}

test('at most 500 paths are tried at one time, and all of them in the end', () => {
  const clock = new FakeClock();
  const tried = new Set<number>();
  const never = new Promise<never>(() => {});
  const add = ({ at }: { at: { port: number } }) => {
    tried.add(at.port);
    return { counts: { packets: 0, octets: 0 }, final: never, remove: () => never };
  };
  const offload = new Offload({ add }, clock);
  for (let port = 1; port <= 1200; port++) offload.follow(locked(port));
  const counts = [1, 2, 3, 4].map(() => {
    clock.advance(200);
    return tried.size;
  });
  assert.deepEqual(counts, [500, 1000, 1200, 1200]);
  offload.stop();
  assert.equal(clock.timers, 0);
});
