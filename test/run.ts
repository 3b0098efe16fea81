// `npm test`: checks for the tools of the laboratory (installs them with apt where it may), builds, checks style and
// types, then runs all tests, two or three processes at a time. With CI=true a missing tool is a failure.
// `npm test -- PATH...` runs only the test files whose path contains a PATH. `node test/run.ts PART [PATH...]` runs one
// part: `unit` needs no tool and no build; the others need them, but check neither style nor types.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { delimiter, join } from 'node:path';
import { Readable } from 'node:stream';
import { spec } from 'node:test/reporters';
import { setTimeout as wait } from 'node:timers/promises';
import { isPart as isNamed, type Job, jobsOf, type Part } from './jobs.ts';
import { runJobs, Tally } from './run-jobs.ts';

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
  { name: 'nginx', apt: 'nginx-light', tests: 'what balancer render writes for nginx-stream' },
  {
    name: 'nginx-stream',
    apt: 'libnginx-mod-stream',
    file: '/etc/nginx/modules-enabled/*stream*',
    tests: 'what balancer render writes for nginx-stream',
  },
  { name: 'keepalived', apt: 'keepalived', tests: 'what balancer render writes for ipvs' },
];

/** Compiles the module raw-socket; needed only when that does not load. */
const COMPILER: Tool = { name: 'g++', apt: 'g++', tests: 'transparent relay' };

/** Number of processes of tests at the same time. Those of the laboratory often wait: a third works meanwhile. */
const LANES = { unit: 2, idle: 3, busy: 2 } as const;
/** Time for which the load of the machine is measured, ms. */
const SAMPLE_MS = 500;
/** Time limit of the whole run, ms, which takes seven minutes on two cores. */
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

/** Returns whether other programs take half of the machine's processor time. */
async function isBusy(): Promise<boolean> {
  const idle = (): number => cpus().reduce((sum, { times }) => sum + times.idle, 0);
  const before = idle();
  await wait(SAMPLE_MS);
  return idle() - before < (cpus().length * SAMPLE_MS) / 2;
}

/**
 * Runs the jobs of each part, one part after the other, and yields the events. Sets the exit code to 1 unless all
 * succeed.
 */
async function* runTests(parts: readonly (readonly Job[])[]) {
  process.exitCode = 1;
  const tally = new Tally();
  for (const jobs of parts) {
    const isUnit = jobs.every(({ name }) => name.startsWith('unit/'));
    const lanes = isUnit ? LANES.unit : (await isBusy()) ? LANES.busy : LANES.idle;
    say(`${jobs.flatMap(({ files }) => files).length} test files in ${jobs.length} processes, ${lanes} at a time`);
    yield* runJobs(jobs, lanes, tally, say);
  }
  for (const line of tally.lines()) say(line);
  if (tally.good) process.exitCode = 0;
}

setTimeout(() => {
  say(`broken off after ${RUN_TIMEOUT / 60_000} minutes`);
  process.exit(1);
}, RUN_TIMEOUT).unref();

const [first, ...others] = process.argv.slice(2);
const isPart = first !== undefined && isNamed(first);
const wanted = isPart ? others : process.argv.slice(2);

if (first !== 'unit') {
  const missing = findMissing();
  if (missing.length > 0 && isCi) {
    say(`CI=true and missing: ${missing.join(', ')}. Nothing may be skipped, so this is a failure.`);
    process.exit(1);
  }
  Object.assign(process.env, { SIPFARM_MISSING: missing.join(',') });
  step('build', 'build');
}
if (!isPart) {
  step('style', 'lint');
  step('types', 'typecheck');
  step('unused code', 'unused');
}
// Each process of tests loads and compiles what the one before has loaded and compiled.
Object.assign(process.env, { NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'sipfarm-tests') });
const parts: readonly (readonly Part[])[] = isPart ? [[first]] : [['unit'], ['program', 'lab', 'integration']];
const jobs = parts.map((names) => names.flatMap((name) => jobsOf(name, wanted))).filter((part) => part.length > 0);
Readable.from(runTests(jobs)).compose(spec).pipe(process.stdout);
