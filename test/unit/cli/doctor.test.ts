// `sipfarm doctor` on a host in memory: its findings, its exit and its fixes. Only the admin address is real.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Registry } from 'prom-client';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import { systemClock } from '../../../src/base/clock.ts';
import { makeLog } from '../../../src/base/log.ts';
import { type DoctorOptions, runDoctor } from '../../../src/cli/doctor.ts';
import type { DoctorHost } from '../../../src/cli/doctor-host.ts';
import { FakeNetwork } from '../../fake/network.ts';
import { newFakeApi } from '../admin/fake-api.ts';

const FILE = `farm: lab
member: fe1
store: { kind: memory }
listeners: [{ name: edge, transport: udp, bind: 198.51.100.1:5060 }]
balancer: { mode: dsr, probes: [198.51.100.254/32] }
keys: ["${'ab'.repeat(32)}"]
relay: { bind: 10.0.0.11:5064 }
service: { kind: upstream, server: "sip:127.0.0.1:5070", bind: 127.0.0.1:5062 }
admin: { bind: 127.0.0.1:1 }
`;
/** The same without anything that the host lacks. */
const WELL = FILE.replace('balancer: { mode: dsr,', 'balancer: { mode: none,');
const ARP = ['arp_ignore', 'arp_announce'].map((name) => `/proc/sys/net/ipv4/conf/all/${name}`);
const FIXES = [
  'sysctl -w net.ipv4.conf.all.arp_ignore=1',
  'sysctl -w net.ipv4.conf.all.arp_announce=2',
  'ip addr add 198.51.100.1/32 dev lo',
];

/** A clock on which every wait ends after all ready callbacks have run. */
const hurried = { ...systemClock, after: (_: number, run: () => void) => systemClock.after(1, run) };

/** A host behind a DSR balancer that lacks the VIP and the kernel settings for it. */
class FakeHost implements DoctorHost {
  readonly clock = hurried;
  readonly network = new FakeNetwork({ clock: hurried });
  readonly files = new Map(ARP.map((path) => [path, '0']));
  /** Changes in order. */
  readonly changes: string[] = [];
  readonly questions: string[] = [];
  answer = false;
  /** Path or command that the system refuses. */
  refused = '';
  readonly #onLo = ['127.0.0.1/8'];

  readonly readFile = (path: string): string | undefined => this.files.get(path);
  readonly listFiles = (): readonly string[] => [];
  readonly fetchPage = async (): Promise<undefined> => undefined;
  readonly ownAddresses = (): readonly string[] => ['127.0.0.1', '10.0.0.11'];

  writeFile(path: string, text: string): void {
    if (path === this.refused) throw Object.assign(new Error('refused'), { code: 'EACCES' });
    this.changes.push(`${path} = ${text}`);
    this.files.set(path, text);
  }

