// The section `media` of the file: defaults, faults with their remedy, cluster-wide values, changes of a running
// member.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { effective, liveDiff, parseClusterSettings } from '../../../src/config/live.ts';
import { partOf, withLiveMedia } from '../../../src/config/media-section.ts';
import type { Config } from '../../../src/config/schema.ts';
import { workerConfig } from '../../../src/config/workers.ts';
import { changed, GOOD, load, problemsOf } from './sample.ts';

const withMedia = (media: string, text = GOOD): string => `${text}media: { ${media} }\n`;
const mediaOf = (media: string, text?: string): NonNullable<Config['media']> =>
  load(withMedia(media, text)).config.media ?? assert.fail('there is no media');
const WILDCARD = changed('bind: 127.0.0.1:5062', 'bind: 0.0.0.0:5062, advertise: 10.0.0.11:5062');

test('a file without the section has no media relay, whatever the cluster-wide settings are', () => {
  const { config } = load(GOOD);
  assert.equal(config.media, undefined);
  assert.equal(effective(config, { media: { anchor: 'always' } }).media, undefined);
});

test('all fields but bind have a default, and inside is the address of service.bind', () => {
  assert.deepEqual(mediaOf('bind: 10.0.0.11'), {
    anchor: 'never',
    plan: 'direct',
    bind: '10.0.0.11',
    inside: '127.0.0.1',
    ports: { first: 10_000, last: 19_999 },
    ...{ restSeconds: 15, dscp: 46, offload: 'auto', origin: 'keep', ice: 'first', idleSeconds: 0, onIdle: 'log' },
  });
  assert.equal(mediaOf('bind: 10.0.0.11, inside: 10.0.0.11').inside, '10.0.0.11');
});

test('an address has one text, however it is written', () => {
  const { bind, wan } = mediaOf('plan: multi-ip, bind: "FD00:0:0::11", wan: "2001:DB8:0::11"');
  assert.deepEqual([bind, wan], ['fd00::11', '2001:db8::11']);
});

test('with the service answer both sides take ports of the same address', () => {
  const text = GOOD.replace(/service: .*/, 'service: { kind: answer }');
  assert.equal(mediaOf('bind: 10.0.0.11', text).inside, '10.0.0.11');
});

