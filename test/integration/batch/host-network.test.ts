// transport.batch auto, on and off: the network of a member, and its log.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { makeLog } from '../../../src/base/log.ts';
import { nodeNetwork } from '../../../src/base/network.ts';
import { hostNetwork } from '../../../src/batch/host-network.ts';
import { C } from '../../../src/batch/layout.ts';
import type { Libc } from '../../../src/batch/libc.ts';
import { testBatchCalls } from '../../../src/batch/self-test.ts';
import { libc, makeCells, Party, skip } from './networks.ts';

interface Line {
  readonly level: string;
  readonly udp: string;
  readonly reason?: string;
  readonly address?: string;
}

function host(batch: 'auto' | 'on' | 'off', load?: () => Libc) {
  const lines: Line[] = [];
  const log = makeLog({ level: 'info', destination: { write: (text) => void lines.push(JSON.parse(text) as Line) } });
  const cells = makeCells();
  return { lines, cells, network: () => hostNetwork({ batch, log, cells, ...(load && { load }) }) };
}

const missing = (): Libc => {
  throw new Error("Cannot find module 'koffi'\nRequire stack:\n- /opt/x.js");
};

/** Sends `count` datagrams to itself. */
async function echo(t: TestContext, network: typeof nodeNetwork, count = 3): Promise<void> {
  const party = await Party.at(network, '127.0.0.1');
  t.after(() => party.socket.close());
  for (let i = 0; i < count; i++) party.send(Buffer.from(`${i}`), party);
  await party.until(count);
}

describe('transport.batch', () => {
  test('auto uses batches where they are possible, and logs it', { skip }, async (t) => {
    const { lines, cells, network } = host('auto');
    await echo(t, network());
    assert.deepEqual([lines.length, lines[0]?.level, lines[0]?.udp], [1, 'info', 'batch']);
    assert.equal(cells.datagramsOut.n, 3);
  });

  test('on does the same', { skip }, async (t) => {
    const { lines, cells, network } = host('on');
    await echo(t, network());
    assert.equal(lines[0]?.udp, 'batch');
    assert.equal(cells.datagramsOut.n, 3);
  });

  test('off does not load koffi', () => {
    const { lines, network } = host('off', () => assert.fail('it was loaded'));
    assert.equal(network(), nodeNetwork);
    assert.equal(lines[0]?.udp, 'single');
  });

  test('auto works without koffi, with one log line that has the reason', () => {
    const { lines, network } = host('auto', missing);
    assert.equal(network(), nodeNetwork);
    assert.deepEqual([lines.length, lines[0]?.level, lines[0]?.udp], [1, 'info', 'single']);
    assert.equal(lines[0]?.reason, "Cannot find module 'koffi'");
  });

  test('on refuses to start without koffi', () => {
    assert.throws(host('on', missing).network, { code: 'SF_BATCH_UNAVAILABLE', message: "Cannot find module 'koffi'" });
  });

  for (const [fault, changes] of Object.entries<(real: Libc) => Partial<Libc>>({
    'a kernel without the calls': () => ({ recvmmsg: () => -1, sendmmsg: () => -1, errno: () => 38 }),
    'calls that do nothing': () => ({ recvmmsg: () => 0, sendmmsg: (_fd, _messages, count) => count }),
    'a seccomp filter on sockets': () => ({ socketpair: () => -1, errno: () => 1 }),
    'another layout': (real) => ({
      recvmmsg: (fd, messages, count, flags, timeout) => real.recvmmsg(fd, messages + 8n, count - 1, flags, timeout),
    }),
  }))
    test(`auto detects ${fault}`, { skip }, () => {
      const broken = { ...libc!, ...changes(libc!) };
      const { lines, network } = host('auto', () => broken);
      assert.equal(network(), nodeNetwork);
      assert.equal(lines[0]?.udp, 'single');
      assert.ok(lines[0]?.reason);
      assert.throws(host('on', () => broken).network, { code: 'SF_BATCH_UNAVAILABLE' });
    });

  test('auto uses dgram for a socket that cannot have batches, and names it; on does not', {
    skip,
  }, async (t) => {
    const broken = { ...libc!, socket: () => -1, errno: () => 1 };
    const { lines, cells, network } = host('auto', () => broken);
    await echo(t, network());
    assert.equal(cells.datagramsOut.n, 0);
    assert.deepEqual([lines[1]?.level, lines[1]?.udp, lines[1]?.address], ['warn', 'single', '127.0.0.1:0']);
    assert.match(String(lines[1]?.reason), /socket EPERM/);
    const refused = host('on', () => broken).network();
    await assert.rejects(Party.at(refused, '127.0.0.1'), { code: 'EPERM' });
  });

  test('auto uses dgram for the address when an already bound socket is unusable', { skip }, async (t) => {
    const broken: Libc = {
      ...libc!,
      setsockopt: (fd, level, option, value, octets) =>
        option === C.SO_REUSEADDR ? -1 : libc!.setsockopt(fd, level, option, value, octets),
      errno: () => 1,
    };
    const { lines, network } = host('auto', () => broken);
    const free = await Party.at(nodeNetwork, '127.0.0.1');
    const { port } = free.socket.local;
    await free.socket.close();
    const party = await Party.at(network(), '127.0.0.1', port);
    t.after(() => party.socket.close());
    assert.match(String(lines[1]?.reason), /setsockopt EPERM/);
  });

  test('auto does not report an address in use as a problem of batches', { skip }, async (t) => {
    let closed = 0;
    const counting: Libc = {
      ...libc!,
      close(fd) {
        closed++;
        return libc!.close(fd);
      },
    };
    const { lines, network } = host('auto', () => counting);
    const here = network();
    const party = await Party.at(here, '127.0.0.1');
    t.after(() => party.socket.close());
    closed = 0;
    await assert.rejects(Party.at(here, '127.0.0.1', party.socket.local.port), { code: 'EADDRINUSE' });
    assert.deepEqual([lines.length, closed], [1, 1]);
  });

  test('auto leaves no descriptor open after its check', { skip }, () => {
    const open: number[] = [];
    const counting = (fault: Partial<Libc>): Libc => ({
      ...libc!,
      ...fault,
      close: (fd) => {
        open.push(fd);
        return libc!.close(fd);
      },
    });
    testBatchCalls(counting({}));
    assert.throws(() => testBatchCalls(counting({ recvmmsg: () => 0 })));
    assert.equal(open.length, 4);
  });
});
