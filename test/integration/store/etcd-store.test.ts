// Cases of etcd alone: lost answers, cut and silent connections, compaction, restarts, passwords, TLS.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { EtcdConnection } from '../../../src/store/etcd-connection.ts';
import { EtcdFollow } from '../../../src/store/etcd-follow.ts';
import { EtcdStore, type EtcdStoreOptions } from '../../../src/store/etcd-store.ts';
import type { Entry, StoreEvent } from '../../../src/store/store.ts';
import { FakeClock } from '../../fake/clock.ts';
import { FakeEtcd, Wire, withoutEtcd } from '../../fake/etcd.ts';
import { until } from '../../fake/until.ts';

const coded = (code: string) => (error: { code?: string }) => error.code === code;

describe('the etcd store', { skip: withoutEtcd(), timeout: 240_000 }, () => {
  let etcd: FakeEtcd;
  let hold: NodeJS.Timeout;
  const closing: (() => Promise<void>)[] = [];

  before(async () => {
    hold = setInterval(() => {}, 1000);
    etcd = await FakeEtcd.start();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
  after(async () => {
    clearInterval(hold);
    await etcd.close();
  });

  const open = (farm: string, hosts: string[], clock: Clock = systemClock, more?: Partial<EtcdStoreOptions>) => {
    const store = new EtcdStore({ farm, hosts, clock, requestMs: 1000, ...more });
    closing.push(() => store.close());
    return store;
  };
  const wire = async (): Promise<Wire> => {
    const made = await Wire.to(etcd.port);
    closing.push(() => made.close());
    return made;
  };
  const valuesOf = (entries: readonly Entry[] | undefined): unknown => entries?.map((entry) => entry.value);

  it('stores its values as JSON that etcdctl shows', async () => {
    const store = open('readable', [etcd.url]);
    await store.commit([{ key: 'members/fe1', value: { v: 1, id: 'fe1' } }]);
    const shown = await etcd.ctl('get', '--prefix', '/sipfarm/readable/');
    assert.equal(shown, '/sipfarm/readable/v1/members/fe1\n{"v":1,"id":"fe1"}\n');
  });

  it('names in its errors the host, without credentials, and only the reason', async () => {
    const nobody = await Wire.to(etcd.port);
    const { host } = new URL(nobody.url);
    await nobody.close();
    const store = open('away', [`http://root:secret@${host}`]);
    assert.deepEqual(store.places, [`http://${host}`]);
    await assert.rejects(store.get('view'), {
      code: 'SF_STORE_UNREACHABLE',
      message: `get at http://${host}: connect ECONNREFUSED ${host}`,
    });
    const silent = net.createServer((socket) => closing.push(async () => void socket.destroy())).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    closing.push(async () => void silent.close());
    const at = `http://127.0.0.1:${(silent.address() as net.AddressInfo).port}`;
    const waiting = open('silent', [at], systemClock, { requestMs: 100, attempts: 1 });
    await assert.rejects(waiting.get('view'), ({ message }: Error) => {
      const [before, seconds] = message.split(/(?<= no answer in )([0-9.]+ s)$/);
      assert.equal(before, `get at ${at}: no answer in `);
      // The message has the time that passed, which is longer on a busy host.
      assert.match(seconds ?? '', /^[0-9]+\.[1-9] s$/);
      return true;
    });
  });

  it('returns undefined as the value of a text that is not JSON', async () => {
    const store = open('foreign', [etcd.url]);
    await etcd.ctl('put', '/sipfarm/foreign/v1/a', '{');
    assert.equal((await store.get('a'))?.value, undefined);
    assert.equal((await store.list(''))[0]?.key, 'a');
  });

  /**
   * Commits through a connection that passes the request and swallows the answer. Cuts it after the write is stored and
   * `before` has resolved.
   */
  async function loseAnswer(
    store: EtcdStore,
    between: Wire,
    key: string,
    value: unknown,
    before: () => Promise<unknown>,
  ): Promise<boolean> {
    const direct = open('lost', [etcd.url]);
    await store.get('warm-up');
    between.swallowAnswers();
    const outcome = store.commit([{ key, value, expect: 0n }]);
    await until(async () => (await direct.get(key)) !== undefined);
    await before();
    between.cutOnce();
    return outcome;
  }

  it('counts a write as its own when it was applied and its answer was lost', async () => {
    const between = await wire();
    const store = open('lost', [between.url], systemClock, { requestMs: 30_000 });
    assert.equal(await loseAnswer(store, between, 'claim/1', { by: 'me' }, async () => {}), true);
    assert.deepEqual((await store.get('claim/1'))?.value, { by: 'me' });
  });

  it('counts a write as lost when another value is stored after the answer was lost', async () => {
    const between = await wire();
    const store = open('lost', [between.url], systemClock, { requestMs: 30_000 });
    const other = open('lost', [etcd.url]);
    const overwrite = () => other.commit([{ key: 'claim/2', value: { by: 'other' } }]);
    assert.equal(await loseAnswer(store, between, 'claim/2', { by: 'me' }, overwrite), false);
  });

  it('sends a request with a definite failure once, and reports that the store is up', async () => {
    const seen: string[] = [];
    const store = open('observed', [etcd.url], systemClock, {
      observe: (operation, seconds, ok) => seen.push(`${operation} ${ok} ${seconds >= 0}`),
    });
    const lease = await store.grantLease(60);
    await lease.revoke();
    await assert.rejects(lease.keepAlive(), coded('SF_STORE_CONFLICT'));
    assert.deepEqual(seen, ['grant true true', 'revoke true true', 'keepalive false true']);
    assert.equal(store.up, true);
  });

  it('works while some of its hosts are down', async () => {
    const dead = await wire();
    dead.cut();
    for (const random of [() => 0, () => 0.5, () => 0.99]) {
      const store = open('hosts', [dead.url, etcd.url, dead.url], systemClock, { random });
      assert.equal(await store.commit([{ key: 'a', value: 1 }]), true);
      const lease = await store.grantLease(5);
      await lease.keepAlive();
      const first = new Promise<readonly Entry[]>((resolve) => store.watch('a', resolve));
      assert.deepEqual(valuesOf(await first), [1]);
    }
  });

  it('rejects and reports that it is down when etcd is unreachable, and is up again afterwards', async () => {
    const between = await wire();
    const store = open('down', [between.url]);
    const lease = await store.grantLease(60);
    between.cut();
    await assert.rejects(lease.keepAlive(), coded('SF_STORE_UNREACHABLE'));
    assert.equal(store.up, false);
    await assert.rejects(store.get('a'), coded('SF_STORE_UNREACHABLE'));
    await assert.rejects(store.commit([{ key: 'a', value: 1 }]), coded('SF_STORE_UNREACHABLE'));
    between.mend();
    await until(() =>
      lease.keepAlive().then(
        () => true,
        () => false,
      ),
    );
    assert.equal(store.up, true);
  });

  it('replaces a keepalive that gets no answer in time', async () => {
    const clock = new FakeClock();
    const between = await wire();
    const store = open('hanging', [between.url], clock, { requestMs: 30_000 });
    const lease = await store.grantLease(5);
    between.swallowAnswers();
    let ended = false;
    const hanging = assert.rejects(lease.keepAlive(), coded('SF_STORE_UNREACHABLE')).then(() => {
      ended = true;
    });
    await clock.pass(990);
    assert.equal(ended, false);
    await clock.pass(10);
    await hanging;
    await lease.keepAlive();
  });

  it('updates a watch after its connection was cut, and reports that it was stale', async () => {
    const between = await wire();
    const store = open('cut', [between.url]);
    const direct = open('cut', [etcd.url]);
    await direct.commit([{ key: 'w/a', value: 1 }]);
    let table: readonly Entry[] | undefined;
    let stale = 0;
    store.watch(
      'w/',
      (entries) => {
        table = entries;
      },
      () => stale++,
    );
    await until(() => table !== undefined);
    between.cut();
    await until(() => stale === 1);
    await direct.commit([{ key: 'w/b', value: 2 }]);
    await direct.commit([{ key: 'w/a', value: undefined }]);
    between.mend();
    await until(() => table?.length === 1 && table[0]?.value === 2);
    assert.deepEqual(table, await direct.list('w/'));
    await direct.commit([{ key: 'w/c', value: 3 }]);
    await until(() => table?.length === 2);
    assert.equal(stale, 1);
  });

  it('sends a follower only the differences after a cut, also when the history is compacted', async () => {
    const between = await wire();
    const store = open('follow', [between.url]);
    const direct = open('follow', [etcd.url]);
    const keys = Array.from({ length: 120 }, (_, n) => ({ key: `f/${n}`, value: n }));
    await direct.commit(keys.slice(0, 60));
    await direct.commit(keys.slice(60));
    const events: StoreEvent[] = [];
    const count = (type: StoreEvent['type']): number => events.filter((event) => event.type === type).length;
    store.follow('f/', (event) => events.push(event));
    await until(() => count('current') === 1);
    assert.deepEqual([count('put'), count('delete')], [120, 0]);
    between.cut();
    await until(() => count('stale') === 1);
    events.length = 0;
    await direct.commit([
      { key: 'f/1', value: 'changed' },
      { key: 'f/2', value: undefined },
      { key: 'f/new', value: 'new' },
    ]);
    for (let n = 0; n < 20; n++) await direct.commit([{ key: 'other', value: n }]);
    const { revision } = (await direct.get('other'))!;
    await etcd.ctl('compact', String(revision));
    between.mend();
    await until(() => count('current') === 1);
    const texts = events.map((event) => (event.type === 'put' ? event.entry.key : event.type));
    assert.deepEqual(texts.sort(), ['current', 'delete', 'f/1', 'f/new']);
  });

  it('updates a watch when the missed history is compacted', async () => {
    const between = await wire();
    const store = open('compacted', [between.url]);
    const direct = open('compacted', [etcd.url]);
    let table: readonly Entry[] | undefined;
    let stale = 0;
    store.watch(
      'w/',
      (entries) => {
        table = entries;
      },
      () => stale++,
    );
    await until(() => table !== undefined);
    between.cut();
    await until(() => stale === 1);
    for (let n = 0; n < 20; n++) await direct.commit([{ key: `w/${n % 3}`, value: n }]);
    await etcd.ctl('compact', (await direct.get('w/1'))!.revision.toString());
    between.mend();
    await until(() => table?.length === 3);
    assert.deepEqual(table, await direct.list('w/'));
  });

  it('notices a silent watch and opens another', async () => {
    const clock = new FakeClock();
    const between = await wire();
    const store = open('silent', [between.url], clock, { requestMs: 30_000 });
    const direct = open('silent', [etcd.url]);
    let table: readonly Entry[] | undefined;
    let stale = 0;
    store.watch(
      'w/',
      (entries) => {
        table = entries;
      },
      () => stale++,
    );
    await until(() => table !== undefined);
    // Only an event shows that the stream is open: a connection that opened after the swallowing began would not be
    // silent.
    await direct.commit([{ key: 'w/a', value: 1 }]);
    await until(() => table?.length === 1);
    between.swallowAnswers();
    await direct.commit([{ key: 'w/b', value: 2 }]);
    for (let n = 0; n < 3; n++) await clock.pass(5000, 1000);
    assert.equal(stale, 1);
    await until(async () => {
      await clock.pass(100);
      return table?.length === 2;
    });
  });

  it('keeps a quiet watch that answers its progress requests', async (t) => {
    const clock = new FakeClock();
    const store = open('quiet', [etcd.url]);
    const connection = new EtcdConnection({ hosts: [etcd.url] }, 30_000, 0);
    closing.push(async () => connection.close());
    const { watchClient } = connection.client;
    const openStream = watchClient.watch.bind(watchClient);
    let streams = 0;
    let answers = 0;
    t.mock.method(watchClient, 'watch', async () => {
      const stream = await openStream();
      streams++;
      // The watch gets these in the same turn, so the count is that of the watch.
      return stream.on('data', () => answers++);
    });
    await store.commit([{ key: 'x', value: 0 }]);
    const { revision } = (await store.get('x'))!;
    const changes: unknown[] = [];
    let stale = 0;
    const watch = new EtcdFollow({
      clock,
      random: () => 0.5,
      connection,
      range: { key: Buffer.from('/sipfarm/quiet/v1/w/'), range_end: Buffer.from('/sipfarm/quiet/v1/w0') },
      list: async () => revision,
      decode: ({ key, value, mod_revision }) => ({ key: `${key}`, value: `${value}`, revision: BigInt(mod_revision) }),
      relistMs: 300_000,
      onEvent: (event) => {
        if (event.type === 'put') changes.push(event.entry.value);
        else if (event.type === 'stale') stale++;
      },
    });
    closing.push(async () => watch.close());
    await until(() => answers >= 1);
    for (let pulse = 1; pulse <= 10; pulse++) {
      clock.advance(5000);
      await until(() => answers >= 1 + pulse);
    }
    assert.deepEqual([streams, stale, changes], [1, 0, []]);
    await store.commit([{ key: 'w/a', value: 1 }]);
    await until(() => changes.length === 1);
    assert.deepEqual(changes, ['1']);
  });

  it('lists a watched prefix again regularly, without a report when nothing has changed', async () => {
    const clock = new FakeClock();
    let listings = 0;
    const store = open('relist', [etcd.url], clock, {
      requestMs: 30_000,
      relistMs: 1000,
      observe: (operation) => {
        if (operation === 'list') listings++;
      },
    });
    let told = 0;
    store.watch('w/', () => told++);
    await until(async () => {
      await clock.pass(200, 100);
      return listings >= 4;
    });
    assert.equal(told, 1);
    await store.commit([{ key: 'w/a', value: 1 }]);
    await until(() => told === 2);
  });

  it('has its keys, its watch and its lease again after etcd was killed and restarted', async () => {
    const own = await FakeEtcd.start();
    closing.push(() => own.close());
    const store = open('restart', [own.url]);
    const lease = await store.grantLease(30);
    await store.commit([{ key: 'w/a', value: 1, lease }]);
    let table: readonly Entry[] | undefined;
    let stale = 0;
    store.watch(
      'w/',
      (entries) => {
        table = entries;
      },
      () => stale++,
    );
    await until(() => table?.length === 1);
    await own.down();
    await until(() => stale === 1);
    await own.up();
    await until(() =>
      lease.keepAlive().then(
        () => true,
        () => false,
      ),
    );
    await store.commit([{ key: 'w/b', value: 2 }]);
    await until(() => table?.length === 2);
    assert.deepEqual(table, await store.list('w/'));
  });

  it('logs in with user and password, again after a restart lost the login, and is refused without them', async () => {
    const own = await FakeEtcd.start();
    closing.push(() => own.close());
    await own.ctl('user', 'add', 'root:secret');
    await own.ctl('user', 'grant-role', 'root', 'root').catch(async () => {
      await own.ctl('role', 'add', 'root');
      await own.ctl('user', 'grant-role', 'root', 'root');
    });
    await own.ctl('auth', 'enable');
    const store = open('auth', [own.url], systemClock, { user: 'root', password: 'secret' });
    const lease = await store.grantLease(30);
    assert.equal(await store.commit([{ key: 'a', value: 1, lease }]), true);
    let table: readonly Entry[] | undefined;
    store.watch('a', (entries) => {
      table = entries;
    });
    await until(() => table?.length === 1);
    await own.down();
    await own.up();
    await until(() =>
      lease.keepAlive().then(
        () => true,
        () => false,
      ),
    );
    await until(() => store.commit([{ key: 'a', value: 2 }]).catch(() => false));
    await until(() => table?.[0]?.value === 2);
    await assert.rejects(open('auth', [own.url]).get('a'), coded('SF_STORE_REFUSED'));
    const wrong = open('auth', [own.url], systemClock, { user: 'root', password: 'wrong' });
    await assert.rejects(wrong.get('a'), coded('SF_STORE_REFUSED'));
  });

  it('uses TLS, and refuses a server that its authority has not signed', async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'sipfarm-tls-'));
    closing.push(() => rm(folder, { recursive: true, force: true }));
    const [key, cert] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')];
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ];
    const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert];
    try {
      await promisify(execFile)('openssl', [...request, ...subject]);
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
      return t.skip('openssl is missing');
    }
    const own = await FakeEtcd.start({ key, cert, ca: cert });
    closing.push(() => own.close());
    const store = open('tls', [own.url], systemClock, { tls: { ca: await readFile(cert) } });
    assert.equal(await store.commit([{ key: 'a', value: 1 }]), true);
    const distrusting = open('tls', [own.url], systemClock, { attempts: 1 });
    await assert.rejects(distrusting.get('a'), coded('SF_STORE_UNREACHABLE'));
  });
});
