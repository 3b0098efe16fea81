// The call record that results from the messages of a call: which message begins a leg, answers it, or ends the call.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { CallJournal } from '../../../../src/calls/records/call-journal.ts';
import type { Leg } from '../../../../src/calls/records/call-record.ts';
import { Step } from '../../../../src/calls/table/call-table.ts';
import { MAGIC_COOKIE, TokenKind } from '../../../../src/ownership/token.ts';
import { emptyWay, type Way } from '../../../../src/packet/flow.ts';
import {
  noteClientLeg,
  noteClientResponse,
  noteOrphanResponse,
  noteServerLeg,
  noteServerResponse,
} from '../../../../src/service/shared/call-events.ts';
import type { ServiceContext } from '../../../../src/service/shared/context.ts';
import type { Scan } from '../../../../src/sip/scan.ts';
import { JournalRig } from '../../calls/records/journal-rig.ts';
import { request, response, token } from '../../ownership/lookups.ts';
import { contextRig, scanOf } from './context-rig.ts';

const KEY = 77;
const ALICE = '<sip:alice@example.com>;tag=a';
const BOB = '<sip:bob@example.com>;tag=b';
const CLIENT: Way = { ...emptyWay(), member: 1, incarnation: 11, address: '192.0.2.7', port: 5060, target: 3 };
const CALLEE: Way = { ...CLIENT, address: '192.0.2.9', target: 4 };
/** Lines of the farm on a request to the server. They are not visible outside. */
const OWN = 'Via: SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bKfarm\r\nRecord-Route: <sip:farm@10.0.0.1:5062;lr>\r\n';

interface Rig {
  readonly context: ServiceContext;
  readonly journal: CallJournal;
}

async function rigOf(t: TestContext): Promise<Rig> {
  const { journal } = new JournalRig();
  t.after(() => journal.close());
  return { journal, context: (await contextRig(t, journal)).context };
}

/** Octets behind the last header line: these messages leave with their bodies unchanged. */
const tailOf = ({ end, headersEnd }: Scan): number => end - headersEnd;

/** Notes a client's request, which leaves with OWN on top. */
function clientRequest(context: ServiceContext, method = 'INVITE', changes: Record<string, string> = {}): void {
  const bytes = request(method, { From: ALICE, ...changes });
  const lines = bytes.indexOf('\r\n') + 2;
  const message = Buffer.concat([bytes.subarray(0, lines), Buffer.from(OWN), bytes.subarray(lines)]);
  const flow = { ...CLIENT };
  const scan = scanOf(bytes);
  noteClientLeg(context, scan, KEY, message, tailOf(scan), OWN.length, flow);
  flow.port = 1; // The caller uses its object again.
}

/** Returns the branch number `number` of this member, as long as each branch of the farm is. */
function branch(number: number): string {
  return `${MAGIC_COOKIE}${token(TokenKind.outward, number, 0, 8)}`;
}

/** Notes a server's request that leaves with a Via of the branch `number` on top. */
function serverRequest(context: ServiceContext, number: number, step: Step = Step.began, method = 'INVITE'): void {
  const sentBy = context.listenerSentBys[0]!;
  const bytes = request(method, { From: ALICE });
  const lines = bytes.indexOf('\r\n') + 2;
  const via = `${sentBy.via}${branch(number).slice(MAGIC_COOKIE.length)}\r\n`;
  const message = Buffer.concat([bytes.subarray(0, lines), Buffer.from(via), bytes.subarray(lines)]);
  const flow = { ...CALLEE };
  const scan = scanOf(bytes);
  noteServerLeg(context, scan, KEY, step, message, tailOf(scan), sentBy, flow);
  flow.port = 1;
}

/** Returns a response to the branch `number`, and its scan. */
function answer(status: number, number = 1, changes: Record<string, string> = {}) {
  const bytes = response(branch(number), { From: ALICE, To: BOB, CSeq: '1 INVITE', ...changes }, status);
  return { scan: scanOf(bytes), message: bytes };
}

function legs({ journal }: Rig, entry: number): readonly Leg[] {
  return journal.recordOf(entry)?.legs ?? [];
}

