// Checks this member in its farm: relay link, keys, store, clock.

import { type Endpoint, parseEndpoint } from '../base/endpoint.ts';
import type { Config } from '../config/schema.ts';
import { memberIds } from '../config/workers.ts';
import type { MemberRecord } from '../membership/member-record.ts';
import type { HostFacts, PathFacts, StoreFacts } from './facts.ts';
import { type Finding, type Fix, finding } from './finding.ts';
import { MAX_PACKET } from './path-probe.ts';

/**
 * Milliseconds of a slow read. A lease is renewed five times in its life; a slower store leaves no time for a retry.
 */
const SLOW_MS = 100;
const LONG_HISTORY = 1_000_000;
const NEARLY_FULL = 0.8;
const CLOCK_MS = 5000;
const TCP_PROBING = 'net/ipv4/tcp_mtu_probing';

function others(config: Config, facts: HostFacts): readonly MemberRecord[] {
  const own = memberIds(config);
  return facts.records.filter(({ id }) => !own.includes(id));
}

/**
 * Finds peers whose path carries fewer octets than are sent there: datagrams up to `relay.mtu`, and TCP up to the MTU
 * of the route. TCP is left out when the kernel finds the path MTU itself.
 */
function checkMtu(config: Config, facts: HostFacts): Finding[] {
  const { mtu } = config.relay;
  const kernelProbes = Number(facts.sysctl.get(TCP_PROBING) ?? 0) > 0;
  return others(config, facts).flatMap((peer) => {
    const address = parseEndpoint(peer.relay)?.address ?? '';
    const route = facts.routes.get(address);
    const passes = facts.paths.get(peer.relay)?.passes;
    const vanish = passes !== undefined && passes < Math.min(route?.mtu ?? mtu, MAX_PACKET) ? passes : undefined;
    const fits = Math.min(route?.mtu ?? mtu, vanish ?? mtu);
    const streamLost = vanish !== undefined && !kernelProbes;
    if (fits >= mtu && !streamLost) return [];
    const where =
      vanish === undefined
        ? `the route by ${route?.device} carries ${fits} octets`
        : `packets of ${fits} octets reach it, and longer ones are lost without an error`;
    const sent = fits < mtu ? `relay.mtu is ${mtu}` : 'TCP sends longer ones';
    const reason = `Long messages to ${peer.id} are lost: ${where}. ${sent.charAt(0).toUpperCase()}${sent.slice(1)}.`;
    const fixes: Fix[] = streamLost ? [{ kind: 'sysctl', path: TCP_PROBING, value: '1' }] : [];
    const mend = [
      ...(fits < mtu && fits >= 576
        ? [`# on every member, in ${facts.file}: relay: { mtu: ${fits} }`, 'systemctl restart sipfarm']
        : []),
      vanish === undefined
        ? `# or raise it, here and on the switch: ip link set ${route?.device} mtu ${mtu}`
        : `# or instead of all that, on both hosts, mend the link with the small MTU: tracepath ${address} finds it`,
    ];
    return [finding('DR_RELAY_MTU', 'fault', `${peer.id} (${peer.relay})`, reason, mend, fixes)];
  });
}

function unreachableBecause(
  tcp: PathFacts['tcp'] | undefined,
  answersProbes: boolean | undefined,
  otherKey: boolean,
): string | undefined {
  const stream =
    tcp === 'refused'
      ? 'refuses TCP connections: the member is not running there, or a packet filter rejects them'
      : tcp === 'silent'
        ? 'does not answer TCP: the host is down, or a packet filter drops packets to it'
        : undefined;
  // A peer with another key answers no probe.
  const datagram =
    answersProbes === false && !otherKey ? 'does not answer the probes of this member by UDP' : undefined;
  if (stream) return datagram ? `${stream}; and it ${datagram}` : stream;
  return datagram && `answers TCP, but it ${datagram}: a packet filter, here or there, drops datagrams`;
}

const KEEP_RULE =
  '# write the same rule into the file of the packet filter (/etc/nftables.conf), to keep it after a boot';

/** Returns the command line that opens the packet filter for the relay link of `workers` workers. */
function letIn(relay: Endpoint | undefined, workers = 1): string {
  const { port } = relay ?? { port: 5064 };
  const ports = workers === 1 ? port : `${port}-${port + workers - 1}`;
  return `nft insert rule inet filter input meta l4proto '{ tcp, udp }' th dport ${ports} accept`;
}

function checkReach(config: Config, facts: HostFacts): Finding[] {
  const found: Finding[] = [];
  const here = letIn(config.relay.bind, config.workers);
  for (const peer of others(config, facts)) {
    const role = peer.role === 'member' ? '' : `, role ${peer.role}`;
    const seen = facts.member?.peers.find(({ id }) => id === peer.id);
    const tcp = facts.paths.get(peer.relay)?.tcp;
    const because = unreachableBecause(tcp, seen?.reachable, keysApart(peer, facts).length > 0);
    const there = `# on ${peer.id}: ${letIn(parseEndpoint(peer.relay))}`;
    if (because) {
      const missed = seen?.misses.some((id) => memberIds(config).includes(id))
        ? ` ${peer.id} reports that it does not reach this member either.`
        : '';
      const seat = seen && !seen.seated ? ` ${peer.id} has no seat in the view.` : '';
      const mend = [...(tcp === 'open' || tcp === undefined ? [here] : []), there, KEEP_RULE];
      found.push(
        finding(
          'DR_RELAY_UNREACHABLE',
          'fault',
          `${peer.id} (${peer.relay}${role})`,
          `It ${because}.${missed}${seat}`,
          [...mend, `# on ${peer.id}: sipfarm doctor`],
        ),
      );
    }
    for (const missed of seen?.misses ?? []) {
      const about = `${peer.id}, ${missed}`;
      if (!memberIds(config).includes(missed)) {
        const reason = `${peer.id} reports that it cannot reach ${missed} over the relay link.`;
        found.push(
          finding('DR_PEERS_APART', 'warning', about, reason, [`# on ${peer.id} and on ${missed}: sipfarm doctor`]),
        );
      } else if (!because && keysApart(peer, facts).length === 0) {
        const reason =
          `${peer.id} reports that it cannot reach this member, but this member reaches ${peer.id}. A packet filter ` +
          'here drops incoming packets.';
        found.push(
          finding('DR_PEERS_APART', 'fault', about, reason, [here, KEEP_RULE, `# on ${peer.id}: sipfarm doctor`]),
        );
      }
    }
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
          `# on ${ids.find((id) => id !== config.member) ?? ids[0]}, in ${facts.file}: relay: { bind: an address ` +
            'of that host }',
          '# and there: systemctl restart sipfarm',
        ],
      ),
    );
}

