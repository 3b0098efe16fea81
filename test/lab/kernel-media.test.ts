// Media paths in the kernel, with real packets: a client, a member's host that forwards, and a far party.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import type { Endpoint } from '../../src/base/endpoint.ts';
import { until } from '../fake/until.ts';
import { clientAddress, clientAddress6, type Host, Lab, memberAddress, memberAddress6 } from './lab.ts';
import type { Received } from './media-host.ts';
import { MediaHost } from './media-hosts.ts';
import { without } from './missing.ts';

const LIMIT = { timeout: 240_000 };
/** First octets of RTP, RTCP and STUN. */
const [RTP, RTCP, STUN] = ['\x80\x00', '\x80\xc8', '\x00\x01'];

/** Addresses of the member's host. */
const OWN = [memberAddress(1), memberAddress6(1)];

describe('media paths in the kernel', { skip: without('namespaces', 'ip', 'nft') }, () => {
  let lab: Lab;
  let client: MediaHost;
  let relay: MediaHost;
  let far: MediaHost;

  const nft = async (...args: string[]): Promise<string> => (await lab.run('m1', 'nft', args)).stdout;
  const nftOfClient = (line: string): Promise<unknown> => lab.run('c', 'nft', [line]);
  const sh = (host: Host, script: string): Promise<unknown> => lab.run(host, 'sh', ['-ec', script]);

  before(async () => {
    lab = Lab.open('none');
    // Strict: the paths need no weaker source check than the sockets.
    await sh('m1', 'for f in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$f/rp_filter; done');
    [client, relay, far] = await Promise.all([
      MediaHost.start(lab, 'c'),
      MediaHost.start(lab, 'm1'),
      MediaHost.start(lab, 'm2'),
    ]);
    const lack = 'net/ipv4/conf/eth0/forwarding is not 1, net/ipv6/conf/eth0/force_forwarding is not 1';
    const lackBefore = 'net/ipv4/conf/eth0/forwarding is not 1, net/ipv6/conf/all/forwarding is not 1';
    assert.ok([lack, lackBefore].includes(`${await relay.start('fe-1.lab_x', OWN)}`));
    await sh('m1', 'echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding');
    await sh('m1', 'cd /proc/sys/net/ipv6/conf; echo 1 > eth0/force_forwarding || echo 1 > all/forwarding');
    assert.equal(await relay.start('fe-1.lab_x', OWN), '');
  }, LIMIT);
  after(() => lab?.close());

  let port = 20_000;
  /** A call with its sockets: a client, two local places, and a far party. */
  async function call(six = false): Promise<{ a: Endpoint; outer: Endpoint; inner: Endpoint; b: Endpoint }> {
    port += 2;
    const [a, outer, inner, b] = [
      { address: six ? clientAddress6(1) : clientAddress(1), port },
      { address: six ? memberAddress6(1) : memberAddress(1), port },
      { address: six ? memberAddress6(1) : memberAddress(1), port: port + 10_000 },
      { address: six ? memberAddress6(2) : memberAddress(2), port: port + 20_000 },
    ] as const;
    await Promise.all([client.bind(a), relay.bind(outer), relay.bind(inner), far.bind(b)]);
    return { a, outer, inner, b };
  }

  /** Sends a packet of the client until it arrives at the far party: the transaction has been done. */
  async function forwarded({ a, outer, b }: { a: Endpoint; outer: Endpoint; b: Endpoint }): Promise<void> {
    await until(async () => {
      await client.send(a, outer, `${RTP}?`);
      return (await far.received(b, 0)).length > 0;
    }, 10);
  }

  const texts = (all: readonly Received[], begin: string): string[] =>
    all.map(({ text }) => text).filter((text) => text.startsWith(begin));

  for (const [version, six] of [
    ['IPv4', false],
    ['IPv6', true],
  ] as const)
    it(`go both ways over ${version} with their payload, in order, from the right addresses`, LIMIT, async () => {
      const { a, outer, inner, b } = await call(six);
      assert.equal(await relay.add(`out${version}`, { from: a, at: outer, by: inner, to: b }), '');
      await forwarded({ a, outer, b });
      // The first path must have been counted before there may be a second.
      await until(async () => (await relay.add(`in${version}`, { from: b, at: inner, by: outer, to: a })) === '', 10);
      await until(async () => {
        await far.send(b, inner, `${RTP}?`);
        return (await client.received(a, 0)).length > 0;
      }, 10);
      const stream = Array.from({ length: 100 }, (_, i) => `${RTP}${six}${i}`);
      await Promise.all([client.send(a, outer, ...stream), far.send(b, inner, ...stream)]);
      const [there, back] = await Promise.all([far.received(b, 101), client.received(a, 101)]);
      assert.deepEqual([texts(there, `${RTP}${six}`), texts(back, `${RTP}${six}`)], [stream, stream]);
      assert.deepEqual([...new Set(there.map(({ from }) => from))], [`${inner.address} ${inner.port}`]);
      assert.deepEqual([...new Set(back.map(({ from }) => from))], [`${outer.address} ${outer.port}`]);
      const counts = async (): Promise<number> =>
        ((await relay.counts(`out${version}`)) as { packets: number }).packets;
      await until(async () => (await counts()) === there.length, 15);
    });

  it('leave other packets to the socket: a stranger, RTCP, STUN, fragments, no checksum', LIMIT, async () => {
    const { a, outer, inner, b } = await call();
    await until(async () => (await relay.add('others', { from: a, at: outer, by: inner, to: b })) === '', 10);
    await forwarded({ a, outer, b });
    const before = (await relay.received(outer, 0)).length;
    const stranger = { address: a.address, port: a.port + 1 };
    await client.bind(stranger);
    await client.send(stranger, outer, `${RTP}stranger`);
    await client.send(a, outer, `${RTCP}report`, `${STUN}check`, `${RTP}${'x'.repeat(3000)}`);
    await nftOfClient(
      `table ip nocheck { chain out { type filter hook output priority 0; udp dport ${outer.port} udp checksum set 0; }; }`,
    );
    await client.send(a, outer, `${RTP}unchecked`);
    await nftOfClient('delete table ip nocheck');
    const atSocket = (await relay.received(outer, before + 5)).slice(before);
    assert.deepEqual(atSocket.map(({ text }) => text.slice(2, 11)).sort(), [
      'check',
      'report',
      'stranger',
      'unchecked',
      'xxxxxxxxx',
    ]);
    // The last packet of the latched source overtakes none.
    await client.send(a, outer, `${RTP}last`);
    await until(async () => texts(await far.received(b, 0), `${RTP}last`).length > 0);
    assert.deepEqual([...new Set((await far.received(b, 0)).map(({ text }) => text))], [`${RTP}?`, `${RTP}last`]);
  });

  it('send no packet on once they are removed', LIMIT, async () => {
    const { a, outer, inner, b } = await call();
    await until(async () => (await relay.add('gone', { from: a, at: outer, by: inner, to: b })) === '', 10);
    await forwarded({ a, outer, b });
    const [there, here] = [(await far.received(b, 0)).length, (await relay.received(outer, 0)).length];
    await relay.remove('gone');
    await client.send(a, outer, ...Array.from({ length: 50 }, (_, i) => `${RTP}${i}`));
    await relay.received(outer, here + 50);
    assert.equal((await far.received(b, 0)).length, there);
    // The same path comes back as soon as its counters have been read.
    await until(async () => (await relay.add('again', { from: a, at: outer, by: inner, to: b })) === '', 15);
    await until(async () => {
      await client.send(a, outer, `${RTP}again`);
      return texts(await far.received(b, 0), `${RTP}again`).length > 0;
    }, 10);
  });

  it('keep their source where the host rewrites the sources of what it passes on', LIMIT, async () => {
    const { a, outer, inner, b } = await call();
    await nft('add table ip masked { chain out { type nat hook postrouting priority 100; masquerade; }; }');
    await until(async () => (await relay.add('masked', { from: a, at: outer, by: inner, to: b })) === '', 10);
    await forwarded({ a, outer, b });
    await nft('delete table ip masked');
    assert.deepEqual(
      [...new Set((await far.received(b, 1)).map(({ from }) => from))],
      [`${inner.address} ${inner.port}`],
    );
  });

  it(
    'of two members on one host do not disturb each other, and a crash leaves nothing after the next start',
    LIMIT,
    async () => {
      const { a, outer, inner, b } = await call();
      const other = await MediaHost.start(lab, 'm1', 'other');
      assert.equal(await other.start('fe-2.lab_x', OWN), '');
      assert.equal(await other.add('crash', { from: a, at: outer, by: inner, to: b }), '');
      await forwarded({ a, outer, b });
      assert.match(await nft('list', 'tables'), /sipfarm_media_fe-1.lab_x\n.*sipfarm_media_fe-2.lab_x/);

      other.process.kill('SIGKILL');
      await once(other.process, 'exit');
      const successor = await MediaHost.start(lab, 'm1', 'successor');
      assert.equal(await successor.start('fe-2.lab_x', OWN), '');
      const before = (await relay.received(outer, 0)).length;
      await client.send(a, outer, `${RTP}after the crash`);
      await relay.received(outer, before + 1);

      await successor.stop();
      assert.equal((await nft('list', 'tables')).includes('fe-2'), false);
      // Those of the first member are still there.
      await client.send(
        { address: clientAddress(1), port: 20_002 },
        { address: memberAddress(1), port: 20_002 },
        `${RTP}still`,
      );
      const b1 = { address: memberAddress(2), port: 40_002 };
      await until(async () => texts(await far.received(b1, 0), `${RTP}still`).length > 0, 10);
    },
  );

  it('go on in user space when the table is deleted by others, and are reported', LIMIT, async () => {
    const { a, outer, inner, b } = await call();
    await until(async () => (await relay.add('flushed', { from: a, at: outer, by: inner, to: b })) === '', 10);
    await forwarded({ a, outer, b });
    const before = (await relay.received(outer, 0)).length;
    await nft('flush', 'ruleset');
    await client.send(a, outer, `${RTP}flushed`);
    await relay.received(outer, before + 1);
    await until(async () => ((await relay.failed()) as string[]).some((line) => line.startsWith('flushed: ')), 15);
    await relay.remove('flushed');
    assert.match(await nft('list', 'tables'), /sipfarm_media_fe-1.lab_x/);
  });

  it('leave no table at the stop', LIMIT, async () => {
    await relay.stop();
    assert.equal(await nft('list', 'tables'), '');
  });

  it('are given up when a filter of this host drops what is forwarded', LIMIT, async () => {
    const { a, outer, inner, b } = await call();
    const guarded = await MediaHost.start(lab, 'm1', 'guarded');
    assert.equal(await guarded.start('fe-3', OWN), '');
    await nft('add table inet strict { chain f { type filter hook forward priority 0; policy drop; }; }');
    assert.equal(await guarded.add('dropped', { from: a, at: outer, by: inner, to: b }), '');
    await until(async () => {
      await client.send(a, outer, ...Array.from({ length: 30 }, () => `${RTP}lost`));
      return ((await guarded.failed()) as string[]).length > 0;
    }, 15);
    assert.match(((await guarded.failed()) as string[])[0] ?? '', /^dropped: packets arrive and do not leave/);
    await guarded.remove('dropped');
    const before = (await relay.received(outer, 0)).length;
    await client.send(a, outer, `${RTP}kept`);
    await relay.received(outer, before + 1);
    assert.equal(await guarded.add('next', { from: a, at: outer, by: inner, to: b }), 'unavailable');
    await guarded.stop();
  });
});
