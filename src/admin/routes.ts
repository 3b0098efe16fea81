// The routes of the admin server, once: the answer of a member, and for a host with several workers how their answers
// become one. The workers' host builds its routes from the same list.
import { SipfarmError } from '../base/errors.ts';
import { isInteger, isObject, isOneOf } from '../base/guards.ts';
import { parseClusterSettings } from '../config/live.ts';
import { mergeReports, type PortsReport } from '../media/port-status.ts';
import { MAX_DEADLINE_SECONDS, ORDER_KINDS } from '../membership/order.ts';
import type { OrderRequest } from '../orders/order-status.ts';
import type { AdminApi, CallList, OwnerReport } from './status.ts';

/** Sources of the answers of a member. */
export interface MemberAnswers {
  readonly api: AdminApi;
  /** The metrics of prom-client. */
  readonly registry: { readonly contentType: string; metrics(): Promise<string> };
}

export interface AdminRequest {
  readonly query: Readonly<Record<string, unknown>>;
  readonly params: Readonly<Record<string, string>>;
  /** The JSON value of the body; undefined without one. */
  readonly body: unknown;
}

/** An answer that is not just a JSON value with status 200. */
export class Reply {
  readonly status: number;
  readonly body: unknown;
  /** Content type; left out: JSON. */
  readonly type: string | undefined;

  constructor(status: number, body: unknown, type?: string) {
    this.status = status;
    this.body = body;
    this.type = type;
  }
}

/** Makes one answer of those of all workers: JSON values with status 200, at least one. */
type Join = (answers: readonly unknown[]) => unknown;

/**
 * How a host with several workers answers.
 * `own`: by itself. `one`: with the answer of any one worker, because all give the same.
 * A function: as it decides by the query.
 */
type Merge = 'own' | 'one' | ((query: AdminRequest['query']) => 'one' | Join);

export interface AdminRoute {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  readonly path: string;
  /** May throw a SipfarmError, or reject with one. */
  readonly answer: (of: MemberAnswers, request: AdminRequest) => unknown;
  readonly merge: Merge;
}

/** Call-IDs in practice have fewer than 256 characters. */
const MAX_CALL_ID = 1024;
/** A token or a frame in hexadecimal digits. */
const MAX_DECODED = 8192;
/** Calls in one answer: some MB. */
export const MAX_LISTED_CALLS = 10_000;

const HEALTH: readonly AdminRoute[] = [
  { method: 'GET', path: '/livez', merge: 'own', answer: () => ({ live: true }) },
  {
    method: 'GET',
    path: '/readyz',
    merge: 'own',
    answer: ({ api }) => {
      const readiness = api.ready();
      return new Reply(readiness.ready ? 200 : 503, readiness);
    },
  },
  {
    method: 'GET',
    path: '/metrics',
    merge: 'own',
    answer: async ({ registry }) => new Reply(200, await registry.metrics(), registry.contentType),
  },
];

const FARM: readonly AdminRoute[] = [
  { method: 'GET', path: '/v1/farm', merge: 'one', answer: ({ api }) => api.farm() },
  {
    method: 'GET',
    path: '/v1/members',
    merge: 'one',
    answer: ({ api }) => ({ members: api.members(), absent: api.absent() }),
  },
  { method: 'GET', path: '/v1/peers', merge: 'one', answer: ({ api }) => ({ peers: api.peers() }) },
  { method: 'GET', path: '/v1/view', merge: 'one', answer: ({ api }) => ({ view: api.view() ?? null }) },
  {
    method: 'GET',
    path: '/v1/decode',
    merge: 'one',
    answer: ({ api }, { query }) => api.decode(textOf(query, 'text', MAX_DECODED)),
  },
];

const CALLS: readonly AdminRoute[] = [
  {
    method: 'GET',
    path: '/v1/calls',
    merge: mergeCalls,
    answer: async ({ api }, { query: { limit, all } }) =>
      limit === undefined
        ? api.calls()
        : { ...api.calls(), ...(await api.callList(limitOf(limit), all !== undefined)) },
  },
  {
    method: 'GET',
    path: '/v1/owner',
    merge: mergeOwner,
    answer: ({ api }, { query }) => ownerReport(api, textOf(query, 'callId', MAX_CALL_ID)),
  },
];

const CONFIG: readonly AdminRoute[] = [
  { method: 'GET', path: '/v1/config', merge: 'one', answer: async ({ api }) => ({ config: await api.getConfig() }) },
  {
    method: 'PUT',
    path: '/v1/config',
    merge: 'one',
    answer: async ({ api }, { body }) => {
      const settings = parseClusterSettings(body);
      await api.putConfig(settings);
      return { config: settings };
    },
  },
];

