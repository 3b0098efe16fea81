// The linter enforces the one direction of imports: it finds planted violations and accepts allowed imports.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readFloors, renderRooms, roomNames } from '../../rooms.ts';

const root = path.resolve(import.meta.dirname, '../../..');

const FORBIDDEN = [
  ['src/base/planted1.ts', '../metrics/counters.ts'],
  ['src/packet/planted1.ts', '../ownership/token.ts'],
  ['src/sip/planted1.ts', '../transport/udp.ts'],
  ['src/sip/planted2.ts', '../store/store.ts'],
  ['src/ownership/planted1.ts', '../transport/udp.ts'],
  ['src/transport/planted1.ts', '../ownership/../relay/peers.ts'],
  ['src/relay/planted1.ts', '../membership/membership.ts'],
  ['src/relay/planted2.ts', '../service/service.ts'],
  ['src/relay/planted3.ts', '../egress/egress.ts'],
  ['src/calls/table/planted1.ts', '../records/call-journal.ts'],
  ['src/calls/records/planted1.ts', '../adoption/adoption.ts'],
  ['src/service/planted1.ts', './upstream/upstream.ts'],
  ['src/service/shared/planted1.ts', '../takeover/takeover.ts'],
  ['src/service/takeover/planted1.ts', '../upstream/upstream.ts'],
  ['src/service/upstream/planted1.ts', '../../admin/status.ts'],
  ['src/service/upstream/planted2.ts', '../../node/farm-node.ts'],
  ['src/ingress/planted1.ts', '../node/farm-node.ts'],
  ['src/admin/planted1.ts', '../node/settings.ts'],
  ['src/doctor/planted1.ts', '../admin/status.ts'],
  ['src/membership/planted1.ts', '../doctor/finding.ts'],
  ['src/node/planted1.ts', '../cli/program.ts'],
  ['src/demo/planted1.ts', '../process/run.ts'],
] as const;

const ALLOWED = [
  ['src/ownership/planted2.ts', '../packet/packet.ts'],
  ['src/transport/planted2.ts', '../ownership/token.ts'],
  ['src/relay/planted4.ts', '../ownership/token.ts'],
  ['src/calls/records/planted2.ts', '../table/call-table.ts'],
  ['src/service/shared/planted2.ts', '../service.ts'],
  ['src/service/upstream/planted3.ts', '../takeover/takeover.ts'],
  ['src/cli/planted1.ts', '../admin/status.ts'],
  ['src/doctor/planted2.ts', '../membership/member-record.ts'],
] as const;

describe('the linter', () => {
  const planted = mkdtempSync(path.join(tmpdir(), 'sipfarm-lint-'));
  /** Broken rules by file. The linter runs once for all files. */
  const faults = new Map<string, string[]>();

  before(() => {
    copyFileSync(path.join(root, 'biome.json'), path.join(planted, 'biome.json'));
    for (const [file, specifier] of [...FORBIDDEN, ...ALLOWED]) {
      const at = path.join(planted, file);
      mkdirSync(path.dirname(at), { recursive: true });
      writeFileSync(at, `import type { thing } from '${specifier}';\n\nexport type Thing = thing;\n`);
    }
    const biome = path.join(root, 'node_modules/.bin/biome');
    const options = ['lint', '--vcs-enabled=false', '--reporter=json', '--max-diagnostics=none', 'src'];
    const { stdout } = spawnSync(biome, options, { cwd: planted, encoding: 'utf8' });
    const report = JSON.parse(stdout) as { diagnostics: { category: string; location: { path: string } }[] };
    for (const { category, location } of report.diagnostics)
      faults.set(location.path, [...(faults.get(location.path) ?? []), category]);
  });
  after(() => rmSync(planted, { recursive: true }));

  for (const [file, specifier] of FORBIDDEN)
    test(`refuses in ${file} the import of ${specifier}`, () => {
      assert.deepEqual(faults.get(file), ['lint/style/noRestrictedImports']);
    });
  for (const [file, specifier] of ALLOWED)
    test(`accepts in ${file} the import of ${specifier}`, () => assert.equal(faults.get(file), undefined));
});

describe('rooms.json', () => {
  const rooms = roomNames(readFloors());

  test('names every folder of src and no others', () => {
    const folders = readdirSync(path.join(root, 'src'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
      .map(({ parentPath }) => path.relative(path.join(root, 'src'), parentPath));
    const homeless = folders.filter(
      (folder) => folder !== '' && !rooms.some((room) => `${folder}/`.startsWith(`${room}/`)),
    );
    assert.deepEqual([...new Set(homeless)], []);
    assert.deepEqual(
      rooms.filter((room) => !existsSync(path.join(root, 'src', room))),
      [],
    );
  });

  for (const [file, text] of renderRooms())
    test(`agrees with ${file}`, () => {
      const real = readFileSync(path.join(root, file), 'utf8');
      if (file.endsWith('.json')) assert.deepEqual(JSON.parse(real), JSON.parse(text));
      else assert.equal(real, text);
    });
});
