// Moves of parties during a call while all members live, case by case. Each case returns its observations.
import type { Application } from './application.ts';
import { Call, type Looks } from './call.ts';
import type { Callee } from './callee.ts';
import { Place, soon } from './place.ts';
import { fresh, PORT, type Scene, SPELLINGS, statusOf, valuesOf } from './wire.ts';

/** Parties that all cases share. `pause` prints a word for the parent process, and waits until that has acted. */
export interface Stage {
  readonly scene: Scene;
  readonly callee: Callee;
  readonly application: Application;
  readonly pause: (what: string, callIds: readonly string[]) => Promise<void>;
}

export const HOME = '192.168.1.5';
const KEEP_ALIVES = ['\r\n\0', '\0', '\0\0\0\0', '\r\n\r\n'];

/** Hosts and ports of Record-Route values, those that clients see of the farm as `farm`. */
function hops(values: readonly string[], { door, members }: Scene): string[] {
  return values.map((value) => {
    const host = /(?:@|sip:)([^@;>]+)[;>]/.exec(value)?.[1] ?? value;
    return [door, ...members].some((own) => host === `${own}:${PORT}`) ? 'farm' : host;
  });
}

export const CASES: Readonly<Record<string, (stage: Stage) => Promise<unknown>>> = {
  'a client whose NAT gives it a new port': async ({ scene, callee }) => {
    const [before, after] = [await udp(scene), await udp(scene)];
    const call = new Call();
    await call.say(before, 'INVITE', { sentBy: `${HOME}:${PORT}` });
    await call.say(after, 'INVITE', { sentBy: `${HOME}:${PORT}` });
    return [await callee.hangUp(call.id), before.hungUp, after.hungUp];
  },
  'a client that comes back on another connection': async ({ scene, callee }) => {
    const before = await tcp(scene);
    const call = new Call();
    await call.say(before, 'INVITE');
    before.close();
    const after = await tcp(scene);
    await call.say(after, 'UPDATE');
    return [await callee.hangUp(call.id), before.hungUp, after.hungUp];
  },
  'a proxy in front that sends from another port': async ({ scene, callee }) => {
    const [sends, listens] = [await udp(scene), await udp(scene)];
    const call = new Call();
    await call.say(sends, 'INVITE', proxy(listens));
    return [await callee.hangUp(call.id), sends.hungUp, listens.hungUp];
  },
  'a CANCEL that spells the Request-URI otherwise': async ({ scene, callee }) => {
    const place = await udp(scene);
    const call = new Call('ring');
    const via = call.via(place);
    const invited = place.ask(call.text(place, 'INVITE', {}, via, 'sip:ring@example.com;user=phone'));
    await soon('180', () => place.got.find((message) => statusOf(message) === 180));
    await place.ask(call.text(place, 'CANCEL', {}, via)).catch(() => {});
    return [statusOf(await invited), callee.dialog(call.id).isCancelled];
  },
  'a client behind a NAT that does not ask for its port': async ({ scene, callee }) => {
    const place = await udp(scene);
    const call = new Call();
    await call.say(place, 'INVITE', unasked(place));
    return [await callee.hangUp(call.id), place.hungUp];
  },
  'a client whose Contact alone is private': async ({ scene, callee }) => {
    const place = await udp(scene);
    const call = new Call();
    await call.say(place, 'INVITE', { contact: `${HOME}:${PORT}` });
    return [await callee.hangUp(call.id), place.hungUp];
  },
  'a subscriber that refreshes by the route set of NOTIFY': ({ scene, callee }) =>
    subscription(scene, callee, 'watched'),
  'a subscriber whose first NOTIFY comes before the 200': ({ scene, callee }) => subscription(scene, callee, 'eager'),
  "a Route with a member's address": async ({ scene, callee }) => {
    const doors = scene.mode === 'none' ? scene.members : [scene.door];
    const first = doors[0]!;
    const left = new Set<string>();
    let calls = 0;
    for (const door of doors)
      for (const ids of scene.owned) {
        const place = await Place.udp(scene.caller, door);
        const call = new Call('bob', ids[calls++]);
        await call.say(place, 'INVITE', { route: `<sip:${first}:${PORT};lr>` });
        for (const route of valuesOf(callee.dialog(call.id).begun, 'Route')) left.add(route);
        await call.say(place, 'BYE');
      }
    return [calls, [...left]];
  },
  "a Route with the farm's name": async ({ scene, callee }) => {
    const left: string[] = [];
    for (const route of [`<sip:${scene.name};lr>`, `"Proxy, one" <sip:${scene.name.toUpperCase()}:${PORT};lr>`]) {
      const place = await udp(scene);
      const call = new Call();
      await call.say(place, 'INVITE', { route });
      left.push(...valuesOf(callee.dialog(call.id).begun, 'Route'));
      await call.say(place, 'BYE');
    }
    return left;
  },
  'a spiral through an application server': async ({ scene, callee, application }) => {
    const place = await udp(scene);
    const call = new Call('app');
    await call.say(place, 'INVITE');
    const passed = application.requests.filter((request) => request.includes(call.id)).length;
    await call.say(place, 'BYE');
    return [passed, callee.had(call.id, 'ACK'), callee.had(call.id, 'BYE')];
  },
  'a call that the server sends to the farm again': (stage) => hairpins(stage, 'again'),
  'a call that the server sends to the farm again without a Record-Route': (stage) => hairpins(stage, 'bare'),
  "a call that the server sends straight to the farm's address": (stage) => hairpins(stage, 'straight'),
  'a connection with NULs between messages': async ({ scene, callee }) => {
    const place = await tcp(scene);
    const call = new Call();
    for (const octets of KEEP_ALIVES) {
      place.send(octets);
      await call.say(place, call.routes.length === 0 ? 'INVITE' : 'UPDATE');
      place.send(octets);
    }
    return [await callee.hangUp(call.id), place.hungUp, place.ended];
  },
  'a client that has shut its sending half': async ({ scene }) => {
    const [asks, calls] = [await tcp(scene), await tcp(scene)];
    const answers = [
      asks.ask(new Call().text(asks, 'OPTIONS')),
      // The 200 of an INVITE may come again, so the farm keeps that connection for a while.
      calls.ask(new Call().text(calls, 'INVITE')),
    ];
    asks.finish();
    calls.finish();
    return [...(await Promise.all(answers)).map(statusOf), await soon('the end', () => asks.ended)];
  },
  'a callee that writes the Vias in other spellings': ({ scene }) => spelled(scene, 'spelled'),
  'a server that writes the Vias in other spellings': ({ scene }) => spelled(scene, 'respelled'),
  'late copies behind the BYE': async ({ scene, pause }) => {
    const place = await udp(scene);
    const [id, next] = scene.owned[1]!.slice(-2);
    const call = new Call('bob', id);
    const copies = [await call.say(place, 'INVITE'), await call.say(place, 'INVITE')];
    await call.say(place, 'BYE');
    await pause('over', [call.id]);
    place.got.length = 0;
    const answers = [];
    for (const copy of copies) answers.push(statusOf(await place.ask(copy)));
    // Another call of the same owner: when it has its record, the copies would have one, too.
    const another = new Call('bob', next);
    await another.say(place, 'INVITE');
    await pause('late', [call.id, another.id]);
    await another.say(place, 'BYE');
    return answers;
  },
};

