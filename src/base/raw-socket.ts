// Sends whole IP packets made here, with any source address, through raw IP sockets. The npm package raw-socket makes
// the sockets. It is optional and native: it is loaded only when such a socket is opened.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { SipfarmError } from './errors.ts';

export interface RawSocket {
  /**
   * Sends the IP packet `bytes[0..octets)` at once to `address`, its destination. Never throws. Returns false when the
   * system refuses it: longer than the MTU of the route, send buffer full, no route. `bytes` may be reused afterwards.
   */
  send(bytes: Buffer, octets: number, address: string): boolean;
  close(): void;
}

/** The used part of the package, which has no types of its own. */
interface RawModule {
  createSocket(options: { readonly protocol: number; readonly addressFamily: number }): {
    /**
     * Sends within the call, or throws. The package's own `send` would queue, one packet per turn of the event loop.
     */
    readonly wrap: {
      send(bytes: Buffer, offset: number, octets: number, address: string, sent: () => void): void;
    };
    pauseRecv(): void;
    setOption(level: number, option: number, value: number): void;
    on(event: 'error', listener: () => void): void;
    close(): void;
  };
  readonly AddressFamily: { readonly IPv4: number; readonly IPv6: number };
  readonly SocketLevel: { readonly SOL_SOCKET: number };
  readonly SocketOption: { readonly SO_SNDBUF: number };
}

/** With this protocol Linux takes packets with their IP header, for IPv4 and IPv6, and delivers none (raw(7)). */
const IPPROTO_RAW = 255;
const SEND_BUFFER_OCTETS = 4 * 1024 * 1024;
const BUILDER = join(import.meta.dirname, '..', '..', 'bin', 'build-transparent.js');
const sent = (): void => {};

function load(): RawModule {
  try {
    return createRequire(import.meta.url)('raw-socket') as RawModule;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new SipfarmError(
      'SF_TRANSPARENT_UNAVAILABLE',
      `the module raw-socket does not load in Node.js ${process.versions.node}; build it with: ${process.execPath} ` +
        `${BUILDER} (${reason})`,
      { cause },
    );
  }
}

/**
 * Opens a raw socket of this host, for IPv6 or IPv4 packets. Throws SF_TRANSPARENT_UNAVAILABLE: no module for this
 * Node.js, or no permission.
 */
export function openRaw(ipv6: boolean): RawSocket {
  const raw = load();
  let socket: ReturnType<RawModule['createSocket']>;
  try {
    socket = raw.createSocket({
      protocol: IPPROTO_RAW,
      addressFamily: ipv6 ? raw.AddressFamily.IPv6 : raw.AddressFamily.IPv4,
    });
  } catch (cause) {
    throw new SipfarmError(
      'SF_TRANSPARENT_UNAVAILABLE',
      `no raw socket: ${cause instanceof Error ? cause.message : String(cause)}; it needs the right CAP_NET_RAW ` +
        '(systemd: AmbientCapabilities=CAP_NET_RAW)',
      { cause },
    );
  }
  socket.on('error', () => {});
  socket.pauseRecv();
  socket.setOption(raw.SocketLevel.SOL_SOCKET, raw.SocketOption.SO_SNDBUF, SEND_BUFFER_OCTETS);
  let open = true;
  return {
    send(bytes, octets, address) {
      if (!open) return false;
      try {
        socket.wrap.send(bytes, 0, octets, address, sent);
        return true;
      } catch {
        return false;
      }
    },
    close() {
      // The module would open the socket again to send.
      if (open) socket.close();
      open = false;
    },
  };
}
