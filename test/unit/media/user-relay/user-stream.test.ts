import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SourceNames } from '../../../../src/batch/socket-address.ts';
import { Side } from '../../../../src/media/media-relay.ts';
import { CELLS, Cell, NAME_WORDS, RelayMemory } from '../../../../src/media/user-relay/relay-memory.ts';
import type { RelayMessage } from '../../../../src/media/user-relay/relay-messages.ts';
import type { SidePorts } from '../../../../src/media/user-relay/side-ports.ts';
import { UserStream } from '../../../../src/media/user-relay/user-stream.ts';
import { zones } from './fake-system.ts';
import { NOBODY } from './relay-rig.ts';

/** A stream with ports 20000 and 20001 outside (indexes 0, 1) and 30000 and 30001 inside (indexes 10, 11). */
function made() {
  const memory = new RelayMemory(20);
  const posted: RelayMessage[] = [];
  const released: number[] = [];
  const side = (first: number, index: number) =>
    ({
      indexOf: (port: number) => port - first + index,
      descriptor: (port: number) => port + 50_000,
      release: (ports: readonly number[]) => released.push(...ports),
    }) as unknown as SidePorts;
  const stream = new UserStream({
    number: 7,
    clear: true,
    ports: [
      { port: 20_000, rtcpPort: 20_001 },
      { port: 30_000, rtcpPort: 30_001 },
    ],
    facing: Side.inside,
    sides: [side(20_000, 0), side(30_000, 10)],
    memory,
    post: (message) => posted.push(message),
    offload: undefined,
    addresses: ['198.51.100.1', '10.0.0.1'],
    names: [new SourceNames(false, zones), new SourceNames(false, zones)],
    onClosed: () => {},
  });
  const count = (index: number, values: Partial<Record<keyof typeof Cell, number>>): void => {
    memory.begin(index, 7);
    for (const [name, value] of Object.entries(values)) memory.cells[index * CELLS + Cell[name as 'lost']] = value;
  };
  return { stream, posted, released, memory, count };
}

describe('a stream of the relay in user space', () => {
  test('gives the thread its sockets, each with the one that faces it', () => {
    assert.deepEqual(made().posted, [
      {
        kind: 'open',
        stream: 7,
        clear: true,
        ports: [
          { port: 0, number: 20_000, fd: 70_000, side: 0, facing: 10 },
          { port: 1, number: 20_001, fd: 70_001, side: 0, facing: 11 },
          { port: 10, number: 30_000, fd: 80_000, side: 1, facing: 0 },
          { port: 11, number: 30_001, fd: 80_001, side: 1, facing: 1 },
        ],
      },
    ]);
  });

  test('adds the packets of RTP and RTCP, with the report that came by RTCP, or by RTP', () => {
    const { stream, memory, count } = made();
    count(0, { packets: 5, octets: 500, foreign: 1, lost: 1, jitter: 2, lastAt: 90 });
    memory.lock(0, new Uint32Array(NAME_WORDS));
    const rtp = { packets: 5, octets: 500, foreign: 1, lost: 1, jitter: 2, latched: true, lastAt: 90 };
    assert.deepEqual(stream.statistics(Side.outside), rtp);
    count(1, { packets: 2, octets: 60, foreign: 3, lost: 8, jitter: 9, lastAt: 95 });
    const both = { packets: 7, octets: 560, foreign: 4, lost: 8, jitter: 9, latched: true, lastAt: 95 };
    assert.deepEqual(stream.statistics(Side.outside), both);
  });

  test('has no statistics before the thread has its ports, whatever the last stream has left', () => {
    const { stream, memory } = made();
    memory.begin(0, 6);
    memory.cells[Cell.packets] = 99;
    assert.deepEqual(stream.statistics(Side.outside), NOBODY);
  });

  test('keeps the statistics of its end', () => {
    const { stream, count } = made();
    count(10, { packets: 5 });
    stream.close();
    count(10, { packets: 9 });
    assert.equal(stream.statistics(Side.inside).packets, 5);
  });

  test('lets the second ports rest with mux, and the others at its end, each once', () => {
    const { stream, posted, released } = made();
    stream.mux();
    stream.mux();
    stream.close();
    stream.close();
    assert.deepEqual(posted.slice(1), [
      {
        kind: 'mux',
        ports: [
          { port: 1, into: 0 },
          { port: 11, into: 10 },
        ],
      },
      { kind: 'rest', ports: [0, 10] },
    ]);
    assert.deepEqual(released, [20_001, 30_001, 20_000, 30_000]);
  });

  test('has one place for each port of a leg', () => {
    const { stream, posted } = made();
    const [rtp, rtcp] = [4000, 4001].map((port) => ({ address: '192.0.2.7', port, signalling: '' }));
    stream.expect(Side.inside, { rtp, rtcp });
    stream.mux();
    stream.expect(Side.inside, { rtp, rtcp });
    assert.deepEqual(
      posted.filter(({ kind }) => kind === 'expect'),
      [
        { kind: 'expect', port: 10, source: rtp },
        { kind: 'expect', port: 11, source: rtcp },
        { kind: 'expect', port: 10, source: rtp },
      ],
    );
  });
});
