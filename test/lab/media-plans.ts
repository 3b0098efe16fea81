// The three address plans of media in a laboratory: the section `media` of each member, and the rules of the balancer.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Farm } from './farm.ts';
import { BACK, FRONT, type Host, type Lab, MEMBERS, type Mode, memberAddress } from './lab.ts';

export const MEMBERS_USED = [1, 2, 3] as const;
const G0 = '198.51.100.100';
const mapped = (k: number): string => `198.51.100.10${k}`;
const open = (k: number): string => `198.51.100.20${k}`;

export interface Plan {
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

const ALL = { first: 20_000, last: 20_999 };
const RANGE = `${ALL.first}-${ALL.last}`;
const part = (k: number) => ({ first: 20_000 + 1000 * k, last: 20_199 + 1000 * k });

/** Stateless rules of the balancer: after those for SIP, which drop packets to the members' own addresses. */
const rules = (inward: string, outward: string): string => `table ip media {
  chain in { type filter hook prerouting priority raw + 10; iifname "${FRONT}" ${inward}; }
  chain out { type filter hook postrouting priority srcnat + 10; oifname "${FRONT}" ${outward}; }
}`;

export async function shell(lab: Lab, host: Host, script: string): Promise<void> {
  const { code, stderr } = await lab.run(host, 'bash', ['-ec', script]);
  assert.equal(code, 0, stderr);
}

export const nft = (lab: Lab, host: Host, text: string): Promise<void> =>
  shell(lab, host, `nft -f - <<'END'\n${text}\nEND`);

export const PLANS: Readonly<Record<string, Plan>> = {
  'multi-ip': {
    mode: 'nat',
    section: (k) => ({ bind: memberAddress(k), wan: mapped(k), ports: RANGE }),
    place: (k) => ({ address: mapped(k), ...ALL }),
    prepare: (lab) => {
      const to = MEMBERS.map((k) => `${mapped(k)} : ${memberAddress(k)}`).join(', ');
      const from = MEMBERS.map((k) => `${memberAddress(k)} : ${mapped(k)}`).join(', ');
      const [port, addresses] = [RANGE, MEMBERS.map(mapped).join(', ')];
      return nft(
        lab,
        'lb',
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
        'lb',
        rules(
          `ip daddr ${G0} notrack ip daddr set udp dport map { ${to} }`,
          `ip saddr { ${MEMBERS.map(memberAddress).join(', ')} } udp sport 20000-29999 ip saddr set ${G0}`,
        ),
      );
    },
  },
  direct: {
    mode: 'dsr',
    section: (k) => ({ bind: open(k), ports: RANGE }),
    place: (k) => ({ address: open(k), ...ALL }),
    prepare: async (lab) => {
      for (const k of MEMBERS_USED) {
        await shell(lab, `m${k}`, `ip addr add ${open(k)}/32 dev lo`);
        await shell(lab, 'lb', `ip route add ${open(k)}/32 via ${memberAddress(k)} dev ${BACK}`);
      }
    },
  },
};

/** Returns the configuration of a member with a plan. `media` adds to the section or replaces its settings. */
export const withMedia =
  ({ section }: Plan, plan: string, media: object) =>
  (k: number, config: object): object => ({
    ...config,
    media: { anchor: 'always', plan, inside: '127.0.0.1', ...section(k), ...media },
  });

/** Lets a host forward. */
export const FORWARD = 'for each in /proc/sys/net/ipv4/conf/*/forwarding; do echo 1 > $each; done';

/** Starts members with a plan. Its cluster-wide settings are in the store before one of them starts. */
export async function startWithPlan(
  lab: Lab,
  { cluster }: Plan,
  adjust: NonNullable<Farm['adjust']>,
  members: readonly number[],
): Promise<Farm> {
  if (!cluster) return Farm.start(lab, { bare: true, members, adjust });
  const farm = await Farm.start(lab, { bare: true, members: [4], adjust: (_, config) => config });
  const file = join(lab.dir, 'cluster.yaml');
  writeFileSync(file, JSON.stringify(cluster));
  const put = await farm.command(4, 'config', 'put', file);
  assert.equal(put.code, 0, put.stderr);
  farm.adjust = adjust;
  farm.signal(4, 'SIGTERM');
  await farm.ended(4);
  await Promise.all(members.map((k) => farm.startMember(k)));
  await farm.seesMembers(members.length);
  return farm;
}
