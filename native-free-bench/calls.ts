// A process that measures the memory of an owned call. A member without sockets takes INVITEs of different Call-IDs,
// and their answers when calls are recorded. Writes one line of JSON.
//
//    node --expose-gc calls.ts {"calls":N,"records":0|1|2}
//
// Records: 0 = none, 1 = of calls with one leg, 2 = of calls of a proxy.
import type { Clock } from '../src/base/clock.ts';
import { ServerAnswers } from './answers.ts';
import { invite } from './messages.ts';
import { phoneCall } from './phones.ts';
import { CLIENT, FRONT, memberClock, type SocketlessMember, socketlessMember } from './socketless.ts';

export interface CallsOptions {
  readonly calls: number;
  /** Legs per recorded call; 0 = nothing is recorded, and the calls ring. */
  readonly records: 0 | 1 | 2;
}

export interface CallsResult {
  readonly calls: number;
  /** Octets per call on the heap and in buffers, with the reserve of the table. */
  readonly heap: number;
  /** Octets per call: of the process. */
  readonly rss: number;
  /** Octets per call of the records in JSON, as the store would keep them. */
  readonly stored: number;
}

const { calls, records } = JSON.parse(process.argv[2] ?? '{}') as CallsOptions;

/** Records are written at once, not 20 ms later: the run would take minutes otherwise. */
const hastyClock: Clock = { ...memberClock, after: (ms, run) => memberClock.after(ms <= 20 ? 0 : ms, run) };

/** Lets the event loop turn once, so that due timers run, as with sockets. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function settled(): NodeJS.MemoryUsage {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage();
}

/** INVITEs that ring. */
async function ring(member: SocketlessMember): Promise<void> {
  const template = invite(0, CLIENT, FRONT);
  const places = ['bench-00000000', 'tag=a00000000', 'Call-ID: 00000000'].map(
    (text) => template.indexOf(text) + text.length - 8,
  );
  for (let index = 1; index <= calls; index++) {
    const bytes = Buffer.from(template);
    const id = index.toString(16).padStart(8, '0');
    for (const at of places) bytes.write(id, at, 'latin1');
    member.front(bytes);
    if (index % 1000 === 0) await turn();
  }
}

/** INVITEs that are answered, until their records are written. */
async function answer(member: SocketlessMember): Promise<void> {
  const server = new ServerAnswers(member, records === 2);
  for (let index = 1; index <= calls; index++) {
    while (!server.call(phoneCall(index))) await turn();
    if (index % 100 === 0) while (member.written() < index - 1000) await turn();
  }
  while (member.written() < calls) await turn();
}

const before = settled();
const member = await socketlessMember(1, { ownership: { records: records > 0 ? 'calls' : 'none' } }, hastyClock);
await (records > 0 ? answer(member) : ring(member));
const after = settled();
// A proxy is a call to its client and has one to its callee: both are entries.
const owned = calls * Math.max(records, 1);
if (member.node.ownedCalls !== owned) throw new Error(`${member.node.ownedCalls} calls are owned, not ${owned}`);
const heap = (after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) / calls;
const result: CallsResult = { calls, heap, rss: (after.rss - before.rss) / calls, stored: member.octets() / calls };
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit();
