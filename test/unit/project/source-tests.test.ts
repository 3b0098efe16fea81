// Every source file above a hundred lines has a test of its own: at least one test file imports it directly. A file of
// types alone has nothing to test.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';

const root = path.resolve(import.meta.dirname, '../../..');
const LINES = 100;

const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const linesOf = (file: string): number => read(file).trimEnd().split('\n').length;

/** Returns the files that `file` imports, types included, as paths from the root. */
function importsOf(file: string): readonly string[] {
  const found = read(file).matchAll(/(?:\bfrom |\bimport\()'(\.[^']+)'/g);
  return [...found].map((match) => path.join(path.dirname(file), match[1]!));
}

/** Returns whether nothing of the file is left when it runs. */
function hasOnlyTypes(file: string): boolean {
  const options = { target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext, removeComments: true } as const;
  return ts.transpileModule(read(file), { compilerOptions: options }).outputText.trim() === 'export {};';
}

const sources = globSync('src/**/*.ts', { cwd: root }).sort();
const tested = new Set(globSync('test/**/*.test.ts', { cwd: root }).flatMap(importsOf));

test('every source file above 100 lines is imported by a test file', () => {
  const untested = sources.filter((file) => linesOf(file) > LINES && !tested.has(file) && !hasOnlyTypes(file));
  assert.deepEqual(untested, []);
});

test('a file of types alone needs no test, and one with a single value does', () => {
  assert.deepEqual(['src/doctor/facts.ts', 'src/doctor/finding.ts'].map(hasOnlyTypes), [true, false]);
});
