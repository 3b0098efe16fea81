// The limit of Route and Via values that the farm reads in one message, with valid signatures or not.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keyring } from '../../../../src/ownership/keyring.ts';
import { mintToken, TokenKind } from '../../../../src/ownership/token.ts';
import { MAX_VALUES } from '../../../../src/sip/headers.ts';
import { SECRET } from '../../../fake/farm.ts';
import { answered, cleanUp, from, fromServer, inward, outward, type Rig, refused, rig } from './rig.ts';

cleanUp();

const KEYS = keyring([SECRET]);

/** Returns a Route value with a token of member `number`. */
function route(number: number): string {
  return `<sip:${mintToken(KEYS, TokenKind.dialog, number, 0)}@h>`;
}

/** Returns `count` values in Route lines of up to 400 values. */
function routes(count: number, value: string): string[] {
  const lines = Array.from({ length: Math.ceil(count / 400) }, (_, i) => Math.min(400, count - 400 * i));
  return lines.map((length) => `Route: ${Array.from({ length }, () => value).join(',')}`);
}

/** Checks that an ordinary call still works. */
async function callsWork(edge: Rig): Promise<void> {
  const phone = await edge.farm.phone('192.0.2.200');
  await inward(edge, phone, from(phone, { method: 'INVITE', headers: [`Route: ${route(edge.member.number)}`] }));
}

describe('a request of a client', () => {
  test('with 1,200 Route values of a departed member is answered 400, and the member goes on', async () => {
    const edge = await rig({ dialogs: 'shared' });
    const phone = await edge.farm.tcpPhone('192.0.2.7');
    const headers = routes(1200, route(9));
    for (const toTag of [undefined, 'b']) {
      const parts = { method: 'INVITE', headers, ...(toTag && { toTag }) };
      assert.equal((await refused(edge, phone, from(phone, parts))).status, 400);
    }
    await callsWork(edge);
  });

  test('that leaves more Route values of a departed member than the limit is answered 400', async () => {
    const edge = await rig({ dialogs: 'shared' });
    const phone = await edge.farm.phone('192.0.2.7');
    // The two values of a crossing are removed; the values behind the foreign one would get another address.
    for (const [left, passes] of [
      [MAX_VALUES - 1, true],
      [MAX_VALUES, false],
    ] as const) {
      const headers = [`Route: ${[route(9), route(9), '<sip:p.example;lr>'].join()}`, ...routes(left, route(9))];
      const text = from(phone, { method: 'BYE', toTag: 'b', headers });
      if (passes) assert.equal((await inward(edge, phone, text)).all('Route').length, MAX_VALUES);
      else assert.equal((await refused(edge, phone, text)).status, 400);
    }
  });

  test("with the greatest allowed number of the farm's Route values loses them; one more is answered 400", async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const own = route(edge.member.number);
    const most = await inward(
      edge,
      phone,
      from(phone, { method: 'BYE', toTag: 'b', headers: routes(MAX_VALUES, own) }),
    );
    assert.deepEqual(most.all('Route'), []);
    const more = from(phone, { method: 'BYE', toTag: 'b', headers: routes(MAX_VALUES + 1, own) });
    assert.equal((await refused(edge, phone, more)).status, 400);
    assert.equal(edge.member.drops('bad-ack'), 0);
    phone.send(from(phone, { method: 'ACK', toTag: 'b', headers: routes(MAX_VALUES + 1, own) }));
    await edge.farm.settle();
    assert.equal(edge.member.drops('bad-ack'), 1);
  });

  test('keeps any number of foreign Route values, because the farm does not read them', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const got = await inward(
      edge,
      phone,
      from(phone, { method: 'BYE', toTag: 'b', headers: routes(1000, '<sip:p.example;lr>') }),
    );
    assert.equal(got.all('Route').length, 1000);
  });
});

test('a request of the server with too many Route values of the farm is answered 400, even with a flow', async () => {
  const edge = await rig();
  const phone = await edge.farm.phone('192.0.2.7');
  const register = await inward(edge, phone, from(phone, { method: 'REGISTER', headers: ['Supported: path'] }));
  const flow = `Route: ${register.one('Path')}`;
  for (const [first, at] of [
    [[flow], 'sip:bob@192.0.2.7'],
    [[], 'sip:bob@192.0.2.7'],
  ] as const) {
    const own = routes(MAX_VALUES - first.length, '<sip:198.51.100.1;lr>');
    const text = fromServer(edge, { method: 'MESSAGE', uri: at, headers: [...first, ...own] });
    assert.deepEqual((await outward(edge, phone, text)).all('Route'), []);
    const more = fromServer(edge, {
      method: 'MESSAGE',
      uri: at,
      headers: [...first, ...own, 'Route: <sip:10.0.0.1:5062>'],
    });
    assert.equal((await answered(edge, more)).status, 400);
  }
});