  readonly run = async (command: string, args: readonly string[]): Promise<string | undefined> => {
    const line = [command, ...args].join(' ');
    if (line === 'ip -j -d addr show') return JSON.stringify([link('lo', this.#onLo), link('eth0', ['10.0.0.11/24'])]);
    if (!line.startsWith('ip addr add ') || line === this.refused) return undefined;
    this.changes.push(line);
    this.#onLo.push(args[2]!);
    return '';
  };

  async confirm(question: string): Promise<boolean> {
    this.questions.push(question);
    return this.answer;
  }
}

function link(ifname: string, addresses: readonly string[]) {
  const flags = ['UP', ...(ifname === 'lo' ? ['LOOPBACK'] : [])];
  const addr_info = addresses.map((text) => {
    const [local, prefix] = text.split('/');
    return { local, prefixlen: Number(prefix) };
  });
  return { ifname, flags, mtu: 1500, addr_info };
}

function file(t: TestContext, text = FILE): string {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-doctor-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'sipfarm.yaml');
  writeFileSync(path, text);
  return path;
}

async function doctor(options: DoctorOptions, host = new FakeHost()) {
  const out: string[] = [];
  const err: string[] = [];
  const ok = await runDoctor(
    options,
    {},
    (text) => void out.push(text),
    (text) => void err.push(text),
    host,
  );
  return { ok, out, err: err.join('\n') };
}

interface Shown {
  readonly ok: boolean;
  readonly findings: readonly { readonly code: string; readonly severity: string; readonly fix: readonly string[] }[];
}
/** Returns the one JSON text of the standard output. */
function json({ out }: { readonly out: readonly string[] }): Shown {
  assert.equal(out.length, 1);
  return JSON.parse(out[0]!) as Shown;
}
const faults = ({ findings }: Shown): string[] =>
  findings.filter(({ severity }) => severity === 'fault').map(({ code }) => code);

test('findings are shown worst first, with the commands that repair them, and their number', async (t) => {
  const { ok, out } = await doctor({ path: file(t) });
  assert.equal(ok, false);
  const blocks = out.join('\n').split('\n\n');
  assert.match(
    blocks[0]!,
    /^fault {3}DR_ARP_IGNORE {2}eth0\n {2}\S.*\n {4}sysctl -w net\.ipv4\.conf\.all\.arp_ignore=1\n/,
  );
  const severities = blocks.slice(0, -1).map((block) => block.split(' ', 1)[0]!);
  assert.deepEqual(severities, severities.toSorted(), 'fault comes before hint');
  const hints = severities.filter((severity) => severity === 'hint').length;
  assert.equal(blocks.at(-1), `3 faults, 0 warnings, ${hints} hints.`);
});

test('--json shows the same findings, with the commands that --fix would run', async (t) => {
  const shown = json(await doctor({ path: file(t), json: true }));
  assert.equal(shown.ok, false);
  assert.deepEqual(faults(shown), ['DR_ARP_IGNORE', 'DR_ARP_ANNOUNCE', 'DR_VIP_MISSING']);
  assert.deepEqual(
    shown.findings.flatMap(({ fix }) => fix),
    FIXES,
  );
});

test('a host with nothing but hints is well', async (t) => {
  const { ok, out } = await doctor({ path: file(t, WELL) });
  assert.equal(ok, true);
  assert.match(out.join('\n'), /\n\nNo fault was found; \d hints?\.$/);
});

test('an invalid configuration is a finding with its place, without anything that a terminal would execute', async (t) => {
  const path = file(t, `${FILE}"\\e[2J": 1\n`);
  const { ok, out } = await doctor({ path });
  assert.equal(ok, false);
  assert.match(out[0]!, /^fault {3}DR_CONFIG /);
  assert.ok(out[0]!.includes(`${path}:10:1`), out[0]);
  assert.ok(!out[0]!.includes('\u001b'));
});

test('a file that cannot be read is an error', async () => {
  await assert.rejects(doctor({ path: '/nowhere.yaml' }), { code: 'SF_CONFIG_UNREADABLE' });
});

test('the running member is found at the admin address of the options, instead of that of the file', async (t) => {
  const bind = { address: '127.0.0.1', port: 0 };
  const parts = { api: newFakeApi(), registry: new Registry(), log: makeLog({ level: 'silent' }) };
  const server = new AdminServer({ bind, ...parts });
  const admin = { bind: await server.start() };
  t.after(() => server.stop());
  const path = file(t);
  for (const [options, absent] of [
    [{ path }, true],
    [{ path, admin }, false],
  ] as const) {
    const { findings } = json(await doctor({ ...options, json: true }));
    assert.equal(
      findings.some(({ code }) => code === 'DR_NOT_RUNNING'),
      absent,
    );
  }
});

test('--fix shows its commands, and changes nothing without a yes', async (t) => {
  const host = new FakeHost();
  const { ok, out, err } = await doctor({ path: file(t), fix: true }, host);
  assert.deepEqual([ok, out.length, host.changes, host.questions.length], [false, 1, [], 1]);
  assert.ok(err.includes(FIXES.map((line) => `\n  ${line}`).join('')), err);
  assert.match(err, /Nothing was changed\.$/);
});

test('--fix sets the kernel before it adds the VIP, and shows the remaining findings', async (t) => {
  for (const json of [false, true]) {
    const host = new FakeHost();
    host.answer = true;
    const { out, err } = await doctor({ path: file(t), fix: true, json }, host);
    assert.deepEqual(host.changes, [`${ARP[0]} = 1`, `${ARP[1]} = 2`, 'ip addr add 198.51.100.1/32 dev lo']);
    assert.ok(err.endsWith(FIXES.map((line) => `done   ${line}`).join('\n')), err);
    assert.equal(out.length, json ? 1 : 2);
    assert.doesNotMatch(out.at(-1)!, /DR_VIP_MISSING|DR_ARP_/);
  }
});

test('--yes makes the fixes without a question', async (t) => {
  const host = new FakeHost();
  await doctor({ path: file(t), fix: true, yes: true }, host);
  assert.deepEqual([host.changes.length, host.questions], [3, []]);
});

test('a fix that the system refuses is reported with the reason, and no later one is made', async (t) => {
  for (const [refused, reason, made] of [
    [ARP[1]!, `FAILED ${FIXES[1]} (EACCES)`, 1],
    ['ip addr add 198.51.100.1/32 dev lo', `FAILED ${FIXES[2]} (ip refused)`, 2],
  ] as const) {
    const host = new FakeHost();
    host.refused = refused;
    const { ok, err } = await doctor({ path: file(t), fix: true, yes: true }, host);
    assert.equal(ok, false);
    assert.ok(err.endsWith(reason), err);
    assert.equal(host.changes.length, made);
  }
});

test('--fix without a safe command reports so, and shows the findings once', async (t) => {
  for (const json of [false, true]) {
    const host = new FakeHost();
    const path = file(t, WELL);
    const { ok, out, err } = await doctor({ path, fix: true, json }, host);
    assert.deepEqual([ok, out.length, host.questions], [true, 1, []]);
    assert.match(err, /^--fix: no safe command/);
  }
});

test('--through probes one address and reads no configuration; an address of this host proves nothing', async () => {
  const at = async (address: string): Promise<string[]> =>
    json(await doctor({ path: '/nowhere.yaml', through: { address, port: 5060 }, json: true })).findings.map(
      ({ code }) => code,
    );
  assert.deepEqual(await at('10.0.0.11'), ['DR_THROUGH_LOCAL']);
  assert.deepEqual(new Set(await at('198.51.100.1')), new Set(['DR_THROUGH_SILENT']));
});
