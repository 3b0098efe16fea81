// SIP messages as text for tests: reads messages of the farm, writes messages of phones and servers. It shares no code
// with src/sip on purpose.

export class Message {
  readonly text: string;
  readonly startLine: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;

  /** `text` is in latin1: one character per octet. */
  constructor(text: string) {
    this.text = text;
    const end = text.indexOf('\r\n\r\n');
    const [startLine = '', ...lines] = text.slice(0, end).split('\r\n');
    this.startLine = startLine;
    this.headers = lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()] as const;
    });
    this.body = text.slice(end + 4);
  }

  /** Status of a response; 0 for a request. */
  get status(): number {
    return this.startLine.startsWith('SIP/2.0 ') ? Number(this.startLine.slice(8, 11)) : 0;
  }

  /** Method of a request, or of the request that a response answers. */
  get method(): string {
    return this.one('CSeq').split(/\s+/)[1] ?? '';
  }

  get uri(): string {
    return this.startLine.split(' ')[1] ?? '';
  }

  get callId(): string {
    return this.one('Call-ID');
  }

  /** Returns the values of all header lines of this name, in order, split at commas outside of angle brackets. */
  all(name: string): string[] {
    return this.headers
      .filter(([other]) => other.toLowerCase() === name.toLowerCase())
      .flatMap(([, value]) => value.split(/,(?![^<]*>)/).map((part) => part.trim()));
  }

  /** Returns the first value of this name; '' when there is none. */
  one(name: string): string {
    return this.all(name)[0] ?? '';
  }

  /** Returns the value of the top Via's parameter; '' when absent. */
  via(parameter: string): string {
    return parameterOf(this.one('Via'), parameter);
  }

  get branch(): string {
    return this.via('branch');
  }

  get toTag(): string {
    return parameterOf(this.one('To'), 'tag');
  }

  /**
   * Returns the text without header lines of these names, and without the start line when `startLine` is among them.
   */
  without(...names: string[]): string {
    const left = this.headers.filter(([name]) => !names.some((other) => other.toLowerCase() === name.toLowerCase()));
    return [this.startLine, ...left.map(([name, value]) => `${name}: ${value}`)].join('\n') + this.body;
  }
}

export function parameterOf(value: string, name: string): string {
  return new RegExp(`;\\s*${name}=([^;\\s>]*)`, 'i').exec(value)?.[1] ?? '';
}

/** Returns the URI of a name-addr. */
export function uriOf(value: string): string {
  return /<([^>]*)>/.exec(value)?.[1] ?? value;
}

/** Returns the user part of a SIP URI; '' when there is none. */
export function userOf(uri: string): string {
  return /sip:([^@>]*)@/i.exec(uri)?.[1] ?? '';
}

/** Returns a message of a start line, header lines and a body; Content-Length is added. */
export function compose(startLine: string, headers: readonly string[], body = ''): string {
  return [startLine, ...headers, `Content-Length: ${body.length}`, '', body].join('\r\n');
}

export interface RequestParts {
  readonly method: string;
  readonly uri: string;
  readonly via: string;
  readonly callId: string;
  readonly fromTag?: string;
  readonly toTag?: string;
  readonly cseq?: number;
  readonly cseqMethod?: string;
  readonly maxForwards?: string | undefined;
  readonly headers?: readonly string[];
  readonly body?: string;
}

/** Returns a complete request with the mandatory headers. */
export function request(parts: RequestParts): string {
  const { method, uri, via, callId, fromTag = 'from', toTag, cseq = 1, maxForwards = '70' } = parts;
  return compose(
    `${method} ${uri} SIP/2.0`,
    [
      `Via: ${via}`,
      ...(parts.maxForwards === '' ? [] : [`Max-Forwards: ${maxForwards}`]),
      `From: <sip:alice@example.org>;tag=${fromTag}`,
      `To: <sip:bob@example.org>${toTag === undefined ? '' : `;tag=${toTag}`}`,
      `Call-ID: ${callId}`,
      `CSeq: ${cseq} ${parts.cseqMethod ?? method}`,
      ...(parts.headers ?? []),
    ],
    parts.body,
  );
}

/**
 * Returns a response to `to` with its Via, From, To, Call-ID, CSeq, and Record-Route where it can create a dialog (RFC
 * 3261 8.2.6).
 */
export function respond(
  to: Message,
  status: number,
  more: { readonly toTag?: string; readonly headers?: readonly string[]; readonly body?: string } = {},
): string {
  const copied = ['via', 'from', 'call-id', 'cseq', ...(status < 300 ? ['record-route'] : [])];
  const lines = to.headers.flatMap(([name, value]) => {
    if (name.toLowerCase() === 'to')
      return [
        more.toTag === undefined || to.toTag !== '' ? `${name}: ${value}` : `${name}: ${value};tag=${more.toTag}`,
      ];
    return copied.includes(name.toLowerCase()) ? [`${name}: ${value}`] : [];
  });
  return compose(`SIP/2.0 ${status} Something`, [...lines, ...(more.headers ?? [])], more.body);
}
