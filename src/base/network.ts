// The seam between sipfarm and the sockets of the host. Production uses `nodeNetwork`, tests a network of their own.
import dgram from 'node:dgram';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { Endpoint } from './endpoint.ts';
import { openRaw, type RawSocket } from './raw-socket.ts';

/** A bound UDP socket. One per local address, so that answers leave from the address that the client used. */
export interface DatagramSocket {
  readonly local: Endpoint;
  /** The options in force after the bind. Left out by networks that are not of this host. */
  readonly granted?: GrantedOptions;
  /**
   * Sends at once, without a queue of this program. A failed send reaches `onSendError`, never the caller. `bytes` is
   * not copied: do not reuse it before the turn ends.
   */
  send(bytes: Uint8Array, address: string, port: number): void;
  close(): Promise<void>;
}

/** A UDP socket with one remote. The host reports a closed remote port to it (ICMP, as ECONNREFUSED). */
export interface ConnectedUdpSocket {
  probe(bytes: Uint8Array): void;
  close(): Promise<void>;
}

export interface DatagramHandlers {
  /** `bytes` belongs to the handler. Must not throw. */
  onDatagram(bytes: Buffer, address: string, port: number): void;
  onSendError(error: Error): void;
}

/** Required parts of a TCP connection: a `net.Socket`, or a pair made by a test. */
export type ByteStream = Duplex &
  Partial<
    Pick<net.Socket, 'remoteAddress' | 'remotePort' | 'localAddress' | 'localPort' | 'setNoDelay' | 'setKeepAlive'>
  >;

export interface StreamServer {
  readonly local: Endpoint;
  /** Stops accepting. Open connections stay open. */
  close(): Promise<void>;
}

/** Whether other sockets may bind the same address. */
export interface Sharing {
  /** SO_REUSEPORT: processes of the same user bind one address, and the kernel distributes packets by their source. */
  readonly reusePort?: boolean;
}

/** Options of a UDP socket. Each has a default. */
export interface DatagramOptions extends Sharing {
  /** Octets of kernel buffer to request for received datagrams; UDP_BUFFER_BYTES by default. */
  readonly receiveBufferBytes?: number;
  /** Octets of kernel buffer to request for datagrams to be sent; UDP_BUFFER_BYTES by default. */
  readonly sendBufferBytes?: number;
  /** Differentiated services code point of the datagrams sent, 0-63 (RFC 2474 3). Left out: it stays as it is. */
  readonly dscp?: number;
}

/** The options that a bound UDP socket has. */
export interface GrantedOptions {
  /** As the kernel reports it. Linux caps the requested size and then reports twice the result (socket(7)). */
  readonly receiveBufferBytes: number;
  readonly sendBufferBytes: number;
  /** `default`: not requested. `not-set`: requested, but this kind of socket or the system cannot set it. */
  readonly dscp: 'default' | 'set' | 'not-set';
}

/** Throws RangeError when a code point is not an integer of 0-63. */
export function checkDscp(dscp: number | undefined): void {
  if (dscp !== undefined && !(Number.isInteger(dscp) && dscp >= 0 && dscp <= 63))
    throw new RangeError(`no DSCP: ${dscp}`);
}

/** Options for accepting connections. */
export interface Accepting extends Sharing {
  /**
   * True: a client that has shut its sending half can still receive; the acceptor must then end each connection itself.
   * Left out: such a connection ends at once.
   */
  readonly halfOpen?: boolean;
}

export interface Network {
  /**
   * Binds a UDP socket. Rejects with the system's error (EADDRINUSE, EADDRNOTAVAIL, EACCES), or with RangeError for a
   * wrong `dscp`. Without `reusePort` no other socket may bind the address.
   */
  bindUdp(local: Endpoint, handlers: DatagramHandlers, options?: DatagramOptions): Promise<DatagramSocket>;
  listenTcp(local: Endpoint, onConnection: (stream: ByteStream) => void, accepting?: Accepting): Promise<StreamServer>;
  /** `onRefused` is called when the remote host or this one reports that the port is closed. */
  connectUdp(remote: Endpoint, onRefused: () => void): Promise<ConnectedUdpSocket>;
  /** Returns the stream at once. It emits `connect`, or `error` and `close`. */
  connectTcp(remote: Endpoint, from?: { readonly address: string }): ByteStream;
  /**
   * Opens a socket for whole IP packets made here. Throws SF_TRANSPARENT_UNAVAILABLE. Left out: this network has no
   * such sockets.
   */
  openRaw?(ipv6: boolean): RawSocket;
}

