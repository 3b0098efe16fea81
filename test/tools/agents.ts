// Pairs of real clients, SIP.js and baresip, inside the client's namespace: all register and subscribe, and the two of
// a pair call each other. Prints the messages of each client and all faults as one JSON line. Usage: node agents.ts
// DIRECTORY PAIRS, with PAIRS as a JSON list of pairs of places.
import { startBaresip } from './agents/baresip.ts';
import { startSipjs } from './agents/sipjs.ts';
import {
  type Agent,
  headersOf,
  isRequest,
  type Message,
  methodOf,
  type Place,
  statusOf,
  unanswered,
} from './agents/wire.ts';

const [dir = '', pairs = '[]'] = process.argv.slice(2);

type Test = (message: Message) => boolean;
const requests =
  (method: string, way: 'sent' | 'received'): Test =>
  ({ sent, text }) =>
    sent === (way === 'sent') && isRequest(text) && methodOf(text) === method;
/** Returns whether a 2xx to a request of that method has come. */
const succeeded =
  (method: string): Test =>
  ({ sent, text }) =>
    !sent && statusOf(text) >= 200 && statusOf(text) < 300 && methodOf(text) === method;
const isTold =
  (state: string): Test =>
  ({ sent, text }) =>
    !sent && isRequest(text) && headersOf(text, 'Subscription-State').some((value) => value.startsWith(state));

/** `caller` calls, holds the call, and receives the BYE. Each client is the caller of one call. */
async function converse(caller: Agent, callee: Agent): Promise<void> {
  await caller.call(callee.user);
  await caller.wire.has('the answer to its call', requests('ACK', 'sent'));
  await callee.wire.has('the ACK of the call', requests('ACK', 'received'));
  await caller.hold();
  await caller.wire.has('the answer to its re-INVITE', requests('ACK', 'sent'), 2);
  await callee.wire.has('the ACK of the re-INVITE', requests('ACK', 'received'), 2);
  await callee.hangUp();
  await callee.wire.has('the answer to its BYE', succeeded('BYE'));
}

/**
 * Checks that the subscription starts, is refreshed (clients do so after nine tenths of its time), and ends after the
 * `calls`.
 */
async function subscribe({ wire, unsubscribe }: Agent, calls: Promise<unknown>): Promise<void> {
  await wire.has('a NOTIFY', isTold('active'));
  await wire.has('the answer to the refresh of its subscription', succeeded('SUBSCRIBE'), 2);
  await wire.has('the NOTIFY of the refresh', isTold('active'), 2);
  await calls;
  await unsubscribe();
  await wire.has('the last NOTIFY', isTold('terminated'));
  await wire.until('the last answers', (messages) => unanswered(messages).length === 0);
}

/** Returns the faults in a step of these clients as text. */
async function faultsOf(who: readonly Agent[], step: Promise<void>): Promise<string[]> {
  try {
    await step;
    return [];
  } catch (error) {
    return [`${who.map(({ name }) => name).join(', ')}: ${(error as Error).message}`];
  }
}

async function act(pair: readonly [Place, Place]): Promise<object> {
  const agents = await Promise.all([startSipjs(pair[0]), startBaresip(pair[1], dir)]);
  const [one, other] = agents;
  const call = async (): Promise<void> => {
    for (const { wire } of agents) await wire.has('the answer to its REGISTER', succeeded('REGISTER'));
    await converse(one, other);
    await converse(other, one);
  };
  const calls = faultsOf(agents, call());
  const faults = await Promise.all([calls, ...agents.map((agent) => faultsOf([agent], subscribe(agent, calls)))]);
  const saw = Object.fromEntries(agents.map(({ name, wire }) => [name, wire.messages]));
  return { saw, faults: faults.flat() };
}

const results = await Promise.all((JSON.parse(pairs) as [Place, Place][]).map(act));
process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit());