/** Returns the reasons why this member and the other refuse each other's frames and tokens. */
function keysApart({ id, keys }: MemberRecord, facts: HostFacts): readonly string[] {
  const [theirs] = keys ?? [];
  const [own] = facts.keys;
  if (theirs === undefined || own === undefined) return [];
  return [
    ...(facts.keys.includes(theirs) ? [] : [`${id} signs with a key that this member does not have`]),
    ...(keys?.includes(own) ? [] : [`this member signs with a key that ${id} does not have`]),
  ];
}

function checkKeys(config: Config, facts: HostFacts): Finding[] {
  const found: Finding[] = [];
  const mend = [
    '# copy the same keys to every member, in the same order: sha256sum of the key file must be the same on all',
    'systemctl reload sipfarm    # on each member whose keys have changed',
  ];
  for (const peer of others(config, facts)) {
    const faults = keysApart(peer, facts);
    const reason = `${faults.join('; ')}. Each refuses packets that the other relays.`;
    if (faults.length > 0) found.push(finding('DR_KEY_MISMATCH', 'fault', peer.id, reason, mend));
  }
  const running = facts.records.find(({ id }) => memberIds(config).includes(id))?.keys;
  if (facts.member && running && running.join() !== facts.keys.join())
    found.push(
      finding(
        'DR_KEY_NOT_LOADED',
        'warning',
        config.member,
        'The running member has published other keys than its configuration file lists now.',
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
        `While the doctor ran, ${forgedFrames} frames and ${forgedTokens} tokens failed their check. A member has ` +
          'other keys, or another host sends forged ones.',
        ['# sipfarm doctor on every member: DR_KEY_MISMATCH names the one with other keys'],
      ),
    );
  return found;
}

function checkStore(config: Config, { file, store }: HostFacts): Finding[] {
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
        [`etcdctl --endpoints=${hosts.join(',')} endpoint health`, `# or correct store.hosts in ${file}`],
      ),
    ];
  const found: Finding[] = [];
  if (store.medianMs > SLOW_MS)
    found.push(
      finding(
        'DR_STORE_SLOW',
        'warning',
        about,
        `Half of the reads took longer than ${store.medianMs.toFixed(0)} ms, the slowest ` +
          `${store.slowestMs.toFixed(0)} ms. A lease of ${leaseSeconds} s needs answers within ${SLOW_MS} ms.`,
        [
          '# give etcd a disk of its own (it waits for fsync), in the same site as the members',
          `# or, on every member, in ${file}: store: { leaseSeconds: ${Math.min(300, leaseSeconds * 3)} }`,
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
        ['# start etcd with --max-txn-ops=128, its default, or more'],
      ),
    );
  if (hosts.some((host) => host.startsWith('http:') && !/^http:\/\/(127\.|\[::1\]|localhost)/.test(host)))
    found.push(
      finding(
        'DR_STORE_PLAIN',
        'hint',
        about,
        'Members reach etcd by http. Anybody on that network can read the addresses of members, and write in their ' +
          'name.',
        [`# in ${file}: https in store.hosts, with store.ca, store.cert and store.key`],
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
          `Its database uses ${(full * 100).toFixed(0)} % of its quota; at 100 % etcd refuses every write.`,
          [
            `etcdctl --endpoints=${host} compact $(etcdctl --endpoints=${host} endpoint status -w json | grep -o ` +
              `'"revision":[0-9]*' | head -1 | cut -d: -f2)`,
            `etcdctl --endpoints=${host} defrag`,
          ],
        ),
      );
    if (history !== undefined && history > LONG_HISTORY)
      found.push(
        finding('DR_STORE_HISTORY', 'warning', host, `It keeps ${history} old revisions; the database only grows.`, [
          '# start etcd with --auto-compaction-mode=periodic --auto-compaction-retention=1h',
        ]),
      );
    if (clockAheadMs !== undefined && Math.abs(clockAheadMs) > CLOCK_MS)
      found.push(
        finding(
          'DR_CLOCK',
          'warning',
          host,
          `Its clock is ${(Math.abs(clockAheadMs) / 1000).toFixed(0)} s ` +
            `${clockAheadMs > 0 ? 'ahead of' : 'behind'} the clock of this host.`,
          ['# on the host whose clock is wrong: timedatectl set-ntp true'],
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
        'No running member answers at the admin address. Its data about peers was not checked.',
        ['systemctl start sipfarm'],
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
    ...checkStore(config, facts),
    ...checkStoreHosts(facts.store),
    ...checkKeys(config, facts),
    ...checkDuplicates(config, facts),
    ...checkReach(config, facts),
    ...checkMtu(config, facts),
  ];
}
