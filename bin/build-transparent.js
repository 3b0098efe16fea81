#!/usr/bin/env node
// Compiles the native module raw-socket, which relay.mode transparent needs, for the Node.js that runs this file. Run
// it with the Node.js that runs sipfarm. It needs a C++ compiler and the headers of that Node.js. It needs no Python,
// no node-gyp and no network. --check: compiles nothing; the exit code is 0 if the module loads.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const { execPath, versions, platform, env } = process;
const require = createRequire(import.meta.url);
const FLAGS = ['-shared', '-fPIC', '-O2', '-std=c++20', '-w', '-DNODE_GYP_MODULE_NAME=raw', '-D_GNU_SOURCE'];
/** Seconds a compiler may take on a slow host. */
const COMPILER_SECONDS = 120;

function fail(text) {
  console.error(text);
  process.exit(1);
}

/** The folder of a package, or undefined. */
function folderOf(name) {
  try {
    return dirname(require.resolve(`${name}/package.json`));
  } catch {
    return undefined;
  }
}

/** Loads the module in a process of its own: a wrong one may end it. */
function loads() {
  return spawnSync(execPath, ['-e', "require('raw-socket')"], { cwd: import.meta.dirname }).status === 0;
}

/**
 * Returns the folder of the headers: beside the Node.js (packages of Node.js, /usr), the `nodedir` of npm, or the cache
 * of node-gyp.
 */
function findHeaders() {
  const places = [
    join(dirname(execPath), '..', 'include', 'node'),
    ...(env.npm_config_nodedir ? [join(env.npm_config_nodedir, 'include', 'node')] : []),
    '/usr/include/nodejs/src',
    '/usr/include/node',
    join(homedir(), '.cache', 'node-gyp', versions.node, 'include', 'node'),
  ];
  return places.find((place) => {
    const file = join(place, 'node_version.h');
    const [, abi] = (existsSync(file) && /define NODE_MODULE_VERSION (\d+)/.exec(readFileSync(file, 'utf8'))) || [];
    return abi === versions.modules;
  });
}

function findCompiler() {
  const names = env.CXX ? [env.CXX] : ['c++', 'g++', 'clang++'];
  return names.find((name) => spawnSync(name, ['--version']).status === 0);
}

if (process.argv.includes('--check')) process.exit(loads() ? 0 : 1);
if (platform !== 'linux') fail('relay.mode transparent is for Linux only.');
const source = folderOf('raw-socket');
const nan = folderOf('nan');
if (!source || !nan)
  fail('The package raw-socket is not installed: npm ci brings it, unless --omit=optional is given.');
const headers = findHeaders();
if (!headers)
  fail(
    `The headers of Node.js ${versions.node} are not on this host. The Node.js that npm ci brings has its own: ` +
      'use node_modules/.bin/node; or apt install libnode-dev for the one of Debian.',
  );
const compiler = findCompiler();
if (!compiler) fail(`No C++ compiler${env.CXX ? ` (CXX is ${env.CXX})` : ''}: apt install g++`);

const folder = join(source, 'build', 'Release');
const made = join(folder, `raw.${process.pid}.node`);
mkdirSync(folder, { recursive: true });
const args = [...FLAGS, '-I', headers, '-I', nan, '-o', made, join(source, 'src', 'raw.cc')];
const { status, stderr, error } = spawnSync(compiler, args, { encoding: 'utf8', timeout: COMPILER_SECONDS * 1000 });
if (status !== 0) {
  rmSync(made, { force: true });
  fail(`${compiler} could not compile it: ${error?.message ?? ''}${stderr}`);
}
// One step, so that a member that starts now finds the old module or the new one.
renameSync(made, join(folder, 'raw.node'));
if (!loads()) fail('The module was compiled, and does not load.');
console.log(`raw-socket is ready for Node.js ${versions.node} (${execPath})`);
