// Layouts of the arguments of recvmmsg(2), sendmmsg(2) and epoll_wait(2) on 64-bit little-endian Linux. They are the
// same on x64 and arm64, glibc and musl, unless their comment names a difference. All offsets are octets. A test
// compares them with a C compiler's.

/** struct mmsghdr: a msghdr, then the number of octets received or sent. */
export const MESSAGE = {
  octets: 64,
  name: 0,
  nameLength: 8,
  vectors: 16,
  vectorCount: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
  length: 56,
} as const;

/** struct iovec. */
export const VECTOR = { octets: 16, base: 0, length: 8 } as const;

/** struct sockaddr_in. */
export const ADDRESS4 = { octets: 16, family: 0, port: 2, address: 4 } as const;

/** struct sockaddr_in6. */
export const ADDRESS6 = { octets: 28, family: 0, port: 2, flow: 4, address: 8, scope: 24 } as const;

/** struct epoll_event, packed on x64 only. `data` is 64 bits; this program uses the lower 32. */
export const EPOLL_EVENT =
  process.arch === 'x64'
    ? ({ octets: 12, events: 0, data: 4 } as const)
    : ({ octets: 16, events: 0, data: 8 } as const);

/** Constants of <sys/socket.h>, <sys/epoll.h>, <netinet/in.h> and <errno.h>, the same on x64 and arm64. */
export const C = {
  AF_UNIX: 1,
  AF_INET: 2,
  AF_INET6: 10,
  SOCK_DGRAM: 2,
  SOCK_NONBLOCK: 0o4000,
  SOCK_CLOEXEC: 0o2000000,
  SOL_SOCKET: 1,
  SO_REUSEADDR: 2,
  SO_RCVBUF: 8,
  SO_REUSEPORT: 15,
  IPPROTO_IP: 0,
  IP_TOS: 1,
  IPPROTO_IPV6: 41,
  IPV6_TCLASS: 67,
  IPV6_V6ONLY: 26,
  MSG_DONTWAIT: 0x40,
  EPOLL_CLOEXEC: 0o2000000,
  EPOLL_CTL_ADD: 1,
  EPOLL_CTL_DEL: 2,
  EPOLLIN: 1,
  EFD_CLOEXEC: 0o2000000,
  EFD_NONBLOCK: 0o4000,
  EINTR: 4,
  EBADF: 9,
  EAGAIN: 11,
  EINVAL: 22,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EADDRINUSE: 98,
  ENOBUFS: 105,
} as const;
