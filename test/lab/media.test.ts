// Calls with RTP through a farm, in each address plan: the addresses in the descriptions, and every packet at both ends.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Farm, type LabConfig, sumOf } from './farm.ts';
import { BACK, clientAddress, FRONT, Lab, MEMBERS, type Mode, memberAddress, VIP } from './lab.ts';
import type { PhoneOptions, PhoneReport } from './media-phone.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { until } from './until.ts';

const PHONE = join(import.meta.dirname, 'media-phone.ts');
const LIMIT = { timeout: 90_000 };
const PACKETS = 100;
const MEMBERS_USED = [1, 2, 3] as const;
const G0 = '198.51.100.100';
const mapped = (k: number): string => `198.51.100.10${k}`;
const open = (k: number): string => `198.51.100.20${k}`;

interface Plan {
  readonly mode: Mode;
  /** Section `media` of member k. */
  readonly section: (k: number) => Readonly<Record<string, unknown>>;
  /** Cluster-wide settings. */
  readonly cluster?: object;
  /** Public address and ports of member k. */
  readonly place: (k: number) => { readonly address: string; readonly first: number; readonly last: number };
  /** Prepares the network for media. */
  readonly prepare: (lab: Lab) => Promise<void>;
}

const ALL = { first: 20_000, last: 20_199 };
const part = (k: number) => ({ first: 20_000 + 1000 * k, last: 20_199 + 1000 * k });

/** Stateless rules of the balancer: after those for SIP, which drop packets to the members' own addresses. */
const rules = (inward: string, outward: string): string => `table ip media {
  chain in { type filter hook prerouting priority raw + 10; iifname "${FRONT}" ${inward}; }
  chain out { type filter hook postrouting priority srcnat + 10; oifname "${FRONT}" ${outward}; }
}`;

async function shell(lab: Lab, host: Parameters<Lab['run']>[0], script: string): Promise<void> {
  const { code, stderr } = await lab.run(host, 'bash', ['-ec', script]);
  assert.equal(code, 0, stderr);
}

const nft = (lab: Lab, text: string): Promise<void> => shell(lab, 'lb', `nft -f - <<'END'\n${text}\nEND`);

const PLANS: Readonly<Record<string, Plan>> = {
  'multi-ip': {
    mode: 'nat',
    section: (k) => ({ bind: memberAddress(k), wan: mapped(k), ports: '20000-20199' }),
    place: (k) => ({ address: mapped(k), ...ALL }),
    prepare: (lab) => {
      const to = MEMBERS.map((k) => `${mapped(k)} : ${memberAddress(k)}`).join(', ');
      const from = MEMBERS.map((k) => `${memberAddress(k)} : ${mapped(k)}`).join(', ');
      const [port, addresses] = ['20000-20199', MEMBERS.map(mapped).join(', ')];
      return nft(
        lab,
        rules(
          `ip daddr { ${addresses} } udp dport ${port} notrack ip daddr set ip daddr map { ${to} }`,
          `udp sport ${port} ip saddr set ip saddr map { ${from} }`,
        ),
      );
    },
  },
  'single-ip': {
    mode: 'nat',
    section: (k) => ({ bind: memberAddress(k), ports: `${part(k).first}-${part(k).last}` }),
    cluster: { media: { wan: G0 } },
    place: (k) => ({ address: G0, ...part(k) }),
    prepare: (lab) => {
      const to = MEMBERS.map((k) => `${part(k).first}-${part(k).last} : ${memberAddress(k)}`).join(', ');
      return nft(
        lab,
        rules(
          `ip daddr ${G0} notrack ip daddr set udp dport map { ${to} }`,
          `ip saddr { ${MEMBERS.map(memberAddress).join(', ')} } udp sport 20000-29999 ip saddr set ${G0}`,
        ),
      );
    },
  },
  direct: {
    mode: 'dsr',
    section: (k) => ({ bind: open(k), ports: '20000-20199' }),
    place: (k) => ({ address: open(k), ...ALL }),
    prepare: async (lab) => {
      for (const k of MEMBERS_USED) {
        await shell(lab, `m${k}`, `ip addr add ${open(k)}/32 dev lo`);
        await shell(lab, 'lb', `ip route add ${open(k)}/32 via ${memberAddress(k)} dev ${BACK}`);
      }
    },
  },
};

