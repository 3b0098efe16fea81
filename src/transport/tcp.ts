// The TCP connections of a member: accepted and made, bounded in number, time and bytes.

/** Why a connection was closed, or refused. Values of the label `reason` of closed_connections_total. */
export const CLOSE_REASONS = {
  peer: 'the other side closed it',
  error: 'the system reported an error on it',
  framing: 'its framing was lost',
  'half-message': 'a message did not end in time',
  silent: 'no whole message and no keep-alive since it was accepted',
  idle: 'nothing passed on it for too long',
  'send-queue': 'its reader is too slow',
  'buffered-bytes': 'half messages of all connections hold too much, and it was among the largest',
  'connect-failed': 'it could not be opened, or not in time',
  'source-limit': 'refused: too many connections of one source',
  'connection-limit': 'refused: too many connections in all',
  stop: 'the member stops',
} as const;
export type CloseReason = keyof typeof CLOSE_REASONS;
