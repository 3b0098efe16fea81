// The floor of the bench: a forwarder with only recvmmsg and sendmmsg, 64 datagrams per system call, two sockets.
//
//    forward FRONT CLIENT BACK SERVER     each ip:port; packets to FRONT go to SERVER, packets to BACK to CLIENT
#define _GNU_SOURCE
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROGRAM "forward"
#include "endpoint.h"

#define BATCH 64
#define ROOM 65536

static uint8_t (*room)[ROOM];
static struct mmsghdr msgs[BATCH];
static struct iovec vecs[BATCH];
static struct sockaddr_in from[BATCH];

static int open_socket(const char *text) {
  int octets = 4 * 1024 * 1024;
  struct sockaddr_in at = endpoint(text);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &octets, sizeof octets);
  if (bind(fd, (struct sockaddr *)&at, sizeof at)) fail(text);
  return fd;
}

static void pass(int in, int out, struct sockaddr_in *to) {
  for (int i = 0; i < BATCH; i++) {
    vecs[i].iov_base = room[i];
    vecs[i].iov_len = ROOM;
    msgs[i].msg_hdr.msg_name = &from[i];
    msgs[i].msg_hdr.msg_namelen = sizeof from[i];
    msgs[i].msg_hdr.msg_iov = &vecs[i];
    msgs[i].msg_hdr.msg_iovlen = 1;
  }
  int n = recvmmsg(in, msgs, BATCH, MSG_DONTWAIT, NULL);
  for (int i = 0; i < n; i++) {
    vecs[i].iov_len = msgs[i].msg_len;
    msgs[i].msg_hdr.msg_name = to;
    msgs[i].msg_hdr.msg_namelen = sizeof *to;
  }
  for (int done = 0; done < n;) {
    int taken = sendmmsg(out, msgs + done, (unsigned)(n - done), 0);
    if (taken <= 0) break;
    done += taken;
  }
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  room = malloc(BATCH * sizeof *room);
  int front = open_socket(argv[1]), back = open_socket(argv[3]);
  struct sockaddr_in client = endpoint(argv[2]), server = endpoint(argv[4]);
  printf("ready\n");
  fflush(stdout);
  struct pollfd polled[3] = {
      {.fd = front, .events = POLLIN}, {.fd = back, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  for (;;) {
    if (poll(polled, 3, -1) < 0) fail("poll");
    if (polled[0].revents) pass(front, back, &server);
    if (polled[1].revents) pass(back, front, &client);
    /* The parent process, the bench, has ended. */
    if (polled[2].revents) return 0;
  }
}
