// Real clients through the whole laboratory: SIP.js and baresip, each by UDP and by TCP, and behind the members one
// Kamailio as proxy, registrar and presence server. Each client makes a call, takes one, and has a subscription.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { headersOf, isRequest, type Message, methodOf, type Place, unanswered } from '../tools/agents/wire.ts';
import { clientAddress, entrance } from './addresses.ts';
import { Farm, sumOf } from './farm.ts';
import { startSharedServer } from './kamailio.ts';
import { Lab } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';

const PROGRAM = join(import.meta.dirname, '..', 'tools', 'agents.ts');
const NEEDS = [...LAB_TOOLS, 'etcd', 'kamailio', 'kamailio-presence', 'baresip'];
/** Upper limit of the set-up, even if each step of a client waits in vain, ms. */
const LIMIT = { timeout: 240_000 };

type Pair = readonly [Place, Place];

/** Messages of the two clients of a pair, by name, and their faults as text. */
interface Outcome {
  readonly saw: Readonly<Record<string, readonly Message[]>>;
  readonly faults: readonly string[];
}

/** Returns a SIP.js and a baresip at the i-th client's address and the next; each subscribes to the other. */
function pairAt(i: number, farm: string, transports: readonly [Place['transport'], Place['transport']]): Pair {
  const [sipjs, baresip] = [`sipjs-${transports[0]}`, `baresip-${transports[1]}`];
  return [
    { name: sipjs, user: sipjs, watched: baresip, transport: transports[0], address: clientAddress(i), farm },
    { name: baresip, user: baresip, watched: sipjs, transport: transports[1], address: clientAddress(i + 1), farm },
  ];
}

/** Runs the steps of all pairs at the same time. */
async function runAgents(lab: Lab, pairs: readonly Pair[]): Promise<readonly Outcome[]> {
  const child = lab.exec('c', process.execPath, [PROGRAM, lab.dir, JSON.stringify(pairs)]);
  const [out, noise] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  assert.notEqual(out, '', `the clients ended without a word: ${noise}`);
  return JSON.parse(out) as Outcome[];
}

/** Returns whether a request is in a dialog: its To has a tag (RFC 3261 12.2.1.1). */
const isInDialog = ({ text: message }: Message): boolean =>
  isRequest(message) && headersOf(message, 'To').some((value) => value.includes(';tag='));

for (const mode of ['nat', 'session', 'dsr'] as const) {
  describe(`SIP.js and baresip as clients of a farm in ${mode} mode`, { skip: without(...NEEDS) }, () => {
    const door = `${entrance(mode)}:5060`;
    let lab: Lab;
    let farm: Farm;
    let faults: readonly string[];
    let saw: ReadonlyMap<string, readonly Message[]>;
    let sources: readonly string[];
    let metrics: readonly string[];

    before(async () => {
      lab = Lab.open(mode);
      await startSharedServer(lab, { presence: true });
      farm = await Farm.start(lab, { shared: true });
      lab.forgetSources();
      const outcomes = await runAgents(lab, [pairAt(2, door, ['udp', 'tcp']), pairAt(4, door, ['tcp', 'udp'])]);
      faults = outcomes.flatMap((outcome) => outcome.faults);
      saw = new Map(outcomes.flatMap((outcome) => Object.entries(outcome.saw)));
      sources = [...lab.sources().keys()];
      metrics = await farm.metrics();
    }, LIMIT);
    after(() => lab?.close());

    /** Returns the kinds of messages for which `test` is true, each kind of a client once. */
    const found = (test: (message: Message) => boolean): string[] => {
      const all = [...saw].flatMap(([name, messages]) =>
        messages.filter(test).map((message) => `${name}: ${message.text.slice(0, message.text.indexOf('\r'))}`),
      );
      return [...new Set(all)];
    };
    const sum = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
      metrics.reduce((total, page) => total + sumOf(page, `sipfarm_${name}`, labels), 0);

    it('carry calls in both directions until either side hangs up, and subscriptions until they are ended', () => {
      assert.deepEqual(faults, []);
      assert.deepEqual([...saw.keys()].sort(), ['baresip-tcp', 'baresip-udp', 'sipjs-tcp', 'sipjs-udp']);
    });

    it('pass the hold of a call to the other side', () => {
      const holds = ({ sent, text: message }: Message): boolean =>
        !sent && isRequest(message) && /^a=(?:sendonly|inactive)\r?$/m.test(message);
      for (const [name, messages] of saw) assert.ok(messages.some(holds), name);
    });

    it('lose neither request nor answer', () => {
      for (const [name, messages] of saw) assert.deepEqual(unanswered(messages), [], name);
    });

    it('have the farm in the path of every request in a dialog', () => {
      const isPast = (message: Message): boolean => {
        const [route = ''] = headersOf(message.text, 'Route');
        return message.sent && isInDialog(message) && !new RegExp(`^<sip:sf[^@]+@${door}[;>]`).test(route);
      };
      assert.deepEqual(found(isPast), []);
      const sent = [...saw.values()].flat().filter((message) => message.sent && isInDialog(message));
      assert.deepEqual(
        new Set(sent.map((message) => methodOf(message.text))),
        new Set(['ACK', 'BYE', 'INVITE', 'SUBSCRIBE']),
      );
    });

    it('get packets only from the VIP', () => {
      assert.deepEqual(sources, [door]);
      assert.deepEqual(
        found(({ peer }) => peer !== door),
        [],
      );
    });

    it('have their packets at several members, and every token is valid', () => {
      const received = metrics.map((page) => sumOf(page, 'sipfarm_received_packets_total', { class: 'sip' }));
      assert.ok(received.filter((n) => n > 0).length >= 2, `messages at the members: ${received}`);
      assert.ok(sum('relayed_packets_total', { direction: 'out' }) > 0);
      assert.equal(sum('forged_tokens_total'), 0);
    });
  });
}
