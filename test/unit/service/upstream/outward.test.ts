// Requests of the server to outside parties: the destination (RFC 3261 16.6 item 6, RFC 3263), and the answer to the
// server when there is no destination.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { FakeDns } from '../../../fake/dns.ts';
import { type FakeFarm, TcpPhone } from '../../../fake/farm.ts';
import { respond } from '../../../fake/sip.ts';
import { answered, cleanUp, from, fromServer, inward, outward, type Rig, rig } from './rig.ts';

cleanUp();

/** A SIP element that accepts TCP connections; `phones` are its accepted connections. */
async function tcpServer(farm: FakeFarm, address: string, port = 5060): Promise<TcpPhone[]> {
  const phones: TcpPhone[] = [];
  await farm.network.listenTcp({ address, port }, (stream) => phones.push(new TcpPhone(stream)));
  return phones;
}

describe('a request of the server goes by UDP', () => {
  for (const [uri, address, port] of [
    ['sip:192.0.2.7', '192.0.2.7', 5060],
    ['sip:bob@192.0.2.7:5080', '192.0.2.7', 5080],
    ['sip:bob@192.0.2.7:5080;user=phone;', '192.0.2.7', 5080],
    ['sip:bob@192.0.2.7:5080;transport=udp;user=phone', '192.0.2.7', 5080],
    ['sip:bob@192.0.2.99:5080;maddr=192.0.2.7', '192.0.2.7', 5080],
    ['SIP:bob:secret@192.0.2.7?Subject=x', '192.0.2.7', 5060],
  ] as const) {
    test(`to ${uri}`, async () => {
      const edge = await rig();
      const phone = await edge.farm.phone(address, port);
      const got = await outward(edge, phone, fromServer(edge, { method: 'OPTIONS', uri }));
      assert.equal(got.uri, uri);
      const [ours = '', theirs = ''] = got.all('Via');
      assert.match(ours, /^SIP\/2\.0\/UDP 198\.51\.100\.1:5060;branch=z9hG4bKsf[0-9a-v]+$/);
      assert.match(theirs, /^SIP\/2\.0\/UDP 10\.0\.0\.1:5070;branch=z9hG4bKserver\d+$/);
      assert.deepEqual(phone.from, [{ address: '198.51.100.1', port: 5060 }]);
      assert.equal(got.one('Max-Forwards'), '69');
    });
  }

  test('with the same branch each time, also for its CANCEL and ACK', async () => {
    const edge = await rig();
    const phone = await edge.farm.phone('192.0.2.7');
    const via = 'SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKone';
    const same = { uri: 'sip:b@192.0.2.7', via, callId: 'one' };
    for (const method of ['INVITE', 'INVITE', 'CANCEL', 'ACK'])
      await outward(edge, phone, fromServer(edge, { ...same, method }));
    assert.equal(new Set(phone.got.map(({ branch }) => branch)).size, 1);
    const other = await outward(edge, phone, fromServer(edge, { ...same, method: 'INVITE', via: `${via}2` }));
    assert.notEqual(other.branch, phone.got[0]?.branch);
  });
});

