// Random datagrams through batches and through dgram: all arrive in order, octet by octet; and memory stays constant in
// a long run. SIPFARM_SOAK_SECONDS sets its length; 5 is the default.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { nodeNetwork } from '../../../src/base/network.ts';
import { batchNetwork, openBatchSocket } from '../../../src/batch/batch-network.ts';
import { BatchTurn } from '../../../src/batch/batch-socket.ts';
import { libc, makeCells, Party, skip } from './networks.ts';

/** Octets that may be in transit: a kernel with default settings drops what exceeds some 200 KiB. */
const ON_THE_WAY = 100_000;

/** Most messages are short, some have the greatest length. */
const octets = (longest: number): fc.Arbitrary<number> =>
  fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 0, max: 2000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: longest }) },
    { weight: 1, arbitrary: fc.constantFrom(0, 1, longest) },
  );

/** Returns octets that are the same for the same seed and differ for others. */
function filled(length: number, seed: number): Buffer {
  const block = createHash('sha512').update(String(seed)).digest();
  return Buffer.alloc(length, block);
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const { SIPFARM_SOAK_SECONDS = '5' } = process.env;
const SECONDS = Number(SIPFARM_SOAK_SECONDS);

describe('a storm of datagrams', { timeout: 60_000 + SECONDS * 1000, skip }, () => {
  for (const [address, longest] of [
    ['127.0.0.1', 65_507],
    ['::1', 65_527],
  ] as const)
    test(`at ${address} arrives unchanged and complete, with batch and dgram in turns`, async (t) => {
      const batch = batchNetwork({ libc: libc!, cells: makeCells(), base: nodeNetwork });
      const parties = await Promise.all([batch, nodeNetwork, batch, nodeNetwork].map((one) => Party.at(one, address)));
      t.after(() => Promise.all(parties.map(({ socket }) => socket.close())));
      const flight = fc.record({ from: fc.nat(3), to: fc.nat(3), length: octets(longest), seed: fc.nat() });
      await fc.assert(
        fc.asyncProperty(fc.array(flight, { maxLength: 150 }), async (flights) => {
          const due = parties.map(() => parties.map((): Buffer[] => []));
          let underway = 0;
          for (const party of parties) party.heard.length = 0;
          const arrive = (): Promise<unknown> =>
            Promise.all(parties.map((party, to) => party.until(due.reduce((sum, row) => sum + row[to]!.length, 0))));
          for (const { from, to, length, seed } of flights) {
            // A short datagram also costs the kernel a page.
            const cost = Math.max(length * 2, 2000);
            if (underway + cost > ON_THE_WAY) {
              await arrive();
              underway = 0;
            }
            underway += cost;
            const bytes = filled(length, seed);
            due[from]![to]!.push(bytes);
            parties[from]!.send(bytes, parties[to]!);
          }
          await arrive();
          await turn();
          for (const [to, { heard, errors }] of parties.entries()) {
            assert.deepEqual(errors, []);
            for (const [from, { socket }] of parties.entries()) {
              const got = heard.filter(({ port }) => port === socket.local.port).map(({ bytes }) => bytes);
              const sent = due[from]![to]!;
              assert.equal(got.length, sent.length);
              assert.ok(got.every((bytes, i) => bytes.equals(sent[i]!)));
            }
          }
        }),
        { numRuns: 300 },
      );
    });

  test('for a long time leaves memory constant, and writes nowhere else', async (t) => {
    const share = new BatchTurn(libc!, makeCells());
    const state = { echoed: 0, wrong: 0, errors: 0 };
    const server = await openBatchSocket(
      share,
      { address: '127.0.0.1', port: 0 },
      {
        onDatagram: (bytes, address, port) => server.send(bytes, address, port),
        onSendError: () => state.errors++,
      },
    );
    t.after(() => server.close());
    const lengths = [0, 1, 300, 600, 1500, 4000];
    const patterns = lengths.map((length) => filled(length, length));
    const client = await openBatchSocket(
      share,
      { address: '127.0.0.1', port: 0 },
      {
        onDatagram(bytes) {
          state.echoed++;
          if (!patterns[lengths.indexOf(bytes.length)]?.equals(bytes)) state.wrong++;
        },
        onSendError: () => state.errors++,
      },
    );
    t.after(() => client.close());
    let sent = 0;
    const round = async (): Promise<void> => {
      for (let i = 0; i < 40; i++) {
        const pattern = patterns[(sent * 7 + i) % patterns.length]!;
        client.send(pattern, '127.0.0.1', server.local.port);
        sent++;
      }
      while (state.echoed < sent) await turn();
    };
    const used = (): number => {
      collect();
      const { heapUsed, external } = process.memoryUsage();
      return heapUsed + external;
    };
    const rounds = async (count: number): Promise<number> => {
      for (let i = 0; i < count; i++) await round();
      return used();
    };
    const before = await rounds(500);
    const end = performance.now() + SECONDS * 1000;
    do await rounds(1000);
    while (performance.now() < end);
    const after = await rounds(500);
    t.diagnostic(
      `${sent} datagrams there and back; ${Math.round(before / 1024)} KiB before, ${Math.round(after / 1024)} after`,
    );
    assert.deepEqual(state, { echoed: sent, wrong: 0, errors: 0 });
    assert.ok(server.intact && client.intact, 'a guard was written over');
    // V8 frees some memory late. One leaked buffer per datagram would be a multiple of this.
    assert.ok(after - before < 10_000_000, `${after - before} octets more`);
  });
});
