// Formats the report of the media ports for `sipfarm ports`.

import { rangeText } from '../media/port-claims.ts';
import type { OwnPorts, PortCapacity, PortCounts, PortsReport } from '../media/port-status.ts';
import { printable, table } from './table.ts';

const HEADINGS = ['MEMBER', 'PLAN', 'SIDE', 'ADDRESS', 'SDP SHOWS', 'PORTS', 'FREE', 'USED', 'RESTING', 'FOREIGN'];

/** Returns two lines for a member: its ports towards the clients, and those towards the SIP server. */
function linesOf({ member, plan, bind, advertised, inside, first, last, counts }: OwnPorts): (string | number)[][] {
  const numbers = (side: keyof PortCounts): (string | number)[] => {
    const { free, used, resting, foreign } = counts?.[side] ?? { free: '-', used: '-', resting: '-', foreign: '-' };
    return [free, used, resting, foreign];
  };
  const range = rangeText({ first, last });
  return [
    [member, plan, 'clients', bind, advertised, range, ...numbers('outside')],
    [member, plan, 'server', inside, inside, range, ...numbers('inside')],
  ];
}

function capacityLine(plan: OwnPorts['plan'], { ports, claimed, audioCalls, videoCalls }: PortCapacity): string {
  const calls = `${audioCalls} calls with audio, or ${videoCalls} with audio and video`;
  return plan === 'single-ip'
    ? `One public address carries ${ports} ports for the whole farm: ${calls}. ${claimed} ports are claimed.`
    : `The members of plan ${plan} carry ${ports} ports: ${calls}.`;
}

/** Returns the ports of the members that answer, the claims of the farm, what they carry, and the warnings. */
export function showPorts({ own, claims, capacity, warnings }: PortsReport): string {
  const [first] = own;
  const mine = first ? table(HEADINGS, own.flatMap(linesOf)) : 'This member has no section media: it relays no media.';
  const rows = (claims ?? []).map((claim) => {
    const { member, plan, bind, advertised } = claim;
    return [member, plan, bind, advertised, rangeText(claim)];
  });
  return [
    mine,
    ...(rows.length > 0
      ? ['', 'Claims of the farm:', table(['MEMBER', 'PLAN', 'BIND', 'SDP SHOWS', 'PORTS'], rows)]
      : []),
    ...(first && capacity ? ['', capacityLine(first.plan, capacity)] : []),
    ...own.flatMap(({ member, trouble }) =>
      trouble ? [`${trouble.code}: ${member}: ${printable(trouble.message)}`] : [],
    ),
    ...warnings.map((warning) => `warning: ${printable(warning)}`),
  ].join('\n');
}
