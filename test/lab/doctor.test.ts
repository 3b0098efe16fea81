// Frequent costly mistakes, made on purpose: calls fail, `sipfarm doctor` names the mistake, its advice is followed
// literally, it finds nothing more, and the same calls succeed. A run of the doctor takes some two seconds, mostly
// waits. It runs at the same time as the calls where neither can change the result of the other.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import type { DoctorCode, Finding } from '../../src/doctor/finding.ts';
import { Farm, type LabConfig } from './farm.ts';
import { BALANCER, BALANCER_MAC, clientAddress, type Host, Lab, memberAddress, memberMac, VIP } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { Sipp, type SippOptions, type SippResult } from './sipp.ts';
import { until } from './until.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'bin', 'sipfarm.js');
const CALLS = 20;
/** Calls that begin per second. */
const RATE = 100;
/** Seconds after which a failing run is stopped; a successful one takes one. */
const FAILING = 2;
const LIMIT = { timeout: 240_000 };
/**
 * Replacements for systemctl, which records its arguments because systemd is not in a namespace, and for sysctl, which
 * minimal hosts lack.
 */
const STANDINS = `
systemctl() { echo "systemctl $*"; }
command -v sysctl >/dev/null || sysctl() { shift; echo "\${1#*=}" > "/proc/sys/$(echo "\${1%%=*}" | tr . /)"; }
`;
/**
 * The router of the clients on one segment with balancer and members: it finds the VIP by ARP and uses the last answer.
 * The balancer accepts frames from that side, too.
 */
const ONE_SEGMENT = {
  c: `ip neigh flush dev back; echo 0 > /proc/sys/net/ipv4/neigh/back/locktime; ip route replace ${VIP}/32 dev back`,
  lb: `ip addr replace ${VIP}/32 dev bk
    nft -s list ruleset | sed '/ daddr \\(10.0.0\\|fd09\\)/d; s/"fr"/"bk"/; s/netdev balancer/netdev segment/' | nft -f -`,
};
const TWO_SEGMENTS = { c: `ip route del ${VIP}/32 dev back`, lb: `ip addr del ${VIP}/32 dev bk` };
/**
 * The client's firewall, as in every home router: it drops an answer from an address to which the client did not send.
 */
const FIREWALL = `table inet home { chain in { type filter hook input priority 10;
  iifname != "lo" ip protocol udp ct state new counter drop; }; }`;

