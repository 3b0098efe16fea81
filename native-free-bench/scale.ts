// A process that measures large farms: one real member without sockets, the others simulated. Writes one line of JSON:
// rows and notes.
//
//    node --expose-gc scale.ts OPTIONS      OPTIONS as JSON
import { setTimeout as wait } from 'node:timers/promises';
import { type OwnerTables, ownerTablesBuilding } from '../src/ownership/owner-tables.ts';
import { buildSlots, SLOTS } from '../src/ownership/slots.ts';
import { generationOf, nextView, type Seat, type View } from '../src/ownership/view.ts';
import { measureEtcd } from './etcd-traffic.ts';
import { OWN } from './farm.ts';
import { sortedInvites } from './micro-rows.ts';
import { type SocketlessMember, socketlessMember } from './socketless.ts';
import { figure, type Row, type Unit } from './statistics.ts';

export interface ScaleOptions {
  readonly sizes: readonly number[];
  readonly rounds: number;
  /** Packets of one measurement of the cost per packet. */
  readonly packets: number;
  /** Seconds for which the traffic with etcd is counted; 0: not measured. */
  readonly etcdSeconds: number;
  /** Seconds for which an idle member is measured. */
  readonly idleSeconds: number;
}

export interface ScaleResult {
  readonly rows: Row[];
  readonly notes: string[];
}

const options = JSON.parse(process.argv[2] ?? '{}') as ScaleOptions;
const rows: Row[] = [];
const notes: string[] = [];

function add(group: string, members: number, unit: Unit, values: readonly number[]): void {
  rows.push({ group, name: `${members} members`, unit, ...figure(values) });
}

/** Numbers that no earlier view had. Tables reuse equal parts of earlier ones; this measures a build without reuse. */
let nextNumber = 1;
function freshView(members: number): View {
  const first = nextNumber;
  nextNumber += members + 2;
  if (nextNumber > 65_535) throw new Error('no more member numbers: fewer rounds');
  const seats = Array.from({ length: members }, (_, i): Seat => seat(first + i));
  return { v: 1, epoch: 1, seed: '0123456789abcdef0123456789abcdef', seats, history: [] };
}

function seat(number: number): Seat {
  return { id: `fe${number}`, number, incarnation: 1, weight: 100, state: 'active' };
}

interface Built {
  readonly ms: number;
  /** Milliseconds of the longest slice between two pauses, by the wall clock. */
  readonly slice: number;
  readonly tables: OwnerTables;
}

/** Milliseconds of processor time. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Builds the tables as the node does, slice by slice. */
function build(view: View): Built {
  const building = ownerTablesBuilding(view, view.seats[0]!.number, 1);
  let [slice, ms] = [0, 0];
  for (;;) {
    const [before, at] = [processorMs(), performance.now()];
    const { done, value } = building.next();
    slice = Math.max(slice, performance.now() - at);
    ms += processorMs() - before;
    if (done) return { ms, slice, tables: value };
  }
}

function moved(before: Uint16Array, after: Uint16Array): number {
  let slots = 0;
  for (let slot = 0; slot < before.length; slot++) if (before[slot] !== after[slot]) slots++;
  return slots / SLOTS;
}

function measureBuilding(members: number): void {
  const first: Built[] = [];
  const changed: Built[] = [];
  const withHistory: Built[] = [];
  const [joined, left]: [number[], number[]] = [[], []];
  for (let round = 0; round < options.rounds; round++) {
    const view = freshView(members);
    first.push(build(view));
    const more = nextView(view, [...view.seats, seat(view.seats.at(-1)!.number + 1)], view.seed);
    changed.push(build(more));
    const fewer = nextView(view, view.seats.slice(1), view.seed);
    changed.push(build(fewer));
    // The share of slots with another owner, by the function that the tables use.
    const before = buildSlots(generationOf(view));
    joined.push(moved(before, buildSlots(generationOf(more))));
    if (members > 1) left.push(moved(before, buildSlots(generationOf(fewer))));
    // A starting member has no tables yet and builds the history, too: one member has left, four times.
    let old = freshView(members);
    for (let gone = 0; gone < 4 && old.seats.length > 1; gone++) old = nextView(old, old.seats.slice(1), old.seed);
    withHistory.push(build(old));
  }
  add(
    'slot table, from nothing',
    members,
    'ms',
    first.map(({ ms }) => ms),
  );
  add(
    'slot table, one member more or fewer',
    members,
    'ms',
    changed.map(({ ms }) => ms),
  );
  add(
    'slot tables with four earlier generations, from nothing',
    members,
    'ms',
    withHistory.map(({ ms }) => ms),
  );
  const slices = [...first, ...changed, ...withHistory].map(({ slice }) => slice);
  add('longest slice of those', members, 'ms', slices);
  add('slots moved by a join', members, 'share', joined);
  add('slots moved by a join, ideal', members, 'share', [1 / (members + 1)]);
  if (left.length > 0) add('slots moved by a leave', members, 'share', left);
  if (left.length > 0) add('slots moved by a leave, ideal', members, 'share', [1 / members]);
}

