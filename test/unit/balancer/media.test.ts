// The media rules of a balancer: from the claims of the members to the rules of nftables, and to the comments of the
// kinds that map no ranges of ports.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { mediaNote, mediaOf, mediaWarnings } from '../../../src/balancer/media.ts';
import { renderNftablesDsr, renderNftablesNat } from '../../../src/balancer/nftables.ts';
import { BALANCER_KINDS, carriesMedia, renderBalancer } from '../../../src/balancer/render.ts';
import type { PortClaim } from '../../../src/media/port-claims.ts';
import { EXAMPLE, FARMS, frontend, media, sharedMedia } from './plans.ts';

const claim = (member: string, given: Partial<PortClaim> = {}): PortClaim => ({
  ...{ member, host: member, plan: 'multi-ip', bind: '10.0.0.11', advertised: '203.0.113.11' },
  ...{ first: 10_000, last: 19_999, ...given },
});
const noMac = (): null => null;
const PUBLIC = { plan: 'direct', outer: '203.0.113.11', local: '203.0.113.11' } as const;

/** Returns the lines of the text with this word, without indentation. */
const linesWith = (text: string, word: string): string[] =>
  text.split('\n').flatMap((line) => (line.includes(word) ? [line.trim()] : []));

describe('the media of a plan', () => {
  test('is that of the claims, by host, with the MAC address of the host', () => {
    const macOf = (host: string, local: string): string => `${host}/${local}`;
    assert.deepEqual(mediaOf([claim('fe10'), claim('fe2')], '198.51.100.1', macOf), [
      media(1, { id: 'fe2', mac: 'fe2/10.0.0.11' }),
      media(1, { id: 'fe10', mac: 'fe10/10.0.0.11' }),
    ]);
  });

  test('of the workers of a host is one range', () => {
    const worker = (index: number, first: number, last: number): PortClaim =>
      claim(`fe1.${index}`, { host: 'fe1', first, last });
    const found = mediaOf([worker(1, 15_000, 19_999), worker(0, 10_000, 14_999)], '198.51.100.1', noMac);
    assert.deepEqual(found, [media(1, { mac: null })]);
  });

  test('has the address family of the VIP', () => {
    const six = claim('fe2', { bind: 'fd00::12', advertised: '2001:db8::12' });
    const idsFor = (vip: string): string[] => mediaOf([claim('fe1'), six], vip, noMac).map(({ id }) => id);
    assert.deepEqual([idsFor('198.51.100.1'), idsFor('2001:db8::1')], [['fe1'], ['fe2']]);
  });

  test('gives a warning where it would be lost', () => {
    const at = { vip: '198.51.100.1', udpPorts: [5060, 15_060], directReturn: false };
    assert.deepEqual(mediaWarnings([media(1), sharedMedia(2)], at), []);
    assert.match(mediaWarnings([sharedMedia(1)], at).join(), /ports 10000-19999 of fe1 contain port 15060 of the VIP/);
    const alias = sharedMedia(2, { local: '198.51.100.1' });
    assert.match(mediaWarnings([alias], at).join(), /fe2 is 198\.51\.100\.1.*only direct server return/);
    assert.deepEqual(mediaWarnings([alias], { ...at, directReturn: true }), []);
  });
});

describe('nftables by address rewriting', () => {
  test('maps each public address or range to its member, and back, with the same ports and no session', () => {
    for (const [one, expected] of [
      [media(2), ['203.0.113.12', '10000-19999']],
      [sharedMedia(2), ['198.51.100.1', '20000-29999']],
    ] as const) {
      const [outer, range] = expected;
      assert.deepEqual(linesWith(renderNftablesNat({ ...EXAMPLE, media: [one] }), range), [
        `ip daddr ${outer} udp dport ${range} notrack ip daddr set 10.0.0.12 counter accept`,
        `ip saddr 10.0.0.12 udp sport ${range} notrack`,
        `ip saddr 10.0.0.12 udp sport ${range} ip saddr set ${outer} counter`,
      ]);
    }
  });

  test('passes media of own addresses, and names it', () => {
    const text = renderNftablesNat({ ...EXAMPLE, media: [media(1, PUBLIC)] });
    assert.deepEqual(linesWith(text, '10000-19999'), [
      '# Media with an address of its own passes unchanged: fe1 203.0.113.11 10000-19999.',
    ]);
  });

  test('uses the words of IPv6', () => {
    const [inward] = linesWith(renderNftablesNat(FARMS['media over IPv6']), 'dport 10000-19999');
    assert.equal(
      inward,
      'ip6 daddr 2001:db8:1::1 udp dport 10000-19999 notrack ip6 daddr set 2001:db8::11 counter accept',
    );
  });
});

