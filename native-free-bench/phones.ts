// Makes calls as different as those of real phones: users, addresses, tags, header order, Call-ID forms. They measure
// the size of a record.
import { createHash } from 'node:crypto';
import type { Endpoint } from '../src/base/endpoint.ts';

/** Number of callers. Further calls use the same callers with other tags and Call-IDs. */
const USERS = 50_000;
const REALMS = ['example.com', 'voice.example.net', 'pbx.example.org', 'sip.example.edu'];

export interface PhoneCall {
  readonly invite: Buffer;
  readonly client: Endpoint;
}

/** The INVITE of call number `index`, by one of four makes of phone. */
export function phoneCall(index: number): PhoneCall {
  const id = createHash('md5').update(`call ${index}`).digest('hex');
  const tag = createHash('md5').update(`tag ${index}`).digest('hex');
  const user = createHash('md5')
    .update(`user ${index % USERS}`)
    .digest();
  const address = `198.${18 + (user[0]! & 1)}.${user[1]}.${user[2]}`;
  const client = { address, port: 1024 + (user.readUInt16BE(3) % 60_000) };
  const caller = `${4930 + (user[5]! % 10)}${String(user.readUInt32BE(6)).padStart(8, '0').slice(0, 8)}`;
  const callee = `+49${String(Number.parseInt(tag.slice(24), 16)).padStart(10, '0')}`;
  const realm = REALMS[user[10]! % REALMS.length]!;
  const at = `${address}:${client.port}`;
  const lines = MAKES[user[11]! % MAKES.length]!({
    id,
    tag,
    device: user.toString('hex'),
    caller,
    callee,
    realm,
    at,
    address,
  });
  return { invite: Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), client };
}

interface Parts {
  readonly id: string;
  readonly tag: string;
  readonly device: string;
  readonly caller: string;
  readonly callee: string;
  readonly realm: string;
  readonly at: string;
  readonly address: string;
}

const MAKES: readonly ((parts: Parts) => string[])[] = [
  ({ id, tag, caller, callee, realm, at, address }) => [
    `INVITE sip:${callee}@${realm} SIP/2.0`,
    `Via: SIP/2.0/UDP ${at};branch=z9hG4bK-${id.slice(0, 16)};rport`,
    'Max-Forwards: 70',
    `From: "Extension ${caller.slice(-4)}" <sip:${caller}@${realm}>;tag=${tag.slice(4, 14)}`,
    `To: <sip:${callee}@${realm}>`,
    `Call-ID: ${id.slice(8, 28)}@${address}`,
    'CSeq: 102 INVITE',
    `Contact: <sip:${caller}@${at};transport=udp>`,
    'User-Agent: Desk 46.80.0.130',
    'Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY',
    'Supported: timer, replaces, 100rel',
    'Session-Expires: 1800',
    'Content-Length: 0',
  ],
  ({ id, tag, caller, callee, realm, at }) => [
    `INVITE sip:${callee}@${realm};user=phone SIP/2.0`,
    `Via: SIP/2.0/UDP ${at};rport;branch=z9hG4bKPj${id}`,
    'Max-Forwards: 70',
    `From: <sip:${caller}@${realm}>;tag=${tag.slice(0, 8)}-${tag.slice(8, 16)}`,
    `To: <sip:${callee}@${realm};user=phone>`,
    `Contact: <sip:${caller}@${at};ob>`,
    `Call-ID: ${id.slice(0, 8)}-${id.slice(8, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20)}`,
    `CSeq: ${Number.parseInt(tag.slice(-4), 16)} INVITE`,
    'Supported: replaces, 100rel, timer, norefersub',
    'Session-Expires: 1800',
    'Min-SE: 90',
    'Content-Length: 0',
  ],
  ({ id, tag, caller, callee, realm, at, address }) => [
    `INVITE sip:${callee}@${realm}:5060 SIP/2.0`,
    `Via: SIP/2.0/UDP ${at};branch=z9hG4bK${id.slice(0, 24)}`,
    'Via: SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bK77ef4c2312983.1',
    `Record-Route: <sip:${address};lr;ftag=as${tag.slice(16)}>`,
    `To: <sip:${callee}@${realm}>`,
    `From: ${caller} <sip:${caller}@${address}>;tag=as${tag.slice(16)}`,
    `Call-ID: ${id}`,
    'CSeq: 1 INVITE',
    `Contact: <sip:${caller}@10.0.0.7:5060>`,
    'Max-Forwards: 69',
    'Content-Length: 0',
  ],
  ({ id, tag, device, caller, callee, realm, at }) => [
    `INVITE sip:${callee}@${realm} SIP/2.0`,
    `v: SIP/2.0/UDP ${at};branch=z9hG4bK${id.slice(2, 12)}`,
    `f: "${caller}" <sip:${caller}@${realm}>;tag=${tag.slice(0, 12)}`,
    `t: <sip:${callee}@${realm}>`,
    `i: ${Buffer.from(id.slice(0, 30)).toString('base64')}`,
    'CSeq: 20 INVITE',
    `m: <sip:${caller}@${at};transport=udp;line=${device.slice(0, 8)}>;+sip.instance="<urn:uuid:${device}>"`,
    'Max-Forwards: 70',
    'l: 0',
  ],
];
