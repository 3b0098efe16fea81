// The context of a service over the parts of one real member in memory, with a call table and a journal of its own.
import type { TestContext } from 'node:test';
import { asHostPort, type Endpoint } from '../../../../src/base/endpoint.ts';
import type { CallJournal } from '../../../../src/calls/records/call-journal.ts';
import { CallTable } from '../../../../src/calls/table/call-table.ts';
import { RemoteListeners } from '../../../../src/egress/remote-listeners.ts';
import { dropCells } from '../../../../src/ingress/packet-path.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { Packet } from '../../../../src/packet/packet.ts';
import { type ServiceContext, serviceContext } from '../../../../src/service/shared/context.ts';
import { OwnNames } from '../../../../src/service/shared/own-names.ts';
import type { Scan } from '../../../../src/sip/scan.ts';
import { EDGE, type WayFarm, type WayMember, wayFarm } from '../../ingress/way-farm.ts';
import { scanned } from '../../sip/messages.ts';

/** Endpoint of the member that faces its SIP server. */
export const INNER: Endpoint = { address: '10.0.0.1', port: 5062 };

export interface ContextRig {
  readonly farm: WayFarm;
  readonly member: WayMember;
  readonly context: ServiceContext;
}

/** `journal`: left out, no calls are recorded. */
export async function contextRig(t: TestContext, journal?: CallJournal, members = 1): Promise<ContextRig> {
  const farm = await wayFarm(t, { members });
  const member = farm.member(1);
  const { transport, egress } = member;
  const own = transport.listeners.flatMap(({ local, advertise }) => [asHostPort(local), advertise]);
  const names = new OwnNames(asHostPort(INNER), own, []);
  const parts = {
    routing: member,
    clock: farm.clock,
    transport,
    egress,
    calls: new CallTable({ ringingSeconds: 200, longestCallSeconds: 7200, maxEntries: 100, evicted: { n: 0 } }),
    ...(journal && { journal }),
    drops: dropCells(new CellFamily({ name: 'verdicts_total', help: '', labels: ['verdict', 'reason'] })),
    handled: new CellFamily({ name: 'handled', help: '', labels: ['from', 'kind'] }),
    remoteListeners: new RemoteListeners({ own: transport.listeners, role: 'member' }),
  };
  return { farm, member, context: serviceContext(parts, INNER, names, () => 'detect') };
}

/** Scans a whole message of a test. Throws when it is refused. */
export function scanOf(bytes: Buffer): Scan {
  const { scan, fault } = scanned(bytes);
  if (fault !== null) throw new Error(`the message of the test is refused: ${fault}`);
  return scan;
}

/** Returns the packet of a message that came to the listener `edge`. */
export function packetOf(bytes: Buffer, address: string, port: number): Packet {
  return Object.assign(new Packet(), { bytes, end: bytes.length, address, port, listener: EDGE });
}
