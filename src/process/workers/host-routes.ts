// Defines the admin routes of a host with several workers: health and metrics of all workers, and answers of any one
// worker.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Registry } from 'prom-client';
import type { Answer, Question } from '../../admin/admin-server.ts';
import { ADMIN_ROUTES, Reply } from '../../admin/routes.ts';
import { SipfarmError } from '../../base/errors.ts';
import type { Host, WorkerSummary } from './host.ts';
import { mergeMetrics } from './metrics-page.ts';

type Asked = Pick<Host, 'workers' | 'ready' | 'askAll' | 'askOne'>;

function noWorker(): SipfarmError {
  return new SipfarmError('SF_NO_WORKER', 'no worker of this host answers now; GET /v1/workers shows their state');
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

/** Routes that the host answers by itself. */
function ownRoutes(app: FastifyInstance, host: Asked, registry: Registry): void {
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
}

/** Returns the answer that `join` makes of those of all workers, or the refusal of one. Throws SF_NO_WORKER. */
async function joined(host: Asked, request: FastifyRequest, join: (answers: unknown[]) => unknown): Promise<unknown> {
  const answers = (await host.askAll(questionOf(request))).flatMap(({ answer }) => (answer ? [answer] : []));
  const good = answers.filter(({ status }) => status === 200);
  const wrong = answers.find(({ status }) => status === 400) ?? (good.length === 0 ? answers[0] : undefined);
  if (wrong) return new Reply(wrong.status, wrong.body, wrong.type);
  if (good.length === 0) throw noWorker();
  return join(good.map(({ body }) => JSON.parse(body) as unknown));
}

/** Returns the routes of the host, built from those of a member. `registry`: the host's own counters. */
export function hostRoutes(host: Asked, registry: Registry): (app: FastifyInstance) => void {
  return (app) => {
    ownRoutes(app, host, registry);
    const askOne = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> =>
      send(reply, await host.askOne(questionOf(request), wantedWorker(request, host.workers)));
    for (const { method, path, merge } of ADMIN_ROUTES) {
      if (merge === 'own' || merge === 'one') continue;
      app.route({
        method,
        url: path,
        handler: async (request, reply) => {
          const how = merge(request.query as Readonly<Record<string, unknown>>);
          if (how === 'one' || wantedWorker(request, host.workers) !== undefined) return askOne(request, reply);
          const answer = await joined(host, request, how);
          return answer instanceof Reply ? reply.code(answer.status).type(answer.type!).send(answer.body) : answer;
        },
      });
    }
    // All others, also those that no member has: any worker answers them.
    app.all('/v1/*', askOne);
  };
}
