// Opens the sockets of this host, with batch I/O for UDP: another implementation of the seam for transport and relay.
import dgram from 'node:dgram';
import net from 'node:net';
import { type Endpoint, formatEndpoint } from '../base/endpoint.ts';
import {
  checkDscp,
  type DatagramHandlers,
  type DatagramOptions,
  type DatagramSocket,
  type GrantedOptions,
  type Network,
  UDP_BUFFER_BYTES,
} from '../base/network.ts';
import { type BatchCells, BatchSocket, BatchTurn } from './batch-socket.ts';
import { ADDRESS6, C } from './layout.ts';
import type { Libc } from './libc.ts';
import { NativeBlock } from './native-block.ts';
import { Destinations, familyAndPort, sockaddrOctets } from './socket-address.ts';
import { makeSystemError } from './system-error.ts';

export interface BatchNetworkOptions {
  readonly libc: Libc;
  readonly cells: BatchCells;
  /** Handles everything except UDP. */
  readonly base: Network;
  /** Called when no batch socket can be opened; `base` has then opened the socket. Left out: `bindUdp` rejects. */
  readonly onFallback?: (local: Endpoint, error: unknown) => void;
  /** Datagrams that one socket may take from one turn of the event loop. */
  readonly mostPerTurn?: number;
}

/** Returns a network with UDP sockets that move many datagrams per system call. */
export function batchNetwork(options: BatchNetworkOptions): Network {
  const { libc, cells, base, onFallback } = options;
  const turn = new BatchTurn(libc, cells, options.mostPerTurn);
  return {
    ...base,
    async bindUdp(local, handlers, wanted) {
      try {
        return await openBatchSocket(turn, local, handlers, wanted);
      } catch (error) {
        if (!onFallback) throw error;
        // An error that concerns every kind of socket (address taken, or not on this host) occurs here again. The
        // caller receives it.
        const socket = await base.bindUdp(local, handlers, wanted);
        onFallback(local, error);
        return socket;
      }
    },
  };
}

/** Opens one batch socket. Rejects with the system's error, or with RangeError for a wrong `dscp`. */
export async function openBatchSocket(
  turn: BatchTurn,
  local: Endpoint,
  handlers: DatagramHandlers,
  wanted: DatagramOptions = {},
): Promise<DatagramSocket & { readonly intact: boolean }> {
  const ipv6 = net.isIPv6(local.address);
  checkDscp(wanted.dscp);
  const fd = boundDescriptor(turn, local, ipv6, wanted.reusePort === true);
  const socket = dgram.createSocket({ type: ipv6 ? 'udp6' : 'udp4' });
  try {
    await listen(socket, fd);
  } catch (error) {
    socket.close();
    turn.libc.close(fd);
    throw error;
  }
  let granted: GrantedOptions;
  try {
    keepAlone(turn.libc, fd);
    socket.setRecvBufferSize(wanted.receiveBufferBytes ?? UDP_BUFFER_BYTES);
    socket.setSendBufferSize(wanted.sendBufferBytes ?? UDP_BUFFER_BYTES);
    granted = {
      receiveBufferBytes: socket.getRecvBufferSize(),
      sendBufferBytes: socket.getSendBufferSize(),
      dscp: mark(turn.libc, fd, ipv6, wanted.dscp),
    };
  } catch (error) {
    socket.close();
    throw error;
  }
  socket.on('error', handlers.onSendError);
  const { address, port } = socket.address();
  return new BatchSocket({ turn, socket, fd, local: { address, port }, granted, ipv6, handlers });
}

/** Sets the DSCP, the upper six bits of the octet (RFC 2474 3). Returns whether it is set. */
function mark(libc: Libc, fd: number, ipv6: boolean, dscp: number | undefined): GrantedOptions['dscp'] {
  if (dscp === undefined) return 'default';
  const value = new NativeBlock(libc, 4);
  value.words[0] = dscp << 2;
  const [level, option] = ipv6 ? [C.IPPROTO_IPV6, C.IPV6_TCLASS] : [C.IPPROTO_IP, C.IP_TOS];
  return libc.setsockopt(fd, level, option, value.address, 4) === 0 ? 'set' : 'not-set';
}

/**
 * Clears SO_REUSEADDR, which libuv sets on a descriptor that it receives. With it a process of any user that sets it
 * too could bind the same address and take these datagrams.
 */
function keepAlone(libc: Libc, fd: number): void {
  const off = new NativeBlock(libc, 4);
  if (libc.setsockopt(fd, C.SOL_SOCKET, C.SO_REUSEADDR, off.address, 4) !== 0)
    throw makeSystemError(libc.errno(), 'setsockopt');
}

function listen(socket: dgram.Socket, fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ fd, exclusive: true }, () => {
      socket.off('error', reject);
      resolve();
    });
  });
}

/** Returns the descriptor of a new bound UDP socket. The caller must close it. Throws the system's error. */
function boundDescriptor({ libc, zones }: BatchTurn, local: Endpoint, ipv6: boolean, reusePort: boolean): number {
  const bind = `bind ${formatEndpoint(local)}`;
  const destination = new Destinations(ipv6, zones).find(local.address);
  if (!destination) throw makeSystemError(C.EINVAL, bind);
  const type = C.SOCK_DGRAM | C.SOCK_NONBLOCK | C.SOCK_CLOEXEC;
  const fd = libc.socket(ipv6 ? C.AF_INET6 : C.AF_INET, type, 0);
  if (fd < 0) throw makeSystemError(libc.errno(), 'socket');
  const memory = new NativeBlock(libc, ADDRESS6.octets);
  memory.words[0] = 1;
  const enable = (level: number, option: number): boolean =>
    libc.setsockopt(fd, level, option, memory.address, 4) === 0;
  const options =
    (!ipv6 || enable(C.IPPROTO_IPV6, C.IPV6_V6ONLY)) && (!reusePort || enable(C.SOL_SOCKET, C.SO_REUSEPORT));
  memory.words.set([familyAndPort(ipv6, local.port), ...destination]);
  if (options && libc.bind(fd, memory.address, sockaddrOctets(ipv6)) === 0) return fd;
  const error = makeSystemError(libc.errno(), bind);
  libc.close(fd);
  throw error;
}
