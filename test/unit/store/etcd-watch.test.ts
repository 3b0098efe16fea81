// The watch against a stream that the test controls: cases that a real etcd rarely shows.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { afterEach, describe, it } from 'node:test';
import type { EtcdConnection } from '../../../src/store/etcd-connection.ts';
import { EtcdFollow } from '../../../src/store/etcd-follow.ts';
import type { Entry, PrefixWatch, StoreEvent } from '../../../src/store/store.ts';
import { watchWhole } from '../../../src/store/whole-prefix.ts';
import { FakeClock } from '../../fake/clock.ts';

interface Written {
  readonly create_request?: { readonly start_revision: string };
  readonly progress_request?: object;
}

class Stream extends EventEmitter {
  readonly written: Written[] = [];
  cancelled = false;

  write(request: Written): void {
    this.written.push(request);
  }
  end(): void {}
  cancel(): void {
    this.cancelled = true;
    this.emit('error', new Error('cancelled'));
  }

  get startedAt(): string | undefined {
    return this.written[0]?.create_request?.start_revision;
  }

  /** Number of progress requests. */
  get asked(): number {
    return this.written.filter((request) => request.progress_request).length;
  }

  /** Sends events as `key=value@revision`; without `=value` it is a deletion. */
  events(...texts: string[]): void {
    const events = texts.map((text) => {
      const [, key = '', value, revision = ''] = /^(\w+)(?:=(\w+))?@(\d+)$/.exec(text)!;
      const kv = { key: Buffer.from(key), value: Buffer.from(value ?? ''), mod_revision: revision };
      return { type: value === undefined ? 'Delete' : 'Put', kv };
    });
    this.emit('data', { created: false, canceled: false, events });
  }
}