describe('a request of the server without a usable destination', () => {
  for (const [name, uri, status] of [
    ['an unspecified address', 'sip:0.0.0.0', 503],
    ['a multicast address', 'sip:224.0.1.75', 503],
    ['another multicast address', 'sip:239.255.255.255', 503],
    ['the broadcast address', 'sip:255.255.255.255', 503],
    ['a multicast maddr', 'sip:192.0.2.7;maddr=224.0.1.75', 503],
    ['IPv6 without a listener of it', 'sip:[2001:db8::7]', 503],
    ['a transport without a listener', 'sip:192.0.2.7;transport=sctp', 503],
    ['TLS, which this member does not have', 'sips:192.0.2.7', 400],
    ['a telephone number without a Route', 'tel:+1-201-555-0123', 400],
    ['another scheme', 'http://192.0.2.7', 400],
    ['an invalid name', 'sip:x_-..example', 503],
  ] as const) {
    test(`is answered ${status}: ${name}`, async () => {
      const edge = await rig();
      const reply = await answered(edge, fromServer(edge, { method: 'INVITE', uri }));
      assert.equal(reply.status, status);
      assert.notEqual(reply.toTag, '');
      assert.equal(edge.farm.network.lost, 0);
    });
  }

  test('is answered 483 when Max-Forwards is 0', async () => {
    const edge = await rig();
    const text = fromServer(edge, { method: 'INVITE', uri: 'sip:192.0.2.7', maxForwards: '0' });
    assert.equal((await answered(edge, text)).status, 483);
  });

  test('is not answered when it is an ACK', async () => {
    const edge = await rig();
    for (const uri of ['sip:0.0.0.0', 'tel:+1']) edge.server.send(fromServer(edge, { method: 'ACK', uri }));
    await edge.farm.settle();
    assert.equal(edge.server.responses.length, 0);
  });

  test('goes to its Route when the Request-URI is a telephone number', async () => {
    const edge = await rig();
    const gateway = await edge.farm.phone('192.0.2.80');
    const headers = ['Route: <sip:192.0.2.80;lr>'];
    const got = await outward(
      edge,
      gateway,
      fromServer(edge, { method: 'INVITE', uri: 'tel:+1-201-555-0123', headers }),
    );
    assert.equal(got.uri, 'tel:+1-201-555-0123');
  });

  test('is answered at its source port when its Via has rport, else at the port of the Via', async () => {
    const edge = await rig();
    const worker = await edge.farm.phone('10.0.0.1', 5071);
    const text = fromServer(edge, { method: 'INVITE', uri: 'tel:+1' });
    worker.send(text, edge.server.edge);
    await edge.farm.settle();
    assert.deepEqual([worker.got.length, edge.server.responses.length], [0, 1]);
    worker.send(text.replace(';branch', ';rport;branch'), edge.server.edge);
    await edge.farm.settle();
    assert.deepEqual([worker.got.length, edge.server.responses.length], [1, 1]);
  });
});

describe('a request of the server to a TCP target', () => {
  const uri = 'sip:bob@192.0.2.7:5090;transport=tcp';

  test("opens a connection and uses it again, and the peer's messages return to the server", async () => {
    const edge = await rig();
    const phones = await tcpServer(edge.farm, '192.0.2.7', 5090);
    for (const callId of ['one', 'two']) edge.server.send(fromServer(edge, { method: 'INVITE', uri, callId }));
    await edge.farm.settle();
    assert.equal(phones.length, 1);
    const [phone] = phones as [TcpPhone];
    assert.deepEqual(
      phone.got.map(({ callId }) => callId),
      ['one', 'two'],
    );
    assert.match(phone.got[0]!.one('Via'), /^SIP\/2\.0\/TCP 198\.51\.100\.1:5060;branch=z9hG4bKsf[0-9a-v]+$/);
    for (const message of phone.got) phone.send(respond(message, 200, { toTag: 'b' }));
    await edge.farm.settle();
    assert.deepEqual(
      edge.server.responses.map(({ callId, status }) => [callId, status]),
      [
        ['one', 200],
        ['two', 200],
      ],
    );
  });

  test('opens a new connection after the first has closed', async () => {
    const edge = await rig();
    const phones = await tcpServer(edge.farm, '192.0.2.7', 5090);
    edge.server.send(fromServer(edge, { method: 'OPTIONS', uri }));
    await edge.farm.settle();
    phones[0]?.close();
    await edge.farm.settle();
    edge.server.send(fromServer(edge, { method: 'OPTIONS', uri }));
    await edge.farm.settle();
    assert.deepEqual(
      phones.map(({ got }) => got.length),
      [1, 1],
    );
  });

  test('is answered 503 when no listener accepts the connection', async () => {
    const edge = await rig();
    const reply = await answered(edge, fromServer(edge, { method: 'INVITE', uri }));
    assert.equal(reply.status, 503);
    assert.deepEqual(reply.all('Via').length, 1);
    assert.notEqual(reply.toTag, '');
  });

  test('is answered 503 when the connection does not open in time', async () => {
    const edge = await rig();
    edge.farm.network.reaches = (_, { address }) => address !== '192.0.2.7';
    edge.server.send(fromServer(edge, { method: 'INVITE', uri }));
    await edge.farm.until(() => edge.server.responses.length > 0, '503', 8000);
    assert.equal(edge.server.responses[0]?.status, 503);
  });
});

