// Route values of the farm, pass by pass (RFC 3261 16.4, RFC 5658): which values are removed, and what they contained.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { writeWayToken } from '../../../../src/ownership/flow-token.ts';
import { TokenKind } from '../../../../src/ownership/token.ts';
import { emptyWay, type Way } from '../../../../src/packet/flow.ts';
import type { ServiceContext } from '../../../../src/service/shared/context.ts';
import {
  RouteReading,
  readNamedWay,
  takeInwardRoutes,
  takeOutwardRoutes,
} from '../../../../src/service/shared/own-routes.ts';
import { Rewriter } from '../../../../src/service/shared/rewriter.ts';
import { MAX_VALUES } from '../../../../src/sip/headers.ts';
import { Message } from '../../../fake/sip.ts';
import { KEYS, request, response, token } from '../../ownership/lookups.ts';
import { contextRig, scanOf } from './context-rig.ts';

const WAY: Way = {
  ...emptyWay(),
  member: 3,
  incarnation: 9,
  listener: 4,
  address: '192.0.2.7',
  port: 5077,
  target: 12,
};

function wayToken(way: Way): string {
  const block = Buffer.alloc(128);
  return block.toString('latin1', 0, writeWayToken(KEYS, way, block, 0));
}

const INNER = '10.0.0.1:5062';
const OUTER = '198.51.100.1:5060';
const dialog = (member: number): string => token(TokenKind.dialog, member);

/** s, c: the farm's value that faces the server, or clients. w: s with a flow. n: by name only. f: a foreign one. */
const VALUES = {
  s: `<sip:${dialog(1)}@${INNER};lr>`,
  c: `<sip:${dialog(2)}@${OUTER};lr>`,
  w: `<sip:${wayToken(WAY)}@${INNER};lr>`,
  n: `<sip:${OUTER};lr>`,
  f: '<sip:p.example;lr>',
  // Values of a member whose address towards its server is not known here.
  d: `<sip:${dialog(9)}@10.0.0.9:5062;lr>`,
};

interface Taken {
  /** The values that stay, as letters. */
  readonly left: string;
  readonly reading: RouteReading;
  /** URI of the next hop; '' when none is left. */
  readonly next: string;
}

/** Returns the Route or Record-Route values of `letters`; undefined for none. */
function valuesOf(letters: string, separator = ', '): string | undefined {
  return [...letters].map((letter) => VALUES[letter as keyof typeof VALUES]).join(separator) || undefined;
}

/** Takes the values of `letters` from a request. `separator`: between two values. */
function taken(context: ServiceContext, letters: string, inward: boolean, separator = ', ', gone = false): Taken {
  const scan = scanOf(request('BYE', { Route: valuesOf(letters, separator) }));
  const rewriter = new Rewriter().begin(scan);
  const reading = new RouteReading();
  if (inward) takeInwardRoutes(context, scan, rewriter, reading, gone);
  else takeOutwardRoutes(context, scan, rewriter, reading);
  const letterOf = (value: string): string => Object.entries(VALUES).find((each) => each[1] === value)?.[0] ?? '?';
  const left = new Message(rewriter.finish()!.toString('latin1')).all('Route').map(letterOf).join('');
  const { nextStart, nextEnd } = reading;
  return { left, reading, next: nextStart < 0 ? '' : scan.bytes.toString('latin1', nextStart, nextEnd) };
}

async function contextOf(t: TestContext): Promise<ServiceContext> {
  return (await contextRig(t)).context;
}

for (const [direction, cases] of [
  [
    'inward',
    [
      ['', ''],
      ['n', ''],
      ['c', ''],
      ['s', ''],
      ['cs', ''],
      ['ncs', ''],
      ['nncc', ''],
      ['csf', 'f'],
      ['ff', 'ff'],
      ['fcs', 'fcs'],
      // Behind the value that faces the server, another pass begins.
      ['ss', 's'],
      ['sc', 'c'],
      ['csn', 'n'],
      ['cssc', 'sc'],
    ],
  ],
  [
    'outward',
    [
      ['', ''],
      ['n', ''],
      ['s', ''],
      ['c', ''],
      ['sc', ''],
      ['wc', ''],
      ['snc', ''],
      ['scn', ''],
      ['scf', 'f'],
      ['fsc', 'fsc'],
      // Another pass outward is removed, too: nothing between the two has record-routed.
      ['scsc', ''],
      ['sscf', 'f'],
      // A pass inward stays.
      ['cc', 'c'],
      ['scc', 'c'],
      ['sccs', 'cs'],
    ],
  ],
] as const)
  describe(`a request ${direction} with Route values`, () => {
    for (const [letters, left] of cases)
      test(`'${letters}' keeps '${left}', in one line and in a line each`, async (t) => {
        const context = await contextOf(t);
        for (const separator of [', ', '\r\nRoute: '])
          assert.equal(taken(context, letters, direction === 'inward', separator).left, left);
      });
  });

