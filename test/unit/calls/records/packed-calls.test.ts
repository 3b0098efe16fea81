// Packed calls: each record is unpacked unchanged, and the table agrees with a plain map.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { phoneCall } from '../../../../native-free-bench/phones.ts';
import { MAX_LEGS } from '../../../../src/calls/records/call-record.ts';
import { Compressor, Dictionary, MAX_DICTIONARY, MAX_TEXT } from '../../../../src/calls/records/compression.ts';
import { Flag } from '../../../../src/calls/records/durability.ts';
import { PackedCalls } from '../../../../src/calls/records/packed-calls.ts';
import type { RecordBody } from '../../../../src/calls/records/record-octets.ts';
import { RecordPacker } from '../../../../src/calls/records/record-packer.ts';

function roundTrip(compressor: Compressor, dictionary: Dictionary, text: Buffer): { out: Buffer; packed: number } {
  const start = compressor.load(dictionary);
  text.copy(compressor.space, start);
  const packed = compressor.compress(text.length, 0);
  const copy = Buffer.from(compressor.packed.subarray(0, packed));
  compressor.space.fill(0, start);
  return { out: Buffer.from(compressor.space.subarray(start, compressor.expand(copy, 0, packed))), packed };
}

test('a compressed text expands to itself with any dictionary', () => {
  const compressor = new Compressor();
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.constantFrom('Record-Route: <sip:', 'a', 'ab', '\0\0\0\0', 'x'.repeat(400)).map((text) => Buffer.from(text)),
  );
  const text = fc.array(piece, { maxLength: 60 }).map((pieces) => Buffer.concat(pieces));
  fc.assert(
    fc.property(text, text, fc.boolean(), (known, other, alike) => {
      const dictionary = new Dictionary(known.subarray(0, MAX_DICTIONARY));
      const whole = alike ? Buffer.concat([other, known, other]) : other;
      assert.deepEqual(roundTrip(compressor, dictionary, whole).out, whole);
    }),
    { numRuns: 2000 },
  );
});

test('the longest texts, of one repeated octet and of random ones, expand to themselves', () => {
  const compressor = new Compressor();
  const dictionary = new Dictionary(Buffer.alloc(MAX_DICTIONARY, 'dictionary'));
  let state = 1;
  const random = Buffer.alloc(MAX_TEXT).map(() => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state >>> 24;
  });
  for (const text of [Buffer.alloc(MAX_TEXT), Buffer.from(random)]) {
    const { out, packed } = roundTrip(compressor, dictionary, text);
    assert.ok(out.equals(text));
    assert.ok(packed <= text.length + (text.length >> 6) + 1);
  }
});

function bodyOf(index: number): RecordBody {
  const { invite, client } = phoneCall(index);
  const request = invite.toString('latin1');
  const flow = {
    member: 1,
    incarnation: 3,
    listener: 2,
    connection: index,
    target: index - 1,
    nat: index % 2 === 0,
    ...client,
  };
  const answer = `SIP/2.0 200 OK\r\n${request.slice(request.indexOf('\n') + 1)}`;
  const legs = [{ from: 'client', flow, request, answer } as const, { from: 'server', flow, request } as const];
  return { method: 'INVITE', callId: `call-${index}`, since: 1_800_000_000_000 + index, epoch: 7 + index, legs };
}

test('records are packed to less than a third after some samples, and earlier ones stay readable with each new dictionary', () => {
  const packer = new RecordPacker();
  const texts: string[] = [];
  for (let index = 0; index < 3000; index++) texts.push(packer.pack(bodyOf(index))!);
  assert.ok(new Set(texts.map((text) => text.charCodeAt(0))).size > 3);
  for (const [index, text] of texts.entries()) assert.deepEqual(packer.unpack(text), bodyOf(index));
  const raw = bodyOf(2000).legs.reduce((sum, { request, answer = '' }) => sum + request.length + answer.length, 0);
  assert.ok(texts[2000]!.length < raw / 3, `${texts[2000]!.length} of ${raw}`);
});

test('a dictionary is replaced only when no text needs it', () => {
  const packer = new RecordPacker();
  const first = packer.pack(bodyOf(0))!;
  let index = 1;
  for (let learned = 0; learned < 3000; learned++) {
    const text = packer.pack(bodyOf(index++ % 1000))!;
    packer.release(text);
  }
  assert.deepEqual(packer.unpack(first), bodyOf(0));
});

test('a record that is too long or has characters outside of SIP is not packed', () => {
  const body = bodyOf(1);
  const calls = new PackedCalls();
  const [leg] = body.legs;
  const long = { ...leg!, request: 'x'.repeat(8192), answer: 'y'.repeat(8192) };
  assert.equal(calls.add(1, { ...body, legs: Array.from({ length: MAX_LEGS }, () => long) }), false);
  assert.equal(calls.add(1, { ...body, callId: 'ł' }), false);
  for (const since of [-1, 2 ** 48]) assert.equal(calls.add(1, { ...body, since }), false);
  assert.equal(calls.size, 0);
  assert.equal(calls.add(1, body), true);
});

test('the packed calls agree with a plain map on every history', () => {
  const entry = fc.constantFrom(...[1, -1, 2, 1 + 2 ** 20, -1 - 2 ** 20, 2 ** 53 - 1, -(2 ** 53 - 1), 1 + 2 ** 21]);
  const step = fc.record({ entry, event: fc.constantFrom('add', 'remove', 'flag', 'unflag', 'flag all', 'clear') });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const calls = new PackedCalls();
      const model = new Map<number, { readonly body: RecordBody; flagged: boolean }>();
      for (const [index, { entry, event }] of steps.entries()) {
        const there = model.get(entry);
        if (event === 'add' && !there) {
          const body = bodyOf(index);
          assert.equal(calls.add(entry, body), true);
          model.set(entry, { body, flagged: false });
        } else if (event === 'remove') assert.equal(calls.remove(entry), model.delete(entry));
        else if (event === 'flag' || event === 'unflag') {
          calls.setFlags(entry, event === 'flag' ? Flag.unseen : 0);
          if (there) there.flagged = event === 'flag';
        } else if (event === 'flag all') {
          calls.flagAll(Flag.unseen, true);
          for (const each of model.values()) each.flagged = true;
        } else if (event === 'clear') {
          calls.clear();
          model.clear();
        }
        assert.equal(calls.size, model.size);
        assert.deepEqual([...calls.entries()], [...model.keys()]);
        const flagged = [...model].flatMap(([key, each]) => (each.flagged ? [key] : []));
        assert.deepEqual(new Set(calls.flagged(Flag.unseen)), new Set(flagged));
        for (const [key, { body }] of model) assert.deepEqual(calls.read(key), body);
        assert.equal(calls.octets === 0, model.size === 0);
      }
    }),
    { numRuns: 300 },
  );
});

test('a walk visits each call that stays once, also when others are deleted during the walk', () => {
  const calls = new PackedCalls();
  for (let entry = 1; entry <= 20_000; entry++) calls.add(entry, bodyOf(entry % 50));
  const seen: number[] = [];
  for (const entry of calls.entries()) {
    seen.push(entry);
    if (entry % 3 === 0) for (const gone of [entry, entry - 3, entry + 300]) calls.remove(gone);
  }
  const known = new Set(seen);
  assert.equal(known.size, seen.length);
  const stayed = Array.from({ length: 20_000 }, (_, index) => index + 1).filter((entry) => calls.has(entry));
  assert.ok(stayed.length > 13_000);
  assert.deepEqual(
    stayed.filter((entry) => !known.has(entry)),
    [],
  );
});
