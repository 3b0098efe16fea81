// Header lines that the service writes on top: cached while keys and values stay the same, and rebuilt after a change.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyring } from '../../../../src/ownership/keyring.ts';
import { readToken, Token, TokenKind } from '../../../../src/ownership/token.ts';
import { SentBy, TopHeaders } from '../../../../src/service/shared/top-headers.ts';

const [old, fresh] = [keyring(['11'.repeat(32)]), keyring(['22'.repeat(32)])];
const side = new SentBy({ host: '2001:db8::1', port: 5060, transport: 'tcp' });
const top = new TopHeaders();

/** Returns the member number of the line's token (0 = not valid), and the line without the token. */
function ownerIn(keys: typeof old, verifier: typeof old, member: number): [member: number, rest: string] {
  top.reset();
  top.recordRouteOwner(keys, side, member);
  const line = top.block.toString('latin1', 0, top.length);
  const token = new Token();
  const [start, end] = [line.indexOf('sip:') + 4, line.indexOf('@')];
  const check = readToken(verifier, top.block, start, end, token);
  return [check === 'valid' ? token.member : 0, line.slice(0, start) + line.slice(end)];
}

test('Record-Route names the owner with the current keys and the current number, also after either has changed', () => {
  const rest = 'Record-Route: <sip:@[2001:db8::1]:5060;transport=tcp;lr>\r\n';
  assert.deepEqual(ownerIn(old, old, 7), [7, rest]);
  assert.deepEqual(ownerIn(old, old, 7), [7, rest]);
  assert.deepEqual(ownerIn(old, old, 8), [8, rest]);
  assert.deepEqual(ownerIn(fresh, fresh, 8), [8, rest]);
  assert.deepEqual(ownerIn(fresh, old, 8), [0, rest]);
  assert.deepEqual(ownerIn(old, old, 8), [8, rest]);
});

test("Via and Record-Route name the client's side, also with TLS and a domain name of the greatest length", () => {
  const host = `${`${'a'.repeat(63)}.`.repeat(3)}${'b'.repeat(61)}`;
  const secure = new SentBy({ host, port: 65_535, transport: 'tls' });
  const remote = { listener: 7, connection: 0, address: '2001:db8::1', port: 65_535 };
  const flow = { member: 65_535, incarnation: 9, ...remote, target: 0x7fffffff, nat: true };
  top.reset();
  top.via(old, TokenKind.inward, secure, 7, Buffer.alloc(8), flow, Buffer.from(';lp=01234567'));
  top.recordRouteWay(old, secure, flow);
  top.recordRouteOwner(old, secure, 7);
  top.maxForwards();
  const lines = top.block.toString('latin1', 0, top.length).split('\r\n');
  const route = `@${host}:65535;transport=tls;lr>`;
  assert.ok(lines[0]?.startsWith(`Via: SIP/2.0/TLS ${host}:65535;branch=z9hG4bK`));
  assert.ok(lines[1]?.endsWith(route) && lines[2]?.endsWith(route));
  assert.deepEqual(lines.slice(3), ['Max-Forwards: 70', '']);
});