/** Another thread frees buffers, shortly after the collection. */
async function settledMemory(): Promise<number> {
  globalThis.gc?.();
  await wait(100);
  globalThis.gc?.();
  await wait(100);
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** With fewer members the difference is below the noise of two heap measurements, some megabytes. */
const TELLING = 100;

/** Packets between two turns of the event loop. A member without turns for long detects a standstill. */
const STRETCH = 2000;

interface Standing {
  readonly members: number;
  readonly member: SocketlessMember;
  readonly messages: readonly Buffer[];
  readonly ns: number[];
}

/** Measures the cost of an idle member in a farm of that size. */
async function measureIdle(members: number): Promise<void> {
  const { node, sent } = await socketlessMember(members);
  const [cpu, datagrams] = [processorMs(), sent()];
  await wait(options.idleSeconds * 1000);
  const perMinute = ((sent() - datagrams) / options.idleSeconds) * 60;
  add('idle member: probes it sends', members, '/min', [perMinute]);
  add('idle member: share of a core to send them', members, 'share', [
    (processorMs() - cpu) / options.idleSeconds / 1000,
  ]);
  await node.stop();
}

/** Measures the memory that a member needs for the others, and the cost of a packet through the whole ingress path. */
async function measurePackets(): Promise<void> {
  const standing: Standing[] = [];
  // Memory that the first member of a process allocates once is not counted.
  await socketlessMember(1);
  let smallest: { readonly members: number; readonly octets: number } | undefined;
  for (const members of options.sizes) {
    const before = await settledMemory();
    const member = await socketlessMember(members);
    const octets = (await settledMemory()) - before;
    if (smallest && members - smallest.members >= TELLING)
      add('memory that each further member costs it', members, 'B', [
        (octets - smallest.octets) / (members - smallest.members),
      ]);
    if (!smallest) add('memory of a member', members, 'B', [octets]);
    smallest ??= { members, octets };
    const { tables } = build({ ...freshView(1), seats: Array.from({ length: members }, (_, i) => seat(OWN + i)) });
    standing.push({ members, member, messages: (await sortedInvites(1024, tables)).others, ns: [] });
  }
  for (let round = -2; round < options.rounds; round++) {
    // The farms take turns, so that a slow phase of the machine affects every size.
    const micros = standing.map(() => 0);
    for (let done = 0; done < options.packets; done += STRETCH)
      for (const [index, { member, messages }] of standing.entries()) {
        await wait(1);
        // Once without counting: the processor caches still hold data of another farm.
        for (const bytes of messages) member.front(bytes);
        const [before, sent] = [process.cpuUsage(), member.sent()];
        for (let i = 0; i < STRETCH; i++) member.front(messages[i % messages.length]!);
        const { user, system } = process.cpuUsage(before);
        micros[index]! += user + system;
        if (member.sent() - sent < STRETCH) throw new Error('packets were dropped');
      }
    if (round >= 0)
      for (const [index, { ns }] of standing.entries()) ns.push((micros[index]! * 1000) / options.packets);
  }
  for (const { members, ns } of standing) add('cost of a packet, whole ingress way', members, 'ns/op', ns);
  const [first] = standing;
  for (const { members, ns } of standing.slice(1))
    add(
      `cost of a packet against a farm of ${first!.members}`,
      members,
      'cost ratio',
      ns.map((each, round) => each / first!.ns[round]!),
    );
  for (const { member } of standing) await member.node.stop();
}

// Once without counting: the first build of a process is also compiled.
build(freshView(30));
build(freshView(30));
for (const members of options.sizes) measureBuilding(members);
// Runs before memory of that size is released: memory that is freed late would be subtracted.
await measurePackets();
for (const members of options.sizes) await measureIdle(members);

if (options.etcdSeconds > 0)
  for (const members of options.sizes) {
    const traffic = await measureEtcd(members, options.etcdSeconds);
    if (typeof traffic === 'string') {
      notes.push(`left out: traffic with etcd (${traffic})`);
      break;
    }
    add('etcd, at rest: octets both ways', members, 'B/min', [traffic.restOctets]);
    add('etcd, at rest: operations', members, '/min', [traffic.restOperations]);
    add('etcd, when this member joins: octets both ways', members, 'B', [traffic.joinOctets]);
    add('etcd, when another joins: octets both ways', members, 'B', [traffic.changeOctets]);
  }
const result: ScaleResult = { rows, notes };
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit();
