// Requests from the client to the server: changed headers, refused requests, and the untouched rest.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { compose, Message, request, respond } from '../../../fake/sip.ts';
import { answer, cleanUp, from, fromServer, inward, outward, refused, rig, viaOf } from './rig.ts';

cleanUp();

describe("the client's Via", () => {
  for (const [name, sentBy, wanted] of [
    ['gets nothing when it names the source', '192.0.2.7:40001', ''],
    ['gets received when it names another address', '192.168.1.5', ';received=192.0.2.7'],
    ['gets received when it names a host', 'phone.example.org', ';received=192.0.2.7'],
  ] as const) {
    test(name, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7', 40001);
      const via = `SIP/2.0/UDP ${sentBy};branch=z9hG4bKvia`;
      const [ours, theirs] = (await inward(edge, phone, from(phone, { method: 'OPTIONS', via }))).all('Via');
      assert.match(ours!, /^SIP\/2\.0\/UDP 10\.0\.0\.1:5062;branch=z9hG4bKsf/);
      assert.equal(theirs, via + wanted);
    });
  }

  test('gets received, and the source port where it has rport (RFC 3581)', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 40001);
    const via = 'SIP/2.0/UDP 192.0.2.7:40001;rport;branch=z9hG4bKvia';
    const [, theirs] = (await inward(edge, phone, from(phone, { method: 'OPTIONS', via }))).all('Via');
    assert.equal(theirs, 'SIP/2.0/UDP 192.0.2.7:40001;received=192.0.2.7;rport=40001;branch=z9hG4bKvia');
  });

  test('loses the received and rport values that the client wrote itself', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 40001);
    const via = 'SIP/2.0/UDP 192.0.2.7:40001;received=198.18.0.1;branch=z9hG4bKvia;rport=1';
    const [, theirs] = (await inward(edge, phone, from(phone, { method: 'OPTIONS', via }))).all('Via');
    assert.equal(theirs, 'SIP/2.0/UDP 192.0.2.7:40001;branch=z9hG4bKvia;received=192.0.2.7;rport=40001');
  });

  test('stays above the Via values of earlier proxies', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const before = 'SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKdeep';
    const via = `${viaOf(phone, 'branch=z9hG4bKtop')}, ${before}`;
    const all = (await inward(edge, phone, from(phone, { method: 'OPTIONS', via }))).all('Via');
    assert.deepEqual(all.slice(1), [viaOf(phone, 'branch=z9hG4bKtop'), before]);
  });
});

test('Proxy-Require belongs to the SIP server: it passes both ways, as does the 420 with Unsupported', async () => {
  const edge = await rig();
  const phone = await edge.farm.phone('192.0.2.7');
  const headers = ['Proxy-Require: privacy, sec-agree'];
  const got = await inward(edge, phone, from(phone, { method: 'INVITE', headers }));
  assert.deepEqual(got.all('Proxy-Require'), ['privacy', 'sec-agree']);
  edge.server.send(respond(got, 420, { toTag: 'b', headers: ['Unsupported: sec-agree'] }));
  await edge.farm.settle();
  assert.deepEqual([phone.got.at(-1)?.status, phone.got.at(-1)?.one('Unsupported')], [420, 'sec-agree']);
  const out = await outward(edge, phone, fromServer(edge, { method: 'OPTIONS', uri: 'sip:192.0.2.7', headers }));
  assert.deepEqual(out.all('Proxy-Require'), ['privacy', 'sec-agree']);
});

describe('one semicolon behind the last parameter, as some phones write it,', () => {
  test('is accepted and stays in Via, Request-URI, From, To, Contact and Route', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 40001);
    const via = 'SIP/2.0/UDP 192.168.1.5;branch=z9hG4bKvia;';
    const headers = ['Contact: <sip:alice@192.0.2.7;>;', 'Route: <sip:10.0.0.9;lr;>;'];
    const text = from(phone, { method: 'INVITE', uri: 'sip:bob@example.org;', via, headers });
    const got = await inward(edge, phone, text.replace(/^((?:From|To): .*)$/gm, '$1;'));
    assert.equal(got.uri, 'sip:bob@example.org;');
    assert.equal(got.all('Via')[1], 'SIP/2.0/UDP 192.168.1.5;branch=z9hG4bKvia;received=192.0.2.7;');
    assert.deepEqual(
      ['From', 'To', 'Contact', 'Route'].map((name) => got.one(name)),
      ['<sip:alice@example.org>;tag=from;', '<sip:bob@example.org>;', '<sip:alice@192.0.2.7;>;', '<sip:10.0.0.9;lr;>;'],
    );
  });

  test('does no harm in a Route of the farm or in the Via of the answer', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE' }));
    const response = await answer(edge, phone, invite, 200);
    const route = response.all('Record-Route').reverse();
    const headers = route.map((value) => `Route: ${value.replace('>', ';>;')}`);
    const bye = await inward(edge, phone, from(phone, { method: 'BYE', toTag: 'bob', headers, callId: invite.callId }));
    assert.deepEqual(bye.all('Route'), []);
    const ended = await outward(edge, phone, respond(bye, 200).replace(/^(Via: .*)$/m, '$1;'));
    assert.deepEqual([ended.status, ended.all('Via').length], [200, 1]);
  });

  test('is an error when there are two (RFC 4475 3.1.2.1)', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const text = from(phone, { method: 'OPTIONS', via: `${viaOf(phone)};;` });
    assert.equal((await refused(edge, phone, text)).status, 400);
  });
});

