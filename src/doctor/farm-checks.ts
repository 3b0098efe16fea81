// Checks of this member among the others: relay link, keys, store, clock.

import { parseEndpoint } from '../base/endpoint.ts';
import type { Config } from '../config/schema.ts';
import type { MemberRecord } from '../membership/member-record.ts';
import type { HostFacts, PathFacts, StoreFacts } from './facts.ts';
import { type Finding, finding } from './finding.ts';

/** A lease is renewed five times in its life; a store slower than this leaves no room for a retry. */
const SLOW_MS = 100;
const LONG_HISTORY = 1_000_000;
const NEARLY_FULL = 0.8;
const CLOCK_MS = 5000;

function others(config: Config, facts: HostFacts): readonly MemberRecord[] {
  return facts.records.filter(({ id }) => id !== config.member);
}

function checkMtu(config: Config, facts: HostFacts): Finding[] {
  const { mtu } = config.relay;
  return others(config, facts).flatMap((peer) => {
    const address = parseEndpoint(peer.relay)?.address ?? '';
    const route = facts.routes.get(address);
    const passes = facts.paths.get(peer.relay)?.passes;
    const local = route !== undefined && route.mtu < mtu ? route.mtu : undefined;
    if (local === undefined && (passes === undefined || passes >= mtu)) return [];
    const fits = Math.min(local ?? mtu, passes ?? mtu);
    const where =
      local === undefined
        ? `of the packets tried, one of ${fits} octets reaches it, longer ones vanish on the way`
        : `the route by ${route?.device} carries ${fits}`;
    const reason = `relay.mtu is ${mtu}, but ${where}: long messages to ${peer.id} would be lost or broken into fragments.`;
    const mend = [
      ...(fits >= 576
        ? [`in the configuration of every member: relay: { mtu: ${fits} }`, 'systemctl restart sipfarm']
        : []),
      local === undefined
        ? `or find the link with the small MTU: tracepath ${address}`
        : `or raise it: ip link set ${route?.device} mtu ${mtu} (and on the switch)`,
    ];
    return [finding('DR_RELAY_MTU', 'fault', `${peer.id} (${peer.relay})`, reason, mend)];
  });
}

function unreachableBecause(path: PathFacts | undefined, answersProbes: boolean | undefined): string | undefined {
  const tcp =
    path?.tcp === 'refused'
      ? 'refuses TCP connections: the member is not running there, or a packet filter rejects them'
      : path?.tcp === 'silent'
        ? 'does not answer TCP: the host is down, or a packet filter drops what goes there'
        : undefined;
  const udp = answersProbes === false ? 'does not answer the probes of this member by UDP' : undefined;
  return tcp && udp ? `${tcp}; and ${udp}` : (tcp ?? udp);
}

function checkReach(config: Config, facts: HostFacts): Finding[] {
  const found: Finding[] = [];
  for (const peer of others(config, facts)) {
    const seen = facts.member?.peers.find(({ id }) => id === peer.id);
    const because = unreachableBecause(facts.paths.get(peer.relay), seen?.reachable);
    if (because) {
      const { port } = parseEndpoint(peer.relay) ?? { port: 5064 };
      const missed = seen?.misses.includes(config.member)
        ? ` ${peer.id} says that it does not reach this member either.`
        : '';
      const seat = seen && !seen.seated ? ` ${peer.id} has no seat in the view.` : '';
      const rule = (host: string): string =>
        `on ${host}, in the chain for incoming packets: nft insert rule inet filter input meta l4proto '{ tcp, udp }' th dport ${port} accept`;
      found.push(
        finding(
          'DR_RELAY_UNREACHABLE',
          'fault',
          `${peer.id} (${peer.relay})`,
          `Its relay port ${because}.${missed}${seat}`,
          [
            rule(peer.id),
            rule(`${config.member}, if ${peer.id} finds the same of it`),
            `on ${peer.id}: sipfarm doctor`,
          ],
        ),
      );
    }
    for (const missed of seen?.misses ?? [])
      if (missed !== config.member || !because)
        found.push(
          finding(
            'DR_PEERS_APART',
            'warning',
            `${peer.id}, ${missed}`,
            `${peer.id} says that it cannot reach ${missed === config.member ? 'this member' : missed} over the relay link.`,
            [`on ${peer.id} and on ${missed}: sipfarm doctor`],
          ),
        );
  }
  return found;
}

function checkDuplicates(config: Config, facts: HostFacts): Finding[] {
  const byRelay = new Map<string, string[]>();
  for (const { id, relay } of facts.records) byRelay.set(relay, [...(byRelay.get(relay) ?? []), id]);
  return [...byRelay]
    .filter(([, ids]) => ids.length > 1)
    .map(([relay, ids]) =>
      finding(
        'DR_RELAY_DUPLICATE',
        'fault',
        relay,
        `${ids.join(' and ')} publish the same relay address: packets for one go to the other.`,
        [
          `in the configuration of ${ids.find((id) => id !== config.member) ?? ids[0]}: relay.bind: an address of its own host`,
          'systemctl restart sipfarm',
        ],
      ),
    );
}

