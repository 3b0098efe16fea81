// Several workers on one host: `sipfarm run` with `workers: 2`, on a real etcd. They share the listeners, and each is
// its own member.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, it, type TestContext } from 'node:test';
import type { MemberSummary, OwnerAnswer } from '../../src/admin/status.ts';
import { FakeEtcd } from '../fake/etcd.ts';
import { sumOf } from '../lab/farm.ts';
import { without } from '../lab/missing.ts';
import { until } from '../lab/until.ts';
import { type LogLine, Place, Program } from './program.ts';
import { Phone, SipServer, udpSocket } from './sip-peers.ts';

const LIMIT = { timeout: 240_000, skip: without('etcd', 'etcdctl') };

interface WorkerAnswer {
  readonly worker: number;
  readonly id: string;
  readonly pid: number;
  readonly state: string;
  readonly ready: boolean;
  readonly starts: number;
}

async function workersOf(here: Place): Promise<readonly WorkerAnswer[]> {
  return (JSON.parse((await here.get('/v1/workers')).body) as { workers: WorkerAnswer[] }).workers;
}

function lives(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function linesOf(program: Program, msg: string, from = 0): LogLine[] {
  return program.log.slice(from).filter((line) => line.msg.startsWith(msg));
}

/** Waits for a line of each of `count` workers. */
async function everyWorker(program: Program, msg: string, from = 0, count = 2): Promise<LogLine[]> {
  await program.until(
    () => new Set(linesOf(program, msg, from).map(({ worker }) => worker)).size >= count,
    `wrote not ${count} lines "${msg}"`,
  );
  return linesOf(program, msg, from);
}

let etcd: FakeEtcd;
before(async () => {
  if (!LIMIT.skip) etcd = await FakeEtcd.start();
});
after(() => etcd?.close());

/** A host with two workers and a SIP server behind it. */
class TwoWorkers {
  readonly here: Place;
  readonly server: SipServer;
  readonly program: Program;

  private constructor(here: Place, server: SipServer, program: Program) {
    this.here = here;
    this.server = server;
    this.program = program;
  }

  static configure(here: Place, changes: Readonly<Record<string, unknown>> = {}): void {
    here.write({ farm: farmOf(here), workers: 2, store: { kind: 'etcd', hosts: [etcd.url] }, ...changes });
  }

  static async start(here = new Place()): Promise<TwoWorkers> {
    const server = await SipServer.start(here.address);
    TwoWorkers.configure(here);
    const program = new Program(['run', '-c', here.file], { env: here.env });
    return new TwoWorkers(here, server, program);
  }

  async close(): Promise<void> {
    await this.program.close();
    await this.server.stop();
    this.here.remove();
  }
}

/** Returns the name of the test's own farm, because the tests share one etcd. */
function farmOf(here: Place): string {
  return `farm-${here.address.replaceAll('.', '-')}`;
}

async function phone(t: TestContext, here: Place, transport: 'udp' | 'tcp' = 'udp'): Promise<Phone> {
  const made = await Phone[transport](here.address, here.client);
  t.after(() => made.close());
  return made;
}

describe('a host with two workers', LIMIT, () => {
  let host: TwoWorkers;
  before(async () => {
    host = await TwoWorkers.start();
  });
  after(() => host?.close());

  it('has two members on the same listeners, each with its own relay link and service port', async () => {
    const { here, program } = host;
    const started = await everyWorker(program, 'member started');
    assert.deepEqual(started.map(({ worker }) => worker).sort(), ['0', '1']);
    await until(
      async () => (await workersOf(here)).every(({ ready }) => ready),
      () => program.tail(),
    );
    assert.deepEqual(await here.get('/livez'), { status: 200, body: '{"live":true}' });
    assert.deepEqual(await here.get('/readyz'), { status: 200, body: '{"ready":true,"reasons":[]}' });
    const { out, err } = await here.sipfarm('members', '--json');
    const members = JSON.parse(out || err) as MemberSummary[];
    assert.deepEqual(members.map(({ id, relay }) => [id, relay]).sort(), [
      ['fe1.0', `${here.address}:5064`],
      ['fe1.1', `${here.address}:5065`],
    ]);
    for (const { listeners } of members)
      assert.deepEqual(
        listeners.map(({ bind }) => bind),
        [`${here.address}:5060`, `${here.address}:5060`],
      );
  });

  it('takes calls with both workers, by UDP and TCP, and shows the metrics of both on one page', async (t) => {
    const { here } = host;
    const received = async (worker: number, listener: string): Promise<number> =>
      sumOf(await here.metrics(), 'sipfarm_received_packets_total', { worker: String(worker), listener, class: 'sip' });
    // The kernel distributes by the client's address and port, so several callers are needed until both workers have
    // got one.
    for (const [transport, listener] of [
      ['udp', 'edge'],
      ['tcp', 'edge-tcp'],
    ] as const) {
      let callers = 0;
      do {
        assert.ok(callers++ < 64, `one worker gets nothing by ${transport}`);
        const call = await (await phone(t, here, transport)).call();
        assert.equal(await call.hangUp(), 200);
      } while ((await received(0, listener)) === 0 || (await received(1, listener)) === 0);
    }
    const metrics = await here.metrics();
    assert.equal(sumOf(metrics, 'sipfarm_worker_up'), 2);
    assert.deepEqual(
      [0, 1].map((worker) => sumOf(metrics, 'sipfarm_worker_starts_total', { worker: `${worker}` })),
      [1, 1],
    );
    assert.equal(metrics.match(/^# TYPE sipfarm_verdicts_total /gm)?.length, 1);
  });

  it('answers for both workers: the place of a call, and the number of calls', async (t) => {
    const { here } = host;
    const calls = await Promise.all(Array.from({ length: 8 }, async () => (await phone(t, here)).call()));
    assert.deepEqual(JSON.parse((await here.get('/v1/calls')).body), { owned: 8 });
    const owners = new Set<string>();
    for (const { id } of calls) {
      const answer = JSON.parse((await here.get(`/v1/owner?callId=${id}`)).body) as OwnerAnswer;
      assert.equal(answer.heldHere, true, id);
      owners.add(answer.owner?.id ?? '');
    }
    for (const call of calls) assert.equal(await call.hangUp(), 200);
    const one = JSON.parse((await here.get('/v1/farm?worker=1')).body) as { member: string };
    assert.equal(one.member, 'fe1.1');
    assert.equal((await here.get('/v1/farm?worker=2')).status, 400);
    assert.ok(owners.size > 0);
  });

  it('passes a reload to both workers, and logs the result of each', async () => {
    const { here, program } = host;
    const from = program.log.length;
    TwoWorkers.configure(here, { weight: 50, workers: 1 });
    program.kill('SIGHUP');
    const lines = await everyWorker(program, 'reloaded', from);
    for (const { applied, needRestart } of lines) assert.deepEqual([applied, needRestart], [['weight'], ['workers']]);
    here.writeText('farm: [');
    program.kill('SIGHUP');
    assert.equal((await program.line('not reloaded', from)).level, 'error');
    TwoWorkers.configure(here);
  });

  it('restarts a killed worker with its number, its settings and its calls', async (t) => {
    const { here, program } = host;
    const calls = await Promise.all(Array.from({ length: 6 }, async () => (await phone(t, here)).call()));
    const [first, second] = await workersOf(here);
    const [before] = linesOf(program, 'member started').filter(({ worker }) => worker === '1');
    const from = program.log.length;
    process.kill(second!.pid, 'SIGKILL');
    const ended = await program.line('a worker has ended', from);
    assert.equal(ended.worker, 1);
    const again = await program.line('member started', from);
    assert.deepEqual(
      [again.worker, again.number, again.incarnation],
      ['1', before?.number, (before?.incarnation ?? 0) + 1],
    );
    // It has the same settings as its neighbour, which was reloaded with another weight.
    const reloaded = linesOf(program, 'reloaded', from);
    assert.deepEqual(
      reloaded.map(({ worker, applied }) => [worker, applied]),
      [['1', ['weight']]],
    );
    const now = await workersOf(here);
    assert.deepEqual([now[0]?.pid, now[0]?.starts, now[1]?.starts], [first!.pid, 1, 2]);
    for (const call of calls) assert.equal(await call.hangUp(), 200);
    assert.equal(sumOf(await here.metrics(), 'sipfarm_worker_starts_total', { worker: '1' }), 2);
  });

  it('drains all workers on SIGTERM to the end of the calls, exits with 0 and leaves nothing behind', async (t) => {
    const { here, program } = host;
    const pids = (await workersOf(here)).map(({ pid }) => pid);
    const calls = await Promise.all(Array.from({ length: 4 }, async () => (await phone(t, here)).call()));
    const from = program.log.length;
    program.kill('SIGTERM');
    const draining = await everyWorker(program, 'draining', from);
    assert.equal(
      draining.reduce((sum, { calls: held = 0 }) => sum + held, 0),
      4,
    );
    assert.equal((await here.get('/readyz')).status, 503);
    for (const call of calls) assert.equal(await call.hangUp(), 200);
    assert.equal(await program.ended, 0, program.tail());
    assert.equal(program.log.at(-1)?.msg, 'all workers have stopped');
    assert.equal(program.stderr, '');
    assert.deepEqual(pids.map(lives), [false, false]);
    for (const port of [5060, 5062, 5063, 5064, 5065]) (await udpSocket(here.address, port)).close();
    const keys = await etcd.ctl('get', '--prefix', `/sipfarm/${farmOf(here)}/v1/members/`, '--keys-only');
    assert.equal(keys.trim(), '');
  });
});

describe('a host whose workers cannot all start', LIMIT, () => {
  const taken = new Set<dgram.Socket>();
  async function release(socket: dgram.Socket): Promise<void> {
    if (!taken.delete(socket)) return;
    socket.close();
    await once(socket, 'close');
  }
  /** Binds a port until the end of the test, or until `release`. */
  async function take(t: TestContext, here: Place, port: number): Promise<dgram.Socket> {
    const socket = dgram.createSocket('udp4').bind(port, here.address);
    await once(socket, 'listening');
    taken.add(socket);
    t.after(() => release(socket));
    return socket;
  }

  it('works with the started ones and retries the other; SIGKILL leaves no process behind', async (t) => {
    const here = new Place();
    const socket = await take(t, here, 5065);
    const host = await TwoWorkers.start(here);
    t.after(() => host.close());
    const { program } = host;
    const failed = await program.line('a worker could not start');
    assert.equal(failed.worker, 1);
    assert.equal(failed.err?.code, 'SF_BIND_FAILED');
    await here.readyIs(200, program);
    const call = await (await phone(t, here)).call();
    assert.equal(await call.hangUp(), 200);
    await release(socket);
    await everyWorker(program, 'member started');
    const pids = (await workersOf(here)).map(({ pid }) => pid);
    assert.ok(pids.every(lives));
    await program.close();
    await until(
      () => !pids.some(lives),
      () => `of ${pids} some live on`,
    );
    const keys = await etcd.ctl('get', '--prefix', `/sipfarm/${farmOf(here)}/v1/members/`, '--keys-only');
    assert.equal(keys.trim(), '', 'they have left the farm');
  });

  it('ends with the error when none can start', async (t) => {
    const here = new Place();
    t.after(() => here.remove());
    for (const port of [5064, 5065]) await take(t, here, port);
    TwoWorkers.configure(here);
    const { code, err } = await here.sipfarm('run');
    assert.equal(code, 1, err);
    assert.match(err, /^SF_BIND_FAILED: relay link at .*EADDRINUSE/);
  });
});