/**
 * Bytes of kernel buffer requested per UDP socket: a burst of about 4,000 messages while the event loop is busy. The
 * kernel caps it at net.core.rmem_max.
 */
export const UDP_BUFFER_BYTES = 4 * 1024 * 1024;

/** The sockets of this host. */
export const nodeNetwork: Network = {
  bindUdp(local, handlers, options = {}) {
    return new Promise((resolve, reject) => {
      checkDscp(options.dscp);
      const socket = dgram.createSocket({
        type: net.isIPv6(local.address) ? 'udp6' : 'udp4',
        ipv6Only: net.isIPv6(local.address),
        reusePort: options.reusePort === true,
      });
      socket.once('error', reject);
      socket.bind({ address: local.address, port: local.port, exclusive: true }, () => {
        socket.off('error', reject);
        socket.on('error', handlers.onSendError);
        socket.on('message', (bytes, remote) => handlers.onDatagram(bytes, remote.address, remote.port));
        socket.setRecvBufferSize(options.receiveBufferBytes ?? UDP_BUFFER_BYTES);
        socket.setSendBufferSize(options.sendBufferBytes ?? UDP_BUFFER_BYTES);
        const onSent = (error: Error | null): void => {
          if (error) handlers.onSendError(error);
        };
        let open = true;
        resolve({
          local: socket.address(),
          granted: {
            receiveBufferBytes: socket.getRecvBufferSize(),
            sendBufferBytes: socket.getSendBufferSize(),
            // Node.js has no call for it.
            dscp: options.dscp === undefined ? 'default' : 'not-set',
          },
          send(bytes, address, port) {
            // The socket would throw, and no outside message may cause that.
            if (open && port >= 1 && port <= 65_535) socket.send(bytes, port, address, onSent);
            else handlers.onSendError(new RangeError(open ? `no port to send to: ${port}` : 'the socket is closed'));
          },
          close() {
            open = false;
            return new Promise((closed) => socket.close(() => closed()));
          },
        });
      });
    });
  },

  listenTcp(local, onConnection, accepting = {}) {
    return new Promise((resolve, reject) => {
      const server = net.createServer({ noDelay: true, allowHalfOpen: accepting.halfOpen === true }, onConnection);
      server.once('error', reject);
      server.listen(
        {
          host: local.address,
          port: local.port,
          exclusive: true,
          ipv6Only: net.isIPv6(local.address),
          reusePort: accepting.reusePort === true,
        },
        () => {
          server.off('error', reject);
          // A failed accept concerns one connection, not the server.
          server.on('error', () => {});
          const bound = server.address() as net.AddressInfo;
          resolve({
            local: { address: bound.address, port: bound.port },
            close: () => new Promise((closed) => server.close(() => closed())),
          });
        },
      );
    });
  },

  connectUdp(remote, onRefused) {
    return new Promise((resolve, reject) => {
      const socket = dgram.createSocket(net.isIPv6(remote.address) ? 'udp6' : 'udp4');
      socket.once('error', reject);
      // The type omits the error that the callback receives when there is no route.
      socket.connect(remote.port, remote.address, (error?: Error) => {
        socket.off('error', reject);
        if (error) {
          socket.close();
          reject(error);
          return;
        }
        let open = true;
        socket.on('error', onRefused);
        socket.on('message', () => {});
        resolve({
          probe(bytes) {
            if (open) socket.send(bytes, (failed) => failed && onRefused());
          },
          close() {
            open = false;
            return new Promise((closed) => socket.close(() => closed()));
          },
        });
      });
    });
  },

  connectTcp(remote, from) {
    return net.connect({
      host: remote.address,
      port: remote.port,
      noDelay: true,
      ...(from && { localAddress: from.address }),
    });
  },

  openRaw,
};
