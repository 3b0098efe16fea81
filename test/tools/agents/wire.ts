// Messages that a SIP client has sent and received, and waiting for later ones.

/** One SIP message at a client. */
export interface Message {
  /** True: the client has sent it. */
  readonly sent: boolean;
  /** The other side, as address:port. */
  readonly peer: string;
  readonly text: string;
}

export const isRequest = (text: string): boolean => !text.startsWith('SIP/2.0 ');
/** Returns the status of a response; 0 for a request. */
export const statusOf = (text: string): number => Number(/^SIP\/2\.0 (\d{3})/.exec(text)?.[1] ?? 0);
/** Returns the values of a header by its long name, line by line, without lines of the body. */
export function headersOf(text: string, name: string): string[] {
  const head = text.slice(0, text.indexOf('\r\n\r\n') + 2);
  return [...head.matchAll(new RegExp(`^${name}[ \\t]*:[ \\t]*(.*?)\\r$`, 'gim'))].map(([, value]) => value!);
}
/** Returns the method of a request, or of the request that a response answers. */
export const methodOf = (text: string): string => /\w+$/.exec(headersOf(text, 'CSeq')[0] ?? '')?.[0] ?? '';
/**
 * Returns branch and method, which are the same for a request, its retransmissions and its responses (RFC 3261 17.1.3).
 */
export const transactionOf = (text: string): string =>
  `${/branch=([^;,\s]+)/.exec(headersOf(text, 'Via')[0] ?? '')?.[1]} ${methodOf(text)}`;

/**
 * Returns the first lines, each once, of requests without a final response and of INVITEs without their ACK, in both
 * directions. A BYE that has overtaken the ACK ends the call, and a lost ACK is not repeated then.
 */
export function unanswered(messages: readonly Message[]): string[] {
  const turnOf = (text: string): string =>
    `${headersOf(text, 'Call-ID')[0]} ${headersOf(text, 'CSeq')[0]?.split(' ')[0]}`;
  const firstLine = (text: string): string => text.slice(0, text.indexOf('\r'));
  const requests = messages.filter(({ text }) => isRequest(text));
  const acknowledged = new Set(requests.filter(({ text }) => methodOf(text) === 'ACK').map(({ text }) => turnOf(text)));
  const ended = new Set(
    requests.filter(({ text }) => methodOf(text) === 'BYE').map(({ text }) => headersOf(text, 'Call-ID')[0]),
  );
  const finals = new Map(
    messages.filter(({ text }) => statusOf(text) >= 200).map(({ text }) => [transactionOf(text), statusOf(text)]),
  );
  const open = requests
    .filter(({ text }) => {
      const method = methodOf(text);
      if (method === 'ACK') return false;
      const final = finals.get(transactionOf(text));
      const isDone = method !== 'INVITE' || acknowledged.has(turnOf(text)) || ended.has(headersOf(text, 'Call-ID')[0]);
      return final === undefined || !isDone;
    })
    .map(({ sent, text }) => `${sent ? 'sent' : 'received'}: ${firstLine(text)}`);
  return [...new Set(open)];
}

/** Longest wait of a client while the farm works, ms: SIP retransmits after 0.5, 1, 2, 4, 4 s. */
const PATIENCE = 15_000;

/** The messages of one client, in the order of its log. */
export class Wire {
  readonly messages: Message[] = [];
  readonly #waiting = new Set<() => void>();

  note(message: Message): void {
    this.messages.push(message);
    for (const look of this.#waiting) look();
  }

  /** Resolves once `ask` is true for the messages; rejects with `what` after the time limit. */
  until(what: string, ask: (messages: readonly Message[]) => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(late);
        this.#waiting.delete(look);
      };
      const look = (): void => {
        if (!ask(this.messages)) return;
        end();
        resolve();
      };
      const late = setTimeout(() => {
        end();
        reject(new Error(`has waited in vain for ${what}`));
      }, PATIENCE);
      this.#waiting.add(look);
      look();
    });
  }

  /** Resolves once `test` is true for that many messages, without retransmissions. */
  has(what: string, test: (message: Message) => boolean, count = 1): Promise<void> {
    return this.until(what, (messages) => {
      const found = messages.filter(test).map(({ text }) => transactionOf(text));
      return new Set(found).size >= count;
    });
  }
}

/** Address of a client, and its connection to the farm. */
export interface Place {
  readonly name: string;
  /** User part of its address of record, and of the one whose presence it subscribes to. */
  readonly user: string;
  readonly watched: string;
  readonly transport: 'udp' | 'tcp';
  /** Own IPv4 address; calls come to port 5060. */
  readonly address: string;
  /** The farm as address:port, which also serves as the domain. */
  readonly farm: string;
}

/** A client that tests control. A command resolves when the client has it; its effect is in the trace. */
export interface Agent {
  readonly name: string;
  readonly user: string;
  readonly wire: Wire;
  /** Calls a user of the farm. */
  call(user: string): Promise<void>;
  /** Holds the call by a re-INVITE. */
  hold(): Promise<void>;
  hangUp(): Promise<void>;
  /** Ends the subscription. */
  unsubscribe(): Promise<void>;
}
