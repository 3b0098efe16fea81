// Owner of a packet: each rule and its place in the order, at one member; then farms whose members must agree.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { keyring } from '../../../src/ownership/keyring.ts';
import { HOP_LIMIT } from '../../../src/ownership/owner-lookup.ts';
import { buildOwnerTables, type OwnerTables } from '../../../src/ownership/owner-tables.ts';
import { SLOTS } from '../../../src/ownership/slots.ts';
import { MAGIC_COOKIE, TokenKind } from '../../../src/ownership/token.ts';
import { nextView, type View } from '../../../src/ownership/view.ts';
import { type Packet, SecondChance } from '../../../src/packet/packet.ts';
import { drop, LOCAL, relayTo, replyWith, type Verdict } from '../../../src/packet/verdict.ts';
import {
  callIdOf,
  FOREIGN_KEYS,
  KEYS,
  keyOf,
  Member,
  previousOf,
  request,
  response,
  SEED,
  seat,
  slotOf,
  token,
  viewOf,
} from './lookups.ts';

const FIVE = viewOf([1, 2, 3, 4, 5].map((number) => seat(number, { incarnation: 10 + number })));
const TABLES = buildOwnerTables(FIVE, 1, 11);
/** A member number without a seat. */
const DEAD = 9;
/** Call-IDs in slots of members 1 and 5. */
const OWN_CALL = callIdOf(TABLES, 1);
const CALL = callIdOf(TABLES, 5);

/** Member 1 of five. */
function one(): Member {
  return new Member(TABLES);
}

const dialog = (number: number, incarnation = 0) => token(TokenKind.dialog, number, incarnation);
const route = (text: string) => ({ Route: `<sip:${text}@198.51.100.1:5060;lr>` });
const uri = (text: string) => `sip:${text}@198.51.100.1:5060`;
const toTag = (text: string) => ({ To: `<sip:bob@example.com>;tag=${text}` });
const branch = (kind: TokenKind, number: number, incarnation = 0) => MAGIC_COOKIE + token(kind, number, incarnation, 8);

describe('where no member has a weight', () => {
  const idle = (numbers: readonly number[]) => viewOf(numbers.map((number) => seat(number, { weight: 0 })));
  const invite = request('INVITE', { 'Call-ID': CALL });

  test('a member with a seat keeps a new call, and its service gives the reason of its refusal', () => {
    assert.equal(new Member(buildOwnerTables(idle([1, 2]), 1, 1)).verdict(invite), LOCAL);
  });

  test('a member without a seat answers 503: two of them would begin one call', () => {
    assert.equal(new Member(buildOwnerTables(idle([2]), 1, 1)).verdict(invite), replyWith(503));
    const alone = new Member(buildOwnerTables(idle([]), 1, 1));
    assert.equal(alone.verdict(invite), replyWith(503));
    assert.equal(alone.verdict(request('ACK', { 'Call-ID': CALL })), drop('owner-gone'));
  });
});

describe('a request with a token of the farm', () => {
  const places: readonly (readonly [string, (text: string) => Buffer])[] = [
    ['in its top Route', (text) => request('BYE', { 'Call-ID': CALL, ...route(text) })],
    ['in its Request-URI', (text) => request('BYE', { 'Call-ID': CALL }, uri(text))],
    ['in its To tag', (text) => request('BYE', { 'Call-ID': CALL, ...toTag(text) })],
  ];
  for (const [place, make] of places) {
    test(`${place} belongs to the member that the token names`, () => {
      assert.equal(one().verdict(make(dialog(3))), relayTo(3));
      assert.equal(one().verdict(make(dialog(1))), LOCAL);
    });

    test(`${place} belongs to it in any letter case of the token`, () => {
      assert.equal(one().verdict(make(dialog(3).toUpperCase())), relayTo(3));
    });

    test(`${place} belongs to that member also after its restart, because the server behind it has the dialog`, () => {
      assert.equal(one().verdict(make(dialog(3, 2))), relayTo(3));
      assert.equal(one().verdict(make(dialog(1, 2))), LOCAL);
    });

    test(`${place} that is cut, changed or of another farm is counted; the Call-ID decides`, () => {
      const good = dialog(3);
      const changed = good.slice(0, 8) + (good[8] === 'a' ? 'b' : 'a') + good.slice(9);
      const forgeries = [
        good.slice(0, -1),
        changed,
        `${good}0`,
        'sf'.padEnd(80, '0'),
        token(TokenKind.dialog, 3, 0, 0, FOREIGN_KEYS),
      ];
      for (const [index, forgery] of forgeries.entries()) {
        const member = one();
        assert.equal(member.verdict(make(forgery)), relayTo(5), `forgery ${index}`);
        const counted = place.includes('Route') ? 'route' : place.includes('URI') ? 'request-uri' : 'to-tag';
        // A text that is too short for a token does not count as a token.
        assert.deepEqual(member.forged, index === 0 ? {} : { [counted]: 1 }, `forgery ${index}`);
      }
    });

    test(`${place} that is no dialog token goes by its Call-ID, and counts as no forgery`, () => {
      for (const kind of [TokenKind.transaction, TokenKind.outward, TokenKind.streamFlow, TokenKind.datagramFlow]) {
        const member = one();
        assert.equal(member.verdict(make(token(kind, 3, 13, 8))), relayTo(5), `kind ${kind}`);
        assert.deepEqual(member.forged, {});
      }
    });

    test(`${place} is accepted while its key is listed, even if another key mints`, () => {
      const member = one();
      const [old, young] = ['ab'.repeat(32), '12'.repeat(32)];
      member.keys = keyring([young, old]);
      assert.equal(member.verdict(make(dialog(3))), relayTo(3));
      member.keys = keyring([young]);
      assert.equal(member.verdict(make(dialog(3))), relayTo(5));
    });
  }

  test('goes by the first Route value only', () => {
    const values = `<sip:proxy.example.net;lr>, <sip:${dialog(3)}@198.51.100.1;lr>`;
    assert.equal(one().verdict(request('BYE', { 'Call-ID': CALL, Route: values })), relayTo(5));
  });

  test('goes by its Route also behind a display name', () => {
    const value = `"Our edge" <sip:${dialog(3)}@198.51.100.1;lr>;x=y`;
    assert.equal(one().verdict(request('BYE', { 'Call-ID': CALL, Route: value })), relayTo(3));
  });

  test('has no effect on the next packet', () => {
    const member = one();
    for (const next of ['tel:bob', `sip:${dialog(4)}`, 'sip:bob@example.com', `sip:${dialog(4).slice(0, -3)}@h`]) {
      assert.equal(member.verdict(request('BYE', { 'Call-ID': CALL, ...route(dialog(3)) })), relayTo(3));
      const { verdict, packet } = member.decide(request('BYE', { 'Call-ID': CALL, Route: `<${next}>` }, next));
      assert.equal(verdict, relayTo(5), next);
      assert.equal(packet.orphan, false);
    }
  });

  test('goes by its Call-ID when the token is in the host, in parameters or in another scheme', () => {
    for (const text of [
      `sip:${dialog(3)}`,
      `sip:bob@h;x=${dialog(3)}@x`,
      `tel:${dialog(3)}@h`,
      `sip:x${dialog(3)}@h`,
    ]) {
      const bytes = request('BYE', { 'Call-ID': CALL, Route: `<${text}>` }, text);
      assert.equal(one().verdict(bytes), relayTo(5), text);
    }
  });
});

