// A user agent with RTP for the laboratory: `node media-phone.ts JSON`. It calls, or answers each call, sends RTP to
// the place that the other description names, and prints a report of what came. It checks nothing itself.
import dgram from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { Message, request, respond, uriOf } from '../fake/sip.ts';

export interface PhoneOptions {
  /** `answerer` ends after its first call. */
  readonly role: 'caller' | 'answerer';
  /** Own place for signalling, and for RTP; RTCP has the next port. */
  readonly sip: string;
  readonly rtp: string;
  /** Address in the description; by default the one of `rtp`. */
  readonly described?: string;
  /** Place of the called one, for a caller. */
  readonly to?: string;
  readonly callId?: string;
  /** RTP packets to send, one each 20 ms. */
  readonly packets: number;
  /** Sends only once RTP has come. */
  readonly patient?: boolean;
  /** Place from which a stranger sends as many packets to the same place. */
  readonly stranger?: string;
}

/** RTP packets of one source, in the order of their arrival. */
export interface Heard {
  readonly from: string;
  readonly sequences: number[];
  /** Text behind the RTP header of the first packet. */
  readonly payload: string;
}

export interface PhoneReport {
  /** Final status of the INVITE. */
  readonly status: number;
  /** Place that the other description names. */
  readonly place: string;
  readonly heard: readonly Heard[];
  /** Sources of RTCP. */
  readonly rtcp: readonly string[];
  /** Longest time between two RTP packets, ms. */
  readonly gapMs: number;
}

const INTERVAL_MS = 20;
const T1_MS = 500;
const RTP_HEADER = 12;

interface At {
  readonly address: string;
  readonly port: number;
}

function place(text: string): At {
  const [, address = '', port = ''] = /^(.*):(\d+)$/.exec(text) ?? [];
  return { address, port: Number(port) };
}

async function open({ address, port }: At): Promise<dgram.Socket> {
  const socket = dgram.createSocket('udp4').bind(port, address);
  await once(socket, 'listening');
  return socket;
}

function descriptionOf(address: string, port: number): string {
  const lines = [
    'v=0',
    `o=- 1 1 IN IP4 ${address}`,
    's=-',
    `c=IN IP4 ${address}`,
    't=0 0',
    `m=audio ${port} RTP/AVP 0`,
  ];
  return lines.map((line) => `${line}\r\n`).join('');
}

function placeIn(body: string): string {
  return `${/^c=IN IP4 ([\d.]+)/m.exec(body)?.[1] ?? ''}:${/^m=audio (\d+)/m.exec(body)?.[1] ?? 0}`;
}

class Media {
  readonly #options: PhoneOptions;
  readonly #rtp: dgram.Socket;
  readonly #rtcp: dgram.Socket;
  readonly #heard = new Map<string, Heard>();
  readonly #rtcpFrom = new Set<string>();
  #lastAt = 0;
  #gapMs = 0;
  #sends = false;
  to = '';

