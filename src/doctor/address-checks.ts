// Checks addresses: the VIP of a DSR balancer, the kernel's ARP answers for it, and the addresses that clients receive.
import { formatEndpoint, formatPlace, isIpv6, isWildcard } from '../base/endpoint.ts';
import { type Config, isLoopback } from '../config/schema.ts';
import type { HostFacts, InterfaceFacts } from './facts.ts';
import { commandOf, type Finding, type Fix, finding, keepCommand, sysctlName } from './finding.ts';

type ListenerFact = Config['listeners'][number];

const hostPrefix = (address: string): number => (isIpv6(address) ? 128 : 32);
const conf = (device: string, name: string): string => `net/ipv4/conf/${device}/${name}`;

/** Returns the effective value: the larger of `all` and the interface (Documentation/networking/ip-sysctl). */
function effective(facts: HostFacts, device: string, name: string): number {
  const value = (at: string): number => Number(facts.sysctl.get(conf(at, name)) ?? 0);
  return Math.max(value('all'), value(device));
}

/** Returns the interfaces on which a neighbour could send ARP requests for an IPv4 address. */
function outer(facts: HostFacts): readonly InterfaceFacts[] {
  return facts.interfaces.filter(
    ({ inner, up, addresses }) => !inner && up && addresses.some(({ address }) => !isIpv6(address)),
  );
}

/** Returns the balancer's addresses that this host must hold under DSR. */
export function vips(config: Config): readonly string[] {
  if (config.balancer.mode !== 'dsr') return [];
  const bound = config.listeners.map(({ bind }) => bind.address);
  return [...new Set(bound)].filter((address) => !isWildcard(address) && !isLoopback(address));
}

function checkVip(vip: string, facts: HostFacts): Finding[] {
  const prefix = hostPrefix(vip);
  const places = facts.interfaces.flatMap(({ name, inner, addresses }) =>
    addresses.filter(({ address }) => address === vip).map((found) => ({ name, inner, prefix: found.prefix })),
  );
  if (places.length === 0) {
    const reason =
      `${vip} is on no interface of this host. With balancer.mode dsr packets arrive addressed to it. It must be on ` +
      'lo, with the mask of one address.';
    const keep = '# to keep it over a boot: docs/install.md, "The VIP"';
    return [finding('DR_VIP_MISSING', 'fault', vip, reason, [keep], [{ kind: 'address', address: vip, prefix }])];
  }
  return places.flatMap((place) => {
    const move = [
      `ip addr del ${vip}/${place.prefix} dev ${place.name}`,
      `ip addr add ${vip}/${prefix} dev lo`,
      '# and the same in the network configuration of this host: docs/install.md, "The VIP"',
    ];
    if (!place.inner) {
      const reason =
        `${vip} is on ${place.name}. This host answers ARP requests of neighbours for it, so traffic bypasses the ` +
        'balancer.';
      return [finding('DR_VIP_NOT_ON_LO', 'fault', vip, reason, move)];
    }
    if (place.prefix === prefix) return [];
    const reason =
      `With ${vip}/${place.prefix} on ${place.name} this host treats the whole network as its own. It cannot reach ` +
      'neighbours there, perhaps not even router and balancer.';
    return [finding('DR_VIP_MASK', 'fault', vip, reason, move)];
  });
}

/**
 * Checks that a kernel setting is one of `good` on every interface where a neighbour can send ARP requests. `set`: the
 * value that repairs it.
 */
function checkArp(
  facts: HostFacts,
  vips: readonly string[],
  name: 'arp_ignore' | 'arp_announce',
  good: readonly number[],
  set: string,
  reason: string,
): Finding[] {
  const bad = outer(facts).filter((device) => !good.includes(effective(facts, device.name, name)));
  if (bad.length === 0) return [];
  const fixes: Fix[] = [{ kind: 'sysctl', path: conf('all', name), value: set }];
  for (const { name: device } of bad)
    if (Number(facts.sysctl.get(conf(device, name)) ?? 0) > Number(set))
      fixes.push({ kind: 'sysctl', path: conf(device, name), value: set });
  const code = name === 'arp_ignore' ? 'DR_ARP_IGNORE' : 'DR_ARP_ANNOUNCE';
  const about = bad.map((device) => device.name).join(', ');
  const mend = vips.map(
    (vip) => `# then on the router, which otherwise goes on sending here: ip neigh flush to ${vip}`,
  );
  return [finding(code, 'fault', about, reason, mend, fixes)];
}