describe('the order of the rules', () => {
  const replaced = callIdOf(TABLES, 4);
  /** Names member 2 by Route, 3 by Request-URI, 4 by To tag, 4 by Replaces, 5 by Call-ID. */
  const all = {
    ...route(dialog(2)),
    ...toTag(dialog(4)),
    Replaces: `${replaced};to-tag=1;from-tag=2`,
    'Call-ID': CALL,
  };

  test('Route comes before Request-URI, Request-URI before To tag', () => {
    assert.equal(one().verdict(request('BYE', all, uri(dialog(3)))), relayTo(2));
    assert.equal(one().verdict(request('BYE', { ...all, Route: undefined }, uri(dialog(3)))), relayTo(3));
    assert.equal(one().verdict(request('BYE', { ...all, Route: undefined })), relayTo(4));
  });

  test('a token comes before the dialog that a header names', () => {
    const elsewhere = { ...all, Replaces: `${CALL};to-tag=1;from-tag=2` };
    assert.equal(one().verdict(request('INVITE', { ...elsewhere, Route: undefined })), relayTo(4));
  });

  test('the named dialog comes before the own Call-ID, whether its call is here or not', () => {
    const member = one();
    member.held.add(keyOf(TABLES, OWN_CALL));
    const invite = request('INVITE', { 'Call-ID': OWN_CALL, Replaces: `${replaced};to-tag=1` });
    assert.equal(member.verdict(invite), relayTo(4));
  });

  test('a token comes before a call of this member', () => {
    const member = one();
    member.held.add(keyOf(TABLES, CALL));
    assert.equal(member.verdict(request('BYE', { 'Call-ID': CALL, ...toTag(dialog(3)) })), relayTo(3));
  });

  test('a call of this member comes before the slot', () => {
    const member = one();
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': CALL })), relayTo(5));
    member.held.add(keyOf(TABLES, CALL));
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': CALL })), LOCAL);
  });

  test('the Request-URI decides after a forged Route, and the To tag after both', () => {
    const member = one();
    const forged = token(TokenKind.dialog, 2, 0, 0, FOREIGN_KEYS);
    assert.equal(member.verdict(request('BYE', { 'Call-ID': CALL, ...route(forged) }, uri(dialog(3)))), relayTo(3));
    assert.equal(
      member.verdict(request('BYE', { 'Call-ID': CALL, ...route(forged), ...toTag(dialog(4)) }, uri(forged))),
      relayTo(4),
    );
    assert.deepEqual(member.forged, { route: 2, 'request-uri': 1 });
  });
});

describe('a response', () => {
  test('belongs to the member whose service token is in its top branch', () => {
    assert.equal(one().verdict(response(branch(TokenKind.outward, 3))), relayTo(3));
    assert.equal(one().verdict(response(branch(TokenKind.outward, 1))), LOCAL);
  });

  test('with a service token of an older incarnation is accepted, because the server has the transaction', () => {
    assert.equal(one().verdict(response(branch(TokenKind.outward, 3, 2))), relayTo(3));
  });

  test('belongs to that member in any letter case of its branch', () => {
    assert.equal(one().verdict(response(branch(TokenKind.outward, 3).toUpperCase())), relayTo(3));
  });

  test("to a member's own transaction is accepted only in its present incarnation", () => {
    assert.equal(one().verdict(response(branch(TokenKind.transaction, 3, 13))), relayTo(3));
    assert.equal(one().verdict(response(branch(TokenKind.transaction, 1, 11))), LOCAL);
    for (const [number, incarnation] of [
      [3, 12],
      [3, 14],
      [3, 0],
      [1, 10],
      [DEAD, 1],
    ] as const)
      assert.equal(
        one().verdict(response(branch(TokenKind.transaction, number, incarnation))),
        drop('stale-token'),
        `member ${number} in incarnation ${incarnation}`,
      );
  });

  test('without a token of the farm is a stray, even if this member has the call or owns its slot', () => {
    const member = one();
    member.held.add(keyOf(TABLES, OWN_CALL));
    for (const text of [undefined, 'z9hG4bKabc', '1', MAGIC_COOKIE, dialog(1), `x9hG4bK${dialog(1)}`])
      assert.equal(member.verdict(response(text, { 'Call-ID': OWN_CALL })), drop('stray-response'), String(text));
    assert.deepEqual(member.forged, {});
  });

  test('with a branch that is changed, cut or of another farm is dropped and counted', () => {
    const good = branch(TokenKind.outward, 3);
    const changed = good.slice(0, 20) + (good[20] === 'a' ? 'b' : 'a') + good.slice(21);
    const foreign = MAGIC_COOKIE + token(TokenKind.outward, 3, 0, 8, FOREIGN_KEYS);
    for (const forgery of [changed, good.slice(0, -1), `${good}a`, foreign]) {
      const member = one();
      assert.equal(member.verdict(response(forgery, { 'Call-ID': OWN_CALL })), drop('forged-token'), forgery);
      assert.deepEqual(member.forged, { branch: 1 });
    }
  });

  test('with a token of a kind that no branch has is dropped', () => {
    for (const kind of [TokenKind.dialog, TokenKind.streamFlow, TokenKind.datagramFlow, TokenKind.reply])
      assert.equal(one().verdict(response(branch(kind, 1, 11))), drop('forged-token'), `kind ${kind}`);
  });

  test('goes by the top Via alone', () => {
    const below = `SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx, SIP/2.0/UDP 198.51.100.1;branch=${branch(TokenKind.outward, 3)}`;
    assert.equal(one().verdict(response(undefined, { Via: below })), drop('stray-response'));
  });
});

