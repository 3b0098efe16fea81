// A node whose API returns constants to the admin server.
import { decode } from '../../../src/admin/decode.ts';
import type { AdminApi, CallSummary, Readiness } from '../../../src/admin/status.ts';
import { SipfarmError } from '../../../src/base/errors.ts';
import type { ClusterSettings } from '../../../src/config/schema.ts';
import type { PortsReport } from '../../../src/media/port-status.ts';
import type { OrderStatus } from '../../../src/orders/order-status.ts';

export interface FakeApi extends AdminApi {
  readiness: Readiness;
  settings: ClusterSettings;
  storeDown: boolean;
  records: CallSummary[];
  /** Status of fe1; every other member is unknown. */
  status: OrderStatus;
  portsReport: PortsReport;
  /** Requests that the order API and the API of the media ports received. */
  readonly asked: string[];
}

export function newFakeApi(): FakeApi {
  const known = (id: string): OrderStatus => {
    if (id === 'fe1') return api.status;
    throw new SipfarmError('SF_MEMBER_UNKNOWN', `there is no member ${id}`);
  };
  const api: FakeApi = {
    readiness: { ready: true, reasons: [] },
    settings: {},
    storeDown: false,
    records: [],
    status: { member: 'fe1', order: null, alive: true, seated: true, progress: null, othersTakeCalls: true },
    portsReport: { own: [], claims: [], capacity: null, warnings: [] },
    asked: [],
    ports: {
      report: async () => api.portsReport,
      refresh: async () => {
        api.asked.push('refresh ports');
        return api.portsReport;
      },
    },
    orders: {
      all: () => [api.status],
      status: async (id) => known(id),
      give: async (id, { order, deadlineSeconds }) => {
        api.asked.push(`${order} ${id} ${deadlineSeconds ?? '-'}`);
        const since = '2026-01-01T00:00:00.000Z';
        api.status = { ...known(id), progress: null, order: { v: 1, order, since, by: 'fe1' } };
        return api.status;
      },
      lift: async (id, kinds) => {
        api.asked.push(`lift ${id} ${kinds.join()}`);
        return { ...known(id), lifted: api.status.order?.order ?? null };
      },
      remove: async (id, force) => {
        api.asked.push(`remove ${id} ${force}`);
        known(id);
      },
    },
    absent: () => [{ id: 'fe9', number: null, state: 'gone', order: 'ban' }],
    ready: () => api.readiness,
    farm: () => ({
      farm: 'lab',
      member: 'fe1',
      number: 1,
      incarnation: 3,
      state: 'active',
      role: 'member',
      roleChosenBecause: '',
      version: '0.1.0',
      epoch: 7,
      store: { kind: 'memory', up: true },
      upstream: { server: 'sip:127.0.0.1:5070', up: true },
      ownedCalls: 2,
    }),
    members: () => [
      {
        id: 'fe1',
        number: 1,
        incarnation: 3,
        state: 'active',
        role: 'member',
        weight: 100,
        share: 0.5,
        relay: '10.0.0.11:5064',
        listeners: [
          { name: 'edge', transport: 'udp', bind: '10.0.0.11:5060', advertise: '198.51.100.1:5060' },
          { name: 'edge-tcp', transport: 'tcp', bind: '10.0.0.11:5060', advertise: '198.51.100.1:5060' },
        ],
        reachable: true,
        version: '0.1.0',
        self: true,
      },
    ],
    peers: () => [
      {
        id: 'fe2',
        number: 2,
        relay: '10.0.0.12:5064',
        role: 'member',
        seated: true,
        reachable: false,
        misses: ['fe1'],
      },
    ],
    view: () => undefined,
    calls: () => ({ owned: 2 }),
    callList: async (limit, all) => {
      api.asked.push(`calls ${limit}${all ? ' all' : ''}`);
      return { calls: api.records.slice(0, limit), more: api.records.length > limit };
    },
    recordOf: async (callId) => {
      if (api.storeDown) throw new SipfarmError('SF_STORE_UNREACHABLE', 'the store does not answer');
      return api.records.find((record) => record.callId === callId) ?? null;
    },
    owner: (callId) => ({
      callId,
      slot: 17,
      epoch: 7,
      owner: { number: 1, id: 'fe1' },
      previous: null,
      heldHere: true,
    }),
    decode: (text) => decode(text),
    getConfig: async () => {
      if (api.storeDown) throw new SipfarmError('SF_STORE_UNREACHABLE', 'the store does not answer');
      return api.settings;
    },
    putConfig: async (settings) => {
      api.settings = settings;
    },
  };
  return api;
}

/** Returns a call whose texts a stranger has chosen. */
export function callOf(callId: string, from = 'sip:alice@example.org'): CallSummary {
  return {
    callId,
    state: 'early',
    method: 'INVITE',
    since: '2026-01-01T00:00:00.000Z',
    owner: { number: 2, id: 'fe2' },
    incarnation: 3,
    epoch: 7,
    from,
    to: 'sip:bob@example.org',
    legs: [{ from: 'client', remote: '192.0.2.7:5060', answered: false }],
  };
}
