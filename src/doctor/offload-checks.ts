// Checks what the media relay in the kernel needs: nft, the right CAP_NET_ADMIN, forwarding, and no filter against it.
// Without it all media is relayed in user space, so the faults of `media.offload: auto` are hints.
import { isIpv6 } from '../base/endpoint.ts';
import { arrivalsOf, missingForwarding } from '../media/kernel/forwarding.ts';
import type { HostFacts, OffloadFacts } from './facts.ts';
import { commandOf, type Finding, type Fix, finding, keepCommand, type Severity } from './finding.ts';

const RESTART = 'systemctl restart sipfarm    # while no call is relayed in the kernel';

function checkNft({ nft, unitRights }: OffloadFacts, severity: Severity): Finding[] {
  if (nft === 'missing') {
    const mend = ['apt-get install nftables    # or: dnf install nftables', RESTART];
    return [finding('DR_OFFLOAD_NFT', severity, 'nft', 'There is no program nft.', mend)];
  }
  if (unitRights !== undefined && !/\bcap_net_admin\b/i.test(unitRights)) {
    const rights = [...new Set([...unitRights.toUpperCase().split(/\s+/), 'CAP_NET_ADMIN'])].join(' ').trim();
    const mend = [
      'mkdir -p /etc/systemd/system/sipfarm.service.d',
      `printf '[Service]\\nAmbientCapabilities=${rights}\\nCapabilityBoundingSet=${rights}\\n' > ` +
        '/etc/systemd/system/sipfarm.service.d/offload.conf',
      'systemctl daemon-reload',
      RESTART,
    ];
    const reason = 'The systemd unit does not give sipfarm the right CAP_NET_ADMIN, without which nft changes nothing.';
    return [finding('DR_OFFLOAD_RIGHT', severity, 'sipfarm.service', reason, mend)];
  }
  if (nft === 'refused') {
    const reason =
      'A trial of the table failed. The user of this shell has no right CAP_NET_ADMIN, or nft or the kernel is too old.';
    return [finding('DR_OFFLOAD_RIGHT', 'hint', 'this shell', reason, ['# as root: sipfarm doctor'])];
  }
  return [];
}

/** Returns the settings that let packets pass from the interfaces of these addresses. */
function forwardingFixes({ addresses }: OffloadFacts, { interfaces, sysctl }: HostFacts): readonly Fix[] {
  const missing = missingForwarding(addresses, interfaces, (path) => sysctl.get(path));
  const fixes = missing.map((setting): Fix => ({ kind: 'sysctl', ...setting }));
  if (!missing.some(({ path }) => path === 'net/ipv6/conf/all/forwarding')) return fixes;
  // A host with forwarding takes no more routes from router advertisements, unless accept_ra is 2.
  const paths = interfaces.map(({ name }) => `net/ipv6/conf/${name}/accept_ra`);
  const kept = paths.filter((path) => sysctl.get(path) === '1');
  return [...kept.map((path): Fix => ({ kind: 'sysctl', path, value: '2' })), ...fixes];
}

function checkForwarding(offload: OffloadFacts, facts: HostFacts, severity: Severity): Finding[] {
  const fixes = forwardingFixes(offload, facts);
  if (fixes.length === 0) return [];
  const about = [...new Set(offload.addresses.flatMap((address) => arrivalsOf(address, facts.interfaces)))].join(', ');
  const reason = 'The kernel passes no packet on that arrives there, so it cannot relay media.';
  const mend = [
    '# this host then passes on other packets, too: drop them in a forward chain if it is no router',
    RESTART,
  ];
  return [finding('DR_OFFLOAD_FORWARDING', severity, about, reason, mend, fixes)];
}

function checkFilter({ dropping, addresses }: OffloadFacts, { interfaces }: HostFacts): Finding[] {
  const devices = [...new Set(addresses.flatMap((address) => arrivalsOf(address, interfaces)))].join(', ');
  return dropping.map((chain) => {
    const reason =
      'This chain drops packets that are passed on, if none of its rules accepts them. sipfarm notices it at the first ' +
      'call, which is silent for a second or two, and relays media in user space then.';
    const mend = [
      '# if no rule accepts media yet:',
      `# nft insert rule ${chain} iifname { ${devices} } oifname { ${devices} } meta l4proto udp accept`,
    ];
    return finding('DR_OFFLOAD_FILTER', 'hint', chain, reason, mend);
  });
}

/** The strict source check treats a packet alike, whether it is for a socket or is passed on. */
function checkSources({ addresses }: OffloadFacts, { interfaces, sysctl, defaultDevice }: HostFacts): Finding[] {
  const [outside = ''] = addresses;
  if (isIpv6(outside) || defaultDevice === undefined) return [];
  const arrivals = arrivalsOf(outside, interfaces).filter((name) => name !== defaultDevice);
  const of = (name: string): number => Number(sysctl.get(`net/ipv4/conf/${name}/rp_filter`) ?? 0);
  return arrivals
    .filter((name) => Math.max(of('all'), of(name)) === 1)
    .map((name) => {
      const path = `net/ipv4/conf/${name}/rp_filter`;
      const reason =
        `Media for ${outside} arrives on ${name}, and the route to clients uses ${defaultDevice}. rp_filter 1 (strict) ` +
        'drops packets of sources with another route back.';
      const fix: Fix = { kind: 'sysctl', path, value: '2' };
      const mend = [`# if clients arrive there:`, commandOf(fix), keepCommand(path, '2')];
      return finding('DR_OFFLOAD_SOURCE', 'hint', name, reason, mend);
    });
}

/** Returns the findings about `media.offload`; none without its facts. */
export function checkOffload(facts: HostFacts): Finding[] {
  const { offload } = facts;
  if (!offload) return [];
  const severity = offload.mode === 'on' ? 'fault' : 'hint';
  return [
    ...checkNft(offload, severity),
    ...checkForwarding(offload, facts, severity),
    ...checkFilter(offload, facts),
    ...checkSources(offload, facts),
  ];
}
