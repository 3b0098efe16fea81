// The header lines that the edge writes: made once where they are the same for each dialog, and anew when what they say has changed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyring } from '../../../src/ownership/keyring.ts';
import { readToken, Token } from '../../../src/ownership/token.ts';
import { Side, Stamp } from '../../../src/service/upstream/stamp.ts';

const [old, fresh] = [keyring(['11'.repeat(32)]), keyring(['22'.repeat(32)])];
const side = new Side('tcp', { address: '2001:db8::1', port: 5060 });
const stamp = new Stamp();

/** The number that the line names, and its text without the token. */
function ownerIn(keys: typeof old, verifier: typeof old, member: number): [member: number, rest: string] {
  stamp.reset();
  stamp.recordRouteOwner(keys, side, member);
  const line = stamp.block.toString('latin1', 0, stamp.length);
  const token = new Token();
  const [start, end] = [line.indexOf('sip:') + 4, line.indexOf('@')];
  const check = readToken(verifier, stamp.block, start, end, token);
  return [check === 'valid' ? token.member : 0, line.slice(0, start) + line.slice(end)];
}

test('Record-Route names the owner with the keys and the number of now, also after either has changed', () => {
  const rest = 'Record-Route: <sip:@[2001:db8::1]:5060;transport=tcp;lr>\r\n';
  assert.deepEqual(ownerIn(old, old, 7), [7, rest]);
  assert.deepEqual(ownerIn(old, old, 7), [7, rest]);
  assert.deepEqual(ownerIn(old, old, 8), [8, rest]);
  assert.deepEqual(ownerIn(fresh, fresh, 8), [8, rest]);
  assert.deepEqual(ownerIn(fresh, old, 8), [0, rest]);
  assert.deepEqual(ownerIn(old, old, 8), [8, rest]);
});
