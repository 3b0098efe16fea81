// What a node that sends through members may send to: its members know their own surroundings, it does not.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { familiesOf, forbiddenTargets, transportsOf } from '../../../src/node/from-config.ts';
import { changed, GOOD, load } from '../config/sample.ts';

const member = load(GOOD).config;
const relay = load(`${GOOD.replace(/listeners:\n(?: .*\n)+/, 'listeners: []\n')}role: relay\n`).config;
const oneWay = load(changed('  - { name: edge-tcp, transport: tcp, bind: 198.51.100.1:5060 }\n', '')).config;

describe('a member', () => {
  it('asks DNS for what its own listeners speak', () => {
    assert.deepEqual([transportsOf(oneWay), familiesOf(oneWay)], [['udp'], [4]]);
  });

  it('sends nothing to the inside of its host', () => {
    for (const address of ['127.0.0.9', '::1', '169.254.1.1']) assert.ok(forbiddenTargets(member).has(address, 5060));
  });
});

describe('a node of role relay', () => {
  it('asks DNS for all that a member may speak', () => {
    assert.deepEqual(
      [transportsOf(relay), familiesOf(relay)],
      [
        ['udp', 'tcp'],
        [4, 6],
      ],
    );
  });

  it('leaves it to the member what is near that', () => {
    for (const address of ['127.0.0.9', '::1', '169.254.1.1']) assert.ok(!forbiddenTargets(relay).has(address, 5060));
  });

  it('sends nothing to its own doors, to the store, and to no host at all', () => {
    const forbidden = forbiddenTargets(relay);
    for (const [address, port] of [
      ['10.0.0.11', 5064],
      ['127.0.0.1', 5062],
      ['127.0.0.1', 2379],
      ['0.0.0.0', 5060],
      ['224.0.0.1', 5060],
    ] as const)
      assert.ok(forbidden.has(address, port), `${address}:${port}`);
  });
});
