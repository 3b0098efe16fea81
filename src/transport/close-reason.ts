// Reasons why a connection was closed, or refused.

/** Values of the label `reason` of closed_connections_total. */
export const CLOSE_REASONS = {
  peer: 'the other side closed it',
  'half-closed': 'the other side had shut its sending half; its answers have left, or were not sent in time',
  error: 'the system reported an error on it',
  framing: 'a framing fault',
  'half-message': 'a message did not end in time',
  silent: 'no whole message and no keep-alive since it was accepted',
  idle: 'no octets for limits.idleSeconds',
  'send-queue': 'its reader is too slow',
  'proxy-header': 'its PROXY header was missing, late, malformed or untrusted; proxy_headers_total has the outcome',
  'buffered-bytes': 'unfinished messages of all connections exceed limits.bufferedBytes, and it was among the largest',
  'connect-failed': 'it could not be opened, or not in time',
  'source-limit': 'refused: too many connections of one source',
  'connection-limit': 'refused: too many connections',
  'before-seat': 'refused: this member has no seat yet',
  'moved-on': 'its client must connect to another member: this one drains, or has lost its seat',
  stop: 'the member stops',
} as const;
export type CloseReason = keyof typeof CLOSE_REASONS;
