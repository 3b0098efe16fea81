// SIP messages from a byte stream (RFC 3261 18.3), for clients of the laboratory.

/**
 * Returns a reader of a stream in latin1 pieces, which gives each complete message to `take`, without keep-alives (RFC
 * 5626 3.5.1).
 */
export function splitStream(take: (message: string) => void): (piece: string) => void {
  let buffered = '';
  return (piece) => {
    buffered = (buffered + piece).replace(/^(?:\r\n)+/, '');
    for (let end = buffered.indexOf('\r\n\r\n'); end >= 0; end = buffered.indexOf('\r\n\r\n')) {
      const length = Number(/^(?:Content-Length|l)\s*:\s*(\d+)/im.exec(buffered.slice(0, end + 2))?.[1] ?? 0);
      const next = end + 4 + length;
      if (buffered.length < next) return;
      const message = buffered.slice(0, next);
      buffered = buffered.slice(next).replace(/^(?:\r\n)+/, '');
      take(message);
    }
  };
}