describe('the ACK of a stateless reply', () => {
  const tag = token(TokenKind.reply, 3, 0);

  test('is dropped by every member, whichever owns its Call-ID', () => {
    for (const callId of [OWN_CALL, CALL])
      assert.equal(one().verdict(request('ACK', { 'Call-ID': callId, ...toTag(tag) })), drop('stateless-ack'));
  });

  test('is dropped also after the member of the reply is gone', () => {
    const ack = request('ACK', { 'Call-ID': CALL, ...toTag(token(TokenKind.reply, DEAD)) });
    assert.equal(one().verdict(ack), drop('stateless-ack'));
  });

  test('must be an ACK: any other request with that tag goes by its Call-ID', () => {
    for (const method of ['INVITE', 'BYE', 'CANCEL'])
      assert.equal(one().verdict(request(method, { 'Call-ID': CALL, ...toTag(tag) })), relayTo(5), method);
  });

  test('must have a valid tag: one with a forged tag goes by its Call-ID', () => {
    const member = one();
    const forged = token(TokenKind.reply, 3, 0, 0, FOREIGN_KEYS);
    assert.equal(member.verdict(request('ACK', { 'Call-ID': CALL, ...toTag(forged) })), relayTo(5));
    assert.deepEqual(member.forged, { 'to-tag': 1 });
  });
});

describe('a header that names another dialog', () => {
  const named = callIdOf(TABLES, 4);
  for (const header of ['Replaces', 'Join', 'Target-Dialog', 'REPLACES', 'target-dialog']) {
    test(`${header} brings the request to the owner of that dialog by way of its slot's owner`, () => {
      for (const value of [named, `${named};to-tag=1;from-tag=2`, `${named} \t ;early-only`])
        assert.equal(one().verdict(request('INVITE', { 'Call-ID': OWN_CALL, [header]: value })), relayTo(4), value);
    });
  }

  test('brings it to this member when this member has that dialog, also one that its server made', () => {
    for (const side of [1, -1]) {
      const member = one();
      member.held.add(side * keyOf(TABLES, named));
      const { packet } = member.decide(request('INVITE', { 'Call-ID': CALL, Replaces: `${named};to-tag=1` }));
      assert.equal(packet.secondChance, SecondChance.none);
      assert.equal(member.verdict(request('INVITE', { 'Call-ID': OWN_CALL, Replaces: `${named};to-tag=1` })), LOCAL);
    }
  });

  test('brings it to the owner of its own slot first, which then sends its CANCEL and ACK the same way', () => {
    const replaces = { 'Call-ID': OWN_CALL, Replaces: `${named};to-tag=1` };
    const elsewhere = new Member(buildOwnerTables(FIVE, 2, 12));
    const home = one();
    assert.equal(elsewhere.verdict(request('INVITE', replaces)), relayTo(1));
    assert.equal(home.verdict(request('CANCEL', { 'Call-ID': OWN_CALL })), LOCAL, 'nothing went elsewhere yet');
    assert.equal(home.verdict(request('INVITE', replaces)), relayTo(4));
    for (const method of ['CANCEL', 'ACK', 'INVITE'])
      assert.equal(home.verdict(request(method, { 'Call-ID': OWN_CALL })), relayTo(4), method);
  });

  test('redirects only packets that may take another hop', () => {
    const home = one();
    home.verdict(request('INVITE', { 'Call-ID': OWN_CALL, Replaces: `${named};to-tag=1` }));
    const cancel = (hops: number): Verdict => home.verdict(request('CANCEL', { 'Call-ID': OWN_CALL }), { hops });
    assert.deepEqual([cancel(HOP_LIMIT - 1), cancel(HOP_LIMIT)], [relayTo(4), LOCAL]);
  });

  test('leaves key and slot of its own Call-ID in the packet', () => {
    const { packet } = one().decide(request('INVITE', { 'Call-ID': CALL, Replaces: named }));
    assert.deepEqual([packet.callKey, packet.slot], [keyOf(TABLES, CALL), slotOf(TABLES, CALL)]);
  });

  test('gets the second chance of that dialog', () => {
    const { member, callId } = moved();
    member.told.set(2, 1);
    const { verdict, packet } = member.decide(request('INVITE', { 'Call-ID': OWN_CALL, Join: `${callId};x=y` }));
    assert.equal(verdict, relayTo(2));
    assert.equal(packet.secondChance, SecondChance.offered);
  });
});

