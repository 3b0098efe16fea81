// SIP messages of the movers as text: the values of headers, answers, and the spellings of a Via that mean the same.

/** Addresses of all parties, as address:port, and the Call-IDs by the member that owns them. Passed as JSON. */
export interface Scene {
  readonly mode: string;
  /** Clients send here, to port 5060: the VIP, or a member. */
  readonly door: string;
  /** Own addresses of the members, 1 to 3; clients may send there when there is no balancer. */
  readonly members: readonly string[];
  readonly caller: string;
  readonly callee: string;
  readonly application: string;
  /** The farm's name in a Route (RFC 3261 16.4). */
  readonly name: string;
  /** Call-IDs by owner: those of members 1, 2, 3. */
  readonly owned: readonly (readonly string[])[];
}

export const PORT = 5060;

let ids = 0;
/** A word that was not there before. */
export const fresh = (word: string): string => `${word}${process.pid}x${++ids}`;

/** Values of a header by its long name, one by one. */
export const valuesOf = (message: string, name: string): string[] =>
  message.split('\r\n').flatMap((line) => {
    const value = new RegExp(`^${name}:(.*)$`, 'i').exec(line)?.[1];
    return value === undefined ? [] : value.split(/,(?![^<]*>)/).map((part) => part.trim());
  });
export const headerOf = (message: string, name: string): string => valuesOf(message, name)[0] ?? '';
export const uriOf = (value = ''): string => /<([^>]*)>/.exec(value)?.[1] ?? value;
export const branchOf = (message: string): string => /branch=([^;,\s]+)/.exec(headerOf(message, 'Via'))?.[1] ?? '';
export const methodOf = (message: string): string => message.slice(0, message.indexOf(' '));
export const isRequest = (message: string): boolean => !message.startsWith('SIP/2.0');
export const firstLine = (message: string): string => message.slice(0, message.indexOf('\r'));
/** Status of a response; 0 of a request. */
export const statusOf = (message: string): number => Number(/^SIP\/2\.0 (\d{3})/.exec(message)?.[1] ?? 0);
/** To has a tag: the request is within a dialog (RFC 3261 12.2.1.1). */
export const isInDialog = (message: string): boolean => headerOf(message, 'To').includes(';tag=');

/** Ways to write a Via of the farm that are equal by the grammar (RFC 3261 7.3.1, 25.1). */
export const SPELLINGS: readonly ((via: string) => string)[] = [
  (via) => via.replace(';sf=', ';SF='),
  (via) => via.replace(';sf=', '; sf='),
  (via) => via.replace(';sf=', ';sf = '),
  (via) => via.replace(/;branch=([^;]+);sf=/, ' ;BRANCH=$1;sf='),
  (via) => via.replace(/;(branch=[^;]+);(sf=[^;]+)/, ';$2;$1'),
];

/** An answer with the Vias of the request, each as `spell` writes it. */
export function answerTo(
  request: string,
  status: string,
  more: readonly string[] = [],
  spell: (via: string) => string = (via) => via,
): string {
  const to = headerOf(request, 'To');
  return [
    `SIP/2.0 ${status}`,
    ...valuesOf(request, 'Via').map((via) => `Via: ${spell(via)}`),
    ...valuesOf(request, 'Record-Route').map((route) => `Record-Route: ${route}`),
    `From: ${headerOf(request, 'From')}`,
    `To: ${to}${to.includes(';tag=') ? '' : ';tag=callee'}`,
    `Call-ID: ${headerOf(request, 'Call-ID')}`,
    `CSeq: ${headerOf(request, 'CSeq')}`,
    ...more,
    'Content-Length: 0',
    '\r\n',
  ].join('\r\n');
}
