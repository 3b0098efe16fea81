// The first octets of a PROXY header, version 2. Relay frames begin with them, too.

/** Signature of the PROXY protocol (version 2, section 2.2). No SIP message begins with it. */
export const PROXY_SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
