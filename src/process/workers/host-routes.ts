// Defines the admin routes of a host with several workers: health and metrics of all workers, and answers of any one
// worker.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Registry } from 'prom-client';
import type { Answer, Question } from '../../admin/admin-server.ts';
import type { CallList, OwnerAnswer, OwnerReport } from '../../admin/status.ts';
import { SipfarmError } from '../../base/errors.ts';
import type { Host, WorkerSummary } from './host.ts';
import { mergeMetrics } from './metrics-page.ts';

type Asked = Pick<Host, 'workers' | 'ready' | 'askAll' | 'askOne'>;

function noWorker(): SipfarmError {
  return new SipfarmError('SF_NO_WORKER', 'no worker of this host answers now; GET /v1/workers tells how they are');
}

/** Returns the worker that `?worker=1` selects; undefined when the query selects none. Throws SF_USAGE. */
function wantedWorker(request: FastifyRequest, workers: readonly WorkerSummary[]): number | undefined {
  const { worker } = request.query as { readonly worker?: unknown };
  if (worker === undefined) return undefined;
  const index = workers.findIndex(({ worker: number }) => String(number) === worker);
  if (index >= 0) return index;
  throw new SipfarmError('SF_USAGE', `worker must be a number from 0 to ${workers.length - 1}`);
}

function questionOf({ method, url, body }: FastifyRequest): Question {
  return { method, url, ...(body !== undefined && { body: JSON.stringify(body) }) };
}

function send(reply: FastifyReply, answer: Answer | null): FastifyReply {
  if (!answer) throw noWorker();
  return reply.code(answer.status).type(answer.type).send(answer.body);
}

function parsed<T>(answers: readonly { readonly answer: Answer | null }[]): T[] {
  return answers.flatMap(({ answer }) => (answer?.status === 200 ? [JSON.parse(answer.body) as T] : []));
}

/** Merges the calls of several workers, oldest first. */
function joined(lists: readonly Partial<CallList>[], limit: number): CallList {
  const calls = lists.flatMap((list) => list.calls ?? []).sort((a, b) => (a.since < b.since ? -1 : 1));
  return { calls: calls.slice(0, limit), more: calls.length > limit || lists.some(({ more }) => more) };
}

/** Returns the routes. `registry`: the host's own counters. */
export function hostRoutes(host: Asked, registry: Registry): (app: FastifyInstance) => void {
  return (app) => {
    app.get('/livez', async () => ({ live: true }));
    app.get('/readyz', async (_request, reply) => {
      const readiness = await host.ready();
      return reply.code(readiness.ready ? 200 : 503).send(readiness);
    });
    app.get('/metrics', async (_request, reply) => {
      const answers = await host.askAll({ method: 'GET', url: '/metrics' });
      const pages = answers.flatMap(({ answer }) => (answer?.status === 200 ? [answer.body] : []));
      return reply.type(registry.contentType).send(mergeMetrics([await registry.metrics(), ...pages]));
    });
    app.get('/v1/workers', async () => ({ workers: host.workers }));
    app.get('/v1/calls', async (request, reply) => {
      const one = wantedWorker(request, host.workers);
      if (one !== undefined) return send(reply, await host.askOne(questionOf(request), one));
      const { limit, all } = request.query as { readonly limit?: string; readonly all?: unknown };
      // Calls of every member are in the store, and each worker can read them.
      if (all !== undefined) return send(reply, await host.askOne(questionOf(request), undefined));
      const answers = await host.askAll(questionOf(request));
      const good = parsed<{ readonly owned: number } & Partial<CallList>>(answers);
      const wrong = answers.find(({ answer }) => answer?.status === 400)?.answer;
      if (wrong) return send(reply, wrong);
      if (good.length === 0) throw noWorker();
      const owned = good.reduce((sum, each) => sum + each.owned, 0);
      return limit === undefined ? { owned } : { owned, ...joined(good, Number(limit)) };
    });
    app.get('/v1/owner', async (request, reply) => {
      const answer = await host.askOne(questionOf(request), wantedWorker(request, host.workers));
      if (answer?.status !== 200 || 'worker' in (request.query as object)) return send(reply, answer);
      // `heldHere` is about this host, not about one of its processes.
      const others = parsed<OwnerAnswer>(await host.askAll(questionOf(request)));
      const first = JSON.parse(answer.body) as OwnerReport;
      return { ...first, heldHere: first.heldHere || others.some(({ heldHere }) => heldHere) };
    });
    app.all('/v1/*', async (request, reply) =>
      send(reply, await host.askOne(questionOf(request), wantedWorker(request, host.workers))),
    );
  };
}
