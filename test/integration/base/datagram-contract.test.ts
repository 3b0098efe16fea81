// The same contract for all implementations that open UDP sockets of the host.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { DatagramOptions, Network } from '../../../src/base/network.ts';
import { networks, Party } from '../batch/networks.ts';

const LIMIT = { timeout: 30_000 };

async function party(
  t: TestContext,
  network: Network,
  address: string,
  port = 0,
  options: DatagramOptions = {},
): Promise<Party> {
  const made = await Party.at(network, address, port, options);
  t.after(() => made.socket.close());
  return made;
}

const text = (party: Party): string[] => party.heard.map(({ bytes }) => bytes.toString());

for (const [name, network] of networks)
  for (const address of ['127.0.0.1', '::1'])
    describe(`a UDP socket of ${name} at ${address}`, LIMIT, () => {
      test('reports its port and the sender of each datagram', async (t) => {
        const [alice, bob] = [await party(t, network, address), await party(t, network, address)];
        assert.equal(alice.socket.local.address, address);
        assert.ok(alice.socket.local.port > 0);
        alice.send(Buffer.from('hello'), bob);
        await bob.until(1);
        const { port } = alice.socket.local;
        assert.deepEqual(bob.heard, [{ bytes: Buffer.from('hello'), address, port }]);
      });

      test('sends the empty datagram and the longest one', async (t) => {
        const [alice, bob] = [await party(t, network, address), await party(t, network, address)];
        const longest = Buffer.alloc(address === '::1' ? 65_527 : 65_507, 'x');
        for (const bytes of [Buffer.alloc(0), longest, Buffer.from('end')]) alice.send(bytes, bob);
        await bob.until(3);
        assert.deepEqual(
          bob.heard.map(({ bytes }) => bytes.length),
          [0, longest.length, 3],
        );
        assert.ok(bob.heard[1]?.bytes.equals(longest));
        assert.deepEqual(alice.errors, []);
      });

      test('does not change octets that it has delivered', async (t) => {
        const [alice, bob] = [await party(t, network, address), await party(t, network, address)];
        for (let i = 0; i < 300; i++) {
          alice.send(Buffer.from(`message ${i}`), bob);
          if (i % 100 === 99) await bob.until(i + 1);
        }
        assert.deepEqual(
          text(bob),
          Array.from({ length: 300 }, (_, i) => `message ${i}`),
        );
      });

      test('answers many senders from within its handler', async (t) => {
        const server = await party(t, network, address);
        server.onDatagram = (bytes, from, port) => server.socket.send(Buffer.from(`${bytes}!`), from, port);
        const clients = await Promise.all(Array.from({ length: 8 }, () => party(t, network, address)));
        for (let i = 0; i < 20; i++) for (const client of clients) client.send(Buffer.from(`${i}`), server);
        for (const client of clients) {
          await client.until(20);
          assert.deepEqual(
            text(client),
            Array.from({ length: 20 }, (_, i) => `${i}!`),
          );
          assert.ok(client.heard.every(({ port }) => port === server.socket.local.port));
        }
      });

      test('reports datagrams that cannot be sent, and goes on', async (t) => {
        const [alice, bob] = [await party(t, network, address), await party(t, network, address)];
        const { port } = bob.socket.local;
        alice.socket.send(Buffer.from('x'), address, 0);
        alice.socket.send(Buffer.from('x'), address, 65_536);
        alice.socket.send(Buffer.from('x'), address, Number.NaN);
        alice.socket.send(Buffer.alloc(65_536), address, port);
        alice.socket.send(Buffer.alloc(65_530), address, port);
        alice.send(Buffer.from('good'), bob);
        await alice.until(0, 5);
        await bob.until(1);
        assert.deepEqual(text(bob), ['good']);
        assert.equal(alice.errors.length, 5);
        const codes = alice.errors.map((error) => (error as NodeJS.ErrnoException).code);
        assert.equal(codes.filter((code) => code === 'EMSGSIZE').length, 2);
      });

      test('refuses an address in use, or a foreign one, with the name of the error', async (t) => {
        const { local } = (await party(t, network, address)).socket;
        const nothing = { onDatagram() {}, onSendError() {} };
        await assert.rejects(network.bindUdp(local, nothing), { code: 'EADDRINUSE', syscall: 'bind' });
        const elsewhere = { address: address === '::1' ? '2001:db8::77' : '192.0.2.77', port: 0 };
        await assert.rejects(network.bindUdp(elsewhere, nothing), { code: 'EADDRNOTAVAIL', syscall: 'bind' });
      });

      test('sends nothing after its close, which frees the port and may be called in its own handler', async (t) => {
        const [alice, bob] = [await party(t, network, address), await Party.at(network, address)];
        const { local } = bob.socket;
        let closed = Promise.resolve();
        bob.onDatagram = (bytes) => {
          if (bytes.toString() === '1') closed = bob.socket.close();
        };
        for (let i = 0; i < 10; i++) alice.send(Buffer.from(`${i}`), bob);
        await bob.until(2);
        await closed;
        assert.deepEqual(text(bob), ['0', '1']);
        bob.socket.send(Buffer.from('late'), address, alice.socket.local.port);
        await bob.until(2, 1);
        const next = await party(t, network, address, local.port);
        alice.send(Buffer.from('next'), next);
        await next.until(1);
        assert.deepEqual([text(alice), text(next)], [[], ['next']]);
      });

      test('has buffers of the requested sizes, each on its own, and large ones by default', async (t) => {
        const granted = async (options: DatagramOptions) =>
          (await party(t, network, address, 0, options)).socket.granted!;
        const usual = await granted({});
        const receive = await granted({ receiveBufferBytes: 16_384 });
        const send = await granted({ sendBufferBytes: 16_384 });
        assert.equal(usual.dscp, 'default');
        assert.ok(usual.receiveBufferBytes > 65_536 && usual.sendBufferBytes > 65_536);
        // Linux reports twice the size (socket(7)).
        assert.deepEqual(receive, { ...usual, receiveBufferBytes: 32_768 });
        assert.deepEqual(send, { ...usual, sendBufferBytes: 32_768 });
      });

      test('loses datagrams of a burst with a small receive buffer, and none with the default one', async (t) => {
        const alice = await party(t, network, address);
        const usual = await party(t, network, address);
        const small = await party(t, network, address, 0, { receiveBufferBytes: 4096 });
        for (const bob of [usual, small]) for (let i = 0; i < 60; i++) alice.send(Buffer.alloc(1000), bob);
        await usual.until(60);
        await small.until(1);
        alice.send(Buffer.from('end'), small);
        await small.until(small.heard.length + 1);
        while (text(small).at(-1) !== 'end') await small.until(small.heard.length + 1);
        assert.ok(small.heard.length < 60, String(small.heard.length));
      });

      test('sends with the requested DSCP, or reports that it is not set', async (t) => {
        const alice = await party(t, network, address, 0, { dscp: 46 });
        const bob = await party(t, network, address);
        assert.equal(alice.socket.granted?.dscp, name === 'batch' ? 'set' : 'not-set');
        alice.send(Buffer.from('x'), bob);
        await bob.until(1);
      });

      test('refuses a DSCP that is none', async () => {
        const nothing = { onDatagram() {}, onSendError() {} };
        for (const dscp of [-1, 64, 1.5, Number.NaN])
          await assert.rejects(network.bindUdp({ address, port: 0 }, nothing, { dscp }), RangeError);
      });

      test('sends datagrams that it got before its close', async (t) => {
        const [alice, bob] = [await Party.at(network, address), await party(t, network, address)];
        alice.send(Buffer.from('now'), bob);
        await new Promise(setImmediate);
        await alice.socket.close();
        await bob.until(1);
        assert.deepEqual(text(bob), ['now']);
      });
    });

for (const [name, network] of networks)
  test(`an IPv6 wildcard of ${name} does not block IPv4 for another socket`, LIMIT, async (t) => {
    const six = await party(t, network, '::');
    const four = await party(t, network, '0.0.0.0', six.socket.local.port);
    assert.equal(four.socket.local.port, six.socket.local.port);
  });
