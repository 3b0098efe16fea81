// The media of an answered call: the media relay of this member sends back to the caller what it gets from the caller.
// The anchor sees the service as the SIP server behind it: it rewrites the offer, and the service answers with that
// very description. An inner leg is then joined to itself.
import type { Anchor } from '../../media/anchor.ts';
import { findSdp } from '../../sdp/body.ts';
import { readSdp } from '../../sdp/sdp.ts';
import { Scan, scan as scanMessage } from '../../sip/scan.ts';
import { Rewriter } from '../shared/rewriter.ts';
import { echoOf } from './echo-sdp.ts';

export class Echo {
  readonly #anchor: Anchor;
  readonly #rewriter = new Rewriter();
  readonly #scan = new Scan();

  constructor(anchor: Anchor) {
    this.#anchor = anchor;
  }

  /**
   * Returns the description that answers the INVITE: its own offer with the ports of the inner legs, or `silent` where
   * none of its streams is anchored. Returns undefined when no media ports are left. `call`: key of the Call-ID.
   * `source`: address of the caller's signalling; '' when a proxy sent the request.
   */
  describe(invite: Scan, call: number, source: string, silent: string): string | undefined {
    const rewriter = this.#rewriter.begin(invite);
    if (!this.#anchor.requestFromClient(invite, call, source, false, rewriter)) return undefined;
    const message = this.#rewritten();
    if (!message) return silent;
    const { bytes, contentTypeStart, contentTypeEnd, bodyStart, end } = message;
    if (contentTypeStart < 0) return silent;
    const at = findSdp(bytes.toString('latin1', contentTypeStart, contentTypeEnd), bytes, bodyStart, end);
    const sdp = at && readSdp(bytes, at.start, at.end);
    if (!sdp || typeof sdp === 'string' || !this.#anchor.namesInner(sdp)) return silent;
    return echoOf(bytes.toString('latin1', at.start, at.end), sdp, invite.cseq);
  }

  /** Returns the response as the caller reads it: with the ports of the outer legs. */
  shown(response: Buffer, call: number): Buffer {
    if (scanMessage(response, 0, response.length, false, this.#scan)) return response;
    this.#anchor.responseToClient(this.#scan, call, this.#rewriter.begin(this.#scan));
    return this.#rewriter.finish() ?? response;
  }

  /** Returns the rewritten message; undefined when it cannot be read. */
  #rewritten(): Scan | undefined {
    const bytes = this.#rewriter.finish();
    return bytes && scanMessage(bytes, 0, bytes.length, false, this.#scan) === null ? this.#scan : undefined;
  }
}
