// Calls whose owner dies meanwhile. Each case begins with a Call-ID of that owner, and goes on when another member has
// adopted the call.
import { Call } from './call.ts';
import { HOME, proxy, type Stage, tcp, udp, unasked } from './cases.ts';
import { soon } from './place.ts';
import { PORT, statusOf, valuesOf } from './wire.ts';

/** Begins; returns how it goes on, and that what was seen. */
type Survivor = (stage: Stage, id: string) => Promise<() => Promise<unknown>>;

export const SURVIVORS: Readonly<Record<string, Survivor>> = {
  'a client that has moved, its owner dead since': async ({ scene, callee }, id) => {
    const [before, after] = [await udp(scene), await udp(scene)];
    const call = new Call('bob', id);
    await call.say(before, 'INVITE', { sentBy: `${HOME}:${PORT}` });
    await call.say(after, 'INVITE', { sentBy: `${HOME}:${PORT}` });
    return async () => [await callee.hangUp(id), before.hungUp, after.hungUp];
  },
  'a client that moves behind the death of its owner': async ({ scene, callee }, id) => {
    const [before, after] = [await udp(scene), await udp(scene)];
    const call = new Call('bob', id);
    await call.say(before, 'INVITE', { sentBy: `${HOME}:${PORT}` });
    return async () => {
      await call.say(after, 'INVITE', { sentBy: `${HOME}:${PORT}` });
      return [await callee.hangUp(id), before.hungUp, after.hungUp];
    };
  },
  'a client that comes back on another connection behind the death of its owner': async ({ scene, callee }, id) => {
    const before = await tcp(scene);
    const call = new Call('bob', id);
    await call.say(before, 'INVITE');
    return async () => {
      before.close();
      const after = await tcp(scene);
      await call.say(after, 'UPDATE');
      return [await callee.hangUp(id), before.hungUp, after.hungUp];
    };
  },
  'a proxy in front that sends from another port, the owner dead since': async ({ scene, callee }, id) => {
    const [sends, listens] = [await udp(scene), await udp(scene)];
    await new Call('bob', id).say(sends, 'INVITE', proxy(listens));
    return async () => [await callee.hangUp(id), sends.hungUp, listens.hungUp];
  },
  'a client behind a NAT that does not ask for its port, its owner dead since': async ({ scene, callee }, id) => {
    const place = await udp(scene);
    await new Call('bob', id).say(place, 'INVITE', unasked(place));
    return async () => [await callee.hangUp(id), place.hungUp];
  },
  'a subscription whose owner is dead': async ({ scene, callee }, id) => {
    const place = await udp(scene);
    const call = new Call('watched', id);
    void soon('SUBSCRIBE', () => callee.dialogs.has(id)).then(() => callee.notify(id));
    await call.subscribe(place);
    return async () => {
      const refreshes = (): number => callee.dialog(id).later.length;
      place.got.length = 0;
      const before = refreshes();
      const notified = await callee.notify(id);
      const notify = place.got.find((message) => message.startsWith('NOTIFY ')) ?? '';
      await call.refresh(place, 600);
      return [notified, valuesOf(notify, 'Record-Route').length, refreshes() - before];
    };
  },
  'a client that hangs up by the Route of a dead owner': async ({ scene, callee }, id) => {
    const place = await udp(scene);
    const call = new Call('bob', id);
    await call.say(place, 'INVITE');
    return async () => {
      await call.say(place, 'BYE');
      return callee.had(id, 'BYE');
    };
  },
  'a caller that ends a call which passes the farm twice, the owner dead since': async ({ scene, callee }, id) => {
    const place = await udp(scene);
    const call = new Call('again', id);
    await call.say(place, 'INVITE');
    return async () => {
      await call.say(place, 'BYE');
      return callee.had(id, 'BYE');
    };
  },
  'a callee that ends a call which passes the farm twice, the owner dead since': async ({ scene, callee }, id) => {
    const place = await udp(scene);
    await new Call('again', id).say(place, 'INVITE');
    return async () => [await callee.hangUp(id), place.hungUp];
  },
  'a call through an application server, the owner dead since': async ({ scene, callee }, id) => {
    const place = await udp(scene);
    const call = new Call('app', id);
    await call.say(place, 'INVITE');
    return async () => {
      await call.say(place, 'BYE');
      return callee.had(id, 'BYE');
    };
  },
  'a callee that answers in another spelling, the owner dead since': async ({ scene, callee }, id) => {
    const place = await udp(scene);
    const call = new Call('spelled-0-ring', id);
    place.send(call.text(place, 'INVITE'));
    await soon('180', () => place.got.find((message) => statusOf(message) === 180));
    return async () => {
      callee.accept(id);
      const final = await soon('200', () => place.got.find((message) => statusOf(message) === 200));
      call.acknowledge(place, final);
      return [await callee.hangUp(id), place.hungUp];
    };
  },
};
