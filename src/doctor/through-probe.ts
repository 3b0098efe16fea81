// Probes the farm from outside, as a client: OPTIONS to the VIP, short and long, by UDP and TCP. Each request ends at
// its first hop (Max-Forwards 0, RFC 3261 16.3). The members answer it themselves and need no SIP server.
import type { Clock } from '../base/clock.ts';
import { type Endpoint, formatEndpoint, isIpv6 } from '../base/endpoint.ts';
import type { ByteStream, DatagramSocket, Network } from '../base/network.ts';
import { within } from '../base/within.ts';

/** Requests by UDP. A stateless balancer then reaches each of four members at least once in 996 of 1,000 runs. */
const DATAGRAMS = 24;
const CONNECTIONS = 6;
/** Octets of the long message: three packets on most links. */
export const LONG = 3000;
const SPACING_MS = 10;
const PATIENCE_MS = 2000;
/** Octets of an answer that are kept until its headers end. */
const MAX_ANSWER = 16_384;

export interface Asked {
  readonly sent: number;
  readonly answered: number;
}

/** Answers that came back through the balancer. */
export interface ThroughFacts {
  readonly to: Endpoint;
  /** The VIP is an address of this host: no request has left it. */
  readonly isLocal: boolean;
  readonly udp: { readonly short: Asked; readonly long: Asked };
  /** `long` counts the connections whose short message was answered. */
  readonly tcp: { readonly short: Asked; readonly long: Asked };
  /** Sources of UDP answers, other than `to`. */
  readonly strangers: readonly string[];
}

interface ThroughDeps {
  readonly network: Network;
  readonly clock: Clock;
  /** A text that is unique to this run: Call-IDs begin with it. */
  readonly nonce: string;
  readonly isLocal: (address: string) => boolean;
}

function request(to: Endpoint, transport: 'UDP' | 'TCP', callId: string, octets: number): Buffer {
  const target = `sip:${formatEndpoint(to)};transport=${transport.toLowerCase()}`;
  const head = [
    `OPTIONS ${target} SIP/2.0`,
    // The answer goes to the source (RFC 3581), so the host name need not exist.
    `Via: SIP/2.0/${transport} doctor.invalid:5060;rport;branch=z9hG4bK${callId}`,
    'Max-Forwards: 0',
    `From: <sip:doctor@doctor.invalid>;tag=${callId}`,
    `To: <${target}>`,
    `Call-ID: ${callId}`,
    'CSeq: 1 OPTIONS',
  ];
  const write = (body: number): string =>
    [...head, ...(body > 0 ? ['Content-Type: text/plain'] : []), `Content-Length: ${body}`, '', 'x'.repeat(body)].join(
      '\r\n',
    );
  return Buffer.from(write(Math.max(0, octets - write(1000).length + 1000)));
}

/** Returns the Call-ID of an answer; undefined when the text is no answer. */
function answeredCall(text: string): string | undefined {
  return text.startsWith('SIP/2.0 ') ? /^Call-ID: *(\S+)/im.exec(text)?.[1] : undefined;
}

async function askByUdp(
  { network, clock, nonce }: ThroughDeps,
  to: Endpoint,
): Promise<Pick<ThroughFacts, 'udp' | 'strangers'>> {
  const strangers = new Set<string>();
  const open = new Set<string>();
  let onAnswer = (): void => {};
  const socket: DatagramSocket = await network.bindUdp(
    { address: isIpv6(to.address) ? '::' : '0.0.0.0', port: 0 },
    {
      onDatagram: (bytes, address, port) => {
        const callId = answeredCall(bytes.toString('latin1', 0, MAX_ANSWER));
        if (callId === undefined || !open.delete(callId)) return;
        if (address !== to.address || port !== to.port) strangers.add(formatEndpoint({ address, port }));
        onAnswer();
      },
      onSendError: () => {},
    },
  );
  const ask = async (name: string, octets: number): Promise<Asked> => {
    open.clear();
    const all = Promise.withResolvers<void>();
    for (let i = 0; i < DATAGRAMS; i++) open.add(`${nonce}-${name}-${i}`);
    onAnswer = () => {
      if (open.size === 0) all.resolve();
    };
    for (const callId of [...open]) {
      socket.send(request(to, 'UDP', callId, octets), to.address, to.port);
      await within(clock, SPACING_MS, all.promise);
    }
    await within(clock, PATIENCE_MS, all.promise);
    return { sent: DATAGRAMS, answered: DATAGRAMS - open.size };
  };
  try {
    const short = await ask('u', 0);
    const long = await ask('l', LONG);
    return { udp: { short, long }, strangers: [...strangers].sort() };
  } finally {
    await socket.close();
  }
}

/** Returns whether the answer to `callId` arrives on the stream in time. */
async function answers(clock: Clock, stream: ByteStream, bytes: Buffer, callId: string): Promise<boolean> {
  const answer = Promise.withResolvers<void>();
  let text = '';
  let good = false;
  const onData = (part: Buffer): void => {
    text = (text + part.toString('latin1')).slice(0, MAX_ANSWER);
    good = text.includes('\r\n\r\n') && answeredCall(text) === callId;
    if (good) answer.resolve();
  };
  stream.on('data', onData).once('close', answer.resolve);
  stream.write(bytes);
  await within(clock, PATIENCE_MS, answer.promise);
  stream.off('data', onData).off('close', answer.resolve);
  return good;
}

async function askByTcp({ network, clock, nonce }: ThroughDeps, to: Endpoint): Promise<ThroughFacts['tcp']> {
  const one = async (i: number): Promise<{ readonly short: boolean; readonly long: boolean }> => {
    const stream = network.connectTcp(to);
    stream.on('error', () => {});
    const name = `${nonce}-t${i}`;
    try {
      if (!(await answers(clock, stream, request(to, 'TCP', name, 0), name))) return { short: false, long: false };
      return { short: true, long: await answers(clock, stream, request(to, 'TCP', `${name}l`, LONG), `${name}l`) };
    } finally {
      stream.destroy();
    }
  };
  const seen = await Promise.all(Array.from({ length: CONNECTIONS }, (_, i) => one(i)));
  const short = seen.filter((each) => each.short).length;
  return {
    short: { sent: CONNECTIONS, answered: short },
    long: { sent: short, answered: seen.filter((each) => each.long).length },
  };
}

/** Probes the farm through the balancer, in up to five seconds. Rejects when the host gives no socket. */
export async function askThrough(deps: ThroughDeps, to: Endpoint): Promise<ThroughFacts> {
  const [byUdp, tcp] = await Promise.all([askByUdp(deps, to), askByTcp(deps, to)]);
  return { to, isLocal: deps.isLocal(to.address), ...byUdp, tcp };
}
