// Contents of a member's record for the relay links of other members.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMemberRecord } from '../../../src/membership/member-record.ts';
import { peerOf } from '../../../src/node/from-config.ts';

const edge = { name: 'edge', transport: 'udp', bind: '198.51.100.1:5060', advertise: '203.0.113.1:5060' };
const RECORD = {
  v: 1,
  id: 'fe1',
  number: 1,
  incarnation: 1,
  role: 'member',
  state: 'active',
  weight: 100,
  relay: '10.0.0.1:5064',
  listeners: [
    { ...edge, transparent: '10.0.0.1:5065' },
    { ...edge, name: 'edge6', bind: '[2001:db8::1]:5060' },
  ],
  versions: { sipfarm: '0.1.0', min: 1, max: 1 },
  startedAt: '2026-01-01T00:00:00.000Z',
  host: 'fe1',
  claim: '0123456789abcdef',
};

test('a peer has the highest version of the envelope that it supports', () => {
  assert.equal(peerOf(parseMemberRecord('fe1', RECORD)!)?.speaks, 1);
});

test('a peer has its transparent ports and all addresses of its host, whose packets would not be accepted bare', () => {
  const { relay, transparentPorts, addresses } = peerOf(parseMemberRecord('fe1', RECORD)!)!;
  assert.deepEqual(relay, { address: '10.0.0.1', port: 5064 });
  assert.deepEqual(transparentPorts, [{ listener: 'edge', at: { address: '10.0.0.1', port: 5065 } }]);
  assert.deepEqual([...(addresses ?? [])].sort(), ['10.0.0.1', '198.51.100.1', '2001:db8::1']);
});
