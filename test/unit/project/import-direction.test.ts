// The linter enforces the one direction of imports: planted violations must be found, and allowed imports must pass.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';

const root = path.resolve(import.meta.dirname, '../../..');
const planted = mkdtempSync(path.join(tmpdir(), 'sipfarm-lint-'));
after(() => rmSync(planted, { recursive: true }));
copyFileSync(path.join(root, 'biome.json'), path.join(planted, 'biome.json'));

/** The rules the linter reports for one file with the given import. */
function faultsOf(file: string, specifier: string): string[] {
  const at = path.join(planted, file);
  mkdirSync(path.dirname(at), { recursive: true });
  writeFileSync(at, `import type { thing } from '${specifier}';\n\nexport type Thing = thing;\n`);
  const biome = path.join(root, 'node_modules/.bin/biome');
  const run = spawnSync(biome, ['lint', '--vcs-enabled=false', '--reporter=json', file], {
    cwd: planted,
    encoding: 'utf8',
  });
  const report = JSON.parse(run.stdout) as { diagnostics: { category: string }[] };
  return report.diagnostics.map((diagnostic) => diagnostic.category);
}

const FORBIDDEN = [
  ['src/base/planted.ts', '../metrics/counters.ts'],
  ['src/sip/planted.ts', '../transport/udp.ts'],
  ['src/sip/planted.ts', '../store/store.ts'],
  ['src/ownership/planted.ts', '../transport/udp.ts'],
  ['src/transport/planted.ts', '../ownership/token.ts'],
  ['src/relay/planted.ts', '../membership/membership.ts'],
  ['src/relay/planted.ts', '../service/service.ts'],
  ['src/service/upstream/planted.ts', '../../admin/farm-face.ts'],
  ['src/service/upstream/planted.ts', '../../node/farm-node.ts'],
  ['src/admin/planted.ts', '../node/packet-way.ts'],
  ['src/admin/planted.ts', '../doctor/finding.ts'],
  ['src/doctor/planted.ts', '../admin/farm-face.ts'],
  ['src/membership/planted.ts', '../doctor/finding.ts'],
  ['src/ingress/packet-path.ts', '../cli/program.ts'],
  ['src/demo/planted.ts', '../cli/program.ts'],
] as const;
for (const [file, specifier] of FORBIDDEN) {
  test(`${file} may not import ${specifier}`, () => {
    assert.deepEqual(faultsOf(file, specifier), ['lint/style/noRestrictedImports']);
  });
}

const ALLOWED = [
  ['src/ownership/planted.ts', '../transport/packet.ts'],
  ['src/relay/planted.ts', '../ownership/token.ts'],
  ['src/service/upstream/planted.ts', '../service.ts'],
  ['src/cli/planted.ts', '../admin/farm-face.ts'],
  ['src/doctor/planted.ts', '../membership/member-record.ts'],
] as const;
for (const [file, specifier] of ALLOWED) {
  test(`${file} may import ${specifier}`, () => {
    assert.deepEqual(faultsOf(file, specifier), []);
  });
}

test('every room of src has a rule of its own', () => {
  const rules = JSON.stringify(
    (JSON.parse(readFileSync(path.join(root, 'biome.json'), 'utf8')) as { overrides: unknown }).overrides,
  );
  for (const entry of readdirSync(path.join(root, 'src'), { withFileTypes: true })) {
    if (entry.isDirectory() && entry.name !== 'base')
      assert.ok(rules.includes(`"src/${entry.name}/**"`), `src/${entry.name} has no import rule in biome.json`);
  }
});
