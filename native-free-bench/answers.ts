// Stands in for the SIP server behind the member without sockets, and for the callees. They answer each request at once
// with 200.
import type { PhoneCall } from './phones.ts';
import type { SocketlessMember } from './socketless.ts';

const CALLEE = { address: '203.0.113.80', port: 5060 };

export class ServerAnswers {
  readonly #member: SocketlessMember;
  readonly #proxy: boolean;

  /** `proxy`: the server forwards the request with Record-Route and returns the callee's 200. Else it is the callee. */
  constructor(member: SocketlessMember, proxy: boolean) {
    this.#member = member;
    this.#proxy = proxy;
  }

  /**
   * Makes a call until it is answered. Returns false when the member dropped a packet, as for a moment after a
   * standstill; the caller then tries again.
   */
  call({ invite, client }: PhoneCall): boolean {
    const member = this.#member;
    const asked = this.#through(() => member.front(invite, client));
    if (!this.#proxy) return asked !== '' && this.#back(okTo(asked, '127.0.0.1:5070'));
    const branch = /branch=([^;\s]+)/.exec(asked)?.[1] ?? '';
    const via = `Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKp${branch.slice(-12)}.0\r\n`;
    const own = `${via}Record-Route: <sip:127.0.0.1:5070;lr>\r\n`;
    const user = /^INVITE sip:([^@]+)/.exec(asked)?.[1];
    const sent = asked.replace(/^INVITE \S+/, `INVITE sip:${user}@${CALLEE.address}`).replace('\r\n', `\r\n${own}`);
    const there = asked && this.#through(() => member.inner(Buffer.from(sent, 'latin1')));
    const answer =
      there && this.#through(() => member.front(Buffer.from(okTo(there, CALLEE.address), 'latin1'), CALLEE));
    return answer !== '' && this.#back(answer.replace(via, ''));
  }

  #back(answer: string): boolean {
    return this.#through(() => this.#member.inner(Buffer.from(answer, 'latin1'))) !== '';
  }

  /** Runs `put` and returns the message that the member then sends; '' when it sends none. */
  #through(put: () => void): string {
    const before = this.#member.sent();
    put();
    return this.#member.sent() === before ? '' : this.#member.last();
  }
}

/** The 200 to a request; its tag is made from the top Via's branch. */
function okTo(request: string, contact: string): string {
  const lines = request.split('\r\n');
  const kept = lines.filter((line) => /^(?:Via|v|Record-Route|From|f|Call-ID|i|CSeq):/i.test(line));
  const to = lines.find((line) => /^(?:To|t):/i.test(line));
  const user = /^INVITE sip:([^@]+)/.exec(request)?.[1];
  const tag = /branch=\S{16}([^;\s]{10})/.exec(request)?.[1];
  return [
    'SIP/2.0 200 OK',
    ...kept,
    `${to};tag=${tag}`,
    `Contact: <sip:${user}@${contact}>`,
    'Server: answers',
    'Session-Expires: 1800;refresher=uas',
    'Content-Length: 0',
    '\r\n',
  ].join('\r\n');
}