/** A phone in its own process. */
class Phone {
  readonly #child: ChildProcess;
  #text = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
  }

  static async start(lab: Lab, host: Parameters<Lab['exec']>[0], options: PhoneOptions): Promise<Phone> {
    const phone = new Phone(lab.exec(host, process.execPath, [PHONE, JSON.stringify(options)]));
    await until(
      () => phone.#text.startsWith('ready'),
      () => 'a phone has not started',
      30,
    );
    return phone;
  }

  /** The report; undefined while the phone runs. */
  get report(): PhoneReport | undefined {
    const line = this.#text.split('\n')[1] ?? '';
    return line === '' ? undefined : (JSON.parse(line) as PhoneReport);
  }

  async ended(): Promise<PhoneReport> {
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
    const { report } = this;
    assert.ok(report, this.#text);
    return report;
  }
}

const SEQUENCES = Array.from({ length: PACKETS }, (_, i) => i);

for (const [plan, { mode, section, cluster, place, prepare }] of Object.entries(PLANS))
  describe(`media with plan ${plan} behind a balancer in mode ${mode}`, { skip: without(...LAB_TOOLS) }, () => {
    let lab: Lab;
    let farm: Farm;

    before(async () => {
      lab = Lab.open(mode);
      await prepare(lab);
      const adjust = (k: number, config: LabConfig): object => ({
        ...config,
        media: { anchor: 'always', plan, inside: '127.0.0.1', ...section(k) },
      });
      if (cluster) {
        // The setting must be there before a member starts with this plan.
        farm = await Farm.start(lab, { bare: true, members: [4], adjust: (_, config) => config });
        const file = join(lab.dir, 'cluster.yaml');
        writeFileSync(file, JSON.stringify(cluster));
        const put = await farm.command(4, 'config', 'put', file);
        assert.equal(put.code, 0, put.stderr);
        farm.adjust = adjust;
        farm.signal(4, 'SIGTERM');
        await farm.ended(4);
        await Promise.all(MEMBERS_USED.map((k) => farm.startMember(k)));
        await farm.seesMembers(3);
      } else farm = await Farm.start(lab, { bare: true, adjust });
    }, LIMIT);
    after(() => lab?.close());

    it(
      'carries RTP and RTCP both ways, every packet, by the addresses of the plan; a stranger gets nothing in',
      LIMIT,
      async () => {
        const answerers = await Promise.all(
          MEMBERS_USED.map((k) =>
            Phone.start(lab, `m${k}`, {
              role: 'answerer',
              sip: '127.0.0.1:5070',
              rtp: '127.0.0.1:7000',
              packets: PACKETS,
            }),
          ),
        );
        const caller = await Phone.start(lab, 'c', {
          role: 'caller',
          sip: `${clientAddress(0)}:5060`,
          rtp: `${clientAddress(0)}:6000`,
          to: `${VIP}:5060`,
          callId: `media-${plan}`,
          packets: PACKETS,
          stranger: `${clientAddress(7)}:6666`,
        });
        const called = await caller.ended();
        assert.equal(called.status, 200);
        await until(
          () => answerers.some(({ report }) => report),
          () => 'no answerer has ended',
        );
        const k = 1 + answerers.findIndex(({ report }) => report);
        const answered = answerers[k - 1]!.report!;
        const { address, first, last } = place(k);
        const port = Number(called.place.split(':')[1]);
        assert.equal(called.place, `${address}:${port}`);
        assert.ok(port >= first && port <= last && port % 2 === 0, `${port} is an even port of the range`);
        assert.match(answered.place, /^127\.0\.0\.1:20\d{3}$|^127\.0\.0\.1:2[123]\d{3}$/);
        for (const [{ heard, rtcp, place: from }, payload] of [
          [called, 'answerer 0'],
          [answered, 'caller 0'],
        ] as const) {
          assert.deepEqual(heard, [{ from, sequences: SEQUENCES, payload }]);
          const [at = '', rtp = ''] = from.split(':');
          assert.deepEqual(rtcp, [`${at}:${Number(rtp) + 1}`]);
        }
        const text = (await farm.get(k, '/metrics')).body;
        const foreign = sumOf(text, 'sipfarm_media_packets_total', { outcome: 'foreign' });
        assert.equal(foreign, PACKETS, 'all packets of the stranger');
      },
    );

    it('has all ports back after the call', LIMIT, async () => {
      await until(
        async () => {
          const texts = await farm.metrics();
          return texts.every((text) => sumOf(text, 'sipfarm_media_ports', { state: 'used' }) === 0);
        },
        () => 'ports are in use',
      );
    });
  });
