// The laboratory's own balancers as nftables rules: one text per mode and pool of live members.
import {
  BACK,
  BALANCER_MAC,
  FRONT,
  MEMBERS,
  type Mode,
  memberAddress,
  memberAddress6,
  memberMac,
  VIP,
  VIP6,
} from './addresses.ts';

/** Buckets of the balancer's hash for TCP flows and for fragments. */
const BUCKETS = 60;

/**
 * Returns the member of each bucket by rendezvous hashing: a joining or leaving member moves only its own share of TCP
 * flows.
 */
export function buckets(pool: readonly number[]): number[] {
  const score = (bucket: number, member: number): number => {
    const h = Math.imul((bucket + 1) * 0x9e3779b1, (member + 1) * 0x85ebca77);
    return Math.imul(h ^ (h >>> 15), 0xc2b2ae35) >>> 0;
  };
  return Array.from({ length: BUCKETS }, (_, bucket) =>
    pool.reduce((best, member) => (score(bucket, member) > score(bucket, best) ? member : best)),
  );
}

const table = (entries: readonly string[]): string => entries.map((to, i) => `${i} : ${to}`).join(', ');

/**
 * Returns rules for address rewriting without a session table: the destination inwards, the source of port 5060
 * outwards.
 */
function natRules(pool: readonly number[]): string {
  const family = (ip: 'ip' | 'ip6', vip: string, address: (k: number) => string): string => {
    const live = table(pool.map(address));
    const hashed = table(buckets(pool).map(address));
    const fragments =
      ip === 'ip'
        ? `ip daddr ${vip} ip protocol udp ip frag-off & 0x3fff != 0 ip daddr set jhash ip saddr . ip id mod ${BUCKETS} seed 0x5eed map { ${hashed} } accept`
        : '';
    // Later fragments have no port, so the source of all of them is rewritten.
    const outward =
      ip === 'ip'
        ? `ip saddr { ${MEMBERS.map(address).join(', ')} } ip protocol udp ip frag-off & 0x1fff != 0 ip saddr set ${vip}`
        : '';
    return `
table ${ip} balancer {
  chain in {
    type filter hook prerouting priority raw;
    ${ip} daddr ${vip} notrack
    ${ip} saddr { ${MEMBERS.map(address).join(', ')} } notrack
    iifname "${FRONT}" ${ip} daddr ${ip === 'ip' ? '10.0.0.0/24' : 'fd09::/64'} counter drop
    ${fragments}
    ${ip} daddr ${vip} udp dport 5060 counter ${ip} daddr set numgen random mod ${pool.length} map { ${live} }
    ${ip} daddr ${vip} tcp dport 5060 counter ${ip} daddr set jhash ${ip} saddr . tcp sport mod ${BUCKETS} seed 0x5eed map { ${hashed} }
  }
  chain out {
    type filter hook postrouting priority srcnat;
    oifname "${FRONT}" ${ip} saddr { ${MEMBERS.map(address).join(', ')} } meta l4proto { udp, tcp } th sport 5060 ${ip} saddr set ${vip}
    ${outward && `oifname "${FRONT}" ${outward}`}
  }
}`;
  };
  return family('ip', VIP, memberAddress) + family('ip6', VIP6, memberAddress6);
}

/** Returns rules for direct server return: the frame goes on to a member's MAC; answers do not pass the balancer. */
function dsrRules(pool: readonly number[]): string {
  const live = table(pool.map(memberMac));
  const hashed = table(buckets(pool).map(memberMac));
  const family = (ip: 'ip' | 'ip6', vip: string): string => `
    ${ip} daddr ${vip} udp dport 5060 counter ether saddr set ${BALANCER_MAC} ether daddr set numgen random mod ${pool.length} map { ${live} } fwd to "${BACK}"
    ${ip} daddr ${vip} tcp dport 5060 counter ether saddr set ${BALANCER_MAC} ether daddr set jhash ${ip} saddr . tcp sport mod ${BUCKETS} seed 0x5eed map { ${hashed} } fwd to "${BACK}"`;
  return `
table netdev balancer {
  chain in {
    type filter hook ingress device "${FRONT}" priority 0;
    ip daddr 10.0.0.0/24 counter drop
    ip6 daddr fd09::/64 counter drop
    ip daddr ${VIP} ip protocol udp ip frag-off & 0x3fff != 0 ether saddr set ${BALANCER_MAC} ether daddr set jhash ip saddr . ip id mod ${BUCKETS} seed 0x5eed map { ${hashed} } fwd to "${BACK}"
    ${family('ip', VIP)}
    ${family('ip6', VIP6)}
  }
}`;
}

/**
 * Returns rules with a session table: the first packet of a client port selects the member, and all later ones follow
 * it in both directions. Packets of members outside of sessions are dropped and counted, as by an appliance with only a
 * session table.
 */
function sessionRules(pool: readonly number[]): string {
  const family = (ip: 'ip' | 'ip6', vip: string, address: (k: number) => string): string => `
table ${ip} balancer {
  chain in {
    type nat hook prerouting priority dstnat;
    ${ip} daddr ${vip} udp dport 5060 counter dnat to numgen inc mod ${pool.length} map { ${table(pool.map(address))} }
    ${ip} daddr ${vip} tcp dport 5060 counter dnat to numgen inc mod ${pool.length} map { ${table(pool.map(address))} }
  }
  chain between {
    type filter hook forward priority 0;
    iifname "${BACK}" ct state new counter drop comment "outside"
    iifname "${FRONT}" ct status dnat accept
    iifname "${FRONT}" counter drop
  }
}`;
  return family('ip', VIP, memberAddress) + family('ip6', VIP6, memberAddress6);
}

/**
 * Returns rules for tunnels: a mark for the member, a route by the mark. The packet stays unchanged, and answers do not
 * pass the balancer.
 */
function tunnelRules(pool: readonly number[]): string {
  const live = table(pool.map(String));
  const hashed = table(buckets(pool).map(String));
  const family = (ip: 'ip' | 'ip6', vip: string): string => `
    ${ip} daddr ${vip} udp dport 5060 counter meta mark set numgen random mod ${pool.length} map { ${live} }
    ${ip} daddr ${vip} tcp dport 5060 counter meta mark set jhash ${ip} saddr . tcp sport mod ${BUCKETS} seed 0x5eed map { ${hashed} }`;
  return `
table inet balancer {
  chain in {
    type filter hook prerouting priority mangle;
    iifname "${FRONT}" ip daddr 10.0.0.0/24 counter drop
    iifname "${FRONT}" ip6 daddr fd09::/64 counter drop
    ip daddr ${VIP} ip protocol udp ip frag-off & 0x3fff != 0 meta mark set jhash ip saddr . ip id mod ${BUCKETS} seed 0x5eed map { ${hashed} } accept
    ${family('ip', VIP)}
    ${family('ip6', VIP6)}
  }
}`;
}

/** Rules of the balancer for a pool, without the line that deletes the earlier ones. */
export const RULES: Readonly<Record<Mode, (pool: readonly number[]) => string>> = {
  nat: natRules,
  session: sessionRules,
  dsr: dsrRules,
  tunnel: tunnelRules,
  none: () => '',
};
