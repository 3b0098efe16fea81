// The assembled modules in src equal their texts.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assemble, wasmModules } from '../../wasm.ts';

const read = (path: string): string => readFileSync(join(import.meta.dirname, '..', '..', '..', path), 'utf8');

for (const { text, module } of wasmModules)
  test(`${module} is the assembled form of ${text}`, async () => {
    assert.equal(read(module), await assemble(text, read(text)), 'npm run wasm');
  });
