// A Packet is reused: each message must find every field as in a new one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Packet } from '../../../src/packet/packet.ts';

const FRESH: Readonly<Record<string, unknown>> = { ...new Packet() };
const FIELDS = Object.keys(FRESH);

/** Returns a value of the same type that no entrance sets. */
function other(value: unknown): unknown {
  if (typeof value === 'number') return 777;
  if (typeof value === 'boolean') return !value;
  if (typeof value === 'string') return 'old';
  if (Buffer.isBuffer(value)) return Buffer.from('old message');
  throw new Error(`no other value for ${typeof value}`);
}

function used(): Packet {
  const packet = new Packet();
  Object.assign(packet, Object.fromEntries(FIELDS.map((field) => [field, other(FRESH[field])])));
  for (const field of FIELDS) assert.notDeepEqual(packet[field as keyof Packet], FRESH[field], field);
  return packet;
}

const HEAD = {
  sender: 4,
  epoch: 7,
  address: '192.0.2.1',
  port: 5061,
  localAddress: '198.51.100.1',
  localPort: 5060,
  listener: 9,
  connection: 12,
  ingress: 2,
  ingressIncarnation: 5,
  hops: 1,
  secondChance: 2,
};
const BYTES = Buffer.from('INVITE');

test('no field survives a reset', () => {
  assert.equal(FIELDS.length, 21);
  const packet = used();
  packet.reset();
  for (const field of FIELDS) assert.deepEqual(packet[field as keyof Packet], FRESH[field], field);
});

test('a message from outside leaves no field of the message before it', () => {
  const packet = used()
    .begin(BYTES, 1, 6)
    .cameFrom('192.0.2.1', 5061, 12, true)
    .cameTo('198.51.100.1', 5060, 3, 9)
    .enteredAt(2, 5, 1);
  assert.deepEqual(
    { ...packet },
    {
      ...FRESH,
      ...{ bytes: BYTES, start: 1, end: 6, address: '192.0.2.1', port: 5061, connection: 12, fromBalancer: true },
      ...{ localAddress: '198.51.100.1', localPort: 5060, listener: 3, listenerCode: 9 },
      ...{ ingress: 2, ingressIncarnation: 5, hops: 1 },
    },
  );
});

test('a relayed message has the head of its frame and no field of the message before it', () => {
  const { sender, epoch, ...kept } = HEAD;
  const expected = { ...FRESH, ...kept, bytes: BYTES, end: 6, listener: 3, listenerCode: 9 };
  for (const [own, from] of [
    [epoch - 1, { newerFrom: sender }],
    [epoch, {}],
    [epoch + 1, { olderFrom: sender }],
  ] as const) {
    const packet = used().begin(BYTES, 0, 6).cameRelayed(HEAD, 3, own);
    assert.deepEqual({ ...packet }, { ...expected, ...from }, `own epoch ${own}`);
  }
});
