// Batches on real sockets: datagrams per call, a full kernel queue, and fairness.
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { createRequire } from 'node:module';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type Network, nodeNetwork } from '../../../src/base/network.ts';
import { batchNetwork } from '../../../src/batch/batch-network.ts';
import { C } from '../../../src/batch/layout.ts';
import type { Libc } from '../../../src/batch/libc.ts';
import { libc, makeCells, Party, skip } from './networks.ts';

const LIMIT = { timeout: 30_000, skip };
const HERE = '127.0.0.1';

async function party(t: TestContext, network: Network, port = 0): Promise<Party> {
  const made = await Party.at(network, HERE, port);
  t.after(() => made.socket.close());
  return made;
}

const numbers = (length: number): string[] => Array.from({ length }, (_, i) => `${i}`);
const texts = (party: Party): string[] => party.heard.map(({ bytes }) => bytes.toString());

describe('a batch', LIMIT, () => {
  test('has all datagrams of one turn in one call in each direction', async (t) => {
    const cells = makeCells();
    const network = batchNetwork({ libc: libc!, cells, base: nodeNetwork });
    const [alice, bob] = [await party(t, network), await party(t, network)];
    for (const text of numbers(64)) alice.send(Buffer.from(text), bob);
    await bob.until(64);
    assert.deepEqual(texts(bob), numbers(64));
    // libuv has read the first one.
    assert.deepEqual([cells.callsOut.n, cells.datagramsOut.n, cells.callsIn.n, cells.datagramsIn.n], [1, 64, 1, 63]);
  });

  test('has all answers of one socket in one call', async (t) => {
    const cells = makeCells();
    const network = batchNetwork({ libc: libc!, cells, base: nodeNetwork });
    const [server, other] = [await party(t, network), await party(t, network)];
    const client = await party(t, nodeNetwork);
    server.onDatagram = (bytes, address, port) => {
      server.socket.send(bytes, address, port);
      other.socket.send(bytes, address, port);
    };
    const sender = await party(t, batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork }));
    server.onDatagram = (bytes) => {
      server.send(bytes, client);
      other.send(bytes, client);
    };
    for (const text of numbers(50)) sender.send(Buffer.from(text), server);
    await client.until(100);
    assert.deepEqual([cells.callsOut.n, cells.datagramsOut.n], [2, 100]);
    for (const one of [server, other])
      assert.deepEqual(
        client.heard.filter(({ port }) => port === one.socket.local.port).map(({ bytes }) => bytes.toString()),
        numbers(50),
      );
  });

  test('reads no more than its share in a turn: the rest and other sockets follow', async (t) => {
    const most = 64;
    const network = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork, mostPerTurn: most });
    const [alice, bob] = [await party(t, nodeNetwork), await party(t, network)];
    const inTurn: number[] = [];
    let turns = 0;
    bob.onDatagram = () => {
      inTurn[turns] = (inTurn[turns] ?? 0) + 1;
    };
    for (const text of numbers(300)) alice.send(Buffer.from(text), bob);
    while (bob.heard.length < 300) {
      await turn();
      turns++;
    }
    assert.deepEqual(texts(bob), numbers(300));
    // libuv itself reads at most 32.
    assert.ok(Math.max(...inTurn.filter(Boolean)) <= most + 32, String(inTurn));
  });

  test('that exceeds the share is still answered at the end of the turn', async (t) => {
    const network = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork, mostPerTurn: 4 });
    const [alice, bob] = [await party(t, nodeNetwork), await party(t, network)];
    bob.onDatagram = (bytes) => bob.send(bytes, alice);
    // libuv reads one, the first call 64, and libuv the last one.
    for (const text of numbers(66)) alice.send(Buffer.from(text), bob);
    await alice.until(66);
    assert.deepEqual(texts(alice), numbers(66));
  });

  test('that does not fit in the kernel goes by libuv in order, and later datagrams follow it', async (t) => {
    let full = 3;
    const calls: number[] = [];
    const stubborn: Libc = {
      ...libc!,
      sendmmsg(fd, messages, count, flags) {
        calls.push(count);
        // The kernel accepts one, then none.
        return full-- > 0
          ? full === 2
            ? libc!.sendmmsg(fd, messages, 1, flags)
            : -1
          : libc!.sendmmsg(fd, messages, count, flags);
      },
      errno: () => C.EAGAIN,
    };
    const network = batchNetwork({ libc: stubborn, cells: makeCells(), base: nodeNetwork });
    const [alice, bob] = [await party(t, network), await party(t, nodeNetwork)];
    for (const text of numbers(5)) alice.send(Buffer.from(text), bob);
    process.nextTick(() => {
      for (let i = 5; i < 10; i++) alice.send(Buffer.from(`${i}`), bob);
    });
    await bob.until(10);
    assert.deepEqual(texts(bob), numbers(10));
    assert.deepEqual([alice.errors, calls], [[], [5, 4]]);
    alice.send(Buffer.from('10'), bob);
    await bob.until(11);
    assert.deepEqual(texts(bob), numbers(11));
    // No datagram waits any more, so the next one was offered to the kernel as a batch again.
    assert.deepEqual(calls, [5, 4, 1]);
  });

  test('that is full while the kernel is full stays before later datagrams', async (t) => {
    let full = true;
    const busy: Libc = {
      ...libc!,
      sendmmsg: (fd, messages, count, flags) => (full ? -1 : libc!.sendmmsg(fd, messages, count, flags)),
      errno: () => C.EAGAIN,
    };
    const cells = makeCells();
    const network = batchNetwork({ libc: busy, cells, base: nodeNetwork });
    const [alice, bob] = [await party(t, network), await party(t, nodeNetwork)];
    for (const text of numbers(65)) alice.send(Buffer.from(text), bob);
    full = false;
    await bob.until(65);
    assert.deepEqual(texts(bob), numbers(65));
    assert.deepEqual([cells.callsOut.n, cells.datagramsOut.n], [0, 0]);
  });

  test('is not sent again, or by a closed descriptor, when an error handler closes the socket', async (t) => {
    let calls = 0;
    const refusing: Libc = {
      ...libc!,
      sendmmsg() {
        calls++;
        return -1;
      },
      errno: () => C.EINVAL,
    };
    const network = batchNetwork({ libc: refusing, cells: makeCells(), base: nodeNetwork });
    const errors: Error[] = [];
    const socket = await network.bindUdp(
      { address: HERE, port: 0 },
      {
        onDatagram() {},
        onSendError(error) {
          errors.push(error);
          if (errors.length === 1) closed.resolve(socket.close());
        },
      },
    );
    const closed = Promise.withResolvers<void>();
    t.after(() => closed.promise);
    for (let i = 0; i < 3; i++) socket.send(Buffer.from('x'), HERE, 9);
    await closed.promise;
    assert.deepEqual([calls, errors.length], [1, 1]);
    socket.send(Buffer.from('x'), HERE, 9);
    assert.match(String(errors[1]), /closed/);
  });

  test('accepts nothing while it is sent: datagrams from an error handler go by libuv', async (t) => {
    const network = batchNetwork({
      libc: { ...libc!, sendmmsg: () => -1, errno: () => C.EINVAL },
      cells: makeCells(),
      base: nodeNetwork,
    });
    const bob = await party(t, nodeNetwork);
    let errors = 0;
    const socket = await network.bindUdp(
      { address: HERE, port: 0 },
      { onDatagram() {}, onSendError: () => socket.send(Buffer.from(`${errors++}`), HERE, bob.socket.local.port) },
    );
    t.after(() => socket.close());
    for (let i = 0; i < 3; i++) socket.send(Buffer.from('x'), HERE, 9);
    await bob.until(3);
    assert.deepEqual([texts(bob), errors], [numbers(3), 3]);
  });

  test('that the kernel never accepts is bounded, and the excess is counted', async (t) => {
    const network = batchNetwork({
      libc: { ...libc!, sendmmsg: () => -1, errno: () => C.EAGAIN },
      cells: makeCells(),
      base: nodeNetwork,
    });
    const [alice, bob] = [await party(t, network), await party(t, nodeNetwork)];
    for (let i = 0; i < 1024 + 64; i++) alice.send(Buffer.from('x'), bob);
    await alice.until(0, 64);
    assert.ok(alice.errors.every((error) => (error as NodeJS.ErrnoException).code === 'EAGAIN'));
    assert.equal(alice.errors.length, 64);
  });

  test('is sent before its socket closes', async (t) => {
    const network = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork });
    const [alice, bob] = [await Party.at(network, HERE), await party(t, network)];
    alice.send(Buffer.from('now'), bob);
    await alice.socket.close();
    await bob.until(1);
    assert.deepEqual(texts(bob), ['now']);
  });

  test('continues after a handler has thrown', async (t) => {
    const network = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork });
    const [alice, bob] = [await party(t, nodeNetwork), await party(t, network)];
    const caught: unknown[] = [];
    // The test runner would count the exception as a failure of the test.
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => caught.push(error));
    t.after(() => {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    });
    bob.onDatagram = (bytes) => {
      bob.send(bytes, alice);
      if (bytes.toString() !== '1') throw new Error('of the handler');
    };
    for (const text of numbers(3)) alice.send(Buffer.from(text), bob);
    await alice.until(3);
    assert.deepEqual([texts(alice), caught.length], [numbers(3), 2]);
    await turn();
    bob.send(Buffer.from('3'), alice);
    await alice.until(4);
  });

  test('ends with its socket: a handler that closes it gets no more, and the descriptor is not read', async (t) => {
    let readLate = 0;
    for (const last of [1, 3]) {
      let open = true;
      const watched: Libc = {
        ...libc!,
        recvmmsg(...call) {
          if (!open) readLate++;
          return libc!.recvmmsg(...call);
        },
      };
      const network = batchNetwork({ libc: watched, cells: makeCells(), base: nodeNetwork });
      const [alice, bob] = [await party(t, nodeNetwork), await Party.at(network, HERE)];
      const closed = Promise.withResolvers<void>();
      bob.onDatagram = () => {
        if (bob.heard.length !== last) return;
        open = false;
        closed.resolve(bob.socket.close());
      };
      for (const text of numbers(10)) alice.send(Buffer.from(text), bob);
      await closed.promise;
      await turn();
      assert.deepEqual([texts(bob), readLate], [numbers(last), 0]);
    }
  });

  test('has complete IPv6 addresses also after a batch of IPv4 in the same memory', async (t) => {
    const network = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork });
    const at = [HERE, HERE, '::1', '::1'].map((address) => Party.at(network, address));
    const [four, four2, six, six2] = (await Promise.all(at)) as [Party, Party, Party, Party];
    t.after(() => Promise.all([four, four2, six, six2].map(({ socket }) => socket.close())));
    for (const [from, to] of [
      [four, four2],
      [six, six2],
    ] as const) {
      for (const text of numbers(10)) from.send(Buffer.from(text), to);
      await to.until(10);
      assert.deepEqual(new Set(to.heard.map(({ address }) => address)), new Set([from.socket.local.address]));
    }
  });

  test('over IPv6 does not block IPv4, at the wildcard either', async (t) => {
    const { bindUdp } = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork });
    const nothing = { onDatagram() {}, onSendError() {} };
    const six = await bindUdp({ address: '::', port: 0 }, nothing);
    t.after(() => six.close());
    const four = await bindUdp({ address: '0.0.0.0', port: six.local.port }, nothing);
    t.after(() => four.close());
  });

  for (const sharing of [{}, { reusePort: true }])
    test(`has an address that no other socket can take by SO_REUSEADDR (${JSON.stringify(sharing)})`, async (t) => {
      const { bindUdp } = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork });
      for (const address of [HERE, '::1']) {
        const mine = await bindUdp({ address, port: 0 }, { onDatagram() {}, onSendError() {} }, sharing);
        t.after(() => mine.close());
        const thief = dgram.createSocket({ type: address === HERE ? 'udp4' : 'udp6', reuseAddr: true });
        t.after(() => thief.close());
        const taken = await new Promise((resolve) => {
          thief.once('error', resolve);
          thief.bind(mine.local.port, address, () => resolve('taken'));
        });
        assert.equal((taken as NodeJS.ErrnoException).code, 'EADDRINUSE');
      }
    });

  test('shares its address when that is requested', async (t) => {
    const { bindUdp } = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork });
    const nothing = { onDatagram() {}, onSendError() {} };
    const first = await bindUdp({ address: HERE, port: 0 }, nothing, { reusePort: true });
    t.after(() => first.close());
    const second = await bindUdp(first.local, nothing, { reusePort: true });
    t.after(() => second.close());
    assert.deepEqual(second.local, first.local);
    await assert.rejects(bindUdp(first.local, nothing, { reusePort: false }), { code: 'EADDRINUSE' });
  });
});

