// Packs a session description for a call record: compressed with a dictionary of usual lines, then base 64. The first
// character names the dictionary, so that members of later builds can have another one.
import { Compressor, Dictionary } from './compression.ts';

/** Octets of a description that is kept. Longer ones are those of many candidates or streams. */
export const MAX_DESCRIPTION = 8192;
/** Characters of a packed description that is recorded. */
export const MAX_PACKED = 4096;

const FIRST = '1';

/** Lines of phones, servers and browsers, the most usual ones last: near ones take the fewest octets. */
const LINES = [
  'v=0',
  'o=mozilla...THIS_IS_SDPARTA-99.0 1000000000000000000 0 IN IP4 0.0.0.0',
  's=Asterisk',
  's=FreeSWITCH',
  's=pjmedia',
  's=Talk',
  's=SIP Call',
  's=session',
  'b=AS:84',
  'b=TIAS:64000',
  'a=group:BUNDLE 0 1',
  'a=msid-semantic: WMS *',
  'a=extmap-allow-mixed',
  'a=ice-options:trickle',
  'a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF',
  'a=setup:actpass',
  'a=setup:active',
  'a=mid:0',
  'a=mid:audio',
  'm=video 20000 RTP/AVP 99 97 126',
  'm=audio 20000 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126',
  'm=audio 20000 RTP/SAVP 0 8 101',
  'a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:',
  'a=crypto:2 AES_CM_256_HMAC_SHA1_80 inline:',
  'a=ssrc:1000000000 cname:',
  'a=rtcp-fb:* ccm fir',
  'a=rtcp-fb:99 nack pli',
  'a=fmtp:99 profile-level-id=42e01f;packetization-mode=1',
  'a=rtpmap:99 H264/90000',
  'a=rtpmap:97 VP8/90000',
  'a=rtpmap:111 opus/48000/2',
  'a=fmtp:111 minptime=10;useinbandfec=1',
  'a=rtpmap:96 opus/48000/2',
  'a=fmtp:96 useinbandfec=1',
  'a=rtpmap:4 G723/8000',
  'a=rtpmap:3 GSM/8000',
  'a=rtpmap:2 G726-32/8000',
  'a=rtpmap:97 iLBC/8000',
  'a=fmtp:97 mode=30',
  'a=rtpmap:18 G729/8000',
  'a=fmtp:18 annexb=no',
  'a=rtpmap:9 G722/8000',
  'a=candidate:1 1 UDP 2130706431 192.168.1.1 20000 typ host',
  'a=candidate:2 1 UDP 1694498815 203.0.113.1 20000 typ srflx raddr 192.168.1.1 rport 20000',
  'a=ice-ufrag:',
  'a=ice-pwd:',
  'a=label:1',
  'a=rtcp:20001 IN IP4 192.168.1.1',
  'a=rtcp-mux',
  'a=rtcp-rsize',
  'a=ssrc:1',
  'a=inactive',
  'a=recvonly',
  'a=sendonly',
  'v=0',
  'o=root 1000000000 1000000000 IN IP4 192.168.1.1',
  's=-',
  'c=IN IP4 192.168.1.1',
  't=0 0',
  'm=audio 10000 RTP/AVP 8 0 101',
  'a=rtpmap:0 PCMU/8000',
  'a=rtpmap:8 PCMA/8000',
  'a=rtpmap:101 telephone-event/8000',
  'a=fmtp:101 0-16',
  'a=fmtp:101 0-15',
  'a=silenceSupp:off - - - -',
  'a=ptime:20',
  'a=maxptime:150',
  'a=sendrecv',
];

const dictionary = new Dictionary(Buffer.from(`${LINES.join('\r\n')}\r\n`, 'latin1'));
const compressor = new Compressor();

/** Returns the packed text; `text` has at most MAX_DESCRIPTION characters up to U+00FF. */
export function packDescription(text: string): string {
  const start = compressor.load(dictionary);
  const length = compressor.space.write(text, start, 'latin1');
  return FIRST + compressor.packed.toString('base64', 0, compressor.compress(length, 0));
}

/** Returns the text; undefined when `packed` is none, or is of a dictionary that this build does not have. */
export function unpackDescription(packed: string): string | undefined {
  if (packed.length > MAX_PACKED || !packed.startsWith(FIRST)) return undefined;
  const octets = Buffer.from(packed.slice(1), 'base64');
  const start = compressor.load(dictionary);
  const end = compressor.expand(octets, 0, octets.length);
  return end - start > MAX_DESCRIPTION ? undefined : compressor.space.toString('latin1', start, end);
}
