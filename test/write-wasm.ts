// Writes the WebAssembly modules of src from their text: `npm run wasm`. A test compares them.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assemble, wasmModules } from './wasm.ts';

for (const { text, module } of wasmModules) {
  const root = join(import.meta.dirname, '..');
  writeFileSync(join(root, module), await assemble(text, readFileSync(join(root, text), 'utf8')));
}