describe('nftables by direct server return', () => {
  const rulesOf = (...of: Parameters<typeof media>[]): string[] =>
    linesWith(renderNftablesDsr({ ...EXAMPLE, media: of.map((each) => media(...each)) }), 'udp dport 1');

  test('sends media on to its member, and rewrites the destination only where the member has another address', () => {
    const shared = { plan: 'single-ip', outer: '198.51.100.1', local: '198.51.100.1' } as const;
    assert.deepEqual(rulesOf([1], [2, shared]), [
      'ip daddr 203.0.113.11 udp dport 10000-19999 ip daddr set 10.0.0.11 ether saddr set $balancer ether daddr set 00:00:5e:00:53:11 counter fwd to $out',
      'ip daddr 198.51.100.1 udp dport 10000-19999 ether saddr set $balancer ether daddr set 00:00:5e:00:53:12 counter fwd to $out',
    ]);
  });

  test('leaves media of own addresses to the router', () => assert.deepEqual(rulesOf([1, PUBLIC]), []));

  test('names the sources that another device rewrites', () => {
    const text = renderNftablesDsr({ ...EXAMPLE, media: [media(1), media(2, PUBLIC)] });
    assert.deepEqual(linesWith(text, '10000-19999 ->'), ['#   fe1: 10.0.0.11, UDP 10000-19999 -> 203.0.113.11']);
  });

  test('takes the MAC address of the member, and marks an unknown one, also of a host without new calls', () => {
    const text = renderNftablesDsr({
      ...EXAMPLE,
      members: [frontend(1)],
      media: [media(1, { mac: null }), media(2, { mac: null })],
    });
    const macs = linesWith(text, 'udp dport 1').map((rule) => /daddr set (\S+) counter/.exec(rule)?.[1]);
    assert.deepEqual(macs, ['00:00:5e:00:53:11', 'MAC-OF-fe2']);
    assert.match(text, /^# NOT READY: .*fe2 \(--mac fe2=/m);
  });
});

describe('the other kinds', () => {
  const kinds = BALANCER_KINDS.filter((kind) => !carriesMedia(kind));

  test('are all but nftables', () => {
    const carrying = BALANCER_KINDS.filter((kind) => carriesMedia(kind));
    assert.deepEqual(carrying, ['nftables-nat', 'nftables-dsr']);
  });

  for (const kind of kinds)
    test(`${kind} has the mapping as comments in one file, and is otherwise unchanged`, () => {
      const before = renderBalancer(kind, EXAMPLE);
      const after = renderBalancer(kind, FARMS['media mapped range to member']);
      const changed = after.filter(({ text }, index) => text !== before[index]!.text);
      assert.equal(changed.length, 1);
      const { name, text } = changed[0]!;
      const old = before.find((file) => file.name === name)!.text;
      assert.ok(text.endsWith(old), 'the comments come first');
      const comments = text.slice(0, -old.length).trimEnd().split('\n');
      for (const line of comments) assert.match(line, /^(?:#|!|\/\*) /);
      assert.match(
        comments.at(-1)!,
        / fe4: UDP 198\.51\.100\.1, ports 40000-49999 -> 10\.0\.0\.14, same ports; outward /,
      );
    });

  test('need nothing for media of own addresses', () => {
    assert.equal(
      mediaNote([media(1, PUBLIC)], '#'),
      `# Media goes to the members themselves (docs/media.md of sipfarm):
# fe1: UDP 203.0.113.11, ports 10000-19999: an address of its own; packets pass unchanged.
`,
    );
    assert.equal(mediaNote([], '#'), '');
  });
});