describe('the DSCP of a batch socket', { skip }, () => {
  const require = createRequire(import.meta.url);

  /** Returns a libc that records the descriptors on which options of these levels are set. */
  function watched(sets: { fd: number; level: number; option: number }[], result?: number): Libc {
    return {
      ...libc!,
      setsockopt(fd, level, option, value, octets) {
        const marks = (level === 0 && option === 1) || (level === 41 && option === 67);
        if (marks) sets.push({ fd, level, option });
        return marks && result !== undefined ? result : libc!.setsockopt(fd, level, option, value, octets);
      },
    };
  }

  for (const [address, level, option] of [
    [HERE, 0, 1],
    ['::1', 41, 67],
  ] as const) {
    test(`is in the kernel's socket at ${address}`, async (t) => {
      const sets: { fd: number; level: number; option: number }[] = [];
      const { bindUdp } = batchNetwork({ libc: watched(sets), cells: makeCells(), base: nodeNetwork });
      const socket = await bindUdp({ address, port: 0 }, { onDatagram() {}, onSendError() {} }, { dscp: 46 });
      t.after(() => socket.close());
      assert.deepEqual(
        sets.map(({ fd: _, ...set }) => set),
        [{ level, option }],
      );
      const koffi = require('koffi');
      const getsockopt = koffi.load(null).func('int getsockopt(int, int, int, _Out_ int *, _Inout_ uint32_t *)');
      const value = [0];
      assert.equal(getsockopt(sets[0]!.fd, level, option, value, [4]), 0);
      assert.deepEqual([value[0], socket.granted?.dscp], [46 << 2, 'set']);
    });

    test(`is reported as not set when the system refuses it at ${address}`, async (t) => {
      const { bindUdp } = batchNetwork({ libc: watched([], -1), cells: makeCells(), base: nodeNetwork });
      const socket = await bindUdp({ address, port: 0 }, { onDatagram() {}, onSendError() {} }, { dscp: 46 });
      t.after(() => socket.close());
      assert.equal(socket.granted?.dscp, 'not-set');
    });
  }
});