describe('doctor in a farm behind direct server return', { skip: without(...LAB_TOOLS, 'etcd', 'etcdctl') }, () => {
  let lab: Lab;
  let farm: Farm;
  let runs = 0;
  /** Changes of members' configurations that are in force in addition to `plain`. */
  const changes = new Map<number, (config: LabConfig) => object>();

  before(async () => {
    lab = Lab.open('dsr');
    mkdirSync('/etc/sysctl.d', { recursive: true });
    // Programs in the members' namespaces see these folders as /etc/sysctl.d.
    for (const k of [1, 2, 3]) mkdirSync(join('/etc/netns', lab.ns(`m${k}`), 'sysctl.d'), { recursive: true });
    farm = await Farm.start(lab, {
      adjust: (k, config) => {
        const plain = { ...config, balancer: { ...config.balancer, probes: [`${BALANCER}/32`] } };
        return changes.get(k)?.(plain) ?? plain;
      },
    });
  }, LIMIT);
  after(() => lab?.close());

  async function findings(k: number, ...args: readonly string[]): Promise<readonly Finding[]> {
    const { code, stdout, stderr } = await farm.command(k, 'doctor', '--json', ...args);
    const { ok, findings: found } = JSON.parse(stdout || '{}') as { ok: boolean; findings: readonly Finding[] };
    assert.equal(code, ok ? 0 : 1, stderr);
    return found;
  }

  /** Returns the findings of severity fault at member k, as code and subject. */
  async function faults(k: number, ...args: readonly string[]): Promise<string[]> {
    const found = await findings(k, ...args);
    return found.filter(({ severity }) => severity === 'fault').map(({ code, about }) => `${code} ${about}`);
  }

  /** Waits for a finding with one of these codes at member k. */
  async function find(k: number, ...codes: readonly DoctorCode[]): Promise<Finding> {
    let found: readonly Finding[] = [];
    const one = (): Finding | undefined => found.find(({ code }) => codes.includes(code));
    await until(
      async () => {
        found = await findings(k);
        return one() !== undefined;
      },
      () => `${codes.join(', ')} is not among ${found.map((finding) => finding.code)}`,
    );
    return one()!;
  }

  /**
   * Waits until the doctor at member k finds exactly these faults. A member that joins again changes them for a moment.
   */
  async function hasFaults(k: number, expected: readonly string[]): Promise<void> {
    let found: string[] = [];
    const ask = async (): Promise<boolean> => {
      found = await faults(k);
      return found.join() === expected.join();
    };
    await until(ask, () => `the doctor at m${k} finds ${found.join('; ')}; expected: ${expected.join('; ')}`, 60);
  }

  const isSilent = (k: number): Promise<void> => hasFaults(k, []);

  async function shell(host: Host, script: string): Promise<string> {
    const { code, stdout, stderr } = await lab.run(host, 'bash', ['-ec', script]);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  /** Returns the doctor's findings at a client that sends through the balancer, as code and subject. */
  async function seenByClient(): Promise<string[]> {
    const { code, stdout, stderr } = await lab.run('c', process.execPath, [MAIN, 'doctor', '--through', VIP, '--json']);
    const { ok, findings: found } = JSON.parse(stdout || '{}') as { ok: boolean; findings: readonly Finding[] };
    assert.equal(code, ok ? 0 : 1, stderr);
    return found.map((one) => `${one.code} ${one.about}`);
  }

  /** Runs all commands of the advice at member k; returns the commands that systemctl got. */
  function type(k: number, { mend }: Finding): Promise<string> {
    return shell(`m${k}`, `${STANDINS}${mend.join('\n')}`);
  }

  /** Returns the part of a comment of the advice that `pattern` matches. */
  function told({ mend }: Finding, pattern: RegExp): string {
    const caught = mend.map((line) => pattern.exec(line)?.[1]).find((part) => part !== undefined);
    assert.ok(caught, `no line of the advice is like ${pattern}: ${mend.join('\n')}`);
    return caught;
  }

  async function restart(...members: readonly number[]): Promise<void> {
    await Promise.all(
      members.map(async (k) => {
        farm.signal(k, 'SIGKILL');
        await farm.ended(k);
        await farm.startMember(k);
      }),
    );
    await farm.seesMembers(3);
  }

  /** Makes calls through the balancer, whose live members become `pool`, if given. */
  async function call(pool: readonly number[] | undefined, options: Partial<SippOptions> = {}): Promise<SippResult> {
    if (pool) lab.pool(pool);
    runs += 1;
    return Sipp.start(lab, {
      ...{ name: `calls-${runs}`, host: 'c', scenario: 'uac-invite', user: 'invite', address: clientAddress(0) },
      ...{ port: 5060 + runs, remote: `${VIP}:5060`, calls: CALLS, rate: RATE, pauseMs: 200, load: true },
      ...options,
    }).done;
  }

  async function callsFail(pool: readonly number[] | undefined, options: Partial<SippOptions> = {}): Promise<void> {
    // While a member joins again, others have its slots, and the mistake does no harm.
    await until(
      async () => {
        const { exit, successful } = await call(pool, { timeoutSeconds: FAILING, ...options });
        return exit !== 0 && successful < CALLS;
      },
      () => 'the mistake does no harm',
      30,
    );
  }

  async function callsSucceed(pool: readonly number[] | undefined, options: Partial<SippOptions> = {}): Promise<void> {
    const { exit, successful, failed, errors } = await call(pool, { timeoutSeconds: 30, ...options });
    const logs = [1, 2, 3].map((k) => `\nmember ${k}: ${farm.logTail(k)}`).join('');
    assert.deepEqual({ exit, successful, failed }, { exit: 0, successful: CALLS, failed: 0 }, `${errors}${logs}`);
  }

  it('finds no fault at correct members, and calls succeed', LIMIT, async () => {
    const silent = [1, 2, 3].map(async (k) => assert.deepEqual(await faults(k), []));
    await Promise.all([...silent, callsSucceed([1, 2, 3])]);
  });

  it('finds a balancer that drops fragments, when a client runs it through the balancer', LIMIT, async () => {
    assert.deepEqual(await seenByClient(), []);
    await shell('lb', "nft 'insert rule netdev balancer in ip frag-off & 0x1fff != 0 drop'");
    assert.deepEqual(await seenByClient(), [`DR_THROUGH_LONG ${VIP}:5060 by UDP`]);
  });

  it(
    "finds a VIP on lo without the ARP settings: a member outside of the balancer's pool still attracts the calls",
    LIMIT,
    async () => {
      const oneSegment = async (pool: readonly number[]): Promise<void> => {
        lab.pool(pool);
        await shell('lb', ONE_SEGMENT.lb);
      };
      const macOfVip = async (): Promise<string | undefined> =>
        /lladdr (\S+)/.exec(await shell('c', `ip neigh show to ${VIP}`))?.[1];
      await shell('c', ONE_SEGMENT.c);
      await oneSegment([1, 2, 3]);
      await callsSucceed(undefined);
      assert.equal(await macOfVip(), BALANCER_MAC);

      await shell(
        'm1',
        `for s in arp_ignore arp_announce; do echo 0 > /proc/sys/net/ipv4/conf/all/$s; done; ip neigh flush all`,
      );
      await callsSucceed(undefined);
      assert.equal(await macOfVip(), memberMac(1), 'the mistake does no harm');
      farm.signal(1, 'SIGKILL');
      await oneSegment([2, 3]);
      await farm.seesMembers(2);
      const [all] = await Promise.all([findings(1), callsFail(undefined)]);

      const named = all.filter(({ severity }) => severity === 'fault');
      assert.deepEqual(
        named.map(({ code }) => code),
        ['DR_ARP_IGNORE', 'DR_ARP_ANNOUNCE'],
      );
      for (const found of named) {
        await type(1, found);
        await shell('c', told(found, /^# then on the router.*: (ip neigh .*)$/));
      }
      const [left] = await Promise.all([faults(1), callsSucceed(undefined)]);
      assert.deepEqual(left, []);
      assert.equal(await macOfVip(), BALANCER_MAC);

      await shell('c', TWO_SEGMENTS.c);
      await shell('lb', TWO_SEGMENTS.lb);
      await restart(1);
    },
  );

  it(
    'finds a VIP that is missing on lo, changes nothing without consent, and adds the VIP with --fix --yes',
    LIMIT,
    async () => {
      await shell('m2', `ip addr del ${VIP}/32 dev lo`);
      const [found] = await Promise.all([faults(2, '--fix'), callsFail([2])]);
      assert.deepEqual(found, [`DR_VIP_MISSING ${VIP}`]);
      assert.doesNotMatch(await shell('m2', 'ip addr show dev lo'), new RegExp(VIP), 'it was not asked to');
      assert.deepEqual(await faults(2, '--fix', '--yes'), []);
      await callsSucceed([2]);
    },
  );

  it('finds a listener on a wildcard: answers leave from another address than the VIP', LIMIT, async () => {
    const all = [1, 2, 3];
    for (const k of all)
      changes.set(k, (config) => ({
        ...config,
        balancer: { ...config.balancer, mode: 'nat' },
        listeners: config.listeners.map((entry) =>
          entry.name === 'edge' ? { ...entry, bind: entry.bind.replace(VIP, '0.0.0.0') } : entry,
        ),
      }));
    await restart(...all);
    const followAdvice = async (k: number): Promise<void> => {
      const found = await find(k, 'DR_WILDCARD_BIND');
      assert.equal(found.about, 'listener edge (0.0.0.0:5060)');
      const bind = parse(told(found, /^# in \S+, listener edge: (.*)$/));
      const section = parse(told(found, /^# in \S+: (.*)$/));
      assert.equal((await type(k, found)).trim(), 'systemctl restart sipfarm');
      const wrong = changes.get(k)!;
      changes.set(k, (config) => {
        const { listeners, ...rest } = wrong(config) as LabConfig;
        return {
          ...rest,
          balancer: { ...rest.balancer, ...section.balancer },
          listeners: listeners.map((entry) => (entry.name === 'edge' ? { ...entry, ...bind } : entry)),
        };
      });
    };
    const [seen] = await Promise.all([seenByClient(), ...all.map(followAdvice)]);
    assert.deepEqual(seen, [`DR_THROUGH_SOURCE ${VIP}:5060`]);
    lab.forgetSources();
    await shell('c', `nft '${FIREWALL}'`);
    await callsFail(all);
    assert.deepEqual(
      [...lab.sources().keys()].sort(),
      all.map((k) => `${memberAddress(k)}:5060`),
    );

    await restart(...all);
    await Promise.all(all.map(isSilent));
    await callsSucceed(all);
    await shell('c', 'nft delete table inet home');
    changes.clear();
  });

  it('finds a wrong key on one member: packets that come in there are lost', LIMIT, async () => {
    const reload = (): void => {
      farm.writeConfig(3);
      farm.signal(3, 'SIGHUP');
    };
    changes.set(3, (config) => ({ ...config, keys: [randomBytes(32).toString('hex')] }));
    reload();
    const found = await find(3, 'DR_KEY_MISMATCH');
    await Promise.all([
      // The others have the record of m3 for some seconds. Afterwards only the frames that they refuse are left.
      find(1, 'DR_KEY_MISMATCH', 'DR_FORGED'),
      hasFaults(3, ['DR_KEY_MISMATCH m1', 'DR_KEY_MISMATCH m2']),
      callsFail([3]),
    ]);
    told(found, /^# (copy the same keys to every member)/);
    changes.clear();
    reload();
    assert.equal((await type(3, found)).trim(), 'systemctl reload sipfarm');
    await farm.seesMembers(3);
    await Promise.all([1, 2, 3].map(isSilent));
    await callsSucceed([3]);
  });

  it(
    'finds a relay port that is blocked in one direction: packets for the member behind it are lost',
    LIMIT,
    async (t) => {
      t.after(() => shell('m3', 'nft delete table inet filter || true'));
      const drop = `ip saddr ${memberAddress(1)} meta l4proto { tcp, udp } th dport 5064 drop`;
      await shell('m3', `nft 'table inet filter { chain input { type filter hook input priority 0; ${drop}; }; }'`);
      let found = (await Promise.all([find(1, 'DR_RELAY_UNREACHABLE'), callsFail([1])]))[0];
      const unanswered = async (): Promise<boolean> => {
        found = await find(1, 'DR_RELAY_UNREACHABLE');
        return found.reason.includes('by UDP');
      };
      // A member that joins again counts as reachable for a moment.
      await until(unanswered, () => `the doctor does not see that datagrams are lost: ${found.reason}`);
      assert.equal(found.about, `m3 (${memberAddress(3)}:5064)`);
      assert.match(found.reason, /does not answer TCP.*does not answer the probes/);
      await hasFaults(3, [`DR_RELAY_UNREACHABLE m1 (${memberAddress(1)}:5064)`]);
      await shell('m3', told(found, /^# on m3: (nft .*)$/));
      await Promise.all([1, 3].map(isSilent));
      await callsSucceed([1]);
    },
  );

  it('finds a link between members that drops long packets: long messages are lost', LIMIT, async () => {
    const all = [1, 2, 3];
    const long = { user: 'x'.repeat(400) };
    await callsSucceed([1], long);
    await shell('sw', 'ip link set m2eth0 mtu 1200');
    const [found] = await Promise.all([find(1, 'DR_RELAY_MTU'), callsFail([1], long)]);
    assert.equal(found.about, `m2 (${memberAddress(2)}:5064)`);
    const section = parse(told(found, /^# on every member, in \S+: (.*)$/));
    await Promise.all(all.map((k) => type(k, found)));
    for (const k of all) changes.set(k, (config) => ({ ...config, relay: { ...config.relay, ...section.relay } }));
    await restart(...all);
    await Promise.all(all.map(isSilent));
    await callsSucceed([1], long);
    await shell('sw', 'ip link set m2eth0 mtu 1500');
    changes.clear();
  });
});