describe("the owner of a Call-ID's slot", () => {
  test('gets every request of a call, from its INVITE on', () => {
    for (const method of ['INVITE', 'CANCEL', 'ACK', 'PRACK', 'BYE', 'REGISTER', 'NEWMETHOD'])
      for (const more of [{}, { Authorization: 'Digest x="y"' }, toTag('their-own')])
        assert.equal(one().verdict(request(method, { 'Call-ID': CALL, ...more })), relayTo(5), method);
  });

  test('is this member for its own share', () => {
    assert.equal(one().verdict(request('INVITE', { 'Call-ID': OWN_CALL })), LOCAL);
  });

  test('depends on the letter case of the Call-ID', () => {
    const { packet } = one().decide(request('INVITE', { 'Call-ID': 'abc@h' }));
    assert.notEqual(packet.callKey, one().decide(request('INVITE', { 'Call-ID': 'ABC@h' })).packet.callKey);
  });

  test('is never a draining member, whose tokens still lead to it', () => {
    const view = viewOf([seat(1), seat(2, { state: 'draining' }), seat(3)]);
    const member = new Member(buildOwnerTables(view, 1, 1));
    for (let i = 0; i < 300; i++)
      assert.notEqual(member.verdict(request('INVITE', { 'Call-ID': `drain-${i}` })), relayTo(2));
    assert.equal(member.verdict(request('BYE', route(dialog(2)))), relayTo(2));
    assert.equal(member.verdict(response(branch(TokenKind.outward, 2))), relayTo(2));
  });

  test('gets the new calls of a draining member, which keeps its own calls', () => {
    const member = new Member(buildOwnerTables(viewOf([seat(1, { state: 'draining' }), seat(2)]), 1, 1));
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': 'new' })), relayTo(2));
    member.held.add(keyOf(member.tables, 'old'));
    assert.equal(member.verdict(request('BYE', { 'Call-ID': 'old' })), LOCAL);
  });

  test('is one member while all members drain, too', () => {
    const draining = viewOf([seat(1, { state: 'draining' }), seat(2, { state: 'draining' })]);
    const both = [1, 2].map((number) => new Member(buildOwnerTables(draining, number, 1)));
    const callId = callIdOf(both[0]!.tables, 2);
    const verdicts = both.map((member) => member.verdict(request('INVITE', { 'Call-ID': callId })));
    assert.deepEqual(verdicts, [relayTo(2), LOCAL]);
  });

  test('is the receiving member when no member has a weight', () => {
    const view = viewOf([seat(1, { weight: 0 }), seat(2, { weight: 0 })]);
    for (const number of [1, 2]) {
      const member = new Member(buildOwnerTables(view, number, 1));
      assert.equal(member.verdict(request('INVITE')), LOCAL);
      const orphan = member.decide(request('BYE', route(dialog(DEAD))));
      assert.equal(orphan.verdict, LOCAL);
      assert.ok(orphan.packet.orphan);
    }
  });
});

/** Returns member 1 after member 2 has started to drain, and a call whose slot has moved from there to member 1. */
function moved(number = 1): { member: Member; callId: string } {
  const view = viewOf([seat(1), seat(2), seat(3)], [seat(1), seat(2, { state: 'draining' }), seat(3)]);
  const tables = buildOwnerTables(view, number, 1);
  return { member: new Member(tables), callId: callIdOf(tables, 1, 2) };
}

describe('a node outside the farm', () => {
  const view = viewOf([seat(1), seat(2), seat(3, { weight: 0, role: 'disabled' })]);
  const tables = buildOwnerTables(view, 3, 1, true);
  const CALL_OF_2 = callIdOf(tables, 2);
  const outsideFarm = () => new Member(tables);

  test('owns no slot', () => assert.ok(!tables.slots.includes(3)));

  test('keeps packets that name no member', () => {
    const named = { 'Call-ID': CALL_OF_2, Replaces: `${callIdOf(tables, 1)};to-tag=1;from-tag=2` };
    for (const bytes of [request('INVITE', { 'Call-ID': CALL_OF_2 }), request('INVITE', named)])
      assert.equal(outsideFarm().verdict(bytes), LOCAL);
  });

  test('relays packets that name a member', () => {
    assert.deepEqual(outsideFarm().verdict(request('BYE', { 'Call-ID': CALL_OF_2, ...route(dialog(1)) })), relayTo(1));
    assert.deepEqual(outsideFarm().verdict(response(branch(TokenKind.outward, 2))), relayTo(2));
  });

  test('relays packets that name a departed member to the owner of their slot', () => {
    const { verdict, packet } = outsideFarm().decide(request('BYE', { 'Call-ID': CALL_OF_2, ...route(dialog(DEAD)) }));
    assert.deepEqual([verdict, packet.orphan], [relayTo(2), true]);
  });

  test('is reached by its token from every member', () => {
    const member = new Member(buildOwnerTables(view, 1, 1));
    assert.deepEqual(member.verdict(request('BYE', { 'Call-ID': CALL_OF_2, ...route(dialog(3)) })), relayTo(3));
    assert.deepEqual(member.verdict(response(branch(TokenKind.outward, 3))), relayTo(3));
  });

  test('returns a packet that a member with an older view relayed to it by slot', () => {
    assert.deepEqual(outsideFarm().verdict(request('INVITE', { 'Call-ID': CALL_OF_2 }), { hops: 1 }), relayTo(2));
  });

  test('gets no second chance for its slots from its time as a member', () => {
    const steps = [
      [seat(1), seat(3)],
      [seat(1), seat(3, { incarnation: 2, weight: 0, role: 'disabled' })],
    ] as const;
    const after = buildOwnerTables(viewOf(...steps), 1, 1);
    for (let slot = 0; slot < SLOTS; slot++) assert.notEqual(previousOf(after, slot).owner, 3);
  });
});

