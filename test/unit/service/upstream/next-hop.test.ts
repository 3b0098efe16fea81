// The next hop of a request of the SIP server: which way is known, what the message names, and what follows from both.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { ForbiddenTargets } from '../../../../src/egress/forbidden-targets.ts';
import { writeWayToken } from '../../../../src/ownership/flow-token.ts';
import { TokenKind } from '../../../../src/ownership/token.ts';
import type { Way } from '../../../../src/packet/flow.ts';
import { callKey, type ServiceContext } from '../../../../src/service/shared/context.ts';
import { targetHash } from '../../../../src/service/shared/place.ts';
import { Rewriter } from '../../../../src/service/shared/rewriter.ts';
import { NextHop } from '../../../../src/service/upstream/next-hop.ts';
import type { FlowState, Onward } from '../../../../src/service/upstream/onward.ts';
import { MAX_VALUES } from '../../../../src/sip/headers.ts';
import type { Scan } from '../../../../src/sip/scan.ts';
import { parseUri, Uri } from '../../../../src/sip/uri.ts';
import { Message } from '../../../fake/sip.ts';
import { EDGE, TCP } from '../../ingress/way-farm.ts';
import { KEYS, request, token } from '../../ownership/lookups.ts';
import { contextRig, scanOf } from '../shared/context-rig.ts';

const PARTY = { address: '203.0.113.9', port: 33_333 };
/** Contact of the party when its way was made. */
const CONTACT = 'sip:bob@192.0.2.20:5070';
const PROXY = '<sip:192.0.2.80;lr>';
const INNER = '10.0.0.1:5062';
const TO = '<sip:bob@example.com>;tag=b';

function hashOf(text: string): number {
  const uri = new Uri();
  const bytes = Buffer.from(text);
  assert.ok(parseUri(bytes, 0, bytes.length, uri));
  return targetHash(bytes, uri);
}

function wayToken(way: Readonly<Way>): string {
  const block = Buffer.alloc(128);
  return block.toString('latin1', 0, writeWayToken(KEYS, way, block, 0));
}

interface Rig {
  readonly context: ServiceContext;
  readonly hop: NextHop;
  /** A way over UDP. */
  readonly datagram: Way;
  /** Over a connection at another member, which only that member can check. */
  readonly stream: Way;
  /** Over a connection at this member that is closed. */
  readonly closed: Way;
}

async function rigOf(t: TestContext): Promise<Rig> {
  const { member, context } = await contextRig(t, undefined, 2);
  const place = { target: hashOf(CONTACT), nat: false };
  const hop = new NextHop(context, new ForbiddenTargets([{ address: '10.0.0.1', port: 5060 }], []));
  const stream = member.flow(TCP, PARTY, 7);
  return {
    context,
    hop,
    datagram: { ...member.flow(EDGE, PARTY), ...place },
    stream: { ...stream, ...place, member: 2, incarnation: 12 },
    closed: { ...stream, ...place },
  };
}

/** Reads a request of the dialog of TO. `route`: its Route value. */
function read(rig: Rig, known: Readonly<Way> | undefined, uri: string, route?: string, lost = false): Onward {
  const scan = scanOf(request('INFO', { To: TO, Route: route }, uri));
  return rig.hop.read(scan, new Rewriter().begin(scan), known, lost);
}

for (const [way, state, route, refreshed, same, unreachable] of [
  ['none', 'none', 'locate', 'locate', 'locate', 'locate'],
  ['datagram', 'datagram', 'locate', 'locate', 'flow', 'flow'],
  ['stream', 'stream', 'flow', 'locate', 'flow', 'flow'],
  ['closed', 'gone', 'locate', 'locate', 'locate', 'failed'],
] as const)
  describe(`a request with the way ${way}`, () => {
    const onward = async (t: TestContext, uri: string, value?: string, nat = false): Promise<readonly unknown[]> => {
      const rig = await rigOf(t);
      return [read(rig, way === 'none' ? undefined : { ...rig[way], nat }, uri, value), rig.hop.state];
    };
    const expect = (next: Onward): readonly [Onward, FlowState] => [next, state];

    test('and a Route to a proxy', async (t) => assert.deepEqual(await onward(t, CONTACT, PROXY), expect(route)));
    test('and the target that the way was made with', async (t) =>
      assert.deepEqual(await onward(t, CONTACT), expect(same)));
    test('and another target', async (t) =>
      assert.deepEqual(await onward(t, 'sip:bob@192.0.2.21:5070'), expect(refreshed)));
    for (const [name, uri] of [
      ['an .invalid host', 'sip:bob@df7jal23ls0d.invalid'],
      ['a private address, because the network that it belongs to is not known', 'sip:bob@10.7.7.7'],
      ['a forbidden address', 'sip:bob@127.0.0.1'],
      ['an address of the farm', 'sip:bob@198.51.100.1:5060'],
      ['no SIP URI', 'tel:+15551234'],
    ] as const)
      test(`and as target ${name}`, async (t) => assert.deepEqual(await onward(t, uri), expect(unreachable)));
    test('to a party behind a NAT, whatever the Route names', async (t) =>
      assert.deepEqual(await onward(t, CONTACT, PROXY, true), expect(way === 'none' ? route : unreachable)));
  });

