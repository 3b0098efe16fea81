// The small rows. Each measures one step of the packet path, over 1,024 messages of the bench's size that differ in
// Call-ID, branch and token.
import { asHostPort } from '../src/base/endpoint.ts';
import { CellFamily } from '../src/metrics/counters.ts';
import { keyring } from '../src/ownership/keyring.ts';
import { type LookupState, OwnerLookup } from '../src/ownership/owner-lookup.ts';
import { buildOwnerTables, type OwnerTables } from '../src/ownership/owner-tables.ts';
import { CallHash, hashCallId } from '../src/ownership/slots.ts';
import { readToken, Token, TokenKind, writeToken } from '../src/ownership/token.ts';
import { Packet } from '../src/packet/packet.ts';
import { decodeFrame, encodeFrame, Frame } from '../src/relay/envelope.ts';
import { SentBy, TopHeaders } from '../src/service/shared/top-headers.ts';
import { Edit } from '../src/sip/edit.ts';
import { Scan, scan } from '../src/sip/scan.ts';
import { benchView, OWN, OWN_START, PORTS, SECRET } from './farm.ts';
import { frameOf } from './frames.ts';
import { invite } from './messages.ts';
import { CLIENT, FRONT, PLACE, socketlessMember } from './socketless.ts';

export interface MicroRow {
  readonly name: string;
  readonly what: string;
  /** Prepares the input of so many steps. Not measured. */
  prepare?(times: number): void;
  /** Does the step so many times. */
  run(times: number): void;
}

const DIFFERENT = 1024;
const MASK = DIFFERENT - 1;

/** Results of the rows go here, so that the compiler cannot remove unused computations. */
export const sink = { n: 0 };

function routing(tables: OwnerTables): LookupState {
  return {
    keys: keyring([SECRET]),
    tables,
    holds: () => false,
    regained: () => false,
    heldSince: () => 0,
    newer: () => 0,
  };
}

function filled(bytes: Buffer): Packet {
  const packet = new Packet();
  Object.assign(packet, { bytes, end: bytes.length, address: CLIENT.address, port: CLIENT.port });
  packet.localAddress = FRONT.address;
  packet.localPort = FRONT.port;
  packet.ingress = OWN;
  packet.ingressIncarnation = 1;
  return packet;
}

/** Returns `wanted` INVITEs that this member owns, and as many that other members own. */
export async function sortedInvites(wanted: number, tables: OwnerTables): Promise<{ own: Buffer[]; others: Buffer[] }> {
  const own: Buffer[] = [];
  const others: Buffer[] = [];
  const message = new Scan();
  const hash = new CallHash();
  for (let index = 1; own.length < wanted || others.length < wanted; index++) {
    const bytes = invite(index, CLIENT, FRONT);
    if (scan(bytes, 0, bytes.length, false, message) !== null) throw new Error('the INVITE of the bench is refused');
    hashCallId(tables.slotKey, bytes, message.callIdStart, message.callIdEnd, hash);
    (tables.slots[hash.slot] === tables.self ? own : others).push(bytes);
  }
  return { own: own.slice(0, wanted), others: others.slice(0, wanted) };
}

