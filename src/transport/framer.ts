// From a TCP byte stream to messages (RFC 3261 section 18.3). One flat state machine that looks at each octet once.

/** Why framing is lost. Nothing behind the fault can be trusted to begin a message. */
export const FRAME_FAULTS = {
  'not-sip': 'the first octet of a message is no token octet',
  'bare-line-end': 'a CR or LF that stands alone in the headers',
  'no-length': 'no Content-Length',
  'bad-length': 'a Content-Length that is not digits only',
  'length-conflict': 'two Content-Lengths that differ',
  'header-too-large': 'the headers do not end within the limit',
  'message-too-large': 'headers and Content-Length together are above the limit',
} as const;
export type FrameFault = keyof typeof FRAME_FAULTS;