/** Checks the ARP settings of a DSR host with an IPv4 VIP. */
function checkArpSettings(config: Config, facts: HostFacts): Finding[] {
  const held = vips(config).filter((vip) => !isIpv6(vip));
  if (held.length === 0) return [];
  return [
    ...checkArp(
      facts,
      held,
      'arp_ignore',
      // 3 still answers for addresses of global scope, and an alias on lo has one.
      [1, 2, 8],
      '1',
      'arp_ignore is not 1 there (the larger of all and the interface counts). This host answers ARP requests for ' +
        'the VIP. A host that receives the answer sends all packets here, past the balancer.',
    ),
    ...checkArp(
      facts,
      held,
      'arp_announce',
      [2],
      '2',
      'arp_announce is not 2 there (the larger of all and the interface counts). Before the first answer from the ' +
        'VIP the kernel sends an ARP request to the router with the VIP as sender. The router then sends all packets ' +
        'here, past the balancer.',
    ),
    ...checkPersisted(facts, { arp_ignore: ['1', '2', '8'], arp_announce: ['2'] }),
  ];
}

/**
 * Checks that settings with a right value now keep it after a boot. `good`: the right values by name. Returns one
 * finding for all that would be lost.
 */
function checkPersisted(facts: HostFacts, good: Readonly<Record<string, readonly string[]>>): Finding[] {
  const fading = Object.entries(good).flatMap(([name, values]) => {
    const path = conf('all', name);
    const now = facts.sysctl.get(path);
    if (now === undefined || !values.includes(now)) return [];
    const kept = facts.persisted.get(path);
    return kept !== undefined && values.includes(kept) ? [] : [{ path, now, kept }];
  });
  if (fading.length === 0) return [];
  const settings = fading.map(
    ({ path, now, kept }) =>
      `${sysctlName(path)} is ${now} as required, but ` +
      `${kept === undefined ? 'no file in /etc/sysctl.d sets it' : `the files in /etc/sysctl.d make it ${kept}`}`,
  );
  const reason = `${settings.join('; ')}. After the next boot this host answers ARP requests for the VIP.`;
  const about = fading.map(({ path }) => sysctlName(path)).join(', ');
  return [
    finding(
      'DR_NOT_PERSISTED',
      'hint',
      about,
      reason,
      fading.map(({ path, now }) => keepCommand(path, now)),
    ),
  ];
}

function listenerName({ name, bind }: ListenerFact): string {
  return `listener ${name} (${formatEndpoint(bind)})`;
}

/** Returns the addresses of lo and of dummy interfaces that are not loopback: probably VIPs. */
function aliasesOf(facts: HostFacts): ReadonlySet<string> {
  const inner = facts.interfaces.filter((device) => device.inner);
  const found = inner.flatMap(({ addresses }) => addresses.map(({ address }) => address));
  return new Set(found.filter((address) => !isLoopback(address)));
}

/** Finds wildcard listeners whose VIP is an alias here: they are behind DSR, regardless of `balancer.mode`. */
function checkWildcards(config: Config, facts: HostFacts): Finding[] {
  const aliases = aliasesOf(facts);
  return config.listeners
    .filter(({ bind, advertise }) => isWildcard(bind.address) && aliases.has(advertise.host))
    .map((listener) => {
      const vip = formatPlace(listener.advertise);
      const reason =
        `It is bound to all addresses while the VIP ${vip} is an alias here. Its UDP answers leave from the address ` +
        'of the route, not from the VIP, and clients drop them.';
      const mend = [
        `# in ${facts.file}, listener ${listener.name}: bind: "${vip}"`,
        `# in ${facts.file}: balancer: { mode: dsr }`,
        'systemctl restart sipfarm',
      ];
      return finding('DR_WILDCARD_BIND', 'fault', listenerName(listener), reason, mend);
    });
}