describe("a client's request", () => {
  test('begins a record with one leg, as it was outside of the farm', async (t) => {
    const rig = await rigOf(t);
    clientRequest(rig.context);
    const record = rig.journal.recordOf(KEY)!;
    assert.deepEqual([record.method, record.callId, record.state], ['INVITE', 'call1@192.0.2.1', 'trying']);
    const [leg] = record.legs;
    assert.deepEqual([leg!.from, leg!.flow], ['client', CLIENT]);
    assert.match(
      leg!.request,
      /^INVITE sip:bob@example.com SIP\/2.0\r\nVia: SIP\/2.0\/UDP 192.0.2.1:5060;branch=z9hG4bKabc/,
    );
    assert.doesNotMatch(leg!.request, /farm/);
  });

  test('begins a record of a subscription', async (t) => {
    const rig = await rigOf(t);
    clientRequest(rig.context, 'SUBSCRIBE');
    assert.equal(rig.journal.recordOf(KEY)?.method, 'SUBSCRIBE');
  });

  test('in a dialog begins a record only where there is none', async (t) => {
    const rig = await rigOf(t);
    clientRequest(rig.context, 'INVITE', { To: BOB, CSeq: '2 INVITE' });
    assert.match(legs(rig, KEY)[0]!.request, /CSeq: 2 INVITE/);
    clientRequest(rig.context, 'INVITE', { To: BOB, CSeq: '3 INVITE' });
    assert.match(legs(rig, KEY)[0]!.request, /CSeq: 2 INVITE/);
  });

  test('in a dialog begins no record while the records of this member are being read', async (t) => {
    const rig = await rigOf(t);
    rig.journal.openOwnership();
    assert.equal(rig.journal.reading, true);
    clientRequest(rig.context, 'INVITE', { To: BOB, CSeq: '2 INVITE' });
    assert.equal(rig.journal.has(KEY), false);
    clientRequest(rig.context);
    assert.equal(rig.journal.has(KEY), true);
  });
});

describe("a server's request", () => {
  test("adds a leg to the client's call for each branch, once", async (t) => {
    const rig = await rigOf(t);
    clientRequest(rig.context);
    for (const number of [1, 2, 1]) serverRequest(rig.context, number, Step.none);
    const [, ...outgoing] = legs(rig, KEY);
    assert.deepEqual(
      outgoing.map(({ from, flow, request: text }) => [from, flow, text.includes(branch(1)), text.includes(branch(2))]),
      [
        ['server', CALLEE, true, false],
        ['server', CALLEE, false, true],
      ],
    );
    assert.equal(rig.journal.has(-KEY), false);
  });

  test('begins a call of its own under the negative key where no client has begun one', async (t) => {
    const rig = await rigOf(t);
    serverRequest(rig.context, 1);
    assert.equal(rig.journal.has(KEY), false);
    assert.deepEqual(
      legs(rig, -KEY).map(({ from }) => from),
      ['server'],
    );
    serverRequest(rig.context, 2, Step.none);
    assert.equal(legs(rig, -KEY).length, 2);
  });

  test('adds nothing to a call that is not recorded and has begun before', async (t) => {
    const rig = await rigOf(t);
    serverRequest(rig.context, 1, Step.none);
    assert.deepEqual([rig.journal.has(KEY), rig.journal.has(-KEY)], [false, false]);
  });

  test('begins a record for INVITE and SUBSCRIBE only', async (t) => {
    const recorded: string[] = [];
    for (const method of ['INVITE', 'SUBSCRIBE', 'REFER', 'NOTIFY', 'MESSAGE', 'OPTIONS']) {
      const rig = await rigOf(t);
      serverRequest(rig.context, 1, Step.began, method);
      if (rig.journal.has(-KEY)) recorded.push(method);
    }
    assert.deepEqual(recorded, ['INVITE', 'SUBSCRIBE']);
  });
});