describe('a request of the server to a lost flow behind a NAT is answered 430 (RFC 5626 11.4)', () => {
  /**
   * Registers a TCP phone whose connection member `holder` has. Returns the phone and the Path that its server
   * received.
   */
  async function registered({ farm, server, member }: Rig, holder: number): Promise<{ phone: TcpPhone; path: string }> {
    farm.choose = () => farm.member(holder);
    const phone = await farm.tcpPhone('192.0.2.7');
    const headers = ['Supported: path', 'Contact: <sip:bob@192.168.1.7:5060;transport=tcp>'];
    phone.send(from(phone, { method: 'REGISTER', callId: farm.callIdOf(member), headers }));
    await farm.until(() => server.requests.length > 0, 'the registration');
    return { phone, path: server.last.one('Path') };
  }

  for (const [name, holder] of [
    ['when this member had the connection', 1],
    ['when another member had the connection', 2],
  ] as const) {
    test(name, async () => {
      const edge = await rig({ members: 2 });
      const { farm, server } = edge;
      const { phone, path } = await registered(edge, holder);
      const text = fromServer(edge, { method: 'INVITE', uri: 'sip:bob@192.0.2.7', headers: [`Route: ${path}`] });
      server.send(text);
      await farm.until(() => phone.got.length === 1, 'the call reaches the phone');
      phone.send(respond(phone.got[0]!, 180, { toTag: 'b' }));
      await farm.until(() => server.responses.length === 1, 'it rings');

      phone.close();
      await farm.settle();
      const later = text.replace('CSeq: 1', 'CSeq: 2').replace('z9hG4bKserver', 'z9hG4bKlater');
      server.send(later);
      await farm.until(() => server.responses.length === 2, 'the answer');
      const reply = server.responses[1]!;
      assert.equal(reply.status, 430);
      assert.equal(reply.all('Via').length, 1);
      assert.match(reply.one('Via'), /;branch=z9hG4bKlater\d+$/);
      assert.notEqual(reply.toTag, '');
      assert.equal(phone.got.length, 1);
    });
  }

  test('when the member of the connection has left', async () => {
    const edge = await rig({ members: 2 });
    const { farm } = edge;
    const { path } = await registered(edge, 2);
    await farm.kill(farm.member(2));
    await farm.seated();
    const headers = [`Route: ${path}`];
    assert.equal(
      (await answered(edge, fromServer(edge, { method: 'INVITE', uri: 'sip:b@192.0.2.7', headers }))).status,
      430,
    );
  });

  test('when the member of the connection has restarted', async () => {
    const edge = await rig({ members: 2 });
    const { farm, server } = edge;
    const { path } = await registered(edge, 2);
    await farm.kill(farm.member(2), { serverLives: true });
    await farm.add(2);
    server.send(fromServer(edge, { method: 'INVITE', uri: 'sip:b@192.0.2.7', headers: [`Route: ${path}`] }));
    await farm.until(() => server.responses.length > 0);
    assert.equal(server.responses[0]?.status, 430);
  });

  test('except an ACK, which is dropped, and except to a datagram flow, which is never lost', async () => {
    const edge = await rig({ members: 2 });
    const { farm, server } = edge;
    const { phone, path } = await registered(edge, 1);
    phone.close();
    await farm.settle();
    server.send(fromServer(edge, { method: 'ACK', uri: 'sip:b@192.0.2.7', headers: [`Route: ${path}`] }));
    await farm.settle();
    assert.equal(server.responses.length, 0);
    const other = await farm.phone('192.0.2.8');
    const register = await inward(
      edge,
      other,
      from(other, { method: 'REGISTER', callId: farm.callIdOf(edge.member), headers: ['Supported: path'] }),
    );
    const headers = [`Route: ${register.one('Path')}`];
    await outward(edge, other, fromServer(edge, { method: 'INVITE', uri: 'sip:b@192.0.2.8', headers }));
  });
});

