// `npm test`: checks for the tools of the laboratory (installs them with apt where it may), builds, checks style and
// types, then runs all tests. Unit tests run two files at a time. The others run one by one, because they measure or
// need the host for themselves. With CI=true a missing tool is a failure. `npm test -- PATH...` runs only the test
// files whose path contains a PATH.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Readable } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { limitFiles } from './file-limit.ts';

interface Tool {
  readonly name: string;
  /** Package of Debian and Ubuntu. */
  readonly apt: string;
  /** Pattern of its path, when it is no program in PATH. */
  readonly file?: string;
  /** Tests that are left out without it. */
  readonly tests: string;
}

const TOOLS: readonly Tool[] = [
  { name: 'etcd', apt: 'etcd-server', tests: 'the farm in the laboratory, the store contract on etcd' },
  { name: 'etcdctl', apt: 'etcd-client', tests: 'that what is in etcd can be read by people' },
  { name: 'ip', apt: 'iproute2', tests: 'the laboratory: all of test/lab' },
  { name: 'nft', apt: 'nftables', tests: 'the laboratory: all of test/lab' },
  { name: 'sipp', apt: 'sip-tester', tests: 'the laboratory: all of test/lab, the calls through the demo' },
  {
    name: 'kamailio',
    apt: 'kamailio',
    tests: 'registrations shared by the members, the proof of the laboratory itself',
  },
  {
    name: 'kamailio-presence',
    apt: 'kamailio-presence-modules',
    file: '/usr/{lib,lib/*,lib64}/kamailio/modules/presence.so',
    tests: 'SIP.js and baresip as clients',
  },
  { name: 'baresip', apt: 'baresip-core', tests: 'SIP.js and baresip as clients' },
  { name: 'haproxy', apt: 'haproxy', tests: 'what balancer render writes for haproxy' },
  { name: 'nginx', apt: 'nginx-light libnginx-mod-stream', tests: 'what balancer render writes for nginx-stream' },
  { name: 'keepalived', apt: 'keepalived', tests: 'what balancer render writes for ipvs' },
];

/** Compiles the module raw-socket; needed only when that does not load. */
const COMPILER: Tool = { name: 'g++', apt: 'g++', tests: 'transparent relay' };

/** Time after which a test without its own limit counts as hanging, ms. */
const TEST_TIMEOUT = 4 * 60_000;
/** Time after which a test file counts as hanging, ms. */
const FILE_TIMEOUT = 5 * 60_000;
/** Time limit of the whole run, ms, which takes eleven minutes on two cores. */
const RUN_TIMEOUT = 25 * 60_000;
const POLICY = '/usr/sbin/policy-rc.d';