describe("a server's response", () => {
  for (const [status, step, to, state] of [
    [100, Step.none, '<sip:bob@example.com>', 'trying'],
    [180, Step.none, '<sip:bob@example.com>', 'trying'],
    [180, Step.none, BOB, 'early'],
    [200, Step.confirmed, BOB, 'confirmed'],
    [486, Step.over, BOB, undefined],
  ] as const)
    test(`${status} with the To value ${to} makes the call ${state ?? 'forgotten'}`, async (t) => {
      const rig = await rigOf(t);
      clientRequest(rig.context);
      const { scan, message } = answer(status, 1, { To: to });
      noteServerResponse(rig.context, scan, KEY, step, message, tailOf(scan));
      assert.equal(rig.journal.recordOf(KEY)?.state, state);
    });

  test("answers the client's leg, and a 180 of another method than INVITE rings nothing", async (t) => {
    const rig = await rigOf(t);
    clientRequest(rig.context);
    serverRequest(rig.context, 1, Step.none);
    const other = answer(180, 1, { CSeq: '2 UPDATE' });
    noteServerResponse(rig.context, other.scan, KEY, Step.none, other.message, tailOf(other.scan));
    assert.equal(rig.journal.recordOf(KEY)?.state, 'trying');
    const { scan, message } = answer(200);
    noteServerResponse(rig.context, scan, KEY, Step.confirmed, message, tailOf(scan));
    const [client, server] = legs(rig, KEY);
    assert.match(client!.answer!, /^SIP\/2.0 200 Fine\r\nFrom/);
    assert.equal(server!.answer, undefined);
  });
});

describe("a client's response", () => {
  test("to the server's own call answers its branch and confirms the call", async (t) => {
    const rig = await rigOf(t);
    for (const number of [1, 2]) serverRequest(rig.context, number, number === 1 ? Step.began : Step.none);
    const { scan, message } = answer(200, 2);
    noteClientResponse(rig.context, scan, KEY, -KEY, Step.confirmed, message, tailOf(scan));
    assert.equal(rig.journal.recordOf(-KEY)?.state, 'confirmed');
    assert.deepEqual(
      legs(rig, -KEY).map(({ answer: text }) => text !== undefined),
      [false, true],
    );
  });

  test("to an outgoing leg of a client's call answers that leg; the response to the client confirms the call", async (t) => {
    const rig = await rigOf(t);
    clientRequest(rig.context);
    serverRequest(rig.context, 1, Step.none);
    const { scan, message } = answer(200);
    noteClientResponse(rig.context, scan, KEY, -KEY, Step.confirmed, message, tailOf(scan));
    assert.equal(rig.journal.recordOf(KEY)?.state, 'trying');
    assert.ok(legs(rig, KEY)[1]!.answer);
    noteServerResponse(rig.context, scan, KEY, Step.confirmed, message, tailOf(scan));
    assert.equal(rig.journal.recordOf(KEY)?.state, 'confirmed');
  });

  test("to an outgoing leg without an entry of its own confirms the client's call", async (t) => {
    const rig = await rigOf(t);
    clientRequest(rig.context);
    serverRequest(rig.context, 1, Step.none);
    const { scan, message } = answer(200);
    noteClientResponse(rig.context, scan, KEY, KEY, Step.confirmed, message, tailOf(scan));
    assert.equal(rig.journal.recordOf(KEY)?.state, 'confirmed');
  });

  test("rings the server's call, and ends the call whose entry it names", async (t) => {
    const rig = await rigOf(t);
    serverRequest(rig.context, 1);
    const rings = answer(180);
    noteClientResponse(rig.context, rings.scan, KEY, -KEY, Step.none, rings.message, tailOf(rings.scan));
    assert.equal(rig.journal.recordOf(-KEY)?.state, 'early');
    const fails = answer(486);
    noteClientResponse(rig.context, fails.scan, KEY, -KEY, Step.over, fails.message, tailOf(fails.scan));
    assert.equal(rig.journal.has(-KEY), false);
  });
});

test("a response past a dead proxy answers both legs and confirms the client's call", async (t) => {
  const rig = await rigOf(t);
  clientRequest(rig.context);
  serverRequest(rig.context, 1, Step.none);
  const { scan, message } = answer(200);
  noteOrphanResponse(rig.context, scan, KEY, Step.confirmed, message, tailOf(scan));
  const record = rig.journal.recordOf(KEY)!;
  assert.equal(record.state, 'confirmed');
  assert.ok(record.legs.every(({ answer: text }) => text?.startsWith('SIP/2.0 200')));
});

test('without a journal, no event has an effect', async (t) => {
  const { context } = await contextRig(t);
  const { scan, message } = answer(200);
  clientRequest(context);
  serverRequest(context, 1);
  noteServerResponse(context, scan, KEY, Step.confirmed, message, tailOf(scan));
  noteClientResponse(context, scan, KEY, KEY, Step.confirmed, message, tailOf(scan));
  noteOrphanResponse(context, scan, KEY, Step.confirmed, message, tailOf(scan));
});