describe('a Via with port 0', () => {
  test('is answered at port 5060, like a Via without a port', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const got = await inward(
      edge,
      phone,
      from(phone, { method: 'OPTIONS', via: 'SIP/2.0/UDP 192.0.2.7:0;branch=z9hG4bK0' }),
    );
    assert.equal((await answer(edge, phone, got, 200)).one('Via'), 'SIP/2.0/UDP 192.0.2.7:0;branch=z9hG4bK0');
    const refusal = await refused(
      edge,
      phone,
      from(phone, { method: 'OPTIONS', via: 'SIP/2.0/UDP 192.0.2.7:0;branch=z9hG4bK1', maxForwards: '0' }),
    );
    assert.equal(refusal.status, 483);
  });

  test('is answered at its source port when it has rport (RFC 3581)', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7', 40001);
    const via = 'SIP/2.0/UDP 192.0.2.7:0;rport;branch=z9hG4bK0';
    const got = await inward(edge, phone, from(phone, { method: 'OPTIONS', via }));
    assert.equal((await answer(edge, phone, got, 200)).status, 200);
  });
});

describe('Max-Forwards', () => {
  for (const [name, before, after] of [
    ['is decremented by one', '70', '69'],
    ['can become 0', '1', '0'],
    ['becomes 70 when it is missing', '', '70'],
    ['becomes 70 when it is no number', 'many', '70'],
    ['becomes 70 when the number is too large (RFC 4475 3.1.2.4)', '300', '70'],
  ] as const) {
    test(name, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const request = await inward(edge, phone, from(phone, { method: 'OPTIONS', maxForwards: before }));
      assert.deepEqual(request.all('Max-Forwards'), [after]);
    });
  }

  for (const method of ['INVITE', 'OPTIONS', 'REGISTER', 'BYE']) {
    test(`0 in ${method} is answered 483`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone('192.0.2.7');
      const reply = await refused(edge, phone, from(phone, { method, maxForwards: '0' }));
      assert.equal(reply.status, 483);
      assert.match(reply.toTag, /^sf/);
    });
  }

  test('0 in an ACK makes the farm drop the ACK', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    phone.send(from(phone, { method: 'ACK', maxForwards: '0' }));
    await edge.farm.settle();
    assert.deepEqual([edge.server.requests.length, phone.got.length], [0, 0]);
  });
});