describe('the watch of etcd', () => {
  let clock: FakeClock;
  let watch: PrefixWatch;

  afterEach(async () => {
    watch.close();
    await clock.pass(5000, 100);
    assert.equal(clock.timers, 0, 'a timer is left running');
  });

  /** Opens a watch on a store that has `listing`, as `key=value@revision`, at revision 10; both may change later. */
  async function open(...listing: string[]) {
    clock = new FakeClock();
    const streams: Stream[] = [];
    const told: string[] = [];
    const held = { listing, revision: 10n, refuse: false };
    const text = ({ key, value, revision }: Entry): string => `${key}=${value}@${revision}`;
    const watchClient = {
      watch: async () => {
        const stream = new Stream();
        streams.push(stream);
        return stream;
      },
    };
    const renewed: unknown[] = [];
    const connection = { client: { watchClient }, renew: (client: unknown) => renewed.push(client) };
    const options = {
      clock,
      random: () => 0.5,
      connection: connection as unknown as EtcdConnection,
      range: { key: Buffer.from('k'), range_end: Buffer.from('l') },
      list: async (onPage: (entries: readonly Entry[]) => void) => {
        if (held.refuse) throw new Error('no answer');
        const entries = held.listing.map((one) => {
          const [key = '', value = '', revision = ''] = one.split(/[=@]/);
          return { key, value, revision: BigInt(revision) };
        });
        onPage(entries);
        return held.revision;
      },
      decode: (kv: { key: Buffer; value: Buffer; mod_revision: string }) => ({
        key: kv.key.toString(),
        value: kv.value.toString(),
        revision: BigInt(kv.mod_revision),
      }),
      relistMs: 300_000,
    };
    const follow = (_: string, onEvent: (event: StoreEvent) => void): PrefixWatch =>
      new EtcdFollow({ ...options, onEvent });
    watch = watchWhole(
      { follow },
      'k',
      (entries) => told.push(entries.map(text).join(' ')),
      () => told.push('stale'),
    );
    await clock.pass(0);
    await clock.pass(0);
    return { streams, told, held, renewed };
  }

  it('watches from the revision after the listing', async () => {
    const { streams, told } = await open('a=1@3', 'b=2@7');
    assert.equal(streams[0]?.startedAt, '11');
    assert.deepEqual(told, ['a=1@3 b=2@7']);
    streams[0]!.events('c=3@11', 'a@11');
    assert.deepEqual(told.at(-1), 'b=2@7 c=3@11');
  });

  it('ignores older events and repeated events', async () => {
    const { streams, told } = await open('b=2@7');
    streams[0]!.events('a=1@11');
    streams[0]!.events('a@12');
    streams[0]!.events('a=1@11');
    streams[0]!.events('b=1@5', 'b=9@7');
    assert.deepEqual(told, ['b=2@7', 'a=1@11 b=2@7', 'b=2@7']);
  });

  it('delivers changes of one revision that come in two answers', async () => {
    const { streams, told } = await open();
    streams[0]!.events('a=1@11');
    streams[0]!.events('b=1@11');
    assert.equal(told.at(-1), 'a=1@11 b=1@11');
  });

  for (const [why, break_] of [
    ['the server cancels it', (stream: Stream) => stream.emit('data', { created: false, canceled: true, events: [] })],
    [
      'the server cancels it at its creation',
      (stream: Stream) => stream.emit('data', { created: true, canceled: true, events: [] }),
    ],
    ['the stream fails', (stream: Stream) => stream.emit('error', new Error('reset'))],
    ['the stream ends', (stream: Stream) => stream.emit('end')],
  ] as const) {
    it(`reports that it is stale and lists again when ${why}`, async () => {
      const { streams, told, held, renewed } = await open('a=1@3');
      break_(streams[0]!);
      await clock.pass(0);
      assert.deepEqual(told, ['a=1@3', 'stale']);
      assert.equal(streams[0]!.cancelled, true);
      assert.equal(renewed.length, 1);
      held.listing = ['b=1@20'];
      held.revision = 25n;
      streams[0]!.events('x=1@99');
      await clock.pass(3000, 100);
      assert.deepEqual(told, ['a=1@3', 'stale', 'b=1@20']);
      assert.equal(streams[1]?.startedAt, '26');
    });
  }

  it('delivers the table again after it was stale, even when nothing has changed', async () => {
    const { streams, told } = await open('a=1@3');
    streams[0]!.emit('end');
    await clock.pass(3000, 100);
    assert.deepEqual(told, ['a=1@3', 'stale', 'a=1@3']);
  });

  it('retries the listing less and less often, and reports once that it is stale', async () => {
    const { streams, told, held } = await open('a=1@3');
    held.refuse = true;
    streams[0]!.emit('end');
    await clock.pass(20_000, 100);
    assert.deepEqual(told, ['a=1@3', 'stale']);
    held.refuse = false;
    await clock.pass(2000, 100);
    assert.deepEqual(told, ['a=1@3', 'stale', 'a=1@3']);
  });

  it('sends a progress request on a quiet stream every five seconds, and keeps a stream with answers', async () => {
    const { streams, told } = await open('a=1@3');
    for (let pulse = 1; pulse <= 10; pulse++) {
      await clock.pass(5000, 1000);
      assert.equal(streams[0]!.asked, pulse);
      streams[0]!.events();
    }
    assert.deepEqual([streams.length, told], [1, ['a=1@3']]);
  });

  it('closes a stream that never sends anything, or falls silent, within ten seconds', async () => {
    const { streams, told } = await open('a=1@3');
    await clock.pass(10_000, 1000);
    assert.deepEqual(told, ['a=1@3', 'stale']);
    assert.equal(streams[0]!.cancelled, true);
    await clock.pass(100);
    assert.deepEqual(told, ['a=1@3', 'stale', 'a=1@3']);
    streams[1]!.events();
    await clock.pass(10_000, 1000);
    assert.equal(told.at(-1), 'stale');
    assert.equal(streams[1]!.cancelled, true);
  });

  it('recovers from an etcd whose revisions have gone back, as after a restore', async () => {
    const { streams, told, held } = await open('a=5@9');
    streams[0]!.emit('end');
    held.listing = ['a=1@2'];
    held.revision = 4n;
    await clock.pass(3000, 100);
    assert.equal(streams[1]?.startedAt, '5');
    streams[1]!.events('a=2@5');
    assert.deepEqual(told, ['a=5@9', 'stale', 'a=1@2', 'a=2@5']);
  });
});
