// Media across a router for the bench: a sender in one network namespace, a sink in another, RTP of 172 octets (G.711,
// 20 ms) by sendmmsg and recvmmsg. It has a line protocol on stdin and stdout (rtp-kernel.ts), and does not sleep while
// it runs. The kernel forwards on the same core, so the rate includes sending and receiving.
//
//    rtp-kernel FROM_NAMESPACE FROM SINK_NAMESPACE SINK        each place ip:port
//    > run to=IP:PORT step=port streams=1000 window=256 ms=1000
//    < {"sent":...,"received":...,"lost":...,"seconds":...}
//
// The streams go to places in turn that differ in the port, or with step=address in the address.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM "rtp-kernel"
#include "endpoint.h"

#define BATCH 64
#define ROOM 2048
#define OCTETS 172

static uint8_t out_room[BATCH][OCTETS], in_room[BATCH][ROOM];
static struct sockaddr_in to[BATCH];
static struct mmsghdr out_msgs[BATCH], in_msgs[BATCH];
static struct iovec out_vecs[BATCH], in_vecs[BATCH];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int open_socket(const char *name, const char *text) {
  char path[128];
  int octets = 8 * 1024 * 1024;
  struct sockaddr_in at = endpoint(text);
  snprintf(path, sizeof path, "/run/netns/%s", name);
  int space = open(path, O_RDONLY | O_CLOEXEC);
  if (space < 0 || setns(space, CLONE_NEWNET)) fail(path);
  close(space);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets);
  if (bind(fd, (struct sockaddr *)&at, sizeof at)) fail(text);
  return fd;
}

static void run(const char *line, int from, int sink) {
  char place[64], step[16];
  long streams, window, ms, next = 0;
  if (sscanf(line, "run to=%63s step=%15s streams=%ld window=%ld ms=%ld", place, step, &streams, &window, &ms) != 5)
    fail("not a run");
  struct sockaddr_in first = endpoint(place);
  int by_port = !strcmp(step, "port");
  long sent = 0, received = 0, lost = 0, way = 0;
  uint64_t begin = now_ns(), now = begin, came = begin;
  for (; now - begin < (uint64_t)ms * 1000000u; now = now_ns()) {
    int n = recvmmsg(sink, in_msgs, BATCH, MSG_DONTWAIT, NULL);
    if (n > 0) {
      came = now;
      received += n;
      way = n > way ? 0 : way - n;
    }
    if (way > 0 && now - came > 200000000u) {
      /* What has not come for so long was lost on its way. */
      lost += way;
      way = 0;
      came = now;
    }
    if (window - way < BATCH / 2) continue;
    int count = window - way > BATCH ? BATCH : (int)(window - way);
    for (int i = 0; i < count; i++) {
      long stream = (next + i) % streams;
      to[i] = first;
      if (by_port) to[i].sin_port = htons((uint16_t)(ntohs(first.sin_port) + stream));
      else to[i].sin_addr.s_addr = htonl(ntohl(first.sin_addr.s_addr) + (uint32_t)stream);
    }
    int taken = sendmmsg(from, out_msgs, (unsigned)count, 0);
    if (taken <= 0) continue;
    next = (next + taken) % streams;
    sent += taken;
    way += taken;
  }
  printf("{\"sent\":%ld,\"received\":%ld,\"lost\":%ld,\"seconds\":%.6f}\n", sent, received, lost, (double)(now - begin) / 1e9);
  fflush(stdout);
}

int main(int argc, char **argv) {
  static char line[512];
  if (argc != 5) fail("needs two namespaces with a place each");
  int from = open_socket(argv[1], argv[2]), sink = open_socket(argv[3], argv[4]);
  for (int i = 0; i < BATCH; i++) {
    out_room[i][0] = 0x80;
    out_vecs[i] = (struct iovec){out_room[i], OCTETS};
    out_msgs[i].msg_hdr = (struct msghdr){.msg_name = &to[i], .msg_namelen = sizeof to[i], .msg_iov = &out_vecs[i], .msg_iovlen = 1};
    in_vecs[i] = (struct iovec){in_room[i], ROOM};
    in_msgs[i].msg_hdr = (struct msghdr){.msg_iov = &in_vecs[i], .msg_iovlen = 1};
  }
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) run(line, from, sink);
  return 0;
}
