// A response that names a member without a seat passes the dead server by its Via values alone (`dialogs: shared`), and
// goes nowhere else.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { writeFlowToken } from '../../../../src/ownership/flow-token.ts';
import { keyring } from '../../../../src/ownership/keyring.ts';
import { mintToken, TokenKind } from '../../../../src/ownership/token.ts';
import { SECRET } from '../../../fake/farm.ts';
import { compose } from '../../../fake/sip.ts';
import { cleanUp, type Rig, rig } from './rig.ts';

cleanUp();

const KEYS = keyring([SECRET]);
const DEAD = 9;

function branch(kind: typeof TokenKind.outward | typeof TokenKind.inward, member: number, keys = KEYS): string {
  return `z9hG4bK${mintToken(keys, kind, member, 0, new Uint8Array(8))}`;
}

function flowTo(edge: Rig, address: string, port: number, keys = KEYS): string {
  const { code } = edge.member.node.transport.listeners[0]!;
  const to = Buffer.alloc(80);
  const flow = { member: DEAD, incarnation: 1, listener: code, connection: 0, address, port };
  return to.toString('latin1', 0, writeFlowToken(keys, flow, to, 0));
}

const TOP = `SIP/2.0/UDP 198.51.100.1:5060;branch=${branch(TokenKind.outward, DEAD)}`;
const SERVER = 'SIP/2.0/UDP 10.0.0.9:5070;branch=z9hG4bKserver';
const CALLER = 'SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKcaller';

/** Returns the same Via in another spelling (RFC 3261 7.3.1 and 25.1). */
const spelt = (via: string): string => via.replace(/;(\w+)=/g, (_, name: string) => ` ; ${name.toUpperCase()} = `);

function response(vias: readonly string[]): string {
  return compose('SIP/2.0 180 Ringing', [
    ...vias,
    'From: <sip:a@example.org>;tag=a',
    'To: <sip:b@example.org>;tag=b',
    'Call-ID: orphan',
    'CSeq: 1 INVITE',
  ]);
}

/**
 * Returns the messages that caller and server get for a response with these Via lines; `INWARD` stands for the Via of
 * the dead member.
 */
async function passedOn(
  lines: (inward: string, edge: Rig) => readonly string[],
): Promise<{ caller: string[][]; server: number; drops: number }> {
  const edge = await rig({ dialogs: 'shared' });
  const caller = await edge.farm.phone('192.0.2.7');
  const callee = await edge.farm.phone('192.0.2.9');
  const flow = flowTo(edge, '192.0.2.7', 5060);
  const inward = `SIP/2.0/UDP 10.0.0.9:5062;branch=${branch(TokenKind.inward, DEAD)};sf=${flow}`;
  callee.send(response(lines(inward, edge)));
  await edge.farm.settle();
  return {
    caller: caller.got.map((message) => message.all('Via')),
    server: edge.server.responses.length,
    drops: edge.member.drops('next-via'),
  };
}

describe('a response that names a dead member goes to the caller', () => {
  for (const [name, lines] of [
    ['with each Via in a line', (inward) => [`Via: ${TOP}`, `Via: ${SERVER}`, `Via: ${inward}`, `Via: ${CALLER}`]],
    ['with all in one line', (inward) => [`Via: ${TOP}, ${SERVER},${inward} , ${CALLER}`]],
    ['with the last two in one line', (inward) => [`v: ${TOP}`, `Via: ${SERVER}`, `Via: ${inward},${CALLER}`]],
    [
      'with other headers between them',
      (inward) => [`Via: ${TOP}, ${SERVER}`, 'X-A: 1', `Via: ${inward}`, `Via: ${CALLER}`],
    ],
    [
      'with their parameters in another spelling',
      (inward) => [`Via: ${spelt(TOP)}`, `Via: ${SERVER}`, `Via: ${spelt(inward)}`, `Via: ${CALLER}`],
    ],
    [
      'past two servers',
      (inward) => [`Via: ${TOP}`, `Via: ${SERVER}`, `Via: ${SERVER}2`, `Via: ${inward}`, `Via: ${CALLER}`],
    ],
  ] as const satisfies readonly (readonly [string, (inward: string) => readonly string[]])[])
    test(name, async () => {
      const got = await passedOn(lines);
      assert.deepEqual(got, { caller: [[CALLER]], server: 0, drops: 0 });
    });
});

describe('such a response goes to the server of this member', () => {
  for (const [name, lines] of [
    ['without a Via of the farm below the top', () => [`Via: ${TOP}`, `Via: ${SERVER}`, `Via: ${CALLER}`]],
    [
      'when that Via names a living member',
      (inward, { member }) => [
        `Via: ${TOP}`,
        `Via: ${SERVER}`,
        `Via: ${inward.replace(/branch=[^;]+/, `branch=${branch(TokenKind.inward, member.number)}`)}`,
        `Via: ${CALLER}`,
      ],
    ],
    [
      'when its branch is forged',
      (inward) => [
        `Via: ${TOP}`,
        `Via: ${inward.replace(/branch=[^;]+/, `branch=${branch(TokenKind.inward, DEAD, keyring(['cd'.repeat(32)]))}`)}`,
        `Via: ${CALLER}`,
      ],
    ],
    [
      'when its flow is forged',
      (inward, edge) => [
        `Via: ${TOP}`,
        `Via: ${inward.replace(/sf=.*/, `sf=${flowTo(edge, '192.0.2.66', 5060, keyring(['cd'.repeat(32)]))}`)}`,
        `Via: ${CALLER}`,
      ],
    ],
    ['when no Via follows that one', (inward) => [`Via: ${TOP}`, `Via: ${SERVER}`, `Via: ${inward}`]],
    [
      'when a Via above it cannot be parsed',
      (inward) => [`Via: ${TOP}`, `Via: ${SERVER}`, 'Via: nonsense', `Via: ${inward}`, `Via: ${CALLER}`],
    ],
    [
      'when it is deeper than the Max-Forwards of any request',
      (inward) => [
        `Via: ${TOP}`,
        ...Array.from({ length: 160 }, () => `Via: ${SERVER}`),
        `Via: ${inward}`,
        `Via: ${CALLER}`,
      ],
    ],
  ] as const satisfies readonly (readonly [string, (inward: string, edge: Rig) => readonly string[]])[])
    test(name, async () => {
      const got = await passedOn(lines);
      assert.deepEqual(got, { caller: [], server: 1, drops: 0 });
    });
});