  private constructor(options: PhoneOptions, rtp: dgram.Socket, rtcp: dgram.Socket) {
    this.#options = options;
    this.#rtp = rtp;
    this.#rtcp = rtcp;
    rtp.on('message', (bytes, { address, port }) => this.#take(bytes, `${address}:${port}`));
    rtcp.on('message', (_, { address, port }) => this.#rtcpFrom.add(`${address}:${port}`));
  }

  static async open(options: PhoneOptions): Promise<Media> {
    const { address, port } = place(options.rtp);
    return new Media(options, await open({ address, port }), await open({ address, port: port + 1 }));
  }

  get description(): string {
    const { address, port } = place(this.#options.rtp);
    return descriptionOf(this.#options.described ?? address, port);
  }

  async #intrude(from: string): Promise<void> {
    const socket = await open(place(from));
    const { address, port } = place(this.to);
    for (let i = 0; i < this.#options.packets; i++) {
      socket.send(
        Buffer.concat([Buffer.from('800000000000000053545247', 'hex'), Buffer.from('stranger')]),
        port,
        address,
      );
      await pause(INTERVAL_MS);
    }
    socket.close();
  }

  /** Takes a re-INVITE: sends to the place in it. Returns the answer. */
  reinvited(invite: Message, contact: string): string {
    this.to = placeIn(invite.body);
    const headers = [`Contact: ${contact}`, 'Content-Type: application/sdp'];
    return respond(invite, 200, { headers, body: this.description });
  }

  /** Sends all packets, and an RTCP receiver report (RFC 3550 6.4.2) for each fifty. */
  async send(): Promise<void> {
    const { packets, role, stranger, patient } = this.#options;
    if (this.#sends) return;
    this.#sends = true;
    while (patient && this.#heard.size === 0) await pause(INTERVAL_MS);
    const intrusion = stranger === undefined ? undefined : this.#intrude(stranger);
    for (let i = 0; i < packets; i++) {
      const { address, port } = place(this.to);
      const packet = Buffer.alloc(RTP_HEADER, 0);
      packet[0] = 0x80;
      packet.writeUInt16BE(i, 2);
      packet.writeUInt32BE(160 * i, 4);
      packet.write(role === 'caller' ? 'CALL' : 'ANSW', 8, 'latin1');
      this.#rtp.send(Buffer.concat([packet, Buffer.from(`${role} ${i}`)]), port, address);
      if (i % 50 === 0) this.#rtcp.send(Buffer.from('80c9000143414c4c', 'hex'), port + 1, address);
      await pause(INTERVAL_MS);
    }
    await intrusion;
    await pause(T1_MS);
  }

  report(status: number): PhoneReport {
    const gapMs = Math.round(this.#gapMs);
    return { status, place: this.to, heard: [...this.#heard.values()], rtcp: [...this.#rtcpFrom], gapMs };
  }

  close(): void {
    this.#rtp.close();
    this.#rtcp.close();
  }

  #take(bytes: Buffer, from: string): void {
    const payload = bytes.toString('latin1', RTP_HEADER);
    const known = this.#heard.get(from) ?? { from, sequences: [], payload };
    known.sequences.push(bytes.readUInt16BE(2));
    const now = performance.now();
    if (this.#lastAt > 0) this.#gapMs = Math.max(this.#gapMs, now - this.#lastAt);
    this.#lastAt = now;
    this.#heard.set(from, known);
  }
}

async function call(options: PhoneOptions, media: Media): Promise<PhoneReport> {
  const { sip, to = '', callId = 'media' } = options;
  const socket = await open(place(sip));
  const target = place(to);
  let branches = 0;
  const send = (method: string, dialog?: Message, body = ''): string => {
    const text = request({
      method,
      uri: dialog ? uriOf(dialog.one('Contact')) : `sip:answerer@${to}`,
      via: `SIP/2.0/UDP ${sip};rport;branch=z9hG4bK-${callId}-${++branches}`,
      callId,
      ...(dialog && { toTag: dialog.toTag }),
      cseq: method === 'BYE' ? 2 : 1,
      headers: [
        `Contact: <sip:caller@${sip}>`,
        ...(dialog?.all('Record-Route').reverse() ?? []).map((route) => `Route: ${route}`),
        ...(body === '' ? [] : ['Content-Type: application/sdp']),
      ],
      body,
    });
    socket.send(text, target.port, target.address);
    return text;
  };
  const final = async (method: string, text: string): Promise<Message> => {
    let over: Message | undefined;
    const take = (bytes: Buffer): void => {
      const message = new Message(bytes.toString('latin1'));
      if (message.status >= 200 && message.method === method) over = message;
    };
    socket.on('message', take);
    for (let wait = T1_MS; !over && wait < 64 * T1_MS; wait *= 2) {
      for (const end = performance.now() + wait; !over && performance.now() < end; ) await pause(10);
      if (!over) socket.send(text, target.port, target.address);
    }
    socket.off('message', take);
    if (!over) throw new Error(`no answer to ${method}`);
    return over;
  };
  socket.on('message', (bytes, { address, port }) => {
    const message = new Message(bytes.toString('latin1'));
    if (message.status === 0 && message.method === 'INVITE')
      socket.send(media.reinvited(message, `<sip:caller@${sip}>`), port, address);
  });
  try {
    const answer = await final('INVITE', send('INVITE', undefined, media.description));
    if (answer.status >= 300) return media.report(answer.status);
    media.to = placeIn(answer.body);
    send('ACK', answer);
    await media.send();
    await final('BYE', send('BYE', answer));
    return media.report(answer.status);
  } finally {
    socket.close();
  }
}

async function answer(options: PhoneOptions, media: Media): Promise<PhoneReport> {
  const socket = await open(place(options.sip));
  const ended = Promise.withResolvers<void>();
  socket.on('message', (bytes, { address, port }) => {
    const message = new Message(bytes.toString('latin1'));
    const reply = (status: number, body = ''): void => {
      const headers = [
        `Contact: <sip:answerer@${options.sip}>`,
        ...(body === '' ? [] : ['Content-Type: application/sdp']),
      ];
      socket.send(respond(message, status, { toTag: 'answerer', headers, body }), port, address);
    };
    if (message.method === 'INVITE' && message.status === 0) {
      media.to = placeIn(message.body);
      reply(200, media.description);
    } else if (message.method === 'ACK') void media.send();
    else if (message.method === 'BYE') {
      reply(200);
      ended.resolve();
    } else if (message.status === 0) reply(200);
  });
  await ended.promise;
  socket.close();
  return media.report(200);
}

if (process.argv[1] === import.meta.filename) {
  const options = JSON.parse(process.argv[2] ?? '{}') as PhoneOptions;
  const media = await Media.open(options);
  process.stdout.write('ready\n');
  const report = await (options.role === 'caller' ? call : answer)(options, media);
  media.close();
  process.stdout.write(`${JSON.stringify(report)}\n`);
}