const root = join(import.meta.dirname, '..');
const startedAt = performance.now();
const { PATH: givenPath = '', CI } = process.env;
const isCi = CI === 'true';
/** Not every shell of root has the sbin directories, where nft, ip and kamailio are. */
const PATH = [...new Set([...givenPath.split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'])].join(delimiter);
Object.assign(process.env, { PATH });

function say(text: string): void {
  process.stdout.write(`[${((performance.now() - startedAt) / 1000).toFixed(0).padStart(3)} s] ${text}\n`);
}

function hasProgram(program: string): boolean {
  return PATH.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const has = ({ name, file }: Tool): boolean => (file === undefined ? hasProgram(name) : globSync(file).length > 0);

function mayInstall(): boolean {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  return process.getuid?.() === 0 && hasProgram('apt-get') && /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(release);
}

function apt(...args: readonly string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const result = spawnSync('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=120', ...args], { env, encoding: 'utf8' });
  if (result.status !== 0) say(`apt-get ${args[0]} failed: ${(result.stderr || result.stdout).trim().slice(-2000)}`);
  return result.status === 0;
}

/** Installs packages without starting their services, because a Kamailio or etcd of the system would use the ports. */
function install(packages: readonly string[]): void {
  say(`installing with apt: ${packages.join(' ')}`);
  const forbid = !existsSync(POLICY);
  if (forbid) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    if (apt('update')) apt('install', '-y', '--no-install-recommends', ...packages);
  } finally {
    if (forbid) rmSync(POLICY, { force: true });
  }
}

/** Returns whether this host allows network namespaces with links and packet rules. */
function mayMakeNamespaces(): boolean {
  const name = `sf${process.pid}n0-probe`;
  const steps = [
    ['netns', 'add', name],
    ['-n', name, 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1'],
    ['netns', 'exec', name, 'nft', 'add table inet probe'],
  ];
  try {
    return steps.every((step) => spawnSync('ip', step).status === 0);
  } finally {
    spawnSync('ip', ['netns', 'del', name]);
  }
}

/** Loads the module raw-socket in this Node.js, or builds it first; returns undefined, or the reason of the failure. */
function buildRawSocket(): string | undefined {
  const builder = join(root, 'bin', 'build-transparent.js');
  if (spawnSync(process.execPath, [builder, '--check']).status === 0) return undefined;
  const { status, stderr } = spawnSync(process.execPath, [builder], { encoding: 'utf8' });
  return status === 0 ? undefined : stderr.trim().slice(-2000);
}

/** Returns the names of missing tools after all attempts to install them. */
function findMissing(): string[] {
  let unbuilt = buildRawSocket();
  const wanted = unbuilt === undefined ? TOOLS : [...TOOLS, COMPILER];
  let lacking = wanted.filter((tool) => !has(tool));
  if (lacking.length > 0 && mayInstall()) {
    install(lacking.flatMap((tool) => tool.apt.split(' ')));
    lacking = wanted.filter((tool) => !has(tool));
  }
  for (const { name, apt: from, tests } of lacking) say(`missing: ${name} (package ${from}). Left out: ${tests}`);
  const missing = lacking.map(({ name }) => name);
  if (unbuilt !== undefined) unbuilt = buildRawSocket();
  if (unbuilt !== undefined) {
    say(`missing: the module raw-socket (npm run build:transparent). Left out: transparent relay. ${unbuilt}`);
    missing.push('raw-socket');
  }
  if (!missing.includes('ip') && !missing.includes('nft') && !mayMakeNamespaces()) {
    say('missing: the right to make network namespaces (root). Left out: the laboratory: all of test/lab');
    missing.push('namespaces');
  }
  return missing;
}

function step(title: string, script: string): void {
  say(title);
  const { status } = spawnSync('npm', ['run', '--silent', script], { cwd: root, stdio: 'inherit' });
  if (status === 0) return;
  say(`failed: npm run ${script}`);
  process.exit(1);
}

interface Stage {
  readonly files: readonly string[];
  /** Number of files that run at the same time. */
  readonly concurrency: number;
}

/** Returns the test files in the order of their run: quick and informative ones first. */
function stages(): Stage[] {
  const wanted = process.argv.slice(2);
  const find = (...patterns: readonly string[]): string[] =>
    patterns
      .flatMap((pattern) => globSync(pattern, { cwd: root }).sort())
      .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
      .map((file) => join(root, file));
  return [
    { files: find('test/unit/**/*.test.ts'), concurrency: 2 },
    { files: find('test/program/**/*.test.ts', 'test/lab/**/*.test.ts', 'test/faults/short.test.ts'), concurrency: 1 },
  ].filter(({ files }) => files.length > 0);
}

/**
 * Yields the events of all stages, one stage after the other. Sets the exit code to 1 unless each has tests and all
 * succeed.
 */
async function* runTests(todo: readonly Stage[]) {
  process.exitCode = 1;
  let succeeded = 0;
  let failed = 0;
  for (const { files, concurrency } of todo) {
    say(`${files.length} test files, ${concurrency} at a time`);
    const tests = run({ files: [...files], cwd: root, concurrency, timeout: TEST_TIMEOUT });
    limitFiles(tests, FILE_TIMEOUT, say);
    tests.on('test:summary', (summary) => {
      // There is one summary per file, then one without a file for the whole run.
      if (summary.file === undefined && summary.success && summary.counts.tests > 0) succeeded++;
    });
    tests.on('test:fail', () => failed++);
    yield* tests;
  }
  if (todo.length > 0 && succeeded === todo.length && failed === 0) process.exitCode = 0;
}

setTimeout(() => {
  say(`broken off after ${RUN_TIMEOUT / 60_000} minutes`);
  process.exit(1);
}, RUN_TIMEOUT).unref();

const missing = findMissing();
if (missing.length > 0 && isCi) {
  say(`CI=true and missing: ${missing.join(', ')}. Nothing may be skipped, so this is a failure.`);
  process.exit(1);
}
Object.assign(process.env, { SIPFARM_MISSING: missing.join(',') });
step('build', 'build');
step('style', 'lint');
step('types', 'typecheck');
Readable.from(runTests(stages())).compose(spec).pipe(process.stdout);