describe('the second chance', () => {
  test('offers a marked packet without state to the previous owner of its slot', () => {
    const { member, callId } = moved();
    member.told.set(2, 1);
    const { verdict, packet } = member.decide(request('CANCEL', { 'Call-ID': callId }));
    assert.equal(verdict, relayTo(2));
    assert.equal(packet.secondChance, SecondChance.offered);
  });

  test('ends when the previous owner has no call from its time as owner any more', () => {
    const { member, callId } = moved();
    for (const [heldSince, expected] of [
      [0, LOCAL],
      [1, relayTo(2)],
      [2, LOCAL],
    ] as const) {
      member.told.set(2, heldSince);
      assert.equal(member.verdict(request('INVITE', { 'Call-ID': callId })), expected, `held since ${heldSince}`);
    }
  });

  test('is skipped for a call that the new owner has', () => {
    const { member, callId } = moved();
    member.told.set(2, 1);
    member.held.add(keyOf(member.tables, callId));
    const { verdict, packet } = member.decide(request('INVITE', { 'Call-ID': callId }));
    assert.equal(verdict, LOCAL);
    assert.equal(packet.secondChance, SecondChance.none);
  });

  test('ends at a previous owner that has the call', () => {
    const { member, callId } = moved(2);
    member.held.add(keyOf(member.tables, callId));
    const offered = { hops: 1, secondChance: SecondChance.offered };
    assert.equal(member.verdict(request('CANCEL', { 'Call-ID': callId }), offered), LOCAL);
  });

  test('returns the marked packet from a previous owner that does not have the call', () => {
    const { member, callId } = moved(2);
    const offered = { hops: 1, secondChance: SecondChance.offered };
    const { verdict, packet } = member.decide(request('CANCEL', { 'Call-ID': callId }), offered);
    assert.equal(verdict, relayTo(1));
    assert.equal(packet.secondChance, SecondChance.returned);
  });

  test('happens once: a returned packet stays', () => {
    const { member, callId } = moved();
    member.told.set(2, 1);
    const returned = { hops: 2, secondChance: SecondChance.returned };
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': callId }), returned), LOCAL);
  });

  test('goes from a previous owner without the call to the owner before it, and only then back', () => {
    const history = viewOf([seat(1)], [seat(1), seat(2)], [seat(1), seat(2), seat(3)]);
    const at = (self: number): Member => new Member(buildOwnerTables(history, self, 1));
    const callId = callIdOf(at(3).tables, 3, 2);
    const ask = (self: number, packet: Partial<Packet>): readonly [Verdict, SecondChance] => {
      const member = at(self);
      for (const number of [1, 2, 3]) member.told.set(number, 1);
      const decision = member.decide(request('CANCEL', { 'Call-ID': callId }), packet);
      return [decision.verdict, decision.packet.secondChance];
    };
    const { none, offered, returned } = SecondChance;
    assert.deepEqual(ask(3, { hops: 1, secondChance: none }), [relayTo(2), offered]);
    assert.deepEqual(ask(2, { hops: 2, secondChance: offered }), [relayTo(1), offered]);
    assert.deepEqual(ask(1, { hops: 3, secondChance: offered }), [relayTo(3), returned]);
    assert.deepEqual(ask(3, { hops: 4, secondChance: returned }), [LOCAL, returned]);
  });

  test('skips a previous owner that has no call of its time', () => {
    const history = viewOf([seat(1)], [seat(1), seat(2)], [seat(1), seat(2), seat(3)]);
    const member = new Member(buildOwnerTables(history, 3, 1));
    member.told.set(1, 1);
    member.told.set(2, 0);
    const callId = callIdOf(member.tables, 3, 2);
    assert.equal(member.verdict(request('CANCEL', { 'Call-ID': callId })), relayTo(1));
  });

  test('is given only by the new owner', () => {
    const { member, callId } = moved(3);
    member.told.set(2, 1);
    const { verdict, packet } = member.decide(request('INVITE', { 'Call-ID': callId }));
    assert.equal(verdict, relayTo(1));
    assert.equal(packet.secondChance, SecondChance.none);
  });

  test('is not given for packets that a token brought here', () => {
    const { member, callId } = moved();
    member.told.set(2, 1);
    assert.equal(member.verdict(request('BYE', { 'Call-ID': callId, ...route(dialog(1)) })), LOCAL);
  });

  test('skips this member itself: when no member has a weight, the previous owner keeps its packets', () => {
    const active = [seat(1), seat(2)];
    const idle = active.map((each) => ({ ...each, weight: 0 }));
    const member = new Member(buildOwnerTables(viewOf(active, idle), 1, 1));
    member.told.set(1, 1);
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': callIdOf(member.tables, 0, 1) })), LOCAL);
  });

  test('skips a previous owner without a seat', () => {
    const view = viewOf([seat(1), seat(2)], [seat(1)]);
    const member = new Member(buildOwnerTables(view, 1, 1));
    member.told.set(2, 1);
    for (let i = 0; i < 50; i++) assert.equal(member.verdict(request('INVITE', { 'Call-ID': `moved-${i}` })), LOCAL);
  });
});

