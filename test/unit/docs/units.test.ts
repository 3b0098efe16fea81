// Do the pages print the systemd unit that is shipped, and does the unit fit the default limits?
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../../src/config/load.ts';
import { DSR_SAMPLE } from '../../write-docs.ts';
import { blocks, page } from './markdown.ts';

const SHIPPED = page('deploy/systemd/sipfarm.service');

/** Value of a setting of the unit; throws when the unit does not have it. */
function setting(name: string): string {
  const [, value] = new RegExp(`^${name}=(.*)$`, 'm').exec(SHIPPED) ?? [];
  assert.ok(value !== undefined, `${name} is not in the unit`);
  return value;
}

test('docs/operations.md prints deploy/systemd/sipfarm.service, word for word', () => {
  assert.deepEqual(blocks(page('docs/operations.md'), 'ini'), [SHIPPED]);
});

test('docs/install.md copies the shipped unit and prints none of its own', () => {
  const text = page('docs/install.md');
  assert.match(text, /^cp \/opt\/sipfarm\/deploy\/systemd\/sipfarm\.service \/etc\/systemd\/system\/$/m);
  assert.deepEqual(
    blocks(text, 'ini').filter((block) => block.includes('[Service]')),
    [],
  );
});

test('the unit stops the process after the default drain, and allows more files than the default connections', () => {
  const { config } = parseConfig('sample', DSR_SAMPLE, { SIPFARM_KEY: 'ab'.repeat(32) });
  assert.ok(Number(setting('TimeoutStopSec')) > config.drain.deadlineSeconds);
  assert.ok(Number(setting('LimitNOFILE')) > config.limits.tcpConnections);
});

test('deploy/systemd/README.md explains lines that the unit has', () => {
  const rows = page('deploy/systemd/README.md').matchAll(/^\| (`[^|]+) \|/gm);
  const named = [...rows].flatMap(([, cell = '']) => [...cell.matchAll(/`(\w+)=/g)].map(([, name = '']) => name));
  assert.ok(named.length > 10);
  for (const name of named) setting(name);
});
