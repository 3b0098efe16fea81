// `sipfarm run` for an operator: start, reload, drain, faults at the start, and commands for the running member.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { stringify } from 'yaml';
import type { MemberSummary, OwnerAnswer } from '../../src/admin/status.ts';
import { sumOf } from '../lab/farm.ts';
import { until } from '../lab/until.ts';
import { Place, Program, sipfarm, written } from './program.ts';
import { headerLines, Phone, SipServer, statusOf, udpSocket } from './sip-peers.ts';

/** Upper limit of a working program, ms. */
const LIMIT = { timeout: 240_000 };
const keys: string[] = [];

function place(t: TestContext): Place {
  const here = new Place();
  keys.push(here.key);
  t.after(() => here.remove());
  return here;
}

/** Starts a member with a SIP server behind it. */
async function member(
  t: TestContext,
  here: Place,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<{ program: Program; server: SipServer }> {
  const server = await SipServer.start(here.address);
  t.after(() => server.stop());
  here.write(changes);
  const program = await here.member();
  t.after(() => program.close());
  return { program, server };
}

async function phone(t: TestContext, here: Place, transport: 'udp' | 'tcp' = 'udp'): Promise<Phone> {
  const made = await Phone[transport](here.address, here.client);
  t.after(() => made.close());
  return made;
}

/** Sends SIGHUP and resolves to the line with the result. */
async function reload(program: Program, msg: string): ReturnType<Program['line']> {
  const from = program.log.length;
  program.kill('SIGHUP');
  return program.line(msg, from);
}

describe('a running member', LIMIT, () => {
  it('starts from a file, logs its listeners, is alive, ready and measured, and takes calls', async (t) => {
    const here = place(t);
    const { program, server } = await member(t, here);
    const { address } = here;
    const { time, ...started } = await program.line('member started');
    assert.match(time, /^\d{4}-\d\d-\d\dT/);
    assert.deepEqual(started, {
      level: 'info',
      farm: 'lab',
      member: 'fe1',
      number: 1,
      incarnation: 1,
      role: 'member',
      listeners: [`edge udp ${address}:5060`, `edge-tcp tcp ${address}:5060`],
      relay: `${address}:5064`,
      msg: 'member started',
    });
    assert.deepEqual(await here.get('/livez'), { status: 200, body: '{"live":true}' });
    assert.deepEqual(await here.get('/readyz'), { status: 200, body: '{"ready":true,"reasons":[]}' });
    for (const transport of ['udp', 'tcp'] as const) {
      const call = await (await phone(t, here, transport)).call();
      assert.equal(await call.hangUp(), 200, transport);
    }
    assert.deepEqual(Object.fromEntries(server.seen), { INVITE: 2, ACK: 2, BYE: 2 });
    const metrics = await here.metrics();
    assert.equal(sumOf(metrics, 'sipfarm_received_packets_total', { listener: 'edge', class: 'sip' }), 3);
    assert.equal(sumOf(metrics, 'sipfarm_received_packets_total', { listener: 'edge-tcp', class: 'sip' }), 3);
    assert.equal(sumOf(metrics, 'sipfarm_verdicts_total', { verdict: 'local' }), 6);
    assert.match(metrics, /^sipfarm_build_info\{version="[^"]+"\} 1$/m);
  });

  it('reports a SIP server that is down: not ready, 503 to new calls, ready again with the server', async (t) => {
    const here = place(t);
    const { program, server } = await member(t, here);
    const caller = await phone(t, here);
    await server.stop();
    await program.line('the SIP server does not answer');
    const ready = await here.get('/readyz');
    assert.equal(ready.status, 503);
    assert.match(ready.body, new RegExp(`the SIP server ${here.address}:5070 does not answer`));
    assert.equal(await caller.probe(), 503);
    // The INVITE has a usual length, because a UDP answer is never longer than its request, and Retry-After is left out
    // first.
    const answer = await caller.request('INVITE', `sip:phone@${here.address}`, { 'User-Agent': 'test'.repeat(30) });
    assert.equal(statusOf(answer), 503);
    assert.match(answer, /\r\nRetry-After: \d+\r\n/);
    const back = await SipServer.start(here.address);
    t.after(() => back.stop());
    await program.line('the SIP server answers', program.log.length);
    assert.equal((await here.get('/readyz')).status, 200);
    assert.equal(await caller.probe(), 200);
  });

  it('applies live settings on SIGHUP, and names settings that need a restart', async (t) => {
    const here = place(t);
    const { program } = await member(t, here);
    const caller = await phone(t, here);
    here.write({
      log: { level: 'debug' },
      balancer: { probes: [`${here.client}/32`] },
      limits: { tcpConnectionsPerSource: 1 },
      relay: { bind: `${here.address}:5065` },
      weight: 50,
    });
    const line = await reload(program, 'reloaded; some changes need a restart');
    assert.deepEqual(line.applied, ['balancer.probes', 'limits.tcpConnectionsPerSource', 'log.level', 'weight']);
    assert.deepEqual(line.needRestart, ['relay.bind']);

    // An OPTIONS from a probe address is no longer forwarded: the To tag is the member's own.
    const probed = await caller.request('OPTIONS', `sip:phone@${here.address}`);
    assert.match(headerLines(probed, 'To').join(), /;tag=sf/);
    const first = await phone(t, here, 'tcp');
    const second = net.connect({ host: here.address, port: 5060, localAddress: here.client });
    second.on('error', () => {});
    await once(second, 'close');
    assert.equal(await first.probe(), 200);
    const metrics = await here.metrics();
    assert.equal(sumOf(metrics, 'sipfarm_closed_connections_total', { reason: 'source-limit' }), 1);
    // The view follows the record a few hundred milliseconds later.
    const weight = async (): Promise<number | undefined> => {
      const [self] = JSON.parse((await here.sipfarm('members', '--json')).out) as { weight: number }[];
      return self?.weight;
    };
    await until(
      async () => (await weight()) === 50,
      () => 'the view keeps the old weight',
    );

    // Settings that wait for a restart are reported again; applied ones are not.
    const again = await reload(program, 'reloaded; some changes need a restart');
    assert.deepEqual([again.applied, again.needRestart], [[], ['relay.bind']]);
  });

  it('reports settings that need a restart even if only warnings are logged', async (t) => {
    const here = place(t);
    const { program } = await member(t, here);
    here.write({ log: { level: 'warn' }, relay: { bind: `${here.address}:5065` } });
    const line = await reload(program, 'reloaded; some changes need a restart');
    assert.deepEqual([line.applied, line.needRestart], [['log.level'], ['relay.bind']]);
  });

  it('keeps its configuration when the file is broken on SIGHUP, and reports the place', async (t) => {
    const here = place(t);
    const { program } = await member(t, here);
    const broken = [
      [`${stringify(here.config()).trimEnd()}\nlimits: { idleSeconds: [\n`, /SF_CONFIG_SYNTAX|sipfarm\.yaml:\d+:\d+/],
      [`${stringify(here.config()).trimEnd()}\nlimits:\n  idleSecond: 20\n`, /sipfarm\.yaml:\d+:3: .*idleSecond/],
    ] as const;
    for (const [text, complaint] of broken) {
      here.writeText(text);
      const line = await reload(program, 'not reloaded');
      assert.equal(line.level, 'error');
      const { message = '', code } = line.err ?? {};
      assert.match(String(code), /^SF_CONFIG_(SYNTAX|INVALID)$/);
      assert.match(message, complaint);
      assert.match(message, /:\d+:\d+/);
    }
    assert.equal(await (await phone(t, here)).probe(), 200);
    here.write();
    const line = await reload(program, 'reloaded');
    assert.deepEqual([line.applied, line.needRestart], [[], []]);
  });

  it('drains on SIGTERM: not ready at once, the call goes on to its end, then exit 0', async (t) => {
    const here = place(t);
    const { program } = await member(t, here);
    const caller = await phone(t, here);
    const call = await caller.call();
    program.kill('SIGTERM');
    const draining = await program.line('draining');
    assert.equal(draining.calls, 1);
    const ready = await here.get('/readyz');
    assert.deepEqual(ready, { status: 503, body: '{"ready":false,"reasons":["the member is draining"]}' });
    assert.equal((await here.get('/livez')).status, 200);
    assert.equal(await caller.probe(), 503);
    assert.equal(await call.hangUp(), 200);
    assert.equal(await program.ended, 0, program.tail());
    assert.deepEqual((await program.line('drained')).calls, 0);
    assert.equal(program.log.at(-1)?.msg, 'stopped');
    assert.equal(program.stderr, '');
    await assertFree(here);
  });

  it('ends at once on a second SIGTERM, even during a call', async (t) => {
    const here = place(t);
    const { program } = await member(t, here, { drain: { deadlineSeconds: 3600 } });
    await (await phone(t, here)).call();
    program.kill('SIGTERM');
    await program.line('draining');
    program.kill('SIGTERM');
    assert.equal(await program.ended, 0, program.tail());
    assert.equal(program.log.at(-1)?.msg, 'stopped');
    assert.ok(!program.log.some(({ msg }) => msg === 'drained' || msg === 'drain deadline reached'));
  });

  it('waits for its calls no longer than the drain deadline', async (t) => {
    const here = place(t);
    const { program } = await member(t, here, { drain: { deadlineSeconds: 1 } });
    await (await phone(t, here)).call();
    program.kill('SIGTERM');
    assert.equal((await program.line('drain deadline reached')).calls, 1);
    assert.equal(await program.ended, 0, program.tail());
  });

  it('ends in order when the signal comes during its start', async (t) => {
    const here = place(t);
    // No etcd listens there, so the member waits for its store.
    here.write({ store: { kind: 'etcd', hosts: [`http://${here.address}:2379`] } });
    const program = new Program(['run', '-c', here.file], { env: here.env });
    t.after(() => program.close());
    const { store, reason } = await program.line('cannot join the farm yet; trying on');
    assert.deepEqual(store, [`http://${here.address}:2379`]);
    assert.match(reason ?? '', new RegExp(`: connect ECONNREFUSED ${here.address}:2379$`));
    assert.equal((await here.get('/livez')).status, 200);
    program.kill('SIGTERM');
    assert.equal(await program.ended, 0, program.tail());
    assert.equal(program.log.at(-1)?.msg, 'stopped');
  });
});

/** Asserts that no port is open any more. */
async function assertFree(here: Place): Promise<void> {
  for (const port of [5060, 5062, 5064]) (await udpSocket(here.address, port)).close();
  for (const port of [5060, 5064, 8060]) {
    const server = net.createServer().listen(port, here.address);
    await once(server, 'listening');
    server.close();
  }
}

describe('a member that cannot start', LIMIT, () => {
  const places = [
    ['a UDP listener', 'udp', 5060, /listener edge: cannot bind udp ADDRESS:5060: EADDRINUSE/],
    ['a TCP listener', 'tcp', 5060, /listener edge-tcp: cannot bind tcp ADDRESS:5060: EADDRINUSE/],
    ['the relay link', 'udp', 5064, /relay link at ADDRESS:5064: .*EADDRINUSE/],
    ['the service', 'udp', 5062, /service\.bind ADDRESS:5062: .*EADDRINUSE/],
    ['the admin server', 'tcp', 8060, /admin\.bind ADDRESS:8060: EADDRINUSE/],
  ] as const;
  for (const [what, transport, port, complaint] of places)
    it(`names address and reason when the port of ${what} is in use, with exit code 1`, async (t) => {
      const here = place(t);
      const socket = transport === 'udp' ? dgram.createSocket('udp4') : net.createServer();
      if (socket instanceof dgram.Socket) socket.bind(port, here.address);
      else socket.listen(port, here.address);
      await once(socket, 'listening');
      t.after(() => socket.close());
      here.write();
      const { code, err } = await here.sipfarm('run');
      assert.equal(code, 1, err);
      const expected = complaint.source.replace('ADDRESS', here.address.replaceAll('.', '\\.'));
      assert.match(err, new RegExp(`^SF_BIND_FAILED: ${expected}`));
    });

  it('names line, column and field of every fault of its file, with exit code 1, like check', async (t) => {
    const here = place(t);
    const text = stringify(here.config({ farm: 'Lab', limit: {} }));
    here.writeText(text);
    const lineOf = (start: string): number => text.split('\n').findIndex((line) => line.startsWith(start)) + 1;
    for (const command of ['run', 'check']) {
      const { code, err } = await here.sipfarm(command);
      assert.equal(code, 1, command);
      assert.match(err, /^SF_CONFIG_INVALID: /);
      assert.match(err, new RegExp(`:${lineOf('farm:')}:\\d+: .*farm`), command);
      assert.match(err, new RegExp(`:${lineOf('limit:')}:1: .*limit`), command);
    }
  });

  it('names the missing part: file, environment variable, key, command', async (t) => {
    const here = place(t);
    const absent = await here.sipfarm('run');
    assert.deepEqual([absent.code, absent.out], [1, '']);
    assert.match(absent.err, /^SF_CONFIG_UNREADABLE: /);
    here.write();
    const noKey = await sipfarm(['run', '-c', here.file]);
    assert.deepEqual([noKey.code, noKey.out], [1, '']);
    assert.match(noKey.err, /^SF_CONFIG_SECRET: .*SIPFARM_KEY/);
    const badKey = await sipfarm(['run', '-c', here.file], { env: { SIPFARM_KEY: `${here.key}00` } });
    assert.deepEqual([badKey.code, badKey.out], [1, '']);
    assert.match(badKey.err, /^SF_KEY_INVALID: /);
    for (const args of [[], ['fly'], ['run', '--fast'], ['demo', '--members', '17']]) {
      const wrong = await sipfarm(args);
      assert.equal(wrong.code, 2, args.join(' '));
      assert.match(wrong.err, /^SF_USAGE: /);
    }
  });
});

describe('the commands for a running member', LIMIT, () => {
  const here = new Place();
  keys.push(here.key);
  let server: SipServer;
  let program: Program;

  before(async () => {
    server = await SipServer.start(here.address);
    here.write();
    program = await here.member();
  });
  after(async () => {
    await program?.close();
    await server?.stop();
    here.remove();
  });

  it('list the members, as a table and as JSON', async () => {
    const table = await here.sipfarm('members');
    assert.equal(table.code, 0, table.err);
    assert.match(table.out, /^MEMBER .*VERSION\nfe1 \(contacted\) +1 +1 +member +active +100 +100\.0 % /);
    const byAddress = await sipfarm(['members', '--json', '--admin', `${here.address}:8060`]);
    assert.equal(byAddress.code, 0, byAddress.err);
    const [only, ...more] = JSON.parse(byAddress.out) as MemberSummary[];
    assert.deepEqual(more, []);
    assert.deepEqual([only?.id, only?.relay, only?.share], ['fe1', `${here.address}:5064`, 1]);
  });

  it('show the owner of a Call-ID, and whether the call is there now', async () => {
    const caller = await Phone.udp(here.address, here.client);
    const call = await caller.call();
    const during = JSON.parse((await here.sipfarm('owner', call.id, '--json')).out) as OwnerAnswer;
    assert.deepEqual([during.callId, during.heldHere], [call.id, true]);
    assert.deepEqual(during.owner, { number: 1, id: 'fe1' });
    assert.equal(await call.hangUp(), 200);
    caller.close();
    const text = await here.sipfarm('owner', 'another');
    assert.equal(text.code, 0, text.err);
    assert.match(text.out, /^owner +fe1 \(number 1\)$/m);
    assert.match(text.out, /^held here +no$/m);
  });

  it('decode a token that the member wrote, and report a changed one', async () => {
    const caller = await Phone.udp(here.address, here.client);
    const call = await caller.call();
    const token = /<sip:(sf[0-9a-v]+)@/.exec(call.record.join())?.[1] ?? '';
    assert.equal(await call.hangUp(), 200);
    caller.close();
    const good = await here.sipfarm('decode', token);
    assert.equal(good.code, 0, good.err);
    assert.match(good.out, /^MAC +good$/m);
    assert.match(good.out, /^member +1$/m);
    const changed = await here.sipfarm('decode', '--json', `${token.slice(0, -4)}0000`);
    assert.equal(changed.code, 1);
    assert.equal((JSON.parse(changed.out) as { verified: boolean }).verified, false);
    const none = await here.sipfarm('decode', 'hello');
    assert.equal(none.code, 1);
    assert.match(none.err, /^SF_DECODE_FAILED: /);
  });

  it('change the settings of the running member by config put, and show them by config get', async () => {
    assert.deepEqual(JSON.parse((await here.sipfarm('config', 'get')).out), {});
    const file = join(here.folder, 'cluster.yaml');
    writeFileSync(file, 'log: { level: debug }\nlimits: { tcpConnectionsPerSource: 1 }\n');
    const from = program.log.length;
    const put = await here.sipfarm('config', 'put', file);
    assert.equal(put.code, 0, put.err);
    const line = await program.line('cluster-wide settings applied', from);
    assert.deepEqual(line.changed, ['limits.tcpConnectionsPerSource', 'log.level']);
    const wanted = { log: { level: 'debug' }, limits: { tcpConnectionsPerSource: 1 } };
    assert.deepEqual(JSON.parse((await here.sipfarm('config', 'get', '--json')).out), wanted);
    const first = await Phone.tcp(here.address, here.client);
    const second = net.connect({ host: here.address, port: 5060, localAddress: here.client });
    second.on('error', () => {});
    await once(second, 'close');
    first.close();
  });

  it('refuse unknown settings in config put, and change nothing', async () => {
    const before = (await here.sipfarm('config', 'get')).out;
    const file = join(here.folder, 'wrong.yaml');
    for (const [text, complaint] of [
      ['keys: [abc]\n', /keys/],
      ['limits:\n  idleSeconds: soon\n', /wrong\.yaml:2:\d+: .*idleSeconds/],
      ['log: [\n', /wrong\.yaml:\d+:\d+/],
    ] as const) {
      writeFileSync(file, text);
      const { code, err } = await here.sipfarm('config', 'put', file);
      assert.equal(code, 1, text);
      assert.match(err, complaint);
    }
    assert.equal((await here.sipfarm('config', 'get')).out, before);
  });

  it('report that no member answers, with exit code 1', async (t) => {
    const nobody = place(t);
    nobody.write();
    for (const args of [['members'], ['owner', 'a'], ['config', 'get'], ['members', '--json']]) {
      const { code, out, err } = await nobody.sipfarm(...args);
      assert.deepEqual([code, out], [1, ''], args.join(' '));
      assert.match(err, /^SF_ADMIN_UNREACHABLE: /);
      assert.ok(err.includes(`${nobody.address}:8060`), err);
    }
  });
});

describe('the output of the program', () => {
  it('contains no farm key', () => {
    const all = written.join('');
    assert.ok(all.length > 10_000 && keys.length > 10);
    for (const key of keys) assert.ok(!all.includes(key) && !all.includes(key.slice(0, 24)));
  });
});
