import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Registry } from 'prom-client';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import { SipfarmError } from '../../../src/base/errors.ts';
import { makeLog } from '../../../src/base/log.ts';
import { type ProgramDeps, runProgram } from '../../../src/cli/program.ts';
import type { Loaded } from '../../../src/config/load.ts';
import { Secret } from '../../../src/config/secret.ts';
import type { DemoOptions } from '../../../src/demo/demo.ts';
import { keyring } from '../../../src/ownership/keyring.ts';
import { mintToken, TokenKind } from '../../../src/ownership/token.ts';
import { callOf, type FakeApi, newFakeApi } from '../admin/fake-api.ts';

const KEY = 'ab'.repeat(32);
const FILE = `farm: lab
member: fe1
store: { kind: etcd, hosts: [http://127.0.0.1:2379] }
listeners: [{ name: edge, transport: udp, bind: 198.51.100.1:5060 }]
keys: ["\${SIPFARM_KEY}"]
relay: { bind: 10.0.0.11:5064 }
service: { kind: upstream, server: "sip:127.0.0.1:5070", bind: 127.0.0.1:5062 }
`;

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs one command line in this process. */
async function run(argv: readonly string[], given: Partial<ProgramDeps> = {}): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await runProgram(argv, {
    version: '1.2.3',
    environment: { SIPFARM_KEY: KEY },
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    runNode: () => Promise.reject(new Error('not asked for')),
    runDoctor: () => Promise.reject(new Error('not asked for')),
    runDemo: () => Promise.reject(new Error('not asked for')),
    runWorker: () => Promise.reject(new Error('not asked for')),
    following: { pause: () => Promise.resolve(), interrupted: () => new Promise(() => {}) },
    ...given,
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
}

function file(t: TestContext, text: string, name = 'sipfarm.yaml'): string {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-cli-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function admin(t: TestContext, token?: string): Promise<{ readonly api: FakeApi; readonly address: string }> {
  const api = newFakeApi();
  const server = new AdminServer({
    bind: { address: '127.0.0.1', port: 0 },
    token: token ? new Secret(token) : undefined,
    api,
    registry: new Registry(),
    log: makeLog({ level: 'silent' }),
  });
  const { port } = await server.start();
  t.after(() => server.stop());
  return { api, address: `127.0.0.1:${port}` };
}

test('wrong usage gives SF_USAGE with exit code 2', async () => {
  for (const argv of [
    [],
    ['nonsense'],
    ['memers'],
    ['owner'],
    ['check', '--wrong'],
    ['members', 'extra'],
    ['demo', '--members', '0'],
    ['demo', '--members', '1e1'],
    ['demo', '--port', '65536'],
    ['demo', '--etcd', 'not a url'],
    ['members', '--admin', 'somewhere'],
  ]) {
    const { code, err, out } = await run(argv);
    assert.equal(code, 2, argv.join(' '));
    assert.match(err, /^SF_USAGE: [^\n]+$/, argv.join(' '));
    assert.equal(out, '');
  }
});

test('help and version go to the standard output with exit code 0', async () => {
  assert.deepEqual(await run(['--version']), { code: 0, out: '1.2.3', err: '' });
  const { code, out } = await run(['--help']);
  assert.equal(code, 0);
  for (const command of ['run', 'check', 'demo', 'members', 'calls', 'owner', 'decode', 'config'])
    assert.ok(out.includes(`\n  ${command} `), command);
});

test('check of a valid file shows the settings in force', async (t) => {
  const path = file(t, FILE);
  const { code, out, err } = await run(['check', '-c', path]);
  assert.deepEqual([code, err], [0, '']);
  assert.match(out, /is valid\./);
  assert.match(out, /^listener +edge: udp 198\.51\.100\.1:5060, answers ingress$/m);
  assert.ok(!out.includes(KEY));
});

test('check shows the media relay, if there is one', async (t) => {
  const media = 'media: { plan: multi-ip, bind: 10.0.0.11, wan: 203.0.113.11 }\n';
  const { out } = await run(['check', '-c', file(t, FILE + media)]);
  const shown =
    /^media +anchor never, multi-ip: 10\.0\.0\.11, clients are told 203\.0\.113\.11, inside 127\.0\.0\.1, ports 10000-19999$/m;
  assert.match(out, shown);
  assert.doesNotMatch((await run(['check', '-c', file(t, FILE)])).out, /^media/m);
});

test('check shows the advertised addresses and the names of the farm', async (t) => {
  const listeners = `
  - { name: edge, transport: udp, bind: 10.0.0.11:5060, advertise: sip.example.com }
  - { name: edge-tls, transport: tcp, bind: 10.0.0.11:5061, advertise: sip.example.com;transport=tls }
names: [SIP.example.com, "198.51.100.9:5080"]`;
  const { out } = await run(['check', '-c', file(t, FILE.replace(/ \[\{ name: edge,.*/, listeners))]);
  assert.match(out, /^listener +edge: udp 10\.0\.0\.11:5060, advertised as sip\.example\.com:5060, answers ingress$/m);
  assert.match(out, /edge-tls: tcp 10\.0\.0\.11:5061, advertised as sip\.example\.com:5061;transport=tls$/m);
  assert.match(out, /^names +sip\.example\.com, 198\.51\.100\.9:5080$/m);
});

test('check of an invalid file prints place and fix to the standard error with exit code 1', async (t) => {
  const path = file(t, FILE.replace('relay:', 'realy:'));
  const { code, out, err } = await run(['check', '-c', path]);
  assert.deepEqual([code, out], [1, '']);
  assert.ok(err.startsWith('SF_CONFIG_INVALID: '), err);
  assert.ok(err.includes(`${path}:6:1: realy is not a known field; did you mean relay?`), err);
});

test('check --json prints the same as JSON', async (t) => {
  const good = await run(['check', '--json', '-c', file(t, FILE)]);
  assert.equal(good.code, 0);
  assert.partialDeepStrictEqual(JSON.parse(good.out), { ok: true, config: { member: 'fe1', keys: ['[secret]'] } });
  const bad = await run(['check', '--json', '-c', file(t, FILE.replace('udp', 'upd'))]);
  assert.deepEqual([bad.code, bad.err], [1, '']);
  const told = JSON.parse(bad.out) as { ok: boolean; problems: { line: number; field: string }[] };
  assert.equal(told.ok, false);
  assert.partialDeepStrictEqual(told.problems[0], { line: 4, field: 'listeners[0].transport' });
  const none = await run(['check', '--json', '-c', '/nowhere.yaml']);
  assert.equal(none.code, 1);
  assert.partialDeepStrictEqual(JSON.parse(none.out), { ok: false, problems: [{ code: 'SF_CONFIG_UNREADABLE' }] });
});

test("run passes the checked configuration to the node, and prints the node's error", async (t) => {
  const path = file(t, FILE);
  const seen: [Loaded, string][] = [];
  const good = await run(['run', '-c', path], { runNode: async (...args) => void seen.push(args) });
  assert.equal(good.code, 0);
  assert.deepEqual([seen[0]?.[0].config.farm, seen[0]?.[1]], ['lab', path]);
  const bad = await run(['run', '-c', path], {
    runNode: () => Promise.reject(new SipfarmError('SF_BIND_FAILED', 'listener edge: EADDRINUSE')),
  });
  assert.deepEqual(bad, { code: 1, out: '', err: 'SF_BIND_FAILED: listener edge: EADDRINUSE' });
});

test('a fault in the program itself gives SF_INTERNAL', async () => {
  const { code, err } = await run(['demo'], { runDemo: () => Promise.reject(new TypeError('oh')) });
  assert.equal(code, 1);
  assert.match(err, /^SF_INTERNAL: TypeError: oh/);
});

test('demo has three members on port 5060 in memory by default', async () => {
  const seen: DemoOptions[] = [];
  const runDemo = async (options: DemoOptions): Promise<void> => void seen.push(options);
  await run(['demo'], { runDemo });
  await run(['demo', '--members', '5', '--port', '5080', '--etcd', 'http://127.0.0.1:2379'], { runDemo });
  assert.deepEqual({ ...seen[0] }, { members: 3, port: 5060 });
  assert.deepEqual({ ...seen[1] }, { members: 5, port: 5080, etcd: 'http://127.0.0.1:2379' });
});

test('members and owner show the answers of the running member, as text and as JSON', async (t) => {
  const { address } = await admin(t);
  const members = await run(['members', '--admin', address]);
  assert.equal(members.code, 0);
  assert.match(members.out, /^MEMBER +NUMBER .*\nfe1 \(contacted\) +1 +3 +member +active +100 +50\.0 %/);
  assert.partialDeepStrictEqual(JSON.parse((await run(['members', '--json', '--admin', address])).out), [
    { id: 'fe1' },
  ]);
  const owner = await run(['owner', 'a&b=c@x', '--admin', address]);
  assert.match(owner.out, /^call-id +a&b=c@x\nslot +17\n.*\nowner +fe1 \(number 1\)/);
  assert.partialDeepStrictEqual(JSON.parse((await run(['owner', 'x', '--json', '--admin', address])).out), {
    slot: 17,
  });
});

test('control characters never reach a terminal', async (t) => {
  const { address } = await admin(t);
  const { out } = await run(['owner', 'a\u001b[2J\u202eb', '--admin', address]);
  assert.ok(!out.includes('\u001b') && !out.includes('\u202e'));
  assert.ok(out.includes('\\u001b[2J\\u202eb'), out);
});

test('the member is found by the configuration file, and its token, too', async (t) => {
  const { address } = await admin(t, 'tok');
  const path = file(t, `${FILE}admin: { bind: "${address}", token: "\${T}" }\n`);
  assert.equal((await run(['members', '-c', path], { environment: { T: 'tok' } })).code, 0);
  const wrong = await run(['members', '-c', path], { environment: { T: 'other' } });
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /^SF_ADMIN_REFUSED: .*401/);
  const byEnvironment = await run(['members', '--admin', address], { environment: { SIPFARM_ADMIN_TOKEN: 'tok' } });
  assert.equal(byEnvironment.code, 0);
});

test('a member that does not run is reported as unreachable', async (t) => {
  const { err, code } = await run(['members', '-c', file(t, `${FILE}admin: { bind: 127.0.0.1:1 }\n`)]);
  assert.equal(code, 1);
  assert.match(err, /^SF_ADMIN_UNREACHABLE: http:\/\/127\.0\.0\.1:1 does not answer/);
});

test('config put checks the file here and replaces the stored settings; config get shows them', async (t) => {
  const { api, address } = await admin(t);
  const good = file(t, 'drain:\n  deadlineSeconds: 9\n');
  assert.equal((await run(['config', 'put', good, '--admin', address])).code, 0);
  assert.deepEqual(api.settings, { drain: { deadlineSeconds: 9 } });
  const shown = await run(['config', 'get', '--admin', address]);
  assert.deepEqual(JSON.parse(shown.out), { drain: { deadlineSeconds: 9 } });
  const bad = file(t, 'drain:\n  deadlineSecond: 9\n');
  const refused = await run(['config', 'put', bad, '--admin', address]);
  assert.equal(refused.code, 1);
  assert.ok(
    refused.err.includes(`${bad}:2:3: drain.deadlineSecond is not a known field; did you mean deadlineSeconds?`),
  );
  assert.deepEqual(api.settings, { drain: { deadlineSeconds: 9 } });
});

test('decode verifies with the available keys, and prints so when there are none', async (t) => {
  const token = mintToken(keyring([KEY]), TokenKind.dialog, 12, 345);
  const good = await run(['decode', token, '-c', file(t, FILE)]);
  assert.equal(good.code, 0);
  assert.match(good.out, /^MAC +good$/m);
  assert.match(good.out, /^member +12$/m);
  const unchecked = await run(['decode', token, '--json'], { environment: {} });
  assert.equal(unchecked.code, 0);
  assert.partialDeepStrictEqual(JSON.parse(unchecked.out), { verified: null, member: 12 });
  const forged = await run(['decode', token], { environment: { SIPFARM_KEY: 'cd'.repeat(32) } });
  assert.equal(forged.code, 1);
  assert.match(forged.out, /^MAC +WRONG/m);
  const nothing = await run(['decode', 'hello']);
  assert.equal(nothing.code, 1);
  assert.match(nothing.err, /^SF_DECODE_FAILED: /);
});

test('doctor --through accepts the VIP in any spelling, and none of the options for a check from inside', async () => {
  let asked: unknown;
  const runDoctor: ProgramDeps['runDoctor'] = async ({ through }) => {
    asked = through;
    return false;
  };
  assert.equal((await run(['doctor', '--through', '198.51.100.1'], { runDoctor })).code, 1);
  assert.deepEqual(asked, { address: '198.51.100.1', port: 5060 });
  await run(['doctor', '--through', '[2001:DB8:0::01]:5080'], { runDoctor });
  assert.deepEqual(asked, { address: '2001:db8::1', port: 5080 });
  for (const wrong of [['vip'], ['198.51.100.1:0'], ['198.51.100.1', '--fix'], ['198.51.100.1', '-c', 'x.yaml']])
    assert.equal((await run(['doctor', '--through', ...wrong], { runDoctor })).code, 2, wrong.join(' '));
});

test('calls are listed without anything that a terminal would execute', async (t) => {
  const { api, address } = await admin(t);
  api.records.push(callOf('one'), callOf('\u001b[2Jtwo\u202e', `sip:${'x'.repeat(200)}@example.org`));
  const shown = await run(['calls', '--admin', address]);
  assert.equal(shown.code, 0);
  assert.match(
    shown.out,
    /^one +INVITE +early +2026\S+ +fe2 +sip:alice@example.org +sip:bob@example.org +client 192.0.2.7:5060$/m,
  );
  assert.match(shown.out, /\\u001b\[2Jtwo\\u202e/);
  assert.ok(!shown.out.includes('\u001b') && !shown.out.includes('x'.repeat(100)));
  const first = await run(['calls', '--all', '--limit', '1', '--admin', address]);
  assert.match(first.out, /There are more/);
  const { calls } = JSON.parse((await run(['calls', '--json', '--admin', address])).out) as { calls: unknown[] };
  assert.equal(calls.length, 2);
  assert.deepEqual(api.asked, ['calls 100', 'calls 1 all', 'calls 100']);
  assert.equal((await run(['calls', '--limit', '0', '--admin', address])).code, 2);
});

test('calls whose media is relayed are listed with the port and the target of each party', async (t) => {
  const { api, address } = await admin(t);
  const streams = [{ public: '203.0.113.11:10000', target: '192.0.2.7:4000', way: 'kernel' as const }];
  const nobody = [{ public: '203.0.113.11:10002', target: '' }];
  const media = [
    { party: 'a', streams },
    { party: 'b', streams: nobody },
  ];
  api.records.push({ ...callOf('one'), media }, callOf('two'));
  const { out } = await run(['calls', '--admin', address]);
  assert.match(out, /LEGS +MEDIA$/m);
  assert.match(out, /^one .*5060 +203.0.113.11:10000 for 192.0.2.7:4000 \(kernel\), 203.0.113.11:10002 for nobody$/m);
  assert.match(out, /^two .*5060$/m);
  assert.match((await run(['owner', 'one', '--admin', address])).out, /^media +203.0.113.11:10000 for 192.0.2.7:4000/m);
  assert.doesNotMatch((await run(['owner', 'two', '--admin', address])).out, /^media/m);
});

test('the owner of a call is printed with its record, if there is one', async (t) => {
  const { api, address } = await admin(t);
  api.records.push(callOf('one'));
  const found = (await run(['owner', 'one', '--admin', address])).out;
  assert.match(found, /^record +INVITE early since 2026\S+$/m);
  assert.match(found, /^recorded by +fe2 \(number 2\), incarnation 3, epoch 7$/m);
  assert.match((await run(['owner', 'two', '--admin', address])).out, /^record +none$/m);
  api.storeDown = true;
  assert.match((await run(['owner', 'one', '--admin', address])).out, /^record +unknown: the store does not answer$/m);
});
