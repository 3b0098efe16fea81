import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { RefusedPeers } from '../../../src/node/refused-peers.ts';

const SELF = { id: 'fe1', keys: ['a'.repeat(16)] };
const OURS = SELF.keys;
const THEIRS = ['b'.repeat(16)];

function made() {
  const lines: string[] = [];
  const write = (line: string): void => {
    const { level, peer, reason } = JSON.parse(line);
    lines.push(`${level} ${peer} ${reason}`);
  };
  const peers = new RefusedPeers(pino({ level: 'warn' }, { write }));
  return { peers, lines };
}

const record = (id: string, keys?: readonly string[], relay = '10.0.0.2:5064') => ({
  id,
  relay,
  ...(keys && { keys }),
});

test('a member without a common key is logged once, and again when its keys have changed and changed back', () => {
  const { peers, lines } = made();
  const own = record('fe1', OURS, '10.0.0.1:5064');
  for (let i = 0; i < 5; i++) peers.take([own, record('fe2', THEIRS), record('fe3', OURS), record('fe4')], SELF);
  assert.deepEqual(lines, ['40 fe2 keys']);
  peers.take([own, record('fe2', [...THEIRS, ...OURS])], SELF);
  peers.take([own, record('fe2', THEIRS)], SELF);
  assert.deepEqual(lines, ['40 fe2 keys', '40 fe2 keys']);
});

test("frames with a foreign MAC from a member's relay link are logged once, those of strangers never", () => {
  const { peers, lines } = made();
  const records = [record('fe1', OURS, '10.0.0.1:5064'), record('fe2', OURS), record('fe3', OURS, '10.0.0.2:5065')];
  for (let i = 0; i < 5; i++) {
    peers.take(records, SELF);
    peers.badMac('10.0.0.1', 5064);
    peers.badMac('10.0.0.2', 5065);
    peers.badMac('10.0.0.2', 5065);
    peers.badMac('10.0.0.2', 5066);
    peers.badMac('192.0.2.1', 5064);
  }
  assert.deepEqual(lines, ['40 fe3 mac']);
});

test('logged members are stored up to a thousand', () => {
  const { peers, lines } = made();
  for (let i = 0; i <= 1000; i++) peers.take([record(`pod-${i}`, THEIRS)], SELF);
  peers.take([record('pod-1', THEIRS)], SELF);
  assert.equal(lines.length, 1001);
  peers.take([record('pod-0', THEIRS)], SELF);
  assert.equal(lines.length, 1002);
});