describe('a request of the server to a domain name', () => {
  let dns: FakeDns;
  before(async () => {
    dns = await FakeDns.start();
  });
  after(() => dns.close());

  test('goes to the address that NAPTR, SRV and A give', async () => {
    dns.set('NAPTR', 'naptr.test', [
      { order: 1, preference: 1, flags: 's', services: 'SIP+D2T', regexp: '', replacement: '_sip._tcp.naptr.test' },
    ]);
    dns.set('SRV', '_sip._tcp.naptr.test', [{ priority: 1, weight: 1, port: 5091, target: 'host.naptr.test' }]);
    dns.set('A', 'host.naptr.test', ['192.0.2.7']);
    const edge = await rig({ resolver: [dns.server] });
    const phones = await tcpServer(edge.farm, '192.0.2.7', 5091);
    edge.server.send(fromServer(edge, { method: 'INVITE', uri: 'sip:bob@naptr.test' }));
    await edge.farm.outside(() => (phones[0]?.got.length ?? 0) > 0);
    assert.equal(phones[0]?.got[0]?.uri, 'sip:bob@naptr.test');
  });

  test('goes to the SRV target with the lowest priority', async () => {
    dns.set('SRV', '_sip._udp.srv.test', [
      { priority: 2, weight: 1, port: 5060, target: 'other.srv.test' },
      { priority: 1, weight: 1, port: 5066, target: 'host.srv.test' },
    ]);
    dns.set('A', 'host.srv.test', ['192.0.2.7']);
    dns.set('A', 'other.srv.test', ['192.0.2.99']);
    const edge = await rig({ resolver: [dns.server] });
    const phone = await edge.farm.phone('192.0.2.7', 5066);
    edge.server.send(fromServer(edge, { method: 'INVITE', uri: 'sip:bob@srv.test' }));
    await edge.farm.outside(() => phone.got.length > 0);
    // The second request needs no DNS query.
    const asked = dns.questions.length;
    await outward(edge, phone, fromServer(edge, { method: 'INVITE', uri: 'sip:bob@srv.test' }));
    assert.equal(dns.questions.length, asked);
  });

  test('goes to one of several equal servers: INVITE and CANCEL of a call to the same one', async () => {
    dns.set(
      'SRV',
      '_sip._udp.equal.test',
      ['a', 'b'].map((host) => ({ priority: 1, weight: 1, port: 5060, target: `${host}.equal.test` })),
    );
    dns.set('A', 'a.equal.test', ['192.0.2.7']);
    dns.set('A', 'b.equal.test', ['192.0.2.8']);
    const edge = await rig({ resolver: [dns.server] });
    const phones = [await edge.farm.phone('192.0.2.7'), await edge.farm.phone('192.0.2.8')];
    const sum = (): number => phones.reduce((count, { got }) => count + got.length, 0);
    for (let i = 0; i < 40; i++)
      for (const method of ['INVITE', 'CANCEL'])
        edge.server.send(fromServer(edge, { method, uri: 'sip:bob@equal.test', callId: `equal-${i}` }));
    await edge.farm.outside(() => sum() === 80);
    const calls = phones.map(({ got }) => new Set(got.map(({ callId }) => callId)));
    assert.ok(calls.every(({ size }) => size > 0));
    assert.equal(new Set(calls.flatMap((each) => [...each])).size, calls[0]!.size + calls[1]!.size);
  });

  test('goes by the A record alone when it has a port', async () => {
    dns.set('A', 'plain.test', ['192.0.2.7']);
    const edge = await rig({ resolver: [dns.server] });
    const phone = await edge.farm.phone('192.0.2.7', 5080);
    edge.server.send(fromServer(edge, { method: 'INVITE', uri: 'sip:bob@plain.test:5080' }));
    await edge.farm.outside(() => phone.got.length > 0);
    assert.deepEqual(
      dns.questions.filter((question) => question.endsWith('plain.test')),
      ['A plain.test'],
    );
  });

  test('waits, and goes in the order of arrival: INVITE, its retransmission, CANCEL', async () => {
    dns.set('A', 'slow.test', ['192.0.2.7']);
    const edge = await rig({ resolver: [dns.server] });
    const phone = await edge.farm.phone('192.0.2.7');
    const via = 'SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKslow';
    const same = { uri: 'sip:bob@slow.test', via, callId: 'slow' };
    for (const method of ['INVITE', 'INVITE', 'CANCEL']) edge.server.send(fromServer(edge, { ...same, method }));
    await edge.farm.outside(() => phone.got.length === 3);
    assert.deepEqual(
      phone.got.map(({ method }) => method),
      ['INVITE', 'INVITE', 'CANCEL'],
    );
    assert.equal(new Set(phone.got.map(({ branch }) => branch)).size, 1);
    assert.equal(phone.got[0]?.text, phone.got[1]?.text);
  });

  test('keeps its route and body while it waits, whatever other packets come meanwhile', async () => {
    dns.set('A', 'later.test', ['192.0.2.7']);
    const edge = await rig({ resolver: [dns.server] });
    const phone = await edge.farm.phone('192.0.2.7');
    const client = await edge.farm.phone('192.0.2.8');
    const headers = ['Route: <sip:10.0.0.1:5062;lr>, <sip:later.test;lr>'];
    edge.server.send(
      fromServer(edge, { method: 'INVITE', uri: 'sip:x@y', headers, body: 'the body', callId: 'waits' }),
    );
    await edge.farm.settle();
    for (let i = 0; i < 20; i++) await inward(edge, client, from(client, { method: 'OPTIONS' }));
    await edge.farm.outside(() => phone.got.length > 0);
    const [got] = phone.got;
    assert.deepEqual([got?.callId, got?.body, got?.all('Route')], ['waits', 'the body', ['<sip:later.test;lr>']]);
  });

  test('is answered 503 when the name does not exist, but an ACK is not answered', async () => {
    const edge = await rig({ resolver: [dns.server] });
    edge.server.send(fromServer(edge, { method: 'ACK', uri: 'sip:bob@missing.test' }));
    edge.server.send(fromServer(edge, { method: 'INVITE', uri: 'sip:bob@missing.test' }));
    await edge.farm.outside(() => edge.server.responses.length > 0);
    await edge.farm.settle();
    assert.deepEqual(
      edge.server.responses.map(({ status, method }) => [status, method]),
      [[503, 'INVITE']],
    );
  });

  test('is answered 503 when the name leads to a forbidden address', async () => {
    dns.set('A', 'multicast.test', ['224.0.1.75']);
    const edge = await rig({ resolver: [dns.server] });
    edge.server.send(fromServer(edge, { method: 'INVITE', uri: 'sip:bob@multicast.test' }));
    await edge.farm.outside(() => edge.server.responses.length > 0);
    assert.equal(edge.server.responses[0]?.status, 503);
  });

  test('is answered 503 and counted when too many names are being looked up', async () => {
    for (let i = 0; i < 65; i++) dns.set('A', `many-${i}.test`, ['192.0.2.7']);
    const edge = await rig({ resolver: [dns.server] });
    const phone = await edge.farm.phone('192.0.2.7');
    for (let i = 0; i < 65; i++)
      edge.server.send(fromServer(edge, { method: 'OPTIONS', uri: `sip:many-${i}.test`, callId: `many-${i}` }));
    await edge.farm.outside(() => phone.got.length === 64 && edge.server.responses.length === 1);
    const [reply] = edge.server.responses;
    assert.deepEqual([reply?.status, reply?.callId], [503, 'many-64']);
    assert.equal(edge.member.drops('service-busy'), 1);
  });

  test('releases its space: the limit counts the requests that wait at one time, not all requests', async () => {
    const edge = await rig({ resolver: [dns.server] });
    const phone = await edge.farm.phone('192.0.2.7');
    const body = 'x'.repeat(60_000);
    // 150 requests of 60,000 octets are more than half of the space for waiting requests.
    for (const round of [1, 2]) {
      dns.set('A', `round-${round}.test`, ['192.0.2.7']);
      for (let i = 0; i < 150; i++)
        edge.server.send(fromServer(edge, { method: 'OPTIONS', uri: `sip:round-${round}.test`, body }));
      await edge.farm.outside(() => phone.got.length + edge.server.responses.length === 150 * round);
    }
    assert.equal(phone.got.length, 300);
  });

  test('may lead to a server that is itself a name; the member is ready only after that name is resolved', async () => {
    dns.set('A', 'server.test', ['10.0.0.1']);
    const edge = await rig({ resolver: [dns.server], service: { server: 'sip:server.test:5070' } });
    const phone = await edge.farm.phone('192.0.2.7');
    await inward(edge, phone, from(phone, { method: 'OPTIONS' }));
    await outward(edge, phone, fromServer(edge, { method: 'OPTIONS', uri: 'sip:192.0.2.7' }));
    assert.equal(edge.member.node.api.ready().ready, true);
  });
});
