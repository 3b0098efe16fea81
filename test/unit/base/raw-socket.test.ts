// Without its native module a raw socket is refused in words that say what to type.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'sipfarm-raw-'));
after(() => rmSync(folder, { recursive: true }));

/** What opening a raw socket says in a copy of the code that finds `module` under the name raw-socket. */
function told(module?: string): { code?: string; message: string } {
  const base = join(folder, 'src', 'base');
  mkdirSync(base, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  for (const name of ['raw-socket.ts', 'errors.ts']) copyFileSync(join(ROOT, 'src', 'base', name), join(base, name));
  if (module !== undefined) {
    const at = join(folder, 'node_modules', 'raw-socket');
    mkdirSync(at, { recursive: true });
    writeFileSync(join(at, 'index.js'), module);
  }
  const script = `import { openRaw } from './src/base/raw-socket.ts';
    try { openRaw(false); } catch ({ code, message }) { console.log(JSON.stringify({ code, message })); }`;
  const run = spawnSync(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], { cwd: folder });
  return JSON.parse(run.stdout.toString() || JSON.stringify({ message: run.stderr.toString() }));
}

test('no module: the error names the command that builds it for this Node.js', () => {
  const { code, message } = told();
  assert.equal(code, 'SF_TRANSPARENT_UNAVAILABLE');
  assert.ok(message.includes(`${process.execPath} ${join(folder, 'bin', 'build-transparent.js')}`), message);
});

test('a module that was built for another Node.js: the same, with the reason', () => {
  const { code, message } = told(`throw new Error('compiled against a different Node.js version\\nand more');`);
  assert.equal(code, 'SF_TRANSPARENT_UNAVAILABLE');
  assert.match(message, /build-transparent\.js.*different Node\.js version\)$/);
});

test('no right: the error names it', () => {
  const { code, message } = told(
    `exports.AddressFamily = { IPv4: 1, IPv6: 2 }; exports.createSocket = () => { throw new Error('Operation not permitted'); };`,
  );
  assert.equal(code, 'SF_TRANSPARENT_UNAVAILABLE');
  assert.match(message, /Operation not permitted.*CAP_NET_RAW/);
});
