// Opens bound UDP sockets as bare descriptors of the system, without libuv.
import { type Endpoint, formatEndpoint, isIpv6 } from '../base/endpoint.ts';
import { ADDRESS6, C } from './layout.ts';
import type { Libc } from './libc.ts';
import { NativeBlock } from './native-block.ts';
import { Destinations, familyAndPort, sockaddrOctets } from './socket-address.ts';
import { makeSystemError } from './system-error.ts';
import type { Zones } from './zones.ts';

interface System {
  readonly libc: Libc;
  readonly zones: Pick<Zones, 'indexOf'>;
}

/** Returns the descriptor of a new bound UDP socket. The caller must close it. Throws the system's error. */
export function bindUdpDescriptor({ libc, zones }: System, local: Endpoint, reusePort = false): number {
  const ipv6 = isIpv6(local.address);
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

/** Sets the DSCP, the upper six bits of the octet (RFC 2474 3). Returns false when the system refuses. */
export function setDscp(libc: Libc, fd: number, ipv6: boolean, dscp: number): boolean {
  const [level, option] = ipv6 ? [C.IPPROTO_IPV6, C.IPV6_TCLASS] : [C.IPPROTO_IP, C.IP_TOS];
  return setOption(libc, fd, level, option, dscp << 2);
}

/** Sets the receive buffer, octets. The kernel grants at most net.core.rmem_max. */
export function setReceiveBuffer(libc: Libc, fd: number, octets: number): void {
  setOption(libc, fd, C.SOL_SOCKET, C.SO_RCVBUF, octets);
}

function setOption(libc: Libc, fd: number, level: number, option: number, value: number): boolean {
  const memory = new NativeBlock(libc, 4);
  memory.words[0] = value;
  return libc.setsockopt(fd, level, option, memory.address, 4) === 0;
}
