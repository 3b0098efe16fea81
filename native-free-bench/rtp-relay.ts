// The relay in user space in a process of its own, with streams between the bench's sender and its sink.
//
//    node rtp-relay.ts OUTSIDE INSIDE SENDER SINK STREAMS     addresses of the relay; ip:port of the other two
//
// Writes the outside ports in JSON and runs until its standard input ends.
import { pino } from 'pino';
import { systemClock } from '../src/base/clock.ts';
import { type Endpoint, parseEndpoint } from '../src/base/endpoint.ts';
import { NO_GUARD } from '../src/base/guard.ts';
import { Side } from '../src/media/media-relay.ts';
import { UserRelay } from '../src/media/user-relay/user-relay.ts';

const [outside = '', inside = '', from = '', to = '', streams = ''] = process.argv.slice(2);
const relay = await UserRelay.start({
  sides: [
    { address: outside, first: 20_000, last: 29_999 },
    { address: inside, first: 20_000, last: 29_999 },
  ],
  own: [],
  restMs: 5000,
  reservedPairs: 0,
  clock: systemClock,
  log: pino({ enabled: false }),
  guard: NO_GUARD,
  onFailure(error) {
    throw error;
  },
});

function placeOf(text: string): { readonly rtp: Endpoint & { readonly signalling: string }; readonly rtcp: undefined } {
  return { rtp: { ...parseEndpoint(text)!, signalling: '' }, rtcp: undefined };
}

const ports = Array.from({ length: Number(streams) }, () => {
  const stream = relay.open({ clear: true, single: false, facing: 1, ofNewCall: true });
  if (!stream) throw new Error('no ports are left');
  stream.expect(Side.outside, placeOf(from));
  stream.expect(Side.inside, placeOf(to));
  return stream.ports[Side.outside].port;
});
process.stdout.write(`${JSON.stringify(ports)}\n`);
process.stdin.resume().once('end', () => process.exit());
