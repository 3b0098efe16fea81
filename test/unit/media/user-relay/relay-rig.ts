// A relay in user space on the system of fake-system.ts, with the two parties of a call.
import { pino } from 'pino';
import type { Guard } from '../../../../src/base/guard.ts';
import { type MediaRelay, type RelayStream, Side, type StreamOptions } from '../../../../src/media/media-relay.ts';
import { Total } from '../../../../src/media/user-relay/relay-memory.ts';
import { UserRelay, type UserRelayOptions } from '../../../../src/media/user-relay/user-relay.ts';
import { FakeClock } from '../../../fake/clock.ts';
import { FakeSystem, FakeThread } from './fake-system.ts';

export const OUTSIDE = '198.51.100.1';
export const INSIDE = '10.0.0.1';
export const CLIENT = '192.0.2.7';
export const SERVER = '10.0.0.9';
export const REST_MS = 5000;

export const AUDIO: StreamOptions = { clear: true, single: false, facing: Side.inside, ofNewCall: true };

/** Statistics of a leg to which nothing has come. */
export const NOBODY = { packets: 0, octets: 0, foreign: 0, lost: -1, jitter: -1, latched: false, lastAt: 0 };

export interface RelayRig {
  readonly relay: UserRelay & MediaRelay;
  readonly clock: FakeClock;
  readonly system: FakeSystem;
  readonly thread: FakeThread;
  readonly faults: unknown[];
  readonly failures: Error[];
  readonly log: string[];
}

/** Starts a relay with ports 20000 to 20009 outside and 30000 to 30009 inside, which draws the first free pair. */
export async function relayRig(
  changes: Partial<UserRelayOptions> & { readonly clock?: FakeClock } = {},
): Promise<RelayRig> {
  const { clock = new FakeClock() } = changes;
  const system = new FakeSystem();
  const thread = new FakeThread(system, () => clock.now());
  const [faults, failures, log]: [unknown[], Error[], string[]] = [[], [], []];
  const guard: Guard = { caught: (entrance, error) => faults.push(`${entrance}: ${error}`) };
  const relay = await UserRelay.start({
    sides: [
      { address: OUTSIDE, first: 20_000, last: 20_009 },
      { address: INSIDE, first: 30_000, last: 30_009 },
    ],
    own: [],
    restMs: REST_MS,
    reservedPairs: 0,
    clock,
    log: pino({ base: null, timestamp: false }, { write: (line: string) => log.push(line) }),
    guard,
    onFailure: (error) => failures.push(error),
    load: () => system.libc,
    startThread: thread.start,
    random: () => 0,
    ...changes,
  });
  return { relay, clock, system, thread, faults, failures, log };
}

const at = (address: string, port: number) => ({ address, port, signalling: '' });

/** Opens a stream whose parties are CLIENT at ports 4000 and 4001, and SERVER at ports 5000 and 5001. */
export function openCall(relay: MediaRelay, options: Partial<StreamOptions> = {}): RelayStream {
  const stream = relay.open({ ...AUDIO, ...options })!;
  stream.expect(Side.outside, { rtp: at(CLIENT, 4000), rtcp: at(CLIENT, 4001) });
  stream.expect(Side.inside, { rtp: at(SERVER, 5000), rtcp: at(SERVER, 5001) });
  return stream;
}

/** Returns an RTP packet of 172 octets. */
export function rtp(sequence: number, ssrc = 1): Buffer {
  const bytes = Buffer.alloc(172);
  bytes[0] = 0x80;
  bytes.writeUInt16BE(sequence, 2);
  bytes.writeUInt32BE(ssrc, 8);
  return bytes;
}

/** Returns a receiver report. */
export function rtcp(lost: number, jitter: number): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32BE(0x81c9_0007, 0);
  bytes.writeUInt32BE(lost, 12);
  bytes.writeUInt32BE(jitter, 20);
  return bytes;
}

/** Returns the counts of the relay that are not zero. */
export function totals({ relay }: RelayRig): Record<string, number> {
  const names = Object.keys(Total) as (keyof typeof Total)[];
  return Object.fromEntries(names.map((name) => [name, relay.total(name)] as const).filter(([, n]) => n > 0));
}
