import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Loaded, parseConfig } from '../../../src/config/load.ts';
import { blocks, page } from './markdown.ts';

const KEY = 'ab'.repeat(32);

function load(text: string): Loaded {
  return parseConfig(
    '/etc/sipfarm/sipfarm.yaml',
    text,
    { SIPFARM_KEY: KEY, N: '1' },
    { hostName: 'fe1', readFile: () => KEY },
  );
}

for (const [path, least] of [
  ['README.md', 3],
  ['docs/operations.md', 1],
  ['docs/workers.md', 1],
  ['docs/media.md', 3],
] as const) {
  const samples = blocks(page(path), 'yaml');

  test(`${path} has at least ${least} configuration samples`, () => {
    assert.ok(samples.length >= least);
  });

  for (const [index, sample] of samples.entries())
    test(`configuration sample ${index + 1} of ${path} passes the check without a warning`, () => {
      assert.deepEqual(load(sample).warnings, []);
    });
}

test('the README has a first configuration for DSR, for NAT and for a farm without a balancer', () => {
  const modes = blocks(page('README.md'), 'yaml').map((sample) => load(sample).config.balancer.mode);
  assert.deepEqual(modes, ['dsr', 'nat', 'none']);
});

test('the README has both commands in full', () => {
  const shell = blocks(page('README.md'), 'sh').map((block) => block.trim());
  for (const command of ['npm ci && npm start', 'npm ci && npm test', 'sipp 127.0.0.1:5060 -sn uac -m 100'])
    assert.ok(shell.includes(command), command);
});