describe('a call that a member has read from its record', () => {
  const { none, offered, returned } = SecondChance;
  /** Member 3 has its seat again. Member 1 or 2 may have taken its calls meanwhile, and reports calls of that time. */
  function back(owner: number, between: number): { member: Member; invite: Buffer } {
    const all = [seat(1), seat(2), seat(3)];
    const rest = [seat(1), seat(2)];
    const after = owner === 3 ? all : rest.map((each) => (each.number === owner ? each : { ...each, weight: 0 }));
    const view = viewOf(all, rest, owner === 3 ? all : [...after, seat(3, { weight: 0 })]);
    const member = new Member(buildOwnerTables(view, 3, 2));
    const callId = callIdOf(member.tables, owner, between);
    for (const number of [1, 2]) member.told.set(number, 1);
    for (const keys of [member.held, member.read]) keys.add(keyOf(member.tables, callId));
    return { member, invite: request('INVITE', { 'Call-ID': callId }) };
  }
  const mine = () => back(3, 1);
  const others = () => back(1, 2);
  const cases: readonly (readonly [string, () => ReturnType<typeof back>, Partial<Packet>, Verdict, number])[] = [
    ['is offered to the owners meanwhile when the slot is its own', mine, {}, relayTo(1), offered],
    ['is offered to them also when another member has relayed it', mine, { hops: 1 }, relayTo(1), offered],
    ['is its own when they have returned it', mine, { hops: 2, secondChance: returned }, LOCAL, returned],
    ['is its own when a member with another view offers it', mine, { hops: 1, secondChance: offered }, LOCAL, offered],
    ['goes to the owner of its slot first', others, {}, relayTo(1), none],
    ['is its own when that owner offers it', others, { hops: 1, secondChance: offered }, LOCAL, offered],
    ['is its own when a member relays it for another reason than its slot', others, { hops: 1 }, LOCAL, none],
    [
      'is its own when the owner of its slot relays it by an older view',
      others,
      { hops: 1, olderFrom: 1 },
      LOCAL,
      none,
    ],
    [
      'goes to that owner when another member relays it by an older view',
      others,
      { hops: 1, olderFrom: 2 },
      relayTo(1),
      none,
    ],
    ['goes back to a member that relays it by a newer view', others, { hops: 1, newerFrom: 2 }, relayTo(2), none],
  ];
  for (const [what, make, change, expected, chance] of cases)
    test(what, () => {
      const { member, invite } = make();
      const { verdict, packet } = member.decide(invite, change);
      assert.deepEqual([verdict, packet.secondChance], [expected, chance]);
    });

  test('is its own at once when the owners meanwhile have no call of that time', () => {
    const { member, invite } = mine();
    for (const number of [1, 2]) member.told.set(number, 3);
    assert.equal(member.verdict(invite), LOCAL);
  });

  test('is its own at once where no member owns the slot, because none would return it', () => {
    const idle = [1, 2, 3].map((number) => seat(number, { weight: 0 }));
    const member = new Member(buildOwnerTables(viewOf([seat(1), seat(2)], idle), 3, 2));
    for (const number of [1, 2]) member.told.set(number, 1);
    for (const keys of [member.held, member.read]) keys.add(keyOf(member.tables, CALL));
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': CALL })), LOCAL);
  });

  test('is its own at once outside the farm, however it came', () => {
    const member = new Member(buildOwnerTables(viewOf([seat(1), seat(2)]), 3, 2, true));
    for (const keys of [member.held, member.read]) keys.add(keyOf(member.tables, CALL));
    const ways: readonly Partial<Packet>[] = [{}, { hops: 1 }, { hops: 1, newerFrom: 1 }, { hops: 1, olderFrom: 2 }];
    for (const change of ways) assert.equal(member.verdict(request('INVITE', { 'Call-ID': CALL }), change), LOCAL);
  });

  test('belongs to others while the member has no seat, as all its calls do', () => {
    const member = new Member(buildOwnerTables(viewOf([seat(1), seat(2)]), 3, 2));
    const callId = callIdOf(member.tables, 1);
    for (const side of [1, -1]) member.held.add(side * keyOf(member.tables, callId));
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': callId })), relayTo(1));
    assert.equal(member.verdict(request('BYE', { 'Call-ID': callId, ...toTag('their-own') })), relayTo(1));
    const named = { 'Call-ID': callIdOf(member.tables, 2), Replaces: `${callId};to-tag=1` };
    assert.equal(member.verdict(request('INVITE', named), { hops: 1 }), relayTo(1));
  });
});

describe('while another member has a newer view', () => {
  const [older, newer] = [[seat(1)], [seat(1), seat(2), seat(3)]].map((_, i, steps) =>
    viewOf(...steps.slice(0, i + 1)),
  );
  /** Member 1 has the older view, by which it owns every slot; 2 has the newer one. */
  const stale = () => new Member(buildOwnerTables(older!, 1, 1));
  const { none, offered, returned } = SecondChance;

  test('the owner of a slot passes a packet without a call to that member, which has the latest owners', () => {
    const member = stale();
    const invite = request('INVITE', { 'Call-ID': CALL });
    assert.equal(member.verdict(invite), LOCAL, 'no newer view is known');
    member.ahead = 2;
    const { verdict, packet } = member.decide(invite);
    assert.deepEqual([verdict, packet.secondChance], [relayTo(2), none]);
    member.held.add(keyOf(member.tables, CALL));
    assert.equal(member.verdict(invite), LOCAL, 'it has the call');
  });

  test('a packet from that member goes back to it, whichever owner the older view names', () => {
    const member = new Member(buildOwnerTables(viewOf([seat(1), seat(2)]), 1, 1));
    for (const owner of [1, 2])
      for (const newerFrom of [2, 3]) {
        const invite = request('INVITE', { 'Call-ID': callIdOf(member.tables, owner) });
        assert.equal(member.verdict(invite, { hops: 1, newerFrom }), relayTo(newerFrom), `${owner} ${newerFrom}`);
      }
  });

  test('a packet that comes back from there stays, at a member of an older build after some hops', () => {
    const member = stale();
    member.ahead = 2;
    const verdict = (change: Partial<Packet>) => member.verdict(request('INVITE', { 'Call-ID': CALL }), change);
    assert.equal(verdict({ hops: 2, newerFrom: 2, secondChance: returned }), LOCAL);
    assert.equal(verdict({ hops: 3, newerFrom: 2 }), relayTo(2));
    assert.equal(verdict({ hops: 4, newerFrom: 2 }), LOCAL);
  });

  test('an offered packet without a call goes back to it, even if the older view names this member as owner', () => {
    const { verdict, packet } = stale().decide(request('INVITE', { 'Call-ID': CALL }), {
      ...{ hops: 2, newerFrom: 3, secondChance: offered },
    });
    assert.deepEqual([verdict, packet.secondChance], [relayTo(3), returned]);
  });

  test('that member offers the packet to the earlier owners, and returns it where none has the call', () => {
    const member = new Member(buildOwnerTables(newer!, 2, 1));
    const invite = request('INVITE', { 'Call-ID': callIdOf(member.tables, 3, 1) });
    member.told.set(1, 1);
    const first = member.decide(invite, { hops: 1, olderFrom: 3 });
    assert.deepEqual([first.verdict, first.packet.secondChance], [relayTo(1), offered]);
    member.told.set(1, 2);
    const second = member.decide(invite, { hops: 1, olderFrom: 3 });
    assert.deepEqual([second.verdict, second.packet.secondChance], [relayTo(3), returned]);
    const other = member.decide(invite, { hops: 1, olderFrom: 1 });
    assert.deepEqual([other.verdict, other.packet.secondChance], [relayTo(3), none], 'the slot is not the sender’s');
  });
});

