// The mistakes that cost operators days, made on purpose: each does its harm, `sipfarm doctor` names it, and its own advice mends it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import type { DoctorCode, Finding } from '../../src/doctor/finding.ts';
import { Farm, type LabConfig } from './farm.ts';
import { type Host, Lab, memberAddress, VIP } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

/** Sends a request without CSeq: the member it comes to answers 400 at once. */
const ASK = `
const lines = ['OPTIONS sip:${VIP} SIP/2.0', 'Via: SIP/2.0/UDP 203.0.113.10:9999;rport;branch=z9hG4bKdoctor', 'From: <sip:a@a>;tag=a',
  'To: <sip:b@b>', 'Call-ID: doctor', 'Content-Length: 0', '', ''];
const socket = require('node:dgram').createSocket('udp4');
socket.send(lines.join('\\r\\n'), 5060, '${VIP}', () => socket.close());
`;
const LIMIT = { timeout: 60_000 };

describe('doctor in a farm behind direct server return', { skip: without(...LAB_TOOLS, 'etcd', 'etcdctl') }, () => {
  let lab: Lab;
  let farm: Farm;
  const plain = (_: number, config: LabConfig): object => ({
    ...config,
    balancer: { ...config.balancer, probes: ['10.0.0.1/32'] },
  });

  before(async () => {
    lab = Lab.open('dsr');
    farm = await Farm.start(lab, { adjust: plain });
  }, LIMIT);
  after(() => lab?.close());

  async function findings(k: number, ...args: readonly string[]): Promise<readonly Finding[]> {
    const { code, stdout, stderr } = await farm.command(k, 'doctor', '--json', ...args);
    const { ok, findings: found } = JSON.parse(stdout || '{}') as { ok: boolean; findings: readonly Finding[] };
    assert.equal(code, ok ? 0 : 1, stderr);
    return found;
  }

  /** The findings of severity fault at member k, as code and what it is about. */
  async function faults(k: number, ...args: readonly string[]): Promise<string[]> {
    const found = await findings(k, ...args);
    return found.filter(({ severity }) => severity === 'fault').map(({ code, about }) => `${code} ${about}`);
  }

  async function find(k: number, code: DoctorCode): Promise<Finding> {
    const found = await findings(k);
    const [one] = found.filter((finding) => finding.code === code);
    assert.ok(one, `${code} is not among ${found.map((finding) => finding.code)}`);
    return one;
  }

  async function becomesWell(k: number): Promise<void> {
    let left: string[] = [];
    const ask = async (): Promise<boolean> => {
      left = await faults(k);
      return left.length === 0;
    };
    await until(ask, () => `the doctor still finds ${left.join('; ')}`, 30);
  }

  async function shell(host: Host, script: string): Promise<string> {
    const { code, stdout, stderr } = await lab.run(host, 'bash', ['-ec', script]);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  /** MAC that a neighbour on the members' segment gets when it asks for the VIP; undefined when nobody answers. */
  async function whoHasVip(): Promise<string | undefined> {
    await shell(
      'k',
      `ip neigh flush to ${VIP}; ip route replace ${VIP}/32 dev eth0; echo x >/dev/udp/${VIP}/9 || true`,
    );
    const asked = async (): Promise<string> => shell('k', `ip neigh show to ${VIP}`);
    await until(
      async () => /lladdr|FAILED/.test(await asked()),
      () => 'the kernel neither finds nor gives up',
    );
    return /lladdr (\S+)/.exec(await asked())?.[1];
  }

  it('finds no fault at a member that is set up well', LIMIT, async () => {
    for (const k of [1, 2, 3]) assert.deepEqual(await faults(k), []);
  });

  it('names missing ARP settings, by which the VIP is answered past the balancer, and mends them', LIMIT, async () => {
    assert.equal(await whoHasVip(), undefined);
    await shell('m1', 'for s in arp_ignore arp_announce; do echo 0 >/proc/sys/net/ipv4/conf/all/$s; done');
    assert.equal(await whoHasVip(), '00:00:5e:00:53:11', 'the mistake does no harm');
    assert.deepEqual(await faults(1), ['DR_ARP_IGNORE eth0', 'DR_ARP_ANNOUNCE eth0']);
    assert.deepEqual(await faults(1, '--fix', '--yes'), []);
    assert.equal(await whoHasVip(), undefined);
  });

  it('names a VIP that is missing on lo, changes nothing unasked, and adds it with --fix --yes', LIMIT, async () => {
    await shell('m2', `ip addr del ${VIP}/32 dev lo`);
    assert.deepEqual(await faults(2, '--fix'), [`DR_VIP_MISSING ${VIP}`]);
    assert.deepEqual(await faults(2), [`DR_VIP_MISSING ${VIP}`]);
    assert.deepEqual(await faults(2, '--fix', '--yes'), []);
    assert.match(await shell('m2', 'ip addr show dev lo'), new RegExp(`${VIP}/32`));
  });

  it('names a blocked relay port, with the member behind it', LIMIT, async () => {
    const block =
      'table inet block { chain in { type filter hook input priority 0; meta l4proto { tcp, udp } th dport 5064 drop; }; }';
    await shell('m3', `nft '${block}'`);
    try {
      let found = await find(1, 'DR_RELAY_UNREACHABLE');
      const unanswered = async (): Promise<boolean> => {
        found = await find(1, 'DR_RELAY_UNREACHABLE');
        return found.reason.includes('by UDP');
      };
      // A member that joins again is given the benefit of the doubt for a moment.
      await until(unanswered, () => `the doctor does not see that datagrams are lost: ${found.reason}`);
      assert.equal(found.about, `m3 (${memberAddress(3)}:5064)`);
      assert.match(found.reason, /does not answer TCP.*does not answer the probes/);
    } finally {
      await shell('m3', 'nft delete table inet block');
    }
    await becomesWell(1);
  });

  it('names a link that swallows long packets, and the size that passes', LIMIT, async () => {
    await shell('sw', 'ip link set m2eth0 mtu 1200');
    const { about, mend } = await find(1, 'DR_RELAY_MTU');
    assert.equal(about, `m2 (${memberAddress(2)}:5064)`);
    assert.equal(mend[0], 'in the configuration of every member: relay: { mtu: 1200 }');
    farm.adjust = (k, config) => ({ ...plain(k, config), relay: { ...config.relay, mtu: 1200 } });
    await restart(1);
    assert.deepEqual(await faults(1), []);
    farm.adjust = plain;
    await shell('sw', 'ip link set m2eth0 mtu 1500');
    await restart(1);
  });

  it('names the member with a wrong key', LIMIT, async () => {
    farm.adjust = (k, config) => ({ ...plain(k, config), keys: [randomBytes(32).toString('hex')] });
    farm.writeConfig(3);
    farm.signal(3, 'SIGHUP');
    await until(
      async () => (await findings(1)).some(({ code, about }) => code === 'DR_KEY_MISMATCH' && about === 'm3'),
      () => `no wrong key is found: ${farm.logTail(3)}`,
      15,
    );
    const seenFromThere = (await faults(3)).filter((fault) => fault.startsWith('DR_KEY_MISMATCH'));
    assert.deepEqual(seenFromThere, ['DR_KEY_MISMATCH m1', 'DR_KEY_MISMATCH m2']);
    farm.adjust = plain;
    farm.writeConfig(3);
    farm.signal(3, 'SIGHUP');
    await becomesWell(1);
  });

  it('names a listener bound to a wildcard, whose answers do not leave from the VIP', LIMIT, async () => {
    const ask = async (): Promise<string[]> => {
      lab.pool([2]);
      lab.forgetSources();
      await lab.run('c', process.execPath, ['-e', ASK]);
      await until(
        () => lab.sources().size > 0,
        () => 'no answer',
      );
      return [...lab.sources().keys()];
    };
    assert.deepEqual(await ask(), [`${VIP}:5060`]);
    farm.adjust = (k, config) => ({
      ...plain(k, config),
      balancer: { mode: 'nat', probes: ['10.0.0.1/32'] },
      listeners: config.listeners.map((entry) => ({ ...entry, bind: entry.bind.replace(VIP, '0.0.0.0') })),
    });
    await restart(2);
    assert.deepEqual(await ask(), [`${memberAddress(2)}:5060`], 'the mistake does no harm');
    assert.equal((await find(2, 'DR_WILDCARD_BIND')).about, 'listener edge (0.0.0.0:5060)');
    farm.adjust = plain;
    await restart(2);
    assert.deepEqual(await faults(2), []);
    assert.deepEqual(await ask(), [`${VIP}:5060`]);
  });

  async function restart(k: number): Promise<void> {
    farm.signal(k, 'SIGTERM');
    await farm.ended(k);
    await farm.startMember(k);
    await farm.seesMembers(3);
  }
});
