// The contract of every store: `storeContract` adds its tests for one implementation.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { type Entry, MAX_WRITES, type Store, type StoreEvent } from '../../../src/store/store.ts';

/** An implementation of the store. */
export interface Kind {
  readonly name: string;
  readonly skip: string | false;
  start(): Promise<void>;
  /** Opens a store of the farm with this name; stores of one name share their contents. */
  open(farm: string): Store;
  stop(): Promise<void>;
}

/** Records the notifications of a watcher, and lets a test wait for one that satisfies a condition. */
class Heard {
  readonly tellings: (readonly Entry[])[] = [];
  #wake: () => void = () => {};

  readonly onChange = (entries: readonly Entry[]): void => {
    this.tellings.push(entries);
    this.#wake();
  };

  async until(pleases: (values: Record<string, unknown>) => boolean): Promise<readonly Entry[]> {
    for (let seen = 0; ; ) {
      for (; seen < this.tellings.length; seen++) {
        const entries = this.tellings[seen]!;
        if (pleases(Object.fromEntries(entries.map((entry) => [entry.key, entry.value])))) return entries;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Records the events of a follower, and lets a test wait for those of one batch, up to `current`. */
class Followed {
  readonly #batches: string[][] = [];
  #events: string[] = [];
  #wake: () => void = () => {};
  /** The last `current`. */
  last: { readonly revision: bigint } | undefined;

  readonly onEvent = (event: StoreEvent): void => {
    if (event.type === 'put') this.#events.push(`put ${event.entry.key}`);
    else if (event.type === 'delete') this.#events.push(`delete ${event.key}`);
    else if (event.type === 'current') {
      this.last = event;
      this.#batches.push(this.#events);
      this.#events = [];
      this.#wake();
    }
  };

  get waiting(): number {
    return this.#batches.length + this.#events.length;
  }

  async batch(): Promise<string[]> {
    while (this.#batches.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#batches.shift()!;
  }
}

const coded = (code: string) => (error: { code?: string }) => error.code === code;

/** Adds a suite with all tests of the contract. */
export function storeContract(kind: Kind): void {
  describe(`the ${kind.name} store`, { skip: kind.skip }, () => {
    const open: Store[] = [];
    let farms = 0;
    let store: Store;

    const another = (): Store => {
      const opened = kind.open(`farm-${farms}`);
      open.push(opened);
      return opened;
    };
    const fresh = (): void => {
      farms++;
      store = another();
    };

    before(async () => {
      // Neither a pending promise nor timers of the clock keep the process alive.
      hold = setInterval(() => {}, 1000);
      await kind.start();
    });
    let hold: NodeJS.Timeout;
    afterEach(async () => {
      await Promise.all(open.splice(0).map((opened) => opened.close()));
    });
    after(async () => {
      clearInterval(hold);
      await kind.stop();
    });

    it('is empty at the beginning', async () => {
      fresh();
      assert.equal(await store.get('a'), undefined);
      assert.deepEqual(await store.list(''), []);
      assert.equal(store.up, true);
    });

    it('returns written values, with rising revisions', async () => {
      fresh();
      assert.equal(await store.commit([{ key: 'a/1', value: { v: 1, text: 'ü' } }]), true);
      const first = await store.get('a/1');
      assert.deepEqual(first?.value, { v: 1, text: 'ü' });
      assert.equal(first?.key, 'a/1');
      await store.commit([{ key: 'a/1', value: [null, false, 0] }]);
      const second = await store.get('a/1');
      assert.deepEqual(second?.value, [null, false, 0]);
      assert.ok(second!.revision > first!.revision);
    });

    it('writes nothing when one expectation fails', async () => {
      fresh();
      await store.commit([{ key: 'a', value: 1 }]);
      const { revision } = (await store.get('a'))!;
      await store.commit([{ key: 'a', value: 2 }]);
      const done = await store.commit([
        { key: 'b', value: 1 },
        { key: 'a', value: 3, expect: revision },
      ]);
      assert.equal(done, false);
      assert.equal((await store.get('a'))?.value, 2);
      assert.equal(await store.get('b'), undefined);
    });

    it('changes and deletes a key only if it exists, when that is requested', async () => {
      fresh();
      assert.equal(await store.commit([{ key: 'a', value: 1, expect: 'present' }]), false);
      assert.equal(await store.get('a'), undefined, 'an absent key is not made');
      await store.commit([{ key: 'a', value: 1 }]);
      assert.equal(await store.commit([{ key: 'a', value: 2, expect: 'present' }]), true);
      assert.equal((await store.get('a'))?.value, 2);
      const move = [
        { key: 'a', value: undefined, expect: 'present' as const },
        { key: 'b', value: 2 },
      ];
      assert.equal(await store.commit(move), true);
      assert.equal(await store.commit(move), false, 'it has been moved already');
      assert.deepEqual(
        (await store.list('')).map(({ key }) => key),
        ['b'],
      );
    });

    it('lists a prefix in pages', async () => {
      fresh();
      await store.commit(['a/1', 'a/2', 'a/3', 'b/1'].map((key) => ({ key, value: key })));
      const page = async (after: string, most: number): Promise<string[]> =>
        (await store.page('a/', after, most)).map(({ key }) => key);
      assert.deepEqual(await page('', 2), ['a/1', 'a/2']);
      assert.deepEqual(await page('a/2', 2), ['a/3']);
      assert.deepEqual(await page('a/3', 2), []);
      assert.deepEqual((await store.page('a/', 'a/2', 1))[0]?.value, 'a/3');
    });

    it('creates a key only once', async () => {
      fresh();
      assert.equal(await store.commit([{ key: 'a', value: 1, expect: 0n }]), true);
      assert.equal(await store.commit([{ key: 'a', value: 1, expect: 0n }]), false);
      assert.equal(await store.commit([{ key: 'none', value: 1, expect: 7n }]), false);
    });

    it('deletes with and without an expectation', async () => {
      fresh();
      await store.commit([
        { key: 'a', value: 1 },
        { key: 'b', value: 1 },
      ]);
      assert.equal(await store.commit([{ key: 'a', value: undefined, expect: 1n << 40n }]), false);
      const { revision } = (await store.get('a'))!;
      assert.equal(await store.commit([{ key: 'a', value: undefined, expect: revision }]), true);
      assert.equal(await store.commit([{ key: 'b', value: undefined }]), true);
      assert.equal(await store.commit([{ key: 'b', value: undefined }]), true);
      assert.deepEqual(await store.list(''), []);
    });

    it('lets exactly one of many commits with the same expectation succeed', async () => {
      fresh();
      const stores = [store, another(), another()];
      const claims = Array.from({ length: 12 }, (_, n) =>
        stores[n % 3]!.commit([{ key: 'claim', value: { by: n }, expect: 0n }]),
      );
      const won = await Promise.all(claims);
      assert.equal(won.filter(Boolean).length, 1);
      assert.deepEqual((await store.get('claim'))?.value, { by: won.indexOf(true) });
    });

    it('accepts the promised number of writes in one commit, and refuses commits beyond the limits', async () => {
      fresh();
      const writes = Array.from({ length: MAX_WRITES }, (_, n) => ({ key: `k${n}`, value: n, expect: 0n }));
      assert.equal(await store.commit(writes), true);
      assert.equal((await store.list('k')).length, MAX_WRITES);
      const refused = coded('SF_STORE_REFUSED');
      await assert.rejects(store.commit([...writes, { key: 'one-more', value: 1 }]), refused);
      await assert.rejects(
        store.commit([
          { key: 'a', value: 1 },
          { key: 'a', value: 2 },
        ]),
        refused,
      );
      await assert.rejects(store.commit([{ key: 'a', value: 'x'.repeat(1024 * 1024) }]), refused);
      assert.equal(await store.get('a'), undefined);
      assert.equal(await store.commit([]), true);
    });

    it('lists a prefix in the order of keys, and no others', async () => {
      fresh();
      const keys = ['m/b', 'm/a', 'm/a/x', 'l', 'n/a', 'm'];
      await store.commit(keys.map((key) => ({ key, value: key })));
      const listed = await store.list('m/');
      assert.deepEqual(
        listed.map((entry) => entry.value),
        ['m/a', 'm/a/x', 'm/b'],
      );
    });

    it('lists more than a page and more than 4 MiB', async () => {
      fresh();
      const text = 'x'.repeat(60_000);
      for (let from = 0; from < 120; from += 10) {
        await store.commit(
          Array.from({ length: 10 }, (_, n) => ({ key: `big/${String(from + n).padStart(4, '0')}`, value: text })),
        );
      }
      const listed = await store.list('big/');
      assert.equal(listed.length, 120);
      assert.equal(listed[119]?.key, 'big/0119');
      assert.ok(listed.every((entry) => entry.value === text));
    });

    it('deletes keys with their lease, and ends a lease without keepalives', async () => {
      fresh();
      const heard = new Heard();
      const [kept, dying] = await Promise.all([store.grantLease(1), store.grantLease(1)]);
      await store.commit([
        { key: 'l/kept', value: 1, lease: kept },
        { key: 'l/dying', value: 1, lease: dying },
        { key: 'l/free', value: 1 },
      ]);
      another().watch('l/', heard.onChange);
      await heard.until((values) => 'l/dying' in values);
      const keeping = setInterval(() => void kept.keepAlive().catch(() => {}), 200);
      try {
        await heard.until((values) => !('l/dying' in values));
        await kept.keepAlive();
        assert.deepEqual(
          (await store.list('l/')).map((entry) => entry.key),
          ['l/free', 'l/kept'],
        );
        await assert.rejects(dying.keepAlive(), coded('SF_STORE_CONFLICT'));
        await assert.rejects(store.commit([{ key: 'x', value: 1, lease: dying }]), coded('SF_STORE_CONFLICT'));
      } finally {
        clearInterval(keeping);
      }
    });

    it('ends a revoked lease and its keys at once', async () => {
      fresh();
      const lease = await store.grantLease(60);
      await store.commit([{ key: 'l', value: 1, lease }]);
      await lease.revoke();
      assert.equal(await store.get('l'), undefined);
      await assert.rejects(lease.keepAlive(), coded('SF_STORE_CONFLICT'));
      await lease.revoke();
    });

    it('detaches a key from a lease when it is written again without it', async () => {
      fresh();
      const lease = await store.grantLease(60);
      await store.commit([{ key: 'l', value: 1, lease }]);
      await store.commit([{ key: 'l', value: 2 }]);
      await lease.revoke();
      assert.equal((await store.get('l'))?.value, 2);
    });

    it('sends a watcher the whole prefix at once and after each change', async () => {
      fresh();
      const heard = new Heard();
      await store.commit([
        { key: 'w/a', value: 1 },
        { key: 'other', value: 1 },
      ]);
      store.watch('w/', heard.onChange);
      const first = await heard.until(() => true);
      assert.deepEqual(first, await store.list('w/'));
      const writer = another();
      await writer.commit([{ key: 'w/b', value: 2 }]);
      await heard.until((values) => values['w/a'] === 1 && values['w/b'] === 2);
      await writer.commit([
        { key: 'w/a', value: undefined },
        { key: 'w/c', value: 3 },
      ]);
      const last = await heard.until((values) => values['w/c'] === 3);
      assert.deepEqual(last, await store.list('w/'));
      assert.deepEqual(
        last.map((entry) => entry.key),
        ['w/b', 'w/c'],
      );
    });

    it('sends a follower every key, then only single changes with their revisions', async () => {
      fresh();
      await store.commit([
        { key: 'f/a', value: 1 },
        { key: 'f/b', value: 1 },
        { key: 'other', value: 1 },
      ]);
      const followed = new Followed();
      store.follow('f/', followed.onEvent);
      assert.deepEqual(await followed.batch(), ['put f/a', 'put f/b']);
      const writer = another();
      await writer.commit([{ key: 'other', value: 2 }]);
      await writer.commit([{ key: 'f/b', value: 2 }]);
      assert.deepEqual(await followed.batch(), ['put f/b']);
      assert.equal(followed.last?.revision, (await store.get('f/b'))?.revision);
      await writer.commit([
        { key: 'f/a', value: undefined },
        { key: 'f/c', value: 3 },
      ]);
      assert.deepEqual((await followed.batch()).sort(), ['delete f/a', 'put f/c']);
      assert.deepEqual(followed.last?.revision, (await store.get('f/c'))?.revision);
    });

    it('keeps a follower equal to the store, for any writes in any order', async () => {
      const writes = fc.array(
        fc.record({ key: fc.constantFrom('f/a', 'f/b', 'f/c', 'g'), value: fc.constantFrom(undefined, 1, 2) }),
        { maxLength: 12 },
      );
      await fc.assert(
        fc.asyncProperty(writes, async (all) => {
          fresh();
          const table = new Map<string, unknown>();
          const revisions: bigint[] = [];
          const followed = new Followed();
          store.follow('f/', (event) => {
            if (event.type === 'put') table.set(event.entry.key, event.entry.value);
            else if (event.type === 'delete') table.delete(event.key);
            else if (event.type === 'current') revisions.push(event.revision);
            followed.onEvent(event);
          });
          for (const { key, value } of all) await store.commit([{ key, value }]);
          await store.commit([{ key: 'f/end', value: 'end' }]);
          while (table.get('f/end') !== 'end') await followed.batch();
          const stored = (await store.list('f/')).map(({ key, value }) => [key, value]);
          assert.deepEqual([...table].sort(), stored);
          assert.deepEqual(
            revisions,
            [...revisions].sort((a, b) => (a < b ? -1 : 1)),
          );
        }),
        { numRuns: 15 },
      );
    });

    it('sends a closed follower nothing more', async () => {
      fresh();
      const [closed, open] = [new Followed(), new Followed()];
      const follow = store.follow('f/', closed.onEvent);
      store.follow('f/', open.onEvent);
      await Promise.all([closed.batch(), open.batch()]);
      follow.close();
      await store.commit([{ key: 'f/a', value: 1 }]);
      assert.deepEqual(await open.batch(), ['put f/a']);
      assert.equal(closed.waiting, 0);
    });

    it('sends a closed watcher nothing more', async () => {
      fresh();
      const closed = new Heard();
      const open = new Heard();
      const watch = store.watch('w/', closed.onChange);
      store.watch('w/', open.onChange);
      await Promise.all([closed.until(() => true), open.until(() => true)]);
      watch.close();
      const before = closed.tellings.length;
      await store.commit([{ key: 'w/a', value: 1 }]);
      await open.until((values) => values['w/a'] === 1);
      assert.equal(closed.tellings.length, before);
    });

    it('refuses all calls after it is closed', async () => {
      fresh();
      const heard = new Heard();
      store.watch('', heard.onChange);
      await heard.until(() => true);
      await store.close();
      assert.equal(store.up, false);
      await assert.rejects(store.get('a'), coded('SF_STORE_UNREACHABLE'));
      await assert.rejects(store.commit([{ key: 'a', value: 1 }]), coded('SF_STORE_UNREACHABLE'));
    });

    it('agrees with a plain map, for any writes in any order', async () => {
      const write = fc.record({
        key: fc.constantFrom('a', 'b', 'c'),
        value: fc.option(fc.nat(9), { nil: undefined }),
        expect: fc.constantFrom('none', 'now', 'old', 'absent'),
      });
      const commits = fc.array(fc.uniqueArray(write, { selector: ({ key }) => key, minLength: 1 }), { maxLength: 8 });
      await fc.assert(
        fc.asyncProperty(commits, async (steps) => {
          fresh();
          const model = new Map<string, { value: number; revision: bigint }>();
          for (const step of steps) {
            const revision = { none: undefined, old: 1n, absent: 0n };
            const now = (key: string): bigint => model.get(key)?.revision ?? 0n;
            const writes = step.map(({ key, value, expect }) => {
              const expected = expect === 'now' ? now(key) : revision[expect];
              return { key, value, ...(expected !== undefined && { expect: expected }) };
            });
            const possible = writes.every(({ key, expect }) => expect === undefined || expect === now(key));
            assert.equal(await store.commit(writes), possible);
            const listed = await store.list('');
            if (possible) {
              for (const { key, value } of writes) {
                const entry = listed.find((one) => one.key === key);
                if (value === undefined) model.delete(key);
                else model.set(key, { value, revision: entry!.revision });
              }
            }
            assert.deepEqual(
              listed,
              [...model].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, held]) => ({ key, ...held })),
            );
          }
        }),
        { numRuns: 25 },
      );
    });
  });
}
