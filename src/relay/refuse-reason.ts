// Reasons for which the relay link loses a frame: the label `reason` of sipfarm_relay_refused_total.

export const REFUSE_REASONS = {
  short: 'the datagram ends before the frame does',
  'not-a-frame': 'no PROXY protocol header with the TLV of this farm',
  version:
    'a frame of a version this member does not speak, or of an older one than its sender speaks: replayed from before an upgrade',
  mac: 'no valid farm key made the MAC: changed on its way, forged, or of another farm',
  'not-for-me': 'a frame for another member number, or this member has none yet',
  'other-incarnation':
    'a datagram for another start of this member: replayed, or its sender has not heard of the restart yet; it is sent word',
  replayed: 'a datagram whose sequence number was seen before, or is too old to tell',
  jumped:
    'a datagram whose sequence number is further ahead than its sender can have come since it last answered a probe',
  'unknown-sender': 'a member that has neither record nor seat',
  'old-incarnation': 'a member that has been replaced by a newer start of itself',
  unproven:
    'a datagram of a start of its sender that no record or seat tells of: replayed, or just started; its sender is asked',
  'no-seat': 'a member that has lost its seat in the view and does not know it yet',
  kind: 'a kind of frame this member does not know, or a probe that is none',
  hops: 'relayed more often than the hop limit allows',
  listener: 'the packet came to a listener that this member does not have, and that no record of another tells of',
  'queue-full': 'the connection to the peer is slow or not up, and its send queue is full',
  'queue-old': 'the frame waited for a connection until its transaction was over (32 s, RFC 3261 17.1.1.2)',
  'send-error': 'the system refused to send a datagram to a peer',
  handshake: 'a connection that did not prove a farm key in time, or of a member that is not known',
  connections: 'more connections that prove nothing than are allowed at once',
  framing: 'a connection that carried an impossible length',
} as const;

export type RefuseReason = keyof typeof REFUSE_REASONS;