test('the address of the way is no other target, even if the Contact was another one', async (t) => {
  const rig = await rigOf(t);
  assert.equal(read(rig, rig.datagram, `sip:bob@${PARTY.address}:${PARTY.port}`), 'flow');
  assert.equal(read(rig, rig.datagram, `sip:bob@${PARTY.address}:5060`), 'locate');
});

test('a way without a recorded target has no other target', async (t) => {
  const rig = await rigOf(t);
  for (const target of [0, -1]) assert.equal(read(rig, { ...rig.datagram, target }, 'sip:bob@192.0.2.21'), 'flow');
});

test('a connection that another member has found closed is gone, and no other one is', async (t) => {
  const rig = await rigOf(t);
  assert.equal(read(rig, rig.stream, CONTACT, undefined, true), 'locate');
  assert.equal(rig.hop.state, 'gone');
  const other = { ...rig.stream, connection: 8 };
  const route = `<sip:${wayToken(other)}@${INNER};lr>`;
  assert.equal(read(rig, rig.stream, CONTACT, route, true), 'flow');
  assert.equal(rig.hop.state, 'stream');
});

describe('the way of a request', () => {
  const move = (rig: Rig, scan: Scan, way: Way): void => rig.context.ways.moved(callKey(rig.context, scan), 'b', way);
  const INFO = (): Scan => scanOf(request('INFO', { To: TO }));

  test('is the one to which the party has moved, else that of the Route, of the Request-URI, of the caller', async (t) => {
    const rig = await rigOf(t);
    const [moved, routed, named, known] = [1, 2, 3, 4].map((port) => ({ ...rig.datagram, port }));
    const uri = `sip:bob@192.0.2.20;sf=${wayToken(named!)}`;
    const route = `<sip:${wayToken(routed!)}@${INNER};lr>`;
    const portOf = (target: string, value?: string): number | undefined => {
      read(rig, known, target, value);
      return rig.hop.way?.port;
    };
    assert.equal(portOf(CONTACT), known!.port);
    assert.equal(portOf(uri), named!.port);
    assert.equal(portOf(uri, route), routed!.port);
    move(rig, INFO(), moved!);
    assert.equal(portOf(uri, route), moved!.port);
  });

  test('is not the one of another party or another call', async (t) => {
    const rig = await rigOf(t);
    move(rig, INFO(), rig.datagram);
    for (const changes of [{ To: '<sip:bob@example.com>;tag=x' }, { To: TO, 'Call-ID': 'other' }, {}]) {
      const scan = scanOf(request('INFO', changes));
      rig.hop.read(scan, new Rewriter().begin(scan), undefined, false);
      assert.equal(rig.hop.way, undefined);
    }
  });
});

test("the farm's values do not leave: those in the Route, and the flow in the Request-URI", async (t) => {
  const { hop, datagram } = await rigOf(t);
  const routes = [`<sip:${token(TokenKind.dialog, 5)}@${INNER};lr>`, '<sip:198.51.100.1;lr>', PROXY].join(', ');
  const scan = scanOf(request('INFO', { To: TO, Route: routes }, `sip:bob@192.0.2.20;sf=${wayToken(datagram)};x=1`));
  const rewriter = new Rewriter().begin(scan);
  hop.read(scan, rewriter, undefined, false);
  const got = new Message(rewriter.finish()!.toString('latin1'));
  assert.deepEqual([got.uri, got.all('Route')], ['sip:bob@192.0.2.20;x=1', [PROXY]]);
  assert.equal(hop.owner, 5);
});

test('the URI of the next hop is the first Route value that stays, else the Request-URI', async (t) => {
  const rig = await rigOf(t);
  const hostOf = (route?: string): string => {
    const scan = scanOf(request('INFO', { To: TO, Route: route }, CONTACT));
    rig.hop.read(scan, new Rewriter().begin(scan), undefined, false);
    return scan.bytes.toString('latin1', rig.hop.uri.hostStart, rig.hop.uri.hostEnd);
  };
  assert.equal(hostOf(), '192.0.2.20');
  assert.equal(hostOf(PROXY), '192.0.2.80');
  assert.equal(hostOf('<sip:198.51.100.1;lr>'), '192.0.2.20');
});

describe('a next hop that is not readable is', () => {
  for (const [name, uri, route, readable] of [
    ['a Route that cannot be parsed', CONTACT, '<sip:p.example', false],
    ['a Route of another scheme', CONTACT, '<tel:+15551234>', false],
    ['a Request-URI of another scheme', 'tel:+15551234', undefined, false],
    [
      'a Route of too many values',
      CONTACT,
      Array(MAX_VALUES + 1)
        .fill('<sip:198.51.100.1;lr>')
        .join(', '),
      false,
    ],
    ['not a Request-URI of another scheme behind a Route', 'tel:+15551234', PROXY, true],
  ] as const)
    test(name, async (t) => {
      const rig = await rigOf(t);
      read(rig, rig.datagram, CONTACT);
      assert.equal(rig.hop.readable, true);
      assert.equal(read(rig, undefined, uri, route), 'locate');
      assert.deepEqual([rig.hop.readable, rig.hop.way], [readable, undefined]);
    });
});