describe('a fault is refused at its field:', () => {
  for (const [media, field, remedy, text] of [
    ['anchor: nat', 'media.bind', /is missing/],
    ['bind: 10.0.0.11:5004', 'media.bind', /without a port/],
    ['bind: 0.0.0.0', 'media.bind', /is not one IP address/],
    ['bind: "fe80::1%eth0"', 'media.bind', /is not one IP address/],
    ['bind: 10.0.0.11, ports: "10000"', 'media.ports', /write 10000-19999/],
    ['bind: 10.0.0.11, ports: 19999-10000', 'media.ports', /write 10000-19999/],
    ['bind: 10.0.0.11, ports: 1000-2000', 'media.ports', /from 1024 to 65535/],
    ['bind: 10.0.0.11, ports: 60000-65536', 'media.ports', /from 1024 to 65535/],
    ['bind: 10.0.0.11, ports: 10001-10002', 'media.ports', /no two ports/],
    ['bind: 10.0.0.11, plan: single-ip, wan: 203.0.113.10', 'media.wan', /leave it out, and set it by sipfarm config/],
    ['bind: 10.0.0.11, plan: multi-ip', 'media.wan', /write it into the file of this member/],
    ['bind: 10.0.0.11, plan: multi-ip, wan: "2001:db8::1"', 'media.wan', /another address family/],
    ['bind: 10.0.0.11', 'media.inside', /service\.bind is a wildcard/, WILDCARD],
    ['bind: 198.51.100.1, ports: 5000-5999', 'media.ports', /contains 198\.51\.100\.1:5060, which is listener edge/],
    ['bind: 10.0.0.11, ports: 5000-5999', 'media.ports', /contains 10\.0\.0\.11:5064, which is relay\.bind/],
    ['bind: 10.0.0.12, ports: 5000-5999', 'media.ports', /contains 127\.0\.0\.1:5062, which is service\.bind/],
    ['bind: 10.0.0.12, inside: 10.0.0.12, ports: 5000-5999', 'media.ports', /0\.0\.0\.0:5062/, WILDCARD],
    ['bind: 10.0.0.11, ports: 5066-5999', 'media.ports', /relay/, changed('member: fe1', 'member: fe1\nworkers: 3')],
    ['bind: 10.0.0.11, idleSeconds: 19', 'media.idleSeconds', /write 0, or 20 or more/],
    ['bind: 10.0.0.11, dscp: 64', 'media.dscp', /at most 63/],
    ['bind: 10.0.0.11, ancor: nat', 'media.ancor', /did you mean anchor\?/],
  ] as const)
    test(`${field} of ${media}`, () => {
      const found = problemsOf(withMedia(media, text)).find((problem) => problem.field === field);
      assert.match(found?.message ?? 'no fault', remedy);
      assert.ok((found?.line ?? 0) > 0);
    });

  test('ports of other addresses, and of TCP, may lie in the range', () => {
    mediaOf('bind: 10.0.0.12, inside: 10.0.0.12, ports: 5000-5999');
    const onlyTcp = GOOD.replace(/ {2}- \{ name: edge, .*\n/, '');
    mediaOf('bind: 198.51.100.1, ports: 5000-5061', onlyTcp);
  });
});

describe('cluster-wide values', () => {
  test('apply where the file has none, and the file wins field by field', () => {
    const own = load(withMedia('bind: 10.0.0.11, wan: 203.0.113.11, dscp: 5')).config;
    const cluster = parseClusterSettings({
      media: { anchor: 'nat', plan: 'multi-ip', wan: '203.0.113.99', dscp: 7 },
    });
    const { anchor, plan, wan, dscp, restSeconds } = effective(own, cluster).media!;
    assert.deepEqual([anchor, plan, wan, dscp, restSeconds], ['nat', 'multi-ip', '203.0.113.11', 5, 15]);
    assert.deepEqual(own.given.media, { wan: '203.0.113.11', dscp: 5 });
  });

  test('leave addresses and ports of the member alone, and end when they are deleted', () => {
    const own = load(withMedia('bind: 10.0.0.11, ports: 20000-20999')).config;
    const raised = effective(own, parseClusterSettings({ media: { plan: 'single-ip', wan: '203.0.113.10' } }));
    assert.deepEqual(raised.media, { ...own.media, plan: 'single-ip', wan: '203.0.113.10' });
    assert.deepEqual(effective(raised, {}).media, own.media);
  });

  test('have no field of one member', () => {
    for (const media of [{ bind: '10.0.0.11' }, { inside: '10.0.0.11' }, { ports: '10000-10999' }, { wan: 'x' }])
      assert.throws(() => parseClusterSettings({ media }), { code: 'SF_CONFIG_INVALID' }, JSON.stringify(media));
  });
});

describe('a reload', () => {
  const before = load(withMedia('bind: 10.0.0.11, plan: multi-ip, wan: 203.0.113.11')).config;

  test('applies what opens no port, and reports the rest for a restart', () => {
    const after = load(
      withMedia('bind: 10.0.0.12, plan: direct, anchor: nat, ports: 20000-20999, dscp: 0, ice: remove'),
    ).config;
    assert.deepEqual(liveDiff(before, after), {
      live: ['media.anchor', 'media.ice', 'media.wan'],
      restart: ['media.bind', 'media.dscp', 'media.plan', 'media.ports'],
    });
    const { wan: _, ...left } = before.media!;
    assert.deepEqual(withLiveMedia(before.media!, after.media!), { ...left, anchor: 'nat', ice: 'remove' });
  });

  test('cannot begin or end the media relay', () => {
    assert.deepEqual(liveDiff(before, load(GOOD).config), { live: [], restart: ['media'] });
    assert.deepEqual(liveDiff(load(GOOD).config, before), { live: [], restart: ['media'] });
  });
});

test('workers of a host have parts of one size, from an even port to an odd one, which do not overlap', () => {
  const parts = (first: number, last: number, count: number): string[] =>
    Array.from({ length: count }, (_, index) => partOf({ first, last }, index, count)).map(
      (part) => `${part.first}-${part.last}`,
    );
  assert.deepEqual(parts(10_000, 19_999, 1), ['10000-19999']);
  assert.deepEqual(parts(10_001, 20_000, 1), ['10002-19999']);
  assert.deepEqual(parts(10_000, 19_999, 3), ['10000-13331', '13332-16663', '16664-19995']);
  assert.deepEqual(parts(10_000, 10_003, 2), ['10000-10001', '10002-10003']);
});

test('each worker has the section of its host', () => {
  const { config } = load(withMedia('bind: 10.0.0.11', changed('member: fe1', 'member: fe1\nworkers: 3')));
  assert.deepEqual(workerConfig(config, 2).media, config.media);
});
