// Opens the sockets of this host, with batch I/O for UDP: another implementation of the seam for transport and relay.
import dgram from 'node:dgram';
import net from 'node:net';
import type { Endpoint } from '../base/endpoint.ts';
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
import { bindUdpDescriptor, setDscp } from './bound-descriptor.ts';
import { C } from './layout.ts';
import type { Libc } from './libc.ts';
import { NativeBlock } from './native-block.ts';
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
  const fd = bindUdpDescriptor(turn, local, wanted.reusePort === true);
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
      dscp: dscpOf(turn.libc, fd, ipv6, wanted.dscp),
    };
  } catch (error) {
    socket.close();
    throw error;
  }
  socket.on('error', handlers.onSendError);
  const { address, port } = socket.address();
  return new BatchSocket({ turn, socket, fd, local: { address, port }, granted, ipv6, handlers });
}

/** Sets the DSCP. Returns whether it is set. */
function dscpOf(libc: Libc, fd: number, ipv6: boolean, dscp: number | undefined): GrantedOptions['dscp'] {
  if (dscp === undefined) return 'default';
  return setDscp(libc, fd, ipv6, dscp) ? 'set' : 'not-set';
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