describe('loop detection (RFC 3261 16.3 item 4, RFC 5393)', () => {
  /** Returns the request as a proxy sends it: with the server's Via on top and `uri` as Request-URI. */
  function proxied(message: Message, uri = message.uri): string {
    const start = `${message.method} ${uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKproxy\r\n`;
    return start + message.text.slice(message.text.indexOf('\r\n') + 2).replace(/^Record-Route:.*\r\n/gim, '');
  }

  test('accepts the request that the server sends out to the client again', async () => {
    const edge = await rig();
    const caller = await edge.farm.phone('192.0.2.7');
    const callee = await edge.farm.phone('192.0.2.8');
    const invite = await inward(edge, caller, from(caller, { method: 'INVITE', uri: 'sip:bob@192.0.2.8' }));
    const out = await outward(edge, callee, proxied(invite));
    assert.equal(out.all('Via').length, 4);
    const ringing = new Message(respond(out, 180, { toTag: 'bob' }));
    callee.send(ringing.text);
    await edge.farm.settle();
    const back = edge.server.responses.at(-1)!;
    assert.deepEqual([back.status, back.all('Via').length], [180, 3]);
  });

  test('finds a loop: the same request comes from the same element a second time, unchanged', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    await inward(edge, phone, from(phone, { method: 'INVITE', uri: 'sip:bob@198.51.100.1' }));
    edge.server.script = (message) => edge.server.send(proxied(message));
    edge.server.send(proxied(edge.server.last));
    await edge.farm.settle();
    assert.equal(edge.server.requests.length, 2);
    assert.deepEqual(
      edge.server.responses.map(({ status }) => status),
      [482],
    );
  });

  test('accepts a spiral: the request comes back with another Request-URI', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE', uri: 'sip:bob@198.51.100.1' }));
    edge.server.send(proxied(invite, 'sip:carol@198.51.100.1'));
    await edge.farm.settle();
    assert.equal(edge.server.requests.length, 2);
    assert.notEqual(edge.server.last.branch, invite.branch);
  });

  test('finds a loop when the request comes back through another member', async () => {
    const edge = await rig({ members: 3 });
    const { farm } = edge;
    const phone = await farm.phone('192.0.2.7');
    const text = from(phone, { method: 'INVITE', uri: 'sip:bob@198.51.100.1', callId: farm.callIdOf(edge.member) });
    await inward(edge, phone, text);
    edge.server.script = (message) => edge.server.send(proxied(message));
    edge.server.send(proxied(edge.server.last));
    await farm.settle();
    assert.deepEqual([edge.server.requests.length, edge.server.responses.map(({ status }) => status)], [2, [482]]);
  });

  test('accepts a spiral: an application server sends the request back as it came', async () => {
    const edge = await rig();
    const { farm, server } = edge;
    const [phone, application] = [await farm.phone('192.0.2.7'), await farm.phone('192.0.2.9')];
    const invite = await inward(edge, phone, from(phone, { method: 'INVITE', uri: 'sip:bob@198.51.100.1' }));
    const out = proxied(invite).replace('\r\nVia:', '\r\nRoute: <sip:192.0.2.9;lr>\r\nVia:');
    const there = await outward(edge, application, out);
    const via = 'SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKapplication';
    application.send(there.text.replace(/Route: .*\r\n/, '').replace('\r\nVia:', `\r\nVia: ${via}\r\nVia:`));
    await farm.settle();
    assert.equal(server.requests.length, 2);
    assert.notEqual(server.last.branch, invite.branch);
  });

  test('accepts a Via with a token of an unknown member', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const forged = `SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bKsf${'0'.repeat(37)}`;
    await inward(edge, phone, from(phone, { method: 'INVITE', via: `${viaOf(phone)}, ${forged}` }));
  });
});

describe('the health check of the server', () => {
  test('is off with none: the server always counts as up', async () => {
    const edge = await rig({ health: 'none' });
    await edge.server.stop();
    assert.equal(edge.member.node.api.ready().ready, true);
  });

  test('by options reports the server as up after its answer, as down (503) in silence, then as up', async () => {
    const edge = await rig({
      health: 'options',
      service: { health: { method: 'options', intervalSeconds: 1, failures: 2 } },
    });
    const { farm, server, member } = edge;
    const phone = await farm.phone('192.0.2.7');
    await farm.until(() => member.node.api.ready().ready, 'the server answers');
    assert.equal(server.asked[0]?.method, 'OPTIONS');
    assert.equal(
      (await answer(edge, phone, await inward(edge, phone, from(phone, { method: 'INVITE' })), 200)).status,
      200,
    );

    server.healthy = false;
    await farm.until(() => !member.node.api.ready().ready, 'the silence is noticed', 5000);
    assert.match(member.node.api.ready().reasons.join(), /10\.0\.0\.1:5070 does not answer/);
    // A reply is never larger than its request: the long header makes room for Retry-After.
    const headers = ['User-Agent: a phone with a long name'];
    const reply = await refused(edge, phone, from(phone, { method: 'INVITE', headers }));
    assert.deepEqual([reply.status, reply.one('Retry-After')], [503, '5']);

    server.healthy = true;
    await farm.until(() => member.node.api.ready().ready, 'the server is back', 5000);
    await inward(edge, phone, from(phone, { method: 'INVITE' }));
  });

  test('by options tolerates one lost probe', async () => {
    const edge = await rig({ service: { health: { method: 'options', intervalSeconds: 1, failures: 2 } } });
    const { farm, server, member } = edge;
    await farm.until(() => member.node.api.ready().ready);
    server.healthy = false;
    const asked = server.asked.length;
    await farm.until(() => server.asked.length === asked + 1);
    server.healthy = true;
    for (let i = 0; i < 30; i++) {
      await farm.pass(100);
      assert.equal(member.node.api.ready().ready, true);
    }
  });

  test('by keepalive notices a closed port at once and an open one with the next probe', async () => {
    const edge = await rig({ health: 'keepalive' });
    const { farm, server, member } = edge;
    await farm.until(() => member.node.api.ready().ready, 'up after the first knock', 1000);
    await server.stop();
    await farm.until(() => !member.node.api.ready().ready, 'refused', 3000);
    const phone = await farm.phone('192.0.2.7');
    assert.equal((await refused(edge, phone, from(phone, { method: 'INVITE' }))).status, 503);
    await server.start();
    await farm.until(() => member.node.api.ready().ready, 'up again', 10_000);
  });

  test('decides the answer to a probe of the balancer', async () => {
    const edge = await rig({ service: { health: { method: 'options', intervalSeconds: 1, failures: 1 } } });
    const { farm, server, member } = edge;
    const probe = await farm.phone('198.51.100.254');
    await farm.until(() => member.node.api.ready().ready);
    assert.equal((await refused(edge, probe, from(probe, { method: 'OPTIONS' }))).status, 200);
    server.healthy = false;
    await farm.until(() => !member.node.api.ready().ready);
    assert.equal((await refused(edge, probe, from(probe, { method: 'OPTIONS' }))).status, 503);
  });
});