function checkKeys(config: Config, facts: HostFacts): Finding[] {
  const found: Finding[] = [];
  const mend = [
    'bring the same keys to every member, in the same order: compare sha256sum of the key files on all hosts',
    'systemctl reload sipfarm',
  ];
  for (const { id, keys } of others(config, facts)) {
    const [theirs] = keys ?? [];
    const [own] = facts.keys;
    if (theirs === undefined || own === undefined) continue;
    const faults = [
      ...(facts.keys.includes(theirs) ? [] : [`${id} mints with a key that this member does not have`]),
      ...(keys?.includes(own) ? [] : [`this member mints with a key that ${id} does not have`]),
    ];
    if (faults.length > 0)
      found.push(finding('DR_KEY_MISMATCH', 'fault', id, `${faults.join('; ')}: frames and tokens are refused.`, mend));
  }
  const running = facts.records.find(({ id }) => id === config.member)?.keys;
  if (facts.member && running && running.join() !== facts.keys.join())
    found.push(
      finding(
        'DR_KEY_NOT_LOADED',
        'warning',
        config.member,
        'The running member has published other keys than its configuration holds now.',
        ['systemctl reload sipfarm'],
      ),
    );
  const { forgedFrames = 0, forgedTokens = 0 } = facts.member ?? {};
  if (forgedFrames + forgedTokens > 0)
    found.push(
      finding(
        'DR_FORGED',
        'warning',
        'relay link and tokens',
        `While the doctor looked, ${forgedFrames} frames and ${forgedTokens} tokens failed their check: a member has other keys, or somebody sends forged ones.`,
        ['sipfarm doctor on every member; DR_KEY_MISMATCH names the one with other keys'],
      ),
    );
  return found;
}

function checkStore(config: Config, store: StoreFacts | undefined): Finding[] {
  if (config.store.kind !== 'etcd' || store === undefined) return [];
  const { hosts, leaseSeconds } = config.store;
  const about = hosts.join(', ');
  if (store.trouble !== undefined)
    return [
      finding(
        'DR_STORE_UNREACHABLE',
        'fault',
        about,
        `etcd does not answer (${store.trouble}). A running farm goes on with its last view; a member cannot start.`,
        [`etcdctl --endpoints=${hosts.join(',')} endpoint health`, 'in the configuration: store.hosts'],
      ),
    ];
  const found: Finding[] = [];
  if (store.medianMs > SLOW_MS)
    found.push(
      finding(
        'DR_STORE_SLOW',
        'warning',
        about,
        `Half of the reads took longer than ${store.medianMs.toFixed(0)} ms, the slowest ${store.slowestMs.toFixed(0)} ms. A lease of ${leaseSeconds} s needs answers within ${SLOW_MS} ms.`,
        [
          'give etcd a disk of its own (it waits for fsync) and the same site as the members',
          `or in the configuration of every member: store.leaseSeconds: ${Math.min(300, leaseSeconds * 3)}`,
        ],
      ),
    );
  if (!store.takesLarge)
    found.push(
      finding(
        'DR_STORE_TXN_OPS',
        'fault',
        about,
        'etcd refused a transaction of 100 operations, the largest that sipfarm makes.',
        ['start etcd with --max-txn-ops=128, its default, or more'],
      ),
    );
  if (hosts.some((host) => host.startsWith('http:') && !/^http:\/\/(127\.|\[::1\]|localhost)/.test(host)))
    found.push(
      finding(
        'DR_STORE_PLAIN',
        'hint',
        about,
        'etcd is reached by http: who is on that network can read where members are, and write in their name.',
        ['in the configuration: https in store.hosts, with store.ca, store.cert and store.key'],
      ),
    );
  return found;
}

function checkStoreHosts(store: StoreFacts | undefined): Finding[] {
  return (store?.hosts ?? []).flatMap(({ host, clockAheadMs, full, history }) => {
    const found: Finding[] = [];
    if (full !== undefined && full > NEARLY_FULL)
      found.push(
        finding(
          'DR_STORE_SPACE',
          'warning',
          host,
          `Its database takes ${(full * 100).toFixed(0)} % of its quota; at 100 % etcd refuses every write.`,
          [
            `etcdctl --endpoints=${host} compact $(etcdctl --endpoints=${host} endpoint status -w json | grep -o '"revision":[0-9]*' | head -1 | cut -d: -f2)`,
            `etcdctl --endpoints=${host} defrag`,
          ],
        ),
      );
    if (history !== undefined && history > LONG_HISTORY)
      found.push(
        finding('DR_STORE_HISTORY', 'warning', host, `It keeps ${history} old revisions; the database only grows.`, [
          'start etcd with --auto-compaction-mode=periodic --auto-compaction-retention=1h',
        ]),
      );
    if (clockAheadMs !== undefined && Math.abs(clockAheadMs) > CLOCK_MS)
      found.push(
        finding(
          'DR_CLOCK',
          'warning',
          host,
          `Its clock is ${(Math.abs(clockAheadMs) / 1000).toFixed(0)} s ${clockAheadMs > 0 ? 'ahead of' : 'behind'} the clock of this host.`,
          ['timedatectl set-ntp true, on the host that is wrong'],
        ),
      );
    return found;
  });
}

function checkMember({ member }: HostFacts): Finding[] {
  if (member === undefined)
    return [
      finding(
        'DR_NOT_RUNNING',
        'hint',
        'this member',
        'No running member answers at the admin address, so what it knows of its peers was not looked at.',
        ['systemctl start sipfarm, then sipfarm doctor'],
      ),
    ];
  if (member.ready) return [];
  return [
    finding('DR_NOT_READY', 'warning', 'this member', `It is not ready: ${member.reasons.join('; ')}.`, [
      'journalctl -u sipfarm -n 50',
    ]),
  ];
}

export function checkFarm(config: Config, facts: HostFacts): Finding[] {
  return [
    ...checkMember(facts),
    ...checkStore(config, facts.store),
    ...checkStoreHosts(facts.store),
    ...checkKeys(config, facts),
    ...checkDuplicates(config, facts),
    ...checkReach(config, facts),
    ...checkMtu(config, facts),
  ];
}
