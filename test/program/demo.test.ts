// `sipfarm demo` as in the README: SIPp's own client makes calls through the balancer, and every member takes part in
// them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { FakeEtcd } from '../fake/etcd.ts';
import { without } from '../lab/missing.ts';
import { parseStatistics } from '../lab/sipp.ts';
import { type LogLine, Program, type ProgramOptions, sipfarm } from './program.ts';
import { udpSocket } from './sip-peers.ts';

const ADDRESS = '127.0.0.1';
const CALLS = 100;
/** Upper limit of a working demo, ms. */
const LIMIT = { timeout: 240_000 };

/** Returns a port that is free for UDP and TCP on 127.0.0.1. */
async function freePort(): Promise<number> {
  for (;;) {
    const server = net.createServer().listen(0, ADDRESS);
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const socket = await udpSocket(ADDRESS, port).catch(() => undefined);
    socket?.close();
    server.close();
    await once(server, 'close');
    if (socket) return port;
  }
}

async function demo(
  t: TestContext,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<{ program: Program; port: number }> {
  const port = await freePort();
  const program = new Program(['demo', '--port', String(port), ...args], options);
  t.after(() => program.close());
  await program.until(() => program.stdout.includes('\nmember '), 'showed no scoreboard');
  return { program, port };
}

/** Runs SIPp with its built-in client scenario; resolves to the number of its successful calls. */
async function makeCalls(t: TestContext, port: number, ...args: readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-demo-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const given = [`${ADDRESS}:${port}`, '-sn', 'uac', '-m', String(CALLS), '-r', '50', ...args];
  // Without -bind_local SIPp would use port 5060 on all addresses of this host.
  const own = ['-i', ADDRESS, '-bind_local', '-p', String(await freePort())];
  const files = ['-trace_stat', '-stf', 'statistics.csv', '-trace_err', '-error_file', 'errors.log'];
  const child = execFile('sipp', [...given, ...own, ...files, '-nostdin', '-timeout', '40s', '-timeout_error'], {
    cwd: folder,
  });
  t.after(() => void child.kill('SIGKILL'));
  const [code] = (await once(child, 'exit')) as [number | null];
  const errors = join(folder, 'errors.log');
  assert.equal(code, 0, existsSync(errors) ? readFileSync(errors, 'utf8').slice(0, 3000) : 'sipp failed');
  const sums = parseStatistics(readFileSync(join(folder, 'statistics.csv'), 'utf8'));
  assert.deepEqual([sums.get('SuccessfulCall(C)'), sums.get('FailedCall(C)')], [CALLS, 0]);
}

interface Score {
  readonly received: number;
  readonly relayed: number;
  readonly takenOver: number;
  readonly handled: number;
  readonly calls: number;
}

/** Returns the rows of the last scoreboard, by member. */
function scores(output: string): Map<string, Score> {
  const rows = output.slice(output.lastIndexOf('\nmember ') + 1).split('\n');
  return new Map(
    rows
      .map((row) => /^(fe\d+) +active +(\d+) +(\d+) +(\d+) +(\d+) +\d+ +(\d+)$/.exec(row))
      .filter((match) => match !== null)
      .map(([, id = '', ...numbers]) => {
        const [received = 0, relayed = 0, takenOver = 0, handled = 0, calls = 0] = numbers.map(Number);
        return [id, { received, relayed, takenOver, handled, calls }];
      }),
  );
}

/** Waits for the scoreboard with all `calls`, and checks that each of `members` took part. */
async function assertShared(program: Program, members: number, calls: number): Promise<void> {
  const total = (): number => [...scores(program.stdout).values()].reduce((sum, score) => sum + score.calls, 0);
  await program.until(() => total() >= calls, `shows ${total()} of ${calls} calls`);
  assert.equal(total(), calls, program.tail());
  const shown = scores(program.stdout);
  assert.deepEqual(
    [...shown.keys()],
    Array.from({ length: members }, (_, i) => `fe${i + 1}`),
  );
  for (const [id, score] of shown)
    for (const [what, value] of Object.entries(score)) assert.ok(value > 0, `${id}: ${what} ${value}`);
}

/** Sends SIGINT like Ctrl-C and checks an orderly end without open ports. */
async function assertEnds(program: Program, port: number, admin: number): Promise<void> {
  program.kill('SIGINT');
  assert.equal(await program.ended, 0, program.tail());
  assert.equal(program.stderr, '');
  const faults = program.log.filter(({ level }: LogLine) => level === 'error' || level === 'fatal');
  assert.deepEqual(faults, []);
  (await udpSocket(ADDRESS, port)).close();
  for (const used of [port, admin]) {
    const server = net.createServer().listen(used, ADDRESS);
    await once(server, 'listening');
    server.close();
  }
}

function adminPort(program: Program): number {
  return Number(/--admin 127\.0\.0\.1:(\d+)/.exec(program.stdout)?.[1]);
}

const needsSipp = { ...LIMIT, skip: without('sipp') };

describe('the demo', () => {
  it('carries calls by UDP and by TCP, shares them among three members, and ends at Ctrl-C', needsSipp, async (t) => {
    const { program, port } = await demo(t, []);
    const admin = adminPort(program);
    assert.match(program.stdout, new RegExp(`^A farm of 3 members .* at 127\\.0\\.0\\.1:${port}, UDP and TCP\\.`, 'm'));
    assert.ok(program.stdout.includes(`sipp ${ADDRESS}:${port} -sn uac -m 100`));
    await makeCalls(t, port);
    await makeCalls(t, port, '-t', 't1');
    await assertShared(program, 3, 2 * CALLS);
    const { code, out } = await sipfarm(['members', '--json', '--admin', `${ADDRESS}:${admin}`]);
    assert.equal(code, 0);
    const members = JSON.parse(out) as { id: string; state: string; reachable: boolean }[];
    assert.deepEqual(
      members.map(({ id, state, reachable }) => `${id} ${state} ${reachable}`),
      ['fe1 active true', 'fe2 active true', 'fe3 active true'],
    );
    await assertEnds(program, port, admin);
  });

  it('accepts one connection for each call', needsSipp, async (t) => {
    const { program, port } = await demo(t, ['--members', '2']);
    await makeCalls(t, port, '-t', 'tn', '-max_socket', '1000');
    await assertShared(program, 2, CALLS);
  });

  it('has the requested number of members, also one', needsSipp, async (t) => {
    const { program, port } = await demo(t, ['--members', '5']);
    await makeCalls(t, port);
    await assertShared(program, 5, CALLS);
    const alone = await demo(t, ['--members', '1']);
    assert.match(alone.program.stdout, /^A farm of 1 member behind/m);
    await makeCalls(t, alone.port);
    await alone.program.until(() => scores(alone.program.stdout).get('fe1')?.calls === CALLS, 'lacks calls');
    assert.equal(scores(alone.program.stdout).get('fe1')?.relayed, 0);
  });

  it('shares calls with a real etcd', { ...LIMIT, skip: without('sipp', 'etcd', 'etcdctl') }, async (t) => {
    const etcd = await FakeEtcd.start();
    t.after(() => etcd.close());
    const { program, port } = await demo(t, ['--etcd', etcd.url]);
    const keys = await etcd.ctl('get', '--prefix', '/sipfarm/', '--keys-only');
    for (const key of ['members/fe1', 'members/fe2', 'members/fe3', 'view'])
      assert.ok(keys.includes(`/sipfarm/demo-${port}/v1/${key}\n`), keys);
    await makeCalls(t, port);
    await assertShared(program, 3, CALLS);
    await assertEnds(program, port, adminPort(program));
    assert.ok(!(await etcd.ctl('get', '--prefix', '/sipfarm/', '--keys-only')).includes('/members/'));
  });

  it('reports its port in use, by UDP or by TCP, with exit code 1', LIMIT, async (t) => {
    const port = await freePort();
    const server = net.createServer().listen(port, ADDRESS);
    await once(server, 'listening');
    t.after(() => server.close());
    const byTcp = await sipfarm(['demo', '--port', String(port)]);
    assert.equal(byTcp.code, 1);
    assert.match(
      byTcp.err,
      new RegExp(`^SF_BIND_FAILED: the demo's balancer cannot open ${ADDRESS}:${port}: .*EADDRINUSE`),
    );
    const other = await freePort();
    const socket = await udpSocket(ADDRESS, other);
    t.after(() => socket.close());
    const byUdp = await sipfarm(['demo', '--port', String(other)]);
    assert.equal(byUdp.code, 1);
    assert.match(byUdp.err, new RegExp(`^SF_BIND_FAILED: .*${ADDRESS}:${other}: .*EADDRINUSE`));
  });

  it('ends in order when the signal comes before its etcd has answered', LIMIT, async (t) => {
    // A port that accepts connections and never answers.
    const silent = net.createServer(() => {}).listen(0, ADDRESS);
    await once(silent, 'listening');
    t.after(() => silent.close());
    const { port } = silent.address() as net.AddressInfo;
    const connected = once(silent, 'connection');
    const program = new Program(['demo', '--port', String(await freePort()), '--etcd', `http://${ADDRESS}:${port}`]);
    t.after(() => program.close());
    await connected;
    program.kill('SIGINT');
    assert.equal(await program.ended, 0, program.tail());
  });
});
