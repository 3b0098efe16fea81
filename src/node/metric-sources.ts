// Values that the metrics read from the node at each scrape.
import type { CallTable } from '../calls/table/call-table.ts';
import type { Metrics } from '../metrics/metrics.ts';
import { isMember, type SeatRole, type View } from '../ownership/view.ts';
import type { RelayLink } from '../relay/relay-link.ts';
import type { Service } from '../service/service.ts';
import type { Store } from '../store/store.ts';
import type { Transport } from '../transport/transport.ts';
import type { RoutingState } from './routing-state.ts';

export interface Measured {
  readonly routing: RoutingState;
  readonly store: Store;
  readonly calls: CallTable;
  readonly link: RelayLink;
  readonly transport: Transport;
  readonly service: Pick<Service, 'status'>;
  readonly view: () => View | undefined;
}

export function feedMetrics(sources: Metrics['sources'], of: Measured): void {
  const { routing, store, calls, link, transport, service, view } = of;
  sources.ownedCalls = () => calls.calls;
  sources.viewEpoch = () => routing.tables.epoch;
  sources.members = () => {
    const seats = view()?.seats ?? [];
    const members = seats.filter(isMember);
    const draining = members.filter(({ state }) => state === 'draining').length;
    const outside = (role: SeatRole): number => seats.filter((seat) => seat.role === role).length;
    return {
      active: members.length - draining,
      draining,
      disabled: outside('disabled'),
      relay: outside('relay'),
    };
  };
  sources.peersReachable = () => link.reachablePeers().length;
  sources.storeUp = () => store.up;
  sources.tcpConnections = () => transport.connections();
  sources.upstreamUp = () => service.status.up;
}