describe('untouched octets stay the same', () => {
  const octet = fc.integer({ min: 0, max: 255 });
  const body = fc.array(octet, { maxLength: 300 }).map((octets) => String.fromCharCode(...octets));
  /** Values of headers that the farm does not use: any octets but line ends, with blanks and folds. */
  const value = fc
    .array(
      octet.filter((code) => code >= 0x20 && code !== 0x7f),
      { maxLength: 60 },
    )
    .map((octets) => String.fromCharCode(...octets));
  const line = fc.tuple(
    fc.constantFrom('X-One', 'x-two', 'Subject', 'Contact', 'Supported', 'Content-Type', 'v'),
    value,
    fc.boolean(),
  );

  test('in headers and body of a request and of its response', async () => {
    const edge = await rig();
    const { farm, server } = edge;
    const phone = await farm.phone('192.0.2.7');
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 12 }), body, async (lines, octets) => {
        const own = lines.map(([name, text, folded]) => `${name}:${folded ? ' \r\n\t' : ' '}${text.trim()}`);
        const via = viaOf(phone, `branch=z9hG4bKprop${++count}`);
        const text = request({
          method: 'INVITE',
          uri: 'sip:bob@example.org',
          via,
          callId: `p-${count}`,
          headers: own,
          body: octets,
        });
        const got = await inward(edge, phone, text);
        const expected = text.replace('Max-Forwards: 70', 'Max-Forwards: 69');
        const added = expected.indexOf('\r\n') + 2;
        assert.ok(got.text.startsWith(expected.slice(0, added)));
        assert.ok(got.text.endsWith(expected.slice(added)));
        const top = got.text.slice(added, got.text.length - (expected.length - added));
        assert.match(top, /^Via: [^\r]*\r\nRecord-Route: [^\r]*\r\nRecord-Route: [^\r]*\r\n$/);

        const vias = got.headers.filter(([name]) => name === 'Via').map(([, each]) => `Via: ${each}`);
        const rest = ['From: <sip:a@b>;tag=1', 'To: <sip:b@c>;tag=2', `Call-ID: p-${count}`, 'CSeq: 1 INVITE', ...own];
        const before = phone.got.length;
        server.send(compose('SIP/2.0 200 OK', [...vias, ...rest], octets));
        await farm.settle();
        assert.equal(phone.got.length, before + 1);
        assert.equal(phone.got.at(-1)!.text, compose('SIP/2.0 200 OK', [...vias.slice(1), ...rest], octets));
      }),
      { numRuns: 150 },
    );
  });

  test('in a request of the server with any header lines', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 12 }), body, async (lines, octets) => {
        const own = lines.map(([name, text]) => `${name}: ${text.trim()}`);
        const text = fromServer(edge, { method: 'MESSAGE', uri: 'sip:bob@192.0.2.7', headers: own, body: octets });
        const got = await outward(edge, phone, text);
        const expected = text.replace('Max-Forwards: 70', 'Max-Forwards: 69');
        const added = expected.indexOf('\r\n') + 2;
        assert.ok(got.text.startsWith(expected.slice(0, added)) && got.text.endsWith(expected.slice(added)));
        assert.match(got.text.slice(added, got.text.length - (expected.length - added)), /^Via: [^\r]*\r\n$/);
      }),
      { numRuns: 100 },
    );
  });
});