describe('a packet at the hop limit', () => {
  const cases: readonly (readonly [string, Buffer, Verdict])[] = [
    ['by its slot', request('INVITE', { 'Call-ID': CALL }), relayTo(5)],
    ['by a token in Route', request('BYE', route(dialog(3))), relayTo(3)],
    ['by the token of a member that is gone', request('BYE', { 'Call-ID': CALL, ...route(dialog(DEAD)) }), relayTo(5)],
    ['by the token in a branch', response(branch(TokenKind.outward, 3)), relayTo(3)],
    ['by a dead owner’s branch', response(branch(TokenKind.outward, DEAD), { 'Call-ID': CALL }), relayTo(5)],
  ];
  for (const [why, bytes, before] of cases) {
    test(`stays at its member, even if ${why} it belongs to another one`, () => {
      assert.equal(one().verdict(bytes, { hops: HOP_LIMIT - 1 }), before);
      assert.equal(one().verdict(bytes, { hops: HOP_LIMIT }), LOCAL);
    });
  }

  test('gets no second chance, nor does a packet that could not return', () => {
    const { member, callId } = moved();
    member.told.set(2, 1);
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': callId }), { hops: HOP_LIMIT - 2 }), relayTo(2));
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': callId }), { hops: HOP_LIMIT - 1 }), LOCAL);
    assert.equal(member.verdict(request('INVITE', { 'Call-ID': callId }), { hops: HOP_LIMIT }), LOCAL);
  });
});

describe('a packet whose owner has no seat', () => {
  const orphans: readonly (readonly [string, (callId: string) => Buffer])[] = [
    ['a response', (callId) => response(branch(TokenKind.outward, DEAD), { 'Call-ID': callId })],
    ['a request with Route', (callId) => request('BYE', { 'Call-ID': callId, ...route(dialog(DEAD)) })],
    ['a request with To tag', (callId) => request('BYE', { 'Call-ID': callId, ...toTag(dialog(DEAD)) })],
    ['an ACK', (callId) => request('ACK', { 'Call-ID': callId, ...route(dialog(DEAD)) })],
    ['a CANCEL', (callId) => request('CANCEL', { 'Call-ID': callId }, uri(dialog(DEAD)))],
  ];
  for (const [what, make] of orphans) {
    test(`goes to the slot’s owner with a mark: ${what}`, () => {
      const away = one().decide(make(CALL));
      assert.equal(away.verdict, relayTo(5));
      assert.ok(away.packet.orphan);
      const here = one().decide(make(OWN_CALL));
      assert.equal(here.verdict, LOCAL);
      assert.ok(here.packet.orphan);
    });
  }

  test('does not mark the next packet in the same object', () => {
    for (const bytes of [request('INVITE', { 'Call-ID': OWN_CALL }), response(branch(TokenKind.outward, 1))])
      assert.equal(one().decide(bytes, { orphan: true }).packet.orphan, false);
  });

  test('needs no mark while the owner drains', () => {
    const member = new Member(buildOwnerTables(viewOf([seat(1), seat(2, { state: 'draining' })]), 1, 1));
    const { verdict, packet } = member.decide(request('BYE', route(dialog(2))));
    assert.equal(verdict, relayTo(2));
    assert.equal(packet.orphan, false);
  });
});

// Farms. Every member decides by its own tables; the test follows a packet from its ingress to the member that keeps
// it.

/** Histories of a farm of up to five members; its members may have any two successive views. */
const HISTORIES: readonly (readonly View[])[] = [
  [[1, 2, 3, 4, 5].map((number) => seat(number))],
  [[1, 2, 3, 4].map((n) => seat(n)), [1, 2, 3, 4, 5].map((n) => seat(n))],
  [[1, 2, 3, 4, 5].map((n) => seat(n)), [1, 2, 4, 5].map((n) => seat(n))],
  [
    [1, 2, 3, 4, 5].map((n) => seat(n)),
    [1, 2, 3, 4, 5].map((n) => seat(n, { state: n < 3 ? 'draining' : 'active', weight: n * 50 })),
  ],
  [
    [seat(1), seat(2)],
    [seat(2), seat(3)],
    [seat(3), seat(4), seat(5)],
  ],
  [[1, 2, 3, 4, 5].map((n) => seat(n)), [1, 2, 3, 4, 5].map((n) => seat(n, { state: 'draining' }))],
].map((steps) => {
  const views: View[] = [];
  for (const seats of steps) views.push(nextView(views.at(-1), seats, SEED));
  return views.slice(-2);
});
const BUILT = new Map<View, OwnerTables>(HISTORIES.flat().map((view) => [view, buildOwnerTables(view, 1, 1)]));

const number = fc.integer({ min: 1, max: 6 });
const text = fc
  .tuple(number, fc.constantFrom('good', 'foreign', 'cut', 'flow'))
  .map(([to, how]) =>
    how === 'foreign'
      ? token(TokenKind.dialog, to, 0, 0, FOREIGN_KEYS)
      : how === 'flow'
        ? token(TokenKind.streamFlow, to, 1, 5)
        : dialog(to).slice(0, how === 'cut' ? -2 : undefined),
  );
const callId = fc.string({ unit: fc.constantFrom(...'abcXYZ019-.!%*_+`~()<>:"/[]?{}@'), minLength: 1, maxLength: 40 });
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });

/** Any request, and any response with a token of the farm. */
const packetBytes: fc.Arbitrary<{ readonly bytes: Buffer; readonly callId: string }> = fc
  .record({
    method: fc.constantFrom('INVITE', 'ACK', 'BYE', 'CANCEL', 'REGISTER', 'PRACK', 'WHATEVER'),
    callId,
    named: maybe(callId),
    route: maybe(text),
    uri: maybe(text),
    toTag: maybe(text),
    branch: maybe(number),
  })
  .map((parts) => {
    const headers = {
      'Call-ID': parts.callId,
      Replaces: parts.named,
      ...(parts.route && route(parts.route)),
      ...(parts.toTag && toTag(parts.toTag)),
    };
    const bytes =
      parts.branch === undefined
        ? request(parts.method, headers, parts.uri && uri(parts.uri))
        : response(branch(TokenKind.outward, parts.branch), headers);
    return { bytes, callId: parts.callId };
  });

/** Returns members 1 to 5; `viewAt` gives the view of each. */
function farmAt(viewAt: (number: number) => View): ReadonlyMap<number, Member> {
  return new Map(
    [1, 2, 3, 4, 5].map((self) => [self, new Member({ ...BUILT.get(viewAt(self))!, self, incarnation: 1 })]),
  );
}

/** Follows a packet from `ingress` on. */
function follow(farm: ReadonlyMap<number, Member>, ingress: number, bytes: Buffer): { at: number; verdict: Verdict } {
  let at = ingress;
  let change: Partial<Packet> = { hops: 0 };
  for (;;) {
    const { verdict, packet } = farm.get(at)!.decide(bytes, change);
    if (verdict.kind !== 'relay') return { at, verdict };
    assert.notEqual(verdict.to, at, 'no member relays to itself');
    assert.ok(packet.hops < HOP_LIMIT, 'the hop limit bounds the way');
    const { epoch } = farm.get(at)!.tables;
    const next = farm.get(verdict.to)!.tables.epoch;
    change = {
      ...{ hops: packet.hops + 1, secondChance: packet.secondChance },
      ...{ newerFrom: epoch > next ? at : 0, olderFrom: epoch < next ? at : 0 },
    };
    at = verdict.to;
  }
}

describe('in a farm of five', () => {
  test('all members agree on one owner of every packet, and the packet reaches it within the hop limit', () => {
    const heldSince = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(fc.constantFrom(...HISTORIES), packetBytes, heldSince, (views, { bytes }, told) => {
        const view = views.at(-1)!;
        const seated = view.seats.map((each) => each.number);
        const farm = farmAt(() => view);
        for (const member of farm.values()) for (const [n, since] of told.entries()) member.told.set(n, since);
        const ends = seated.map((ingress) => follow(farm, ingress, bytes));
        const { verdict } = ends[0]!;
        for (const end of ends) assert.deepEqual(end.verdict, verdict);
        // A drop needs no owner.
        if (verdict.kind === 'local') for (const end of ends) assert.equal(end.at, ends[0]!.at);
      }),
      { numRuns: 400 },
    );
  });

  test('a call that the previous owner of its slot still has is found there from every ingress', () => {
    const after = HISTORIES[3]!.at(-1)!;
    const tables = BUILT.get(after)!;
    let found = 0;
    fc.assert(
      fc.property(callId, fc.constantFrom('INVITE', 'CANCEL', 'ACK'), (id, method) => {
        const { owner } = previousOf(tables, slotOf(tables, id));
        const home = owner || tables.slots[slotOf(tables, id)]!;
        if (owner !== 0) found++;
        const farm = farmAt(() => after);
        for (const member of farm.values()) member.told.set(home, 1);
        farm.get(home)!.held.add(keyOf(tables, id));
        for (const ingress of farm.keys())
          assert.deepEqual(follow(farm, ingress, request(method, { 'Call-ID': id })), { at: home, verdict: LOCAL });
      }),
      { numRuns: 200 },
    );
    assert.ok(found > 20, 'slots have moved');
  });

  test('a call is found from every ingress while some members lack a newer view that they have noticed', () => {
    const stale = fc.uniqueArray(fc.integer({ min: 1, max: 5 }), { minLength: 1 });
    let passed = 0;
    fc.assert(
      fc.property(fc.constantFrom(...HISTORIES.slice(1)), stale, fc.nat(), callId, (views, old, which, id) => {
        const [before, after] = views as [View, View];
        const seated = after.seats.map((each) => each.number).filter((n) => before.seats.some((e) => e.number === n));
        const ahead = seated.find((n) => !old.includes(n));
        if (ahead === undefined) return;
        const farm = farmAt((self) => (old.includes(self) && seated.includes(self) ? before : after));
        const tables = BUILT.get(after)!;
        const slot = slotOf(tables, id);
        const owners = [tables.slots[slot]!, previousOf(tables, slot).owner].filter((n) => seated.includes(n));
        const home = owners[which % Math.max(owners.length, 1)];
        if (home === undefined) return;
        for (const member of farm.values()) {
          member.told.set(home, 1);
          if (member.tables.epoch < after.epoch) member.ahead = ahead;
        }
        farm.get(home)!.held.add(keyOf(tables, id));
        for (const ingress of seated)
          assert.deepEqual(follow(farm, ingress, request('INVITE', { 'Call-ID': id })), { at: home, verdict: LOCAL });
        passed++;
      }),
      { numRuns: 400 },
    );
    assert.ok(passed > 100, `${passed}`);
  });

  test('a packet ends at one member within the hop limit while members have two successive views', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...HISTORIES.slice(1)),
        fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 6, maxLength: 6 }),
        fc.uniqueArray(fc.integer({ min: 1, max: 5 })),
        packetBytes,
        (views, newer, told, holders, { bytes, callId: id }) => {
          const farm = farmAt((self) => views[newer[self] ? 1 : 0]!);
          for (const [self, member] of farm) {
            for (const [n, since] of told.entries()) member.told.set(n, since);
            if (holders.includes(self)) member.held.add(keyOf(member.tables, id));
          }
          for (const ingress of farm.keys()) follow(farm, ingress, bytes);
        },
      ),
      { numRuns: 400 },
    );
  });
});

test('the keys of the test differ', () => {
  assert.notDeepEqual(KEYS.primary.token, FOREIGN_KEYS.primary.token);
});