const ORDERS: readonly AdminRoute[] = [
  { method: 'GET', path: '/v1/orders', merge: 'one', answer: ({ api }) => ({ orders: api.orders.all() }) },
  {
    method: 'GET',
    path: '/v1/orders/:id',
    merge: 'one',
    answer: ({ api }, { params: { id = '' } }) => api.orders.status(id),
  },
  {
    method: 'POST',
    path: '/v1/orders/:id',
    merge: 'one',
    answer: ({ api }, { params: { id = '' }, body }) => api.orders.give(id, orderOf(body)),
  },
  {
    method: 'DELETE',
    path: '/v1/orders/:id',
    merge: 'one',
    answer: ({ api }, { params: { id = '' }, query }) => {
      const kinds = textOf(query, 'order', 64).split(',');
      if (kinds.every((kind) => isOneOf(kind, ORDER_KINDS))) return api.orders.lift(id, kinds);
      throw new SipfarmError('SF_USAGE', `order must name some of ${ORDER_KINDS.join(',')}`);
    },
  },
  {
    method: 'DELETE',
    path: '/v1/members/:id',
    merge: 'one',
    answer: async ({ api }, { params: { id = '' }, query: { force } }) => {
      await api.orders.remove(id, force === 'true');
      return { removed: id };
    },
  },
];

const joinPorts: Join = (answers) => mergeReports(answers as readonly PortsReport[]);

const PORTS: readonly AdminRoute[] = [
  { method: 'GET', path: '/v1/ports', merge: () => joinPorts, answer: ({ api }) => api.ports.report() },
  { method: 'POST', path: '/v1/ports/refresh', merge: () => joinPorts, answer: ({ api }) => api.ports.refresh() },
];

export const ADMIN_ROUTES: readonly AdminRoute[] = [...HEALTH, ...FARM, ...CALLS, ...CONFIG, ...ORDERS, ...PORTS];

/** Sums the owned calls of all workers, and merges their lists, oldest first. */
function mergeCalls({ limit, all }: AdminRequest['query']): 'one' | Join {
  // Calls of every member are in the store, and each worker can read them.
  if (all !== undefined) return 'one';
  return (answers) => {
    const lists = answers as readonly ({ readonly owned: number } & Partial<CallList>)[];
    const owned = lists.reduce((sum, list) => sum + list.owned, 0);
    if (limit === undefined) return { owned };
    const most = Number(limit);
    const calls = lists.flatMap((list) => list.calls ?? []).sort((a, b) => (a.since < b.since ? -1 : 1));
    return { owned, calls: calls.slice(0, most), more: calls.length > most || lists.some(({ more }) => more) };
  };
}

/** `heldHere` is about the host, not about one of its processes. */
function mergeOwner(): Join {
  return (answers) => {
    const reports = answers as readonly OwnerReport[];
    return { ...reports[0]!, heldHere: reports.some(({ heldHere }) => heldHere) };
  };
}

/**
 * Returns the owner of a call from tables in memory, and its record from the store. Leaves the record out when the
 * store does not answer.
 */
async function ownerReport(api: AdminApi, callId: string): Promise<OwnerReport> {
  const answer = api.owner(callId);
  try {
    return { ...answer, record: await api.recordOf(callId), recordKnown: true };
  } catch (error) {
    const silent =
      error instanceof SipfarmError && (error.code === 'SF_STORE_UNREACHABLE' || error.code === 'SF_STORE_REFUSED');
    if (!silent) throw error;
    return { ...answer, record: null, recordKnown: false };
  }
}

/** Returns the query's `name`; throws SF_USAGE when it is missing, repeated, empty, or longer than `longest`. */
function textOf(query: AdminRequest['query'], name: string, longest: number): string {
  const value = query[name];
  if (typeof value === 'string' && value !== '' && value.length <= longest) return value;
  throw new SipfarmError('SF_USAGE', `the query must contain ${name} once, with 1 to ${longest} characters`);
}

function limitOf(limit: unknown): number {
  const value = Number(limit);
  if (typeof limit === 'string' && /^\d{1,9}$/.test(limit) && value >= 1 && value <= MAX_LISTED_CALLS) return value;
  throw new SipfarmError('SF_USAGE', `limit must be a number from 1 to ${MAX_LISTED_CALLS}`);
}

function orderOf(body: unknown): OrderRequest {
  const { order, deadlineSeconds } = (isObject(body) ? body : {}) as Readonly<Record<string, unknown>>;
  if (!isOneOf(order, ORDER_KINDS))
    throw new SipfarmError('SF_USAGE', `order must be one of ${ORDER_KINDS.join(', ')}`);
  if (deadlineSeconds === undefined) return { order };
  if (order === 'drain' && isInteger(deadlineSeconds, 0, MAX_DEADLINE_SECONDS)) return { order, deadlineSeconds };
  throw new SipfarmError('SF_USAGE', `deadlineSeconds goes with a drain and is 0 to ${MAX_DEADLINE_SECONDS}`);
}
