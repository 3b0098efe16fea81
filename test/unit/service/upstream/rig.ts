// One member with its SIP server and phones for the tests of this folder, and helpers for common checks.
import assert from 'node:assert/strict';
import { afterEach } from 'node:test';
import { FakeFarm, type FakeMember, type FakeServer, type FarmOptions, type Phone } from '../../../fake/farm.ts';
import { Message, type RequestParts, request, respond } from '../../../fake/sip.ts';

const farms: FakeFarm[] = [];

/** Stops all parts that `rig` has started. Each test file calls it once. */
export function cleanUp(): void {
  afterEach(async () => {
    for (const farm of farms.splice(0)) await farm.stop();
  });
}

export interface Rig {
  readonly farm: FakeFarm;
  readonly member: FakeMember;
  readonly server: FakeServer;
}

export async function rig(options: FarmOptions = {}): Promise<Rig> {
  const farm = await FakeFarm.start(options);
  farms.push(farm);
  const member = farm.member(1);
  return { farm, member, server: member.server };
}

let branches = 0;

/** Returns the Via of a phone, with a new branch unless one is given. */
export function viaOf(phone: Phone, parameters = `branch=z9hG4bKphone${++branches}`): string {
  return `SIP/2.0/${phone.transport} ${phone.at.address}:${phone.at.port};${parameters}`;
}

/** Returns a request of a phone to bob. */
export function from(phone: Phone, parts: Partial<RequestParts> & { readonly method: string }): string {
  return request({ uri: 'sip:bob@example.org', via: viaOf(phone), callId: `call-${++branches}`, ...parts });
}

/** Sends a phone's request and returns the request that the server receives. */
export async function inward(rig: Rig, phone: Phone, text: string): Promise<Message> {
  const before = rig.server.requests.length;
  phone.send(text);
  await rig.farm.settle();
  assert.equal(rig.server.requests.length, before + 1, 'the server gets one request');
  return rig.server.last;
}

/** Sends a phone's request and returns the only answer; the server receives nothing. */
export async function refused(rig: Rig, phone: Phone, text: string): Promise<Message> {
  const before = rig.server.requests.length;
  const answers = phone.got.length;
  phone.send(text);
  await rig.farm.settle();
  assert.equal(rig.server.requests.length, before, 'nothing reaches the server');
  assert.equal(phone.got.length, answers + 1, 'the phone gets one answer');
  return phone.got.at(-1)!;
}

/** Returns a request of the server itself. */
export function fromServer(
  rig: Rig,
  parts: Partial<RequestParts> & { readonly method: string; readonly uri: string },
): string {
  const { address, port } = rig.server.at;
  const via = `SIP/2.0/UDP ${address}:${port};branch=z9hG4bKserver${++branches}`;
  return request({ via, callId: `out-${++branches}`, ...parts });
}

/** Sends a request of the server and returns the request that the phone receives. */
export async function outward(rig: Rig, phone: Phone, text: string): Promise<Message> {
  const before = phone.got.length;
  rig.server.send(text);
  await rig.farm.settle();
  assert.equal(phone.got.length, before + 1, 'the phone gets one message');
  return phone.got.at(-1)!;
}

/** Sends a request of the server and returns the only answer that the server receives. */
export async function answered(rig: Rig, text: string): Promise<Message> {
  const before = rig.server.responses.length;
  rig.server.send(text);
  await rig.farm.settle();
  assert.equal(rig.server.responses.length, before + 1, 'the server gets one answer');
  return rig.server.responses.at(-1)!;
}

/** Lets the server answer `message` and returns the response that the phone receives. */
export async function answer(rig: Rig, phone: Phone, message: Message, status: number): Promise<Message> {
  return outward(rig, phone, respond(message, status, { toTag: 'bob' }));
}

/** Returns the contents of the token in `text`: its kind and its flow. */
export function tokenIn(
  member: FakeMember,
  text: string,
): { kind: string; member: number; incarnation: number; flow?: string; connection?: number } {
  const decoded = member.node.api.decode(text);
  assert.ok(decoded.what !== 'frame');
  assert.equal(decoded.verified, true);
  const { kind, incarnation, flow } = decoded;
  return {
    kind,
    member: decoded.member,
    incarnation,
    ...(flow && flow.connection === 0 && { flow: `${flow.address}:${flow.port}` }),
    ...(flow && flow.connection !== 0 && { connection: flow.connection }),
  };
}

/** Returns the message with its text changed by `change`. */
export function changed(message: Message, change: (text: string) => string): Message {
  const text = change(message.text);
  assert.notEqual(text, message.text, 'the change changes something');
  return new Message(text);
}
