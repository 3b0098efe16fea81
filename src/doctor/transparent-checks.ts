// Checks the needs of `relay.mode: transparent` other than the network: the native module, and the right to open a raw
// socket.
import type { Config } from '../config/schema.ts';
import type { HostFacts } from './facts.ts';
import { type Finding, finding } from './finding.ts';

const ENVELOPE = (file: string): string => `# or do without, in ${file}: relay: { mode: envelope }`;

export function checkTransparent(config: Config, { raw, file, member }: HostFacts): Finding[] {
  if (config.relay.mode !== 'transparent' || raw === undefined) return [];
  const found: Finding[] = [];
  if (raw.lacks === 'module') {
    const mend = [
      /build it with: ([^()]+?) *(?:\(|$)/.exec(raw.trouble ?? '')?.[1] ??
        '# docs/transparent-relay.md, "What it needs"',
      ENVELOPE(file),
      'systemctl restart sipfarm',
    ];
    found.push(finding('DR_RAW_MODULE', 'fault', 'raw-socket', `No raw socket can be opened: ${raw.trouble}.`, mend));
  }
  const unitLacks = raw.unitRights !== undefined && !/\bcap_net_raw\b/i.test(raw.unitRights);
  if (unitLacks) {
    const mend = [
      'mkdir -p /etc/systemd/system/sipfarm.service.d',
      "printf '[Service]\\nAmbientCapabilities=CAP_NET_RAW\\nCapabilityBoundingSet=CAP_NET_RAW\\n' > " +
        '/etc/systemd/system/sipfarm.service.d/transparent.conf',
      'systemctl daemon-reload',
      'systemctl restart sipfarm',
      ENVELOPE(file),
    ];
    const reason =
      'The systemd unit does not give sipfarm the right CAP_NET_RAW. A member does not start in this mode without it.';
    // A member that was not started by the service, for example by root, has the right.
    found.push(finding('DR_RAW_RIGHT', member ? 'hint' : 'fault', 'sipfarm.service', reason, mend));
  } else if (raw.lacks === 'right' && !member) {
    const reason = `The user of this shell can open no raw socket: ${raw.trouble}.`;
    found.push(finding('DR_RAW_RIGHT', 'hint', 'this shell', reason, ['# as root: sipfarm doctor']));
  }
  return found;
}
