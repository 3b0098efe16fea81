// A farm in relay.mode transparent behind direct server return: a packet that one member relays to another arrives with
// the client's own source.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Farm, type LabConfig, sumOf } from './farm.ts';
import { clientAddress, clientAddress6, Lab, memberAddress, memberAddress6, VIP, VIP6 } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { Sipp, type SippOptions, type SippResult } from './sipp.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'bin', 'sipfarm.js');
const LIMIT = { timeout: 240_000 };
const MEMBERS = [1, 2, 3];
/** Transparent ports of the listeners edge and edge6, the first and the third, after the port of the relay link. */
const TRANSPARENT_PORT = 5065;
const TRANSPARENT_PORT6 = 5067;

/** Counts the sources of datagrams for a transparent port, as the member's network stack sees them. */
const WATCH = `
table inet transparent {
  set from4 { type ipv4_addr . inet_service; size 4096; flags dynamic; }
  set from6 { type ipv6_addr . inet_service; size 4096; flags dynamic; }
  chain in {
    type filter hook input priority 0;
    udp dport ${TRANSPARENT_PORT} add @from4 { ip saddr . udp sport counter }
    udp dport ${TRANSPARENT_PORT6} add @from6 { ip6 saddr . udp sport counter }
  }
}`;

/** Sends INVITEs of 5,000 octets and more, each for its own call; prints the number of those with a final answer. */
const LARGE = `
const socket = require('node:dgram').createSocket('udp4');
const open = new Set(Array.from({ length: 12 }, (_, i) => 'large-' + i));
const invite = (id) => ['INVITE sip:large@${VIP} SIP/2.0', 'Via: SIP/2.0/UDP ${clientAddress(5)}:5060;branch=z9hG4bK' + id,
  'From: <sip:a@a>;tag=a', 'To: <sip:large@${VIP}>', 'Call-ID: ' + id, 'CSeq: 1 INVITE', 'Max-Forwards: 70',
  'Contact: <sip:a@${clientAddress(5)}:5060>', 'X-Large: ' + 'x'.repeat(5000), 'Content-Length: 0', '', ''].join('\\r\\n');
const end = () => { console.log(12 - open.size); process.exit(); };
socket.on('message', (bytes) => {
  const text = bytes.toString('latin1');
  if (/^SIP\\/2.0 [2-6]/.test(text)) open.delete(/^Call-ID: *(\\S+)/im.exec(text)[1]);
  if (open.size === 0) end();
});
const send = () => { for (const id of open) socket.send(invite(id), 5060, '${VIP}'); };
socket.bind(5060, '${clientAddress(5)}', () => { send(); setInterval(send, 500); setTimeout(end, 8000); });
`;