describe('the values that were removed', () => {
  test('contain the flow of the last pass', async (t) => {
    const context = await contextOf(t);
    const { reading } = taken(context, 'wc', false);
    assert.deepEqual([reading.hasFlow, reading.way], [true, WAY]);
    assert.equal(taken(context, 'scwc', false).reading.hasFlow, true);
    assert.equal(taken(context, 'wcsc', false).reading.hasFlow, false);
  });

  test('name the owner of the dialog: the member of the first dialog token', async (t) => {
    const context = await contextOf(t);
    const owners = ['cs', 'sc', 'wc', 'w', 'n', 'f'].map((letters) => taken(context, letters, false).reading.owner);
    assert.deepEqual(owners, [2, 1, 2, 0, 0, 0]);
  });

  test('end with the second token where the member is dead: its address that faces the server is not known', async (t) => {
    const context = await contextOf(t);
    assert.equal(taken(context, 'ddd', true).left, '');
    assert.equal(taken(context, 'ddd', true, ', ', true).left, 'd');
    assert.equal(taken(context, 'nddd', true, ', ', true).left, 'd');
  });
});

describe('the next hop', () => {
  test('is the first value that stays, and it may be one of the farm', async (t) => {
    const context = await contextOf(t);
    for (const [letters, next, ours] of [
      ['sc', '', false],
      ['scf', 'sip:p.example;lr', false],
      ['scc', `sip:${dialog(2)}@${OUTER};lr`, true],
    ] as const) {
      const { reading, next: found } = taken(context, letters, false);
      assert.deepEqual([found, reading.nextIsOurs], [next, ours]);
    }
  });

  test('is not readable when its value is not: the range is empty', async (t) => {
    const scan = scanOf(request('BYE', { Route: `${VALUES.s}, <sip:p.example` }));
    const reading = new RouteReading();
    takeOutwardRoutes(await contextOf(t), scan, new Rewriter().begin(scan), reading);
    assert.ok(reading.nextStart >= 0);
    assert.equal(reading.nextEnd, reading.nextStart);
  });

  test('of one request does not reach the next one, which has no Route', async (t) => {
    const context = await contextOf(t);
    const reading = new RouteReading();
    for (const Route of [`${VALUES.w}, ${VALUES.c}, ${VALUES.c}`, undefined]) {
      const scan = scanOf(request('BYE', { Route }));
      takeOutwardRoutes(context, scan, new Rewriter().begin(scan), reading);
    }
    const { way: _, ...fields } = reading;
    const { way: __, ...fresh } = new RouteReading();
    assert.deepEqual(fields, fresh);
  });
});

test('a Route of too many values is refused, and one value less is not', async (t) => {
  const context = await contextOf(t);
  assert.equal(taken(context, 'n'.repeat(MAX_VALUES), true).reading.excess, false);
  assert.equal(taken(context, 'n'.repeat(MAX_VALUES + 1), true).reading.excess, true);
});

describe('the Record-Route of a callee', () => {
  for (const [letters, found] of [
    ['fcw', true],
    ['w', true],
    ['', false],
    ['cf', false],
    ['sw', false],
    ['f'.repeat(MAX_VALUES), false],
    [`${'f'.repeat(MAX_VALUES)}w`, false],
  ] as const)
    test(`${found ? 'names' : 'does not name'} its flow: ${letters.length > 9 ? `${letters.length} values` : `'${letters}'`}`, async (t) => {
      const scan = scanOf(response('z9hG4bKx', { 'Record-Route': valuesOf(letters) }));
      const way = emptyWay();
      assert.equal(readNamedWay(await contextOf(t), scan, way), found);
      if (found) assert.deepEqual(way, WAY);
    });
});
