// Reasons for which the relay link loses a frame: the label `reason` of sipfarm_relay_refused_total.

export const REFUSE_REASONS = {
  short: 'the datagram ends before the frame does',
  'not-a-frame': 'no PROXY protocol header with the TLV of this farm',
  version:
    'a frame of an unsupported version, or of an older version than its sender supports: replayed from before an ' +
    'upgrade',
  mac: 'no valid farm key made the MAC: the frame was changed, forged, or is of another farm',
  'not-for-me': 'a frame for another member number, or this member has none yet',
  'other-incarnation':
    'a datagram for another start of this member: replayed, or its sender has not detected the restart yet; the ' +
    'sender gets a refusal',
  replayed: 'a datagram with a sequence number received before, or too old for the window',
  jumped:
    'a datagram whose sequence number is further ahead than possible since the last answer of its sender to a probe',
  'unknown-sender': 'a member that has neither record nor seat',
  'old-incarnation': 'a member that has been replaced by a newer start of itself',
  unproven:
    'a datagram of a start of its sender that no record or seat has: replayed, or just started; the sender gets a ' +
    'probe',
  'no-seat': 'a member that has lost its seat and does not have the new view yet',
  kind: 'a kind of frame that is not defined, or a malformed probe',
  hops: 'relayed more often than the hop limit allows',
  listener: "the packet's listener does not exist here, nor in the record of another node",
  'queue-full': 'the connection to the peer is slow or not up, and its send queue is full',
  'queue-old': 'the frame waited for a connection until its transaction was over (32 s, RFC 3261 17.1.1.2)',
  'send-error': 'the system refused to send a datagram to a peer',
  handshake: 'a connection that did not prove a farm key in time, or of an unknown member',
  connections: 'too many connections that have not proved a farm key yet',
  framing: 'a connection that carried an impossible length',
} as const;

export type RefuseReason = keyof typeof REFUSE_REASONS;
