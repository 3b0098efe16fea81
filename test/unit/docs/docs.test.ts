import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERRORS } from '../../../src/base/errors.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { DSR_SAMPLE, NAT_SAMPLE, renderDocs } from '../../write-docs.ts';

const ROOT = join(import.meta.dirname, '../../..');

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.[jt]s$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));
}

for (const [path, text] of renderDocs())
  test(`${path} is the generated text; npm run docs writes it`, () => {
    assert.equal(readFileSync(join(ROOT, path), 'utf8'), text);
  });

test('every error code is used, and every used code is in the catalogue', () => {
  const files = [...sources(join(ROOT, 'src')), ...sources(join(ROOT, 'bin'))].filter(
    (path) => !path.endsWith('errors.ts'),
  );
  const used = new Set(files.flatMap((path) => readFileSync(path, 'utf8').match(/(?<=['"`])SF_[A-Z_]+[A-Z]/g) ?? []));
  const codes = new Set(Object.keys(ERRORS));
  assert.deepEqual(
    [...codes].filter((code) => !used.has(code)),
    [],
  );
  assert.deepEqual(
    [...used].filter((code) => !codes.has(code)),
    [],
  );
});

test('the samples of the configuration page are valid', () => {
  for (const sample of [DSR_SAMPLE, NAT_SAMPLE]) {
    const { warnings } = parseConfig('sample', sample, { SIPFARM_KEY: 'ab'.repeat(32) });
    assert.deepEqual(warnings, []);
  }
});
