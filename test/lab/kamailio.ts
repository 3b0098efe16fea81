// Kamailio in a laboratory: the SIP server that members share, and stand-ins for members that test the laboratory
// itself.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  clientAddress,
  entrance,
  type Host,
  isDirectReturn,
  type Lab,
  memberAddress,
  SHARED_SERVER,
  VIP,
} from './lab.ts';
import { until } from './until.ts';

/** Port of the shared server. */
export const SHARED_PORT = 5070;

/**
 * Addresses of a proxy behind a member and of the member's service, in its namespace. They are the same everywhere, so
 * that each proxy treats the others' routes as its own.
 */
export const PROXY = { server: '127.0.0.1:5070', member: '127.0.0.1:5062' } as const;

/** By this port of the host's own address a proxy sends what does not go to its member. */
const PROXY_OUTSIDE_PORT = 5071;
/** Address of the application server in the configuration of the proxies behind members. */
export const APPLICATION = clientAddress(8);

function start(
  lab: Lab,
  host: Host,
  name: string,
  config: string,
  values: ReadonlyMap<string, string>,
  defines: readonly string[] = [],
): void {
  let text = readFileSync(join(import.meta.dirname, config), 'utf8');
  for (const [word, value] of values) text = text.replaceAll(new RegExp(`\\b${word}\\b`, 'g'), value);
  const file = join(lab.dir, `${name}.cfg`);
  writeFileSync(file, text);
  const memory = ['-m', '128', '-M', '16'];
  const given = defines.flatMap((define) => ['-A', define]);
  lab.exec(host, 'kamailio', ['-f', file, '-DD', '-E', ...memory, '-w', lab.dir, '-Y', lab.dir, ...given], name);
}

/** Waits until a UDP socket is bound in a host. */
async function listening(lab: Lab, host: Host, address: string, port: number, name: string): Promise<void> {
  await until(
    async () => (await lab.run(host, 'ss', ['-Hlun', 'src', `${address}:${port}`])).stdout.includes(`:${port}`),
    () => `${name} does not listen on ${address}:${port}: ${lab.log(name)}`,
  );
}

/**
 * Starts a registrar and record-routing proxy on 10.0.0.40:5070, responsible for the domain VIP:5060; with `presence`
 * also a presence server.
 */
export async function startSharedServer(lab: Lab, options: { readonly presence?: boolean } = {}): Promise<void> {
  const values = new Map([
    ['LISTEN', `${SHARED_SERVER}:${SHARED_PORT}`],
    ['DOMAIN', `${VIP}:5060`],
  ]);
  start(lab, 'k', 'kamailio', 'kamailio.cfg', values, options.presence ? ['PRESENCE'] : []);
  await listening(lab, 'k', SHARED_SERVER, SHARED_PORT, 'kamailio');
}

/**
 * Starts a stand-in for member k, which listens like a member and forwards everything to `server` (address:port)
 * without state.
 */
export async function startStandIn(lab: Lab, k: number, server: string): Promise<void> {
  const outer = isDirectReturn(lab.mode) ? VIP : memberAddress(k);
  const outside = lab.mode === 'none' ? memberAddress(k) : VIP;
  const inner = memberAddress(k);
  const values = new Map([
    ['OUTERNAME', `udp:${outer}:5060`],
    ['INNERNAME', `udp:${inner}:5062`],
    ['OUTER', `udp:${outer}:5060`],
    ['OUTSIDE', `${outside}:5060`],
    ['INNER', `udp:${inner}:5062`],
    ['SERVER', `sip:${server}`],
  ]);
  start(lab, `m${k}`, `stand-in-${k}`, 'kamailio-edge.cfg', values);
  await listening(lab, `m${k}`, inner, 5062, `stand-in-${k}`);
}

/** Returns the name of the log of the proxy behind member k. It has a line `began CALL-ID` for each new call. */
export const proxyLog = (k: number): string => `proxy-${k}`;

/**
 * Starts a record-routing stateful proxy behind member k, which calls every user at `callee` (address:port), through
 * the farm.
 */
export async function startProxy(lab: Lab, k: number, callee: string): Promise<void> {
  const values = new Map([
    ['LISTEN', PROXY.server],
    ['OUTSIDE', `${memberAddress(k)}:${PROXY_OUTSIDE_PORT}`],
    ['CALLEE', callee],
    ['MEMBER', PROXY.member],
    ['ENTRANCE', `${entrance(lab.mode)}:5060`],
    ['APPLICATION', APPLICATION],
  ]);
  start(lab, `m${k}`, proxyLog(k), 'kamailio-proxy.cfg', values);
  const [address = '', port] = PROXY.server.split(':');
  await listening(lab, `m${k}`, address, Number(port), proxyLog(k));
}