describe('a farm in transparent mode', { skip: without(...LAB_TOOLS, 'etcd', 'etcdctl', 'raw-socket') }, () => {
  let lab: Lab;
  let farm: Farm;

  before(async () => {
    lab = Lab.open('dsr');
    for (const k of MEMBERS) {
      // Strict: the return route to the client uses the interface of its packets.
      await lab.run(`m${k}`, 'sh', ['-c', 'for f in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$f/rp_filter; done']);
      execFileSync('ip', ['netns', 'exec', lab.ns(`m${k}`), 'nft', '-f', '-'], { input: WATCH });
    }
    farm = await Farm.start(lab, { adjust: relayAt((k) => `${memberAddress(k)}:5064`) });
  }, LIMIT);
  after(() => lab?.close());

  function relayAt(bind: (k: number) => string): Farm['adjust'] {
    return (k: number, config: LabConfig) => ({
      ...config,
      relay: { bind: bind(k), mode: 'transparent' },
      drain: { deadlineSeconds: 0 },
    });
  }

  function client(i: number, name: string, options: Partial<SippOptions> = {}): Sipp {
    const to = { remote: `${VIP}:5060`, address: clientAddress(i), port: 5060 };
    const load = { calls: 50, rate: 10, pauseMs: 300, timeoutSeconds: 40 };
    return Sipp.start(lab, { host: 'c', name, scenario: `uac-${name}`, user: name, ...to, ...load, ...options });
  }

  async function good(name: string, run: Sipp): Promise<SippResult> {
    const result = await run.done;
    const { exit, failed, successful, created, errors } = result;
    const logs = MEMBERS.map((k) => `\nmember ${k}: ${farm.logTail(k)}`).join('');
    assert.deepEqual([exit, failed, successful], [0, 0, created], `${name}: ${errors}${logs}`);
    return result;
  }

  /** Returns the sources of datagrams for a member's transparent ports. */
  async function sourcesAt(k: number, set: 'from4' | 'from6'): Promise<string[]> {
    const { stdout } = await lab.run(`m${k}`, 'nft', ['-j', 'list', 'set', 'inet', 'transparent', set]);
    const parsed = JSON.parse(stdout) as {
      nftables: { set?: { elem?: { elem: { val: { concat: [string, number] } } }[] } }[];
    };
    return parsed.nftables.flatMap((item) => item.set?.elem ?? []).map(({ elem }) => elem.val.concat.join(' '));
  }

  async function packets(direction: 'in' | 'out', outcome: string): Promise<number> {
    const texts = await farm.metrics();
    return texts.reduce(
      (sum, text) => sum + sumOf(text, 'sipfarm_transparent_packets_total', { direction, outcome }),
      0,
    );
  }

  it('carries calls with CANCEL, BYE of either side and credentials, and all succeed', LIMIT, async () => {
    const runs = [
      ['invite', client(0, 'invite', { calls: 200, rate: 50, load: true })],
      ['cancel', client(1, 'cancel')],
      ['auth', client(2, 'auth')],
      ['hangup', client(3, 'hangup')],
      ['tcp-hangup', client(4, 'tcp-hangup', { scenario: 'uac-hangup', user: 'hangup', transport: 't1' })],
    ] as const;
    for (const [name, run] of runs) await good(name, run);
    assert.ok((await packets('out', 'sent')) > 500);
    assert.equal(await packets('out', 'refused'), 0);
    assert.equal(await packets('in', 'taken'), await packets('out', 'sent'));
  });

  it("delivers the client's own address and port to the owner's socket", async () => {
    const clients = [0, 1, 2, 3].map((i) => `${clientAddress(i)} 5060`).sort();
    for (const k of MEMBERS) assert.deepEqual((await sourcesAt(k, 'from4')).sort(), clients);
  });

  it('relays messages that are longer than the MTU', LIMIT, async () => {
    const before = await packets('out', 'sent');
    const { stdout, stderr } = await lab.run('c', process.execPath, ['-e', LARGE]);
    assert.equal(stdout.trim(), '12', stderr);
    assert.ok((await packets('out', 'sent')) > before);
    assert.equal(await packets('in', 'taken'), await packets('out', 'sent'));
  });

  it('does not start a member without the right to open raw sockets, and names that right', LIMIT, async () => {
    const file = farm.writeConfig(4);
    const without = ['--bounding-set=-net_raw', '--inh-caps=-net_raw'];
    const { code, stderr } = await lab.run('m4', 'setpriv', [...without, process.execPath, MAIN, 'run', '-c', file]);
    assert.equal(code, 1);
    assert.match(stderr, /SF_TRANSPARENT_UNAVAILABLE.*CAP_NET_RAW/);
  });

  it('works over IPv6 when the relay link uses IPv6', LIMIT, async () => {
    farm.adjust = relayAt((k) => `[${memberAddress6(k)}]:5064`);
    for (const k of MEMBERS) farm.signal(k, 'SIGTERM');
    for (const k of MEMBERS) await farm.ended(k);
    await Promise.all(MEMBERS.map((k) => farm.startMember(k)));
    await farm.seesMembers(3);
    const six = { remote: `[${VIP6}]:5060`, address: clientAddress6(0), scenario: 'uac-hangup', user: 'hangup' };
    await good('ipv6-hangup', client(0, 'ipv6-hangup', six));
    assert.ok((await packets('in', 'taken')) > 50);
    for (const k of MEMBERS) assert.deepEqual(await sourcesAt(k, 'from6'), [`${clientAddress6(0)} 5060`]);
  });
});
