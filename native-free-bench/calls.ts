// A process of its own for what an owned call costs in memory, its record left out: a member without sockets takes INVITEs of different Call-IDs.
// `node --expose-gc calls.ts {"calls":N}`. Writes one line of JSON.

import { invite } from './messages.ts';
import { CLIENT, FRONT, socketlessMember } from './socketless.ts';

export interface CallsResult {
  readonly calls: number;
  /** Octets per call: on the heap and in buffers, what the table reserves included. */
  readonly heap: number;
  /** Octets per call: of the process. */
  readonly rss: number;
}

const { calls } = JSON.parse(process.argv[2] ?? '{}') as { readonly calls: number };

function settled(): NodeJS.MemoryUsage {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage();
}

const template = invite(0, CLIENT, FRONT);
const places = ['bench-00000000', 'tag=a00000000', 'Call-ID: 00000000'].map(
  (text) => template.indexOf(text) + text.length - 8,
);
const before = settled();
const member = await socketlessMember(1, { ownership: { records: 'none' } });
for (let index = 1; index <= calls; index++) {
  const bytes = Buffer.from(template);
  const id = index.toString(16).padStart(8, '0');
  for (const at of places) bytes.write(id, at, 'latin1');
  member.front(bytes);
  // As sockets would: the event loop turns, and what is due gets done.
  if (index % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
}
const after = settled();
if (member.node.ownedCalls !== calls) throw new Error(`${member.node.ownedCalls} calls are owned, not ${calls}`);
const heap = (after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) / calls;
const result: CallsResult = { calls, heap, rss: (after.rss - before.rss) / calls };
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit();