function checkAdvertise(config: Config, facts: HostFacts): Finding[] {
  if (config.balancer.mode !== 'nat') return [];
  const aliases = aliasesOf(facts);
  return config.listeners
    .filter(({ bind, advertise }) => formatEndpoint(bind) === formatPlace(advertise) && !aliases.has(bind.address))
    .map((listener) => {
      const reason =
        "With balancer.mode nat clients use the balancer's address, but Via and Record-Route will show " +
        `${formatEndpoint(listener.bind)}.`;
      const mend = [
        `# in ${facts.file}, listener ${listener.name}: advertise: the address and port of the balancer that ` +
          'clients use',
        'systemctl restart sipfarm',
      ];
      return finding('DR_ADVERTISE_MISSING', 'fault', listenerName(listener), reason, mend);
    });
}

function checkProbes(config: Config, facts: HostFacts): Finding[] {
  const { mode, probes } = config.balancer;
  if (mode === 'none' || probes.length > 0 || config.listeners.length === 0) return [];
  const reason =
    'balancer.probes is empty. A health request to the VIP is treated like any other, so another member may answer ' +
    'it instead of this one.';
  const mend = [
    `# in ${facts.file}: balancer: { probes: [the addresses from which the balancer sends its probes] }`,
    'systemctl reload sipfarm',
  ];
  return [finding('DR_PROBES_EMPTY', 'warning', 'balancer.probes', reason, mend)];
}

/**
 * Returns the devices on which packets from client addresses arrive, although the route to the client may use another
 * device. `packets`: what arrives there. `certain`: the configuration proves it.
 */
function entrances(
  config: Config,
  facts: HostFacts,
): ReadonlyMap<string, { readonly packets: string; readonly certain: boolean }> {
  const found = new Map<string, { readonly packets: string; readonly certain: boolean }>();
  if (config.balancer.mode === 'dsr' && facts.defaultDevice !== undefined) {
    for (const { name } of outer(facts)) found.set(name, { packets: 'packets of the balancer', certain: false });
    for (const probe of config.balancer.probes) {
      const device = facts.routes.get(probe.replace(/\/(32|128)$/, ''))?.device;
      if (device !== undefined) found.set(device, { packets: 'packets of the balancer', certain: true });
    }
  }
  const { address } = config.relay.bind;
  const link = facts.interfaces.find(({ addresses }) => addresses.some((own) => own.address === address));
  // rp_filter exists for IPv4 only.
  if (config.relay.mode === 'transparent' && link && !isIpv6(address))
    found.set(link.name, { packets: 'packets relayed with the addresses of clients', certain: true });
  return found;
}

/**
 * Finds strict filtering on interfaces where clients' packets arrive, or could, and the route back is by another
 * interface.
 */
function checkReversePath(config: Config, facts: HostFacts): Finding[] {
  return [...entrances(config, facts)]
    .filter(([name]) => name !== facts.defaultDevice && effective(facts, name, 'rp_filter') === 1)
    .map(([name, { packets, certain }]) => {
      const way =
        facts.defaultDevice === undefined
          ? 'no route leads to clients'
          : `the route to clients uses ${facts.defaultDevice}`;
      const reason =
        `On ${name} ${certain ? '' : 'perhaps '}${packets} arrive, but ${way}. rp_filter 1 (strict) drops these ` +
        'packets.';
      const fixes: Fix[] = [{ kind: 'sysctl', path: conf(name, 'rp_filter'), value: '2' }];
      if (certain) return finding('DR_RP_FILTER', 'fault', name, reason, [], fixes);
      const mend = [
        '# if packets of the balancer arrive there:',
        ...fixes.map(commandOf),
        keepCommand(conf(name, 'rp_filter'), '2'),
      ];
      return finding('DR_RP_FILTER', 'hint', name, reason, mend);
    });
}

export function checkAddresses(config: Config, facts: HostFacts): Finding[] {
  return [
    ...checkWildcards(config, facts),
    ...checkArpSettings(config, facts),
    ...vips(config).flatMap((vip) => checkVip(vip, facts)),
    ...checkReversePath(config, facts),
    ...checkAdvertise(config, facts),
    ...checkProbes(config, facts),
  ];
}
