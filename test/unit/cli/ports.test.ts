// `sipfarm ports`: its table, its warnings, its exit code, and the request that it sends.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Registry } from 'prom-client';
import { AdminServer } from '../../../src/admin/admin-server.ts';
import { makeLog } from '../../../src/base/log.ts';
import { runProgram } from '../../../src/cli/program.ts';
import type { OwnPorts, PortsReport } from '../../../src/media/port-status.ts';
import { type FakeApi, newFakeApi } from '../admin/fake-api.ts';

const OWN: OwnPorts = {
  ...{ member: 'fe1', plan: 'single-ip', bind: '10.0.0.11', advertised: '203.0.113.10', inside: '127.0.0.1' },
  ...{ first: 10_000, last: 19_999, counts: null, trouble: null },
};
const REPORT: PortsReport = {
  own: [OWN],
  claims: [
    {
      ...{ member: 'fe1', host: 'fe1', plan: 'single-ip' },
      ...{ bind: '10.0.0.11', advertised: '203.0.113.10' },
      ...{ first: 10_000, last: 19_999 },
    },
  ],
  capacity: { ports: 64_000, claimed: 10_000, audioCalls: 32_000, videoCalls: 16_000 },
  warnings: [],
};

async function run(
  t: TestContext,
  report: PortsReport,
  ...argv: readonly string[]
): Promise<{ code: number; out: string; api: FakeApi }> {
  const api = newFakeApi();
  api.portsReport = report;
  const [registry, log] = [new Registry(), makeLog({ level: 'silent' })];
  const server = new AdminServer({ bind: { address: '127.0.0.1', port: 0 }, token: undefined, api, registry, log });
  const { port } = await server.start();
  t.after(() => server.stop());
  const out: string[] = [];
  const never = () => Promise.reject(new Error('not asked for'));
  const code = await runProgram(['ports', ...argv, '--admin', `127.0.0.1:${port}`], {
    ...{ version: '1.2.3', environment: {} },
    out: (text) => void out.push(text),
    err: (text) => void out.push(text),
    ...{ runNode: never, runDemo: never, runWorker: never, runDoctor: never },
    following: { pause: never, interrupted: never },
  });
  return { code, out: out.join('\n'), api };
}

test('shows the ports of both sides, the claims, and what the plan carries; without a relay there are no counts', async (t) => {
  const { code, out } = await run(t, REPORT);
  assert.equal(code, 0);
  assert.equal(
    out,
    `MEMBER  PLAN       SIDE     ADDRESS    SDP SHOWS     PORTS        FREE  USED  RESTING  FOREIGN
fe1     single-ip  clients  10.0.0.11  203.0.113.10  10000-19999  -     -     -        -
fe1     single-ip  server   127.0.0.1  127.0.0.1     10000-19999  -     -     -        -

Claims of the farm:
MEMBER  PLAN       BIND       SDP SHOWS     PORTS
fe1     single-ip  10.0.0.11  203.0.113.10  10000-19999

One public address carries 64000 ports for the whole farm: 32000 calls with audio, or 16000 with audio and video. 10000 ports are claimed.`,
  );
});

test('shows the counts of each side', async (t) => {
  const counts = {
    outside: { free: 9990, used: 4, resting: 5, foreign: 1 },
    inside: { free: 9991, used: 3, resting: 6, foreign: 0 },
  };
  const { out } = await run(t, { ...REPORT, own: [{ ...OWN, plan: 'multi-ip', counts }] });
  assert.match(out, /^fe1 .* clients .* 9990 +4 +5 +1$/m);
  assert.match(out, /^fe1 .* server .* 9991 +3 +6 +0$/m);
  assert.match(out, /^The members of plan multi-ip carry 64000 ports: 32000 calls with audio/m);
});

test('shows warnings and succeeds, shows a trouble and fails', async (t) => {
  const warned = await run(t, { ...REPORT, warnings: ['fe7 does not fit\u001b'] });
  assert.deepEqual([warned.code, warned.out.split('\n').at(-1)], [0, 'warning: fe7 does not fit\\u001b']);
  const trouble = { code: 'SF_MEDIA_ADDRESS', message: 'media.bind is gone' } as const;
  const { code, out } = await run(t, { ...REPORT, own: [{ ...OWN, trouble }] });
  assert.deepEqual([code, out.split('\n').at(-1)], [1, 'SF_MEDIA_ADDRESS: fe1: media.bind is gone']);
});

test('of a member without media shows only the claims, and nothing that the store has not', async (t) => {
  const { out, code } = await run(t, { own: [], claims: null, capacity: null, warnings: [] });
  assert.deepEqual([code, out], [0, 'This member has no section media: it relays no media.']);
});

test('--refresh lets the member read its addresses again, and --json prints the report', async (t) => {
  assert.deepEqual((await run(t, REPORT)).api.asked, []);
  const { api, out } = await run(t, REPORT, '--refresh', '--json');
  assert.deepEqual(api.asked, ['refresh ports']);
  assert.deepEqual(JSON.parse(out), REPORT);
});