export const udp = ({ caller, door }: Scene): Promise<Place> => Place.udp(caller, door);
export const tcp = ({ caller, door }: Scene): Promise<Place> => Place.tcp(caller, door);

/** A carrier's proxy with a client behind it, which stays on the route by the address of `listens`. */
export const proxy = (listens: Place): Looks => ({
  sentBy: listens.at,
  recordRoute: `<sip:${listens.at};lr>`,
  below: `SIP/2.0/UDP 203.0.113.99;branch=${fresh('z9hG4bKua')}`,
});

/** Behind a NAT that keeps the port. Answers go to the source address and the port of the Via (RFC 3261 18.2.1). */
export const unasked = (place: Place): Looks => ({ sentBy: place.at.replace(/^[^:]+/, HOME), rport: false });

/**
 * Makes a subscription with one refresh. Returns the way of the NOTIFYs, the refresh, and the answer to a later NOTIFY.
 */
async function subscription(scene: Scene, callee: Callee, user: string): Promise<unknown> {
  const place = await udp(scene);
  const call = new Call(user);
  if (user !== 'eager') void soon('SUBSCRIBE', () => callee.dialogs.has(call.id)).then(() => callee.notify(call.id));
  await call.subscribe(place);
  await call.refresh(place, 600);
  const seen = [hops(call.routes, scene), callee.had(call.id, 'SUBSCRIBE'), await callee.notify(call.id)];
  await call.refresh(place, 0);
  return seen;
}

/** A call in each spelling; the statuses of the answers to INVITE. */
async function spelled(scene: Scene, user: string): Promise<unknown> {
  const seen: number[] = [];
  for (const i of SPELLINGS.keys()) {
    const place = await udp(scene);
    const call = new Call(`${user}-${i}`);
    const final = await place.ask(call.text(place, 'INVITE')).catch(() => '');
    seen.push(statusOf(final));
    if (final === '') continue;
    call.acknowledge(place, final);
    await call.say(place, 'BYE');
  }
  return seen;
}

/** Two calls that pass the farm twice: one is ended by the caller, one by the callee. */
async function hairpins({ scene, callee }: Stage, user: string): Promise<unknown> {
  const place = await udp(scene);
  const [ends, isEnded] = [new Call(user), new Call(user)];
  await ends.say(place, 'INVITE');
  await soon('ACK', () => callee.had(ends.id, 'ACK'));
  await ends.say(place, 'BYE');
  await isEnded.say(place, 'INVITE');
  await soon('ACK', () => callee.had(isEnded.id, 'ACK'));
  return [callee.had(ends.id, 'BYE'), await callee.hangUp(isEnded.id), place.hungUp];
}
