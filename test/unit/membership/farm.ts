// Members of one farm in one process, for the tests of membership.
import { pino } from 'pino';
import type { Clock } from '../../../src/base/clock.ts';
import type { MemberRecord, MemberRecordParts } from '../../../src/membership/member-record.ts';
import { Membership, type MembershipOptions } from '../../../src/membership/membership.ts';
import type { View } from '../../../src/ownership/view.ts';
import type { Store } from '../../../src/store/store.ts';

export const LEASE_SECONDS = 5;

/** A member that records its notifications. */
export class Member<S extends Store = Store> {
  readonly store: S;
  readonly membership: Membership;
  readonly views: View[] = [];
  /** In order: isolated, seat-lost, rejoined <incarnation>. */
  readonly events: string[] = [];
  records: readonly MemberRecord[] = [];
  parts: MemberRecordParts;

  constructor(clock: Clock, store: S, id: string, more?: Partial<MembershipOptions>) {
    this.store = store;
    this.parts = {
      role: 'member',
      weight: 100,
      relay: '10.0.0.1:5064',
      listeners: [{ name: 'edge', transport: 'udp', bind: '10.0.0.1:5060', advertise: '198.51.100.1:5060' }],
      versions: { sipfarm: '0.1.0', min: 1, max: 1 },
      startedAt: new Date(clock.wall()).toISOString(),
    };
    this.membership = new Membership({
      store,
      clock,
      log: pino({ level: 'silent' }),
      id,
      leaseSeconds: LEASE_SECONDS,
      host: `host-of-${id}`,
      record: () => this.parts,
      onView: (view) => this.views.push(view),
      onMembers: (records) => {
        this.records = records;
      },
      onIsolated: () => this.events.push('isolated'),
      onRejoined: ({ incarnation }) => this.events.push(`rejoined ${incarnation}`),
      onSeatLost: () => this.events.push('seat-lost'),
      ...more,
    });
  }

  get view(): View | undefined {
    return this.views.at(-1);
  }

  /** `id/incarnation` of each seat, with `*` when it is draining. */
  get seats(): string {
    const seats = this.view?.seats ?? [];
    return seats.map((seat) => `${seat.id}/${seat.incarnation}${seat.state === 'draining' ? '*' : ''}`).join(' ');
  }
}