/** Makes all rows. Some hold a started member; the process is to be ended with `process.exit`. */
export async function microRows(): Promise<MicroRow[]> {
  const keys = keyring([SECRET]);
  const tables = await buildOwnerTables(benchView(3), OWN, OWN_START);
  const { own, others } = await sortedInvites(DIFFERENT, await buildOwnerTables(benchView(2), OWN, 1));
  const messages = others;
  const scans = messages.map((bytes) => {
    const message = new Scan();
    scan(bytes, 0, bytes.length, false, message);
    return message;
  });
  const packets = messages.map(filled);
  const message = new Scan();
  const hash = new CallHash();
  const token = new Token();
  const forged = new CellFamily({ name: 'forged', help: '', labels: ['place'] });
  const lookup = new OwnerLookup(routing(tables), forged);

  const values = messages.map((_, i) => {
    const value = Buffer.alloc(8);
    value.writeUInt32BE(Math.imul(i + 1, 0x9e3779b1) >>> 0);
    return value;
  });
  const room = Buffer.alloc(65_536);
  const tokens = values.map((value) => {
    const text = Buffer.alloc(64);
    return text.subarray(0, writeToken(keys, TokenKind.outward, OWN, 0, value, 8, text, 0));
  });

  const frames = messages.map((bytes) => frameOf(bytes, { ...PLACE, client: CLIENT.address }));
  const decoded = new Frame();
  const frame = new Frame();
  decodeFrame(frames[0]!, 0, frames[0]!.length, keys, OWN_START, frame);

  const top = new TopHeaders();
  const edit = new Edit();
  const [outside, inside] = [
    new SentBy({ ...asHostPort(FRONT), transport: 'udp' }),
    new SentBy({ host: PLACE.address, port: PORTS.inner, transport: 'udp' }),
  ];
  const back = { member: OWN, incarnation: 1, listener: 7, connection: 0, target: -1, nat: false, ...CLIENT };

  const member = await socketlessMember(2);
  /** A dropped packet costs less, and the row would be too fast without an error. */
  function allSent(before: number, times: number): void {
    const sent = member.sent() - before;
    if (sent < times) throw new Error(`the member sent ${sent} of ${times} packets`);
  }
  /** Each frame is accepted once: its sequence number excludes replays. */
  const fresh: Buffer[] = [];
  let sequence = 1;

  return [
    {
      name: 'scan',
      what: 'header scan of the INVITE',
      run(times) {
        for (let i = 0; i < times; i++) {
          const bytes = messages[i & MASK]!;
          if (scan(bytes, 0, bytes.length, false, message) === null) sink.n += message.callIdEnd;
        }
      },
    },
    {
      name: 'key',
      what: 'keyed hash of the Call-ID: slot and call key',
      run(times) {
        for (let i = 0; i < times; i++) {
          const one = scans[i & MASK]!;
          hashCallId(tables.slotKey, one.bytes, one.callIdStart, one.callIdEnd, hash);
          sink.n += hash.slot;
        }
      },
    },
    {
      name: 'owner lookup',
      what: 'verdict on a scanned INVITE, its key included',
      run(times) {
        for (let i = 0; i < times; i++)
          if (lookup.decide(scans[i & MASK]!, packets[i & MASK]!).kind === 'relay') sink.n++;
      },
    },
    {
      name: 'scan + key + owner lookup',
      what: 'from bytes to verdict',
      run(times) {
        for (let i = 0; i < times; i++) {
          const bytes = messages[i & MASK]!;
          scan(bytes, 0, bytes.length, false, message);
          if (lookup.decide(message, packets[i & MASK]!).kind === 'relay') sink.n++;
        }
      },
    },
    {
      name: 'token mint',
      what: 'a branch token, 46 characters',
      run(times) {
        for (let i = 0; i < times; i++)
          sink.n += writeToken(keys, TokenKind.outward, OWN, 0, values[i & MASK]!, 8, room, 0);
      },
    },
    {
      name: 'token verify',
      what: 'the same, read and checked',
      run(times) {
        for (let i = 0; i < times; i++) {
          const text = tokens[i & MASK]!;
          if (readToken(keys, text, 0, text.length, token) === 'valid') sink.n += token.member;
        }
      },
    },
    {
      name: 'frame encode',
      what: 'relay frame around the INVITE, with its MAC, into a given buffer',
      run(times) {
        for (let i = 0; i < times; i++) {
          const bytes = messages[i & MASK]!;
          frame.sequence = sequence++;
          sink.n += encodeFrame(keys, frame, bytes, 0, bytes.length, room, 0);
        }
      },
    },
    {
      name: 'frame decode',
      what: 'the same, MAC checked',
      run(times) {
        for (let i = 0; i < times; i++) {
          const bytes = frames[i & MASK]!;
          if (decodeFrame(bytes, 0, bytes.length, keys, OWN_START, decoded) === null) sink.n += decoded.port;
        }
      },
    },
    {
      name: 'splice',
      what: 'Via and two Record-Route put on top, received added, into a new buffer',
      run(times) {
        for (let i = 0; i < times; i++) {
          const one = scans[i & MASK]!;
          top.reset();
          top.via(keys, TokenKind.inward, inside, OWN, values[i & MASK]!, back);
          top.recordRouteOwner(keys, inside, OWN);
          top.recordRouteOwner(keys, outside, OWN);
          edit.beginScan(one).insert(one.headersStart, top.block.subarray(0, top.length));
          sink.n += edit.stampVia(one, '198.51.100.78', 5060).apply()!.length;
        }
      },
    },
    {
      name: 'whole ingress way',
      what: 'a member without sockets: datagram in, relay frame out',
      run(times) {
        const before = member.sent();
        for (let i = 0; i < times; i++) member.front(others[i & MASK]!);
        allSent(before, times);
      },
    },
    {
      name: 'whole owner way',
      what: 'a member without sockets: relay frame in, request to the SIP server out',
      prepare(times) {
        while (fresh.length < times) fresh.push(Buffer.alloc(frames[0]!.length));
        for (let i = 0; i < times; i++) {
          const bytes = own[i & MASK]!;
          frame.sequence = sequence++;
          encodeFrame(keys, frame, bytes, 0, bytes.length, fresh[i]!, 0);
        }
      },
      run(times) {
        const before = member.sent();
        for (let i = 0; i < times; i++) member.relay(fresh[i]!);
        allSent(before, times);
      },
    },
  ];
}
