// A raw socket without its native module is refused with an error that names the remedy.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'sipfarm-raw-'));
after(() => rmSync(folder, { recursive: true }));

/**
 * Returns the JSON that `script` prints, with `openRaw`, in a copy of the code where the name raw-socket means
 * `module`.
 */
function printed(script: string, module?: string): unknown {
  const base = join(folder, 'src', 'base');
  mkdirSync(base, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  for (const name of ['raw-socket.ts', 'errors.ts']) copyFileSync(join(ROOT, 'src', 'base', name), join(base, name));
  if (module !== undefined) {
    const at = join(folder, 'node_modules', 'raw-socket');
    mkdirSync(at, { recursive: true });
    writeFileSync(join(at, 'index.js'), module);
  }
  const whole = `import { openRaw } from './src/base/raw-socket.ts'; ${script}`;
  const run = spawnSync(process.execPath, ['--no-warnings', '--input-type=module', '-e', whole], { cwd: folder });
  return JSON.parse(run.stdout.toString() || JSON.stringify({ message: run.stderr.toString() }));
}

/** Returns the error of opening a raw socket. */
function told(module?: string): { code?: string; message: string } {
  const script =
    'try { openRaw(false); } catch ({ code, message }) { console.log(JSON.stringify({ code, message })); }';
  return printed(script, module) as { code?: string; message: string };
}

test('the error without a module names the command that builds it for this Node.js', () => {
  const { code, message } = told();
  assert.equal(code, 'SF_TRANSPARENT_UNAVAILABLE');
  assert.ok(message.includes(`${process.execPath} ${join(folder, 'bin', 'build-transparent.js')}`), message);
});

test('the error with a module for another Node.js has the same command and the reason', () => {
  const { code, message } = told(`throw new Error('compiled against a different Node.js version\\nand more');`);
  assert.equal(code, 'SF_TRANSPARENT_UNAVAILABLE');
  assert.match(message, /build-transparent\.js.*different Node\.js version\)$/);
});

test('the error without the right names the right', () => {
  const { code, message } = told(
    `exports.AddressFamily = { IPv4: 1, IPv6: 2 }; exports.createSocket = () => { throw new Error('Operation not permitted'); };`,
  );
  assert.equal(code, 'SF_TRANSPARENT_UNAVAILABLE');
  assert.match(message, /Operation not permitted.*CAP_NET_RAW/);
});

test('a refusal of the system is returned and not thrown, and a closed socket sends nothing', () => {
  const module = `
    exports.AddressFamily = { IPv4: 1, IPv6: 2 };
    exports.SocketLevel = exports.SocketOption = {};
    const wrap = { send(bytes, offset, octets, address) {
      globalThis.asked = [...(globalThis.asked ?? []), address];
      if (address === '10.0.0.9') throw new Error('Operation not permitted');
    } };
    exports.createSocket = () => ({ wrap, pauseRecv() {}, setOption() {}, on() {}, close() { globalThis.closed = (globalThis.closed ?? 0) + 1; } });`;
  const script = `
    const socket = openRaw(false);
    const send = (address) => socket.send(Buffer.alloc(40), 40, address);
    const open = [send('10.0.0.9'), send('10.0.0.2')];
    socket.close();
    socket.close();
    console.log(JSON.stringify({ open, after: send('10.0.0.3'), asked: globalThis.asked, closed: globalThis.closed }));`;
  assert.deepEqual(printed(script, module), {
    open: [false, true],
    after: false,
    asked: ['10.0.0.9', '10.0.0.2'],
    closed: 1,
  });
});
