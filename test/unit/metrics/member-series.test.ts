import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { counter } from '../../../src/metrics/counters.ts';
import { MemberSeries } from '../../../src/metrics/member-series.ts';
import { FakeClock } from '../../fake/clock.ts';

const MINUTE = 60_000;

function made() {
  const clock = new FakeClock();
  const family = counter(new Registry(), 'packets_total', 'Packets.', ['direction', 'peer']);
  const series = new MemberSeries(family, 'peer', () => clock.now());
  const names = (): string => [...new Set([...family.entries()].map(({ labels }) => labels.peer))].join(' ');
  const count = (peer: string): void => {
    for (const direction of ['in', 'out']) family.cell({ direction, peer }).n++;
  };
  return { clock, family, series, names, count };
}

test('the series of a member end five minutes after it is gone, and those of the others stay', () => {
  const { clock, series, names, count } = made();
  for (const name of ['fe1', 'fe2', 'fe3']) count(name);
  series.setPresent(['fe1', 'fe2', 'fe3']);
  series.setPresent(['fe1', 'fe3']);
  clock.advance(MINUTE);
  series.setPresent(['fe1']);
  clock.advance(4 * MINUTE - 1);
  series.sweep();
  assert.equal(names(), 'fe1 fe2 fe3');
  clock.advance(1);
  series.sweep();
  assert.equal(names(), 'fe1 fe3');
  clock.advance(MINUTE);
  series.sweep();
  assert.equal(names(), 'fe1');
});

test('a member that comes back in time keeps its series, and has another five minutes when it leaves again', () => {
  const { clock, family, series, names, count } = made();
  count('fe1');
  series.setPresent(['fe1']);
  series.setPresent([]);
  clock.advance(4 * MINUTE);
  series.setPresent(['fe1']);
  count('fe1');
  clock.advance(60 * MINUTE);
  series.sweep();
  assert.equal(family.cell({ direction: 'in', peer: 'fe1' }).n, 2);
  series.setPresent([]);
  clock.advance(4 * MINUTE);
  series.sweep();
  assert.equal(names(), 'fe1');
  clock.advance(MINUTE);
  series.sweep();
  assert.equal(names(), '');
});

test('a farm with ever new names has at most a thousand names of departed members', () => {
  const { series, names, count } = made();
  for (let i = 0; i < 2500; i++) {
    count(`pod-${i}`);
    series.setPresent([`pod-${i}`]);
  }
  const held = names().split(' ');
  assert.equal(held.length, 1001);
  assert.deepEqual([held[0], held.at(-1)], ['pod-1499', 'pod-2499']);
});
