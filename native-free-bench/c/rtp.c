// Media of many streams for the bench: one sender, one sink, RTP of 172 octets (G.711, 20 ms) by sendmmsg and recvmmsg. Speaks a line
// protocol on stdin and stdout (rtp.ts), no sleeping while it runs.
//
//    rtp FROM SINK              each ip:port
//    > run to=IP ms=1000 window=128 ports=20000,20002,...
//    < {"sent":...,"received":...,"lost":...,"seconds":...}
//
// Packets go to the ports in turn, each stream with sequence numbers of its own. `window`: so many are under way at most.
#define _GNU_SOURCE
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM "rtp"
#include "endpoint.h"

#define BATCH 64
#define ROOM 2048
#define OCTETS 172
#define MOST_STREAMS 8192

static struct sockaddr_in to[MOST_STREAMS];
static uint16_t sequence[MOST_STREAMS];
static int streams;
static int next;
static uint8_t out_room[BATCH][OCTETS], in_room[BATCH][ROOM];
static struct mmsghdr out_msgs[BATCH], in_msgs[BATCH];
static struct iovec out_vecs[BATCH], in_vecs[BATCH];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int open_socket(const char *text) {
  int octets = 8 * 1024 * 1024;
  struct sockaddr_in at = endpoint(text);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets)) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
  if (bind(fd, (struct sockaddr *)&at, sizeof at)) fail(text);
  return fd;
}

static int send_some(int fd, int n) {
  for (int i = 0; i < n; i++) {
    int stream = (next + i) % streams;
    uint8_t *packet = out_room[i];
    memset(packet, 0, OCTETS);
    packet[0] = 0x80;
    packet[2] = (uint8_t)(sequence[stream] >> 8);
    packet[3] = (uint8_t)sequence[stream];
    packet[11] = (uint8_t)stream;
    packet[10] = (uint8_t)(stream >> 8);
    out_vecs[i].iov_base = packet;
    out_vecs[i].iov_len = OCTETS;
    out_msgs[i].msg_hdr.msg_iov = &out_vecs[i];
    out_msgs[i].msg_hdr.msg_iovlen = 1;
    out_msgs[i].msg_hdr.msg_name = &to[stream];
    out_msgs[i].msg_hdr.msg_namelen = sizeof to[stream];
    sequence[stream]++;
  }
  int taken = sendmmsg(fd, out_msgs, (unsigned)n, 0);
  if (taken < 0) taken = 0;
  for (int i = taken; i < n; i++) sequence[(next + i) % streams]--;
  next = (next + taken) % streams;
  return taken;
}

static int receive_some(int fd) {
  for (int i = 0; i < BATCH; i++) {
    in_vecs[i].iov_base = in_room[i];
    in_vecs[i].iov_len = ROOM;
    in_msgs[i].msg_hdr.msg_iov = &in_vecs[i];
    in_msgs[i].msg_hdr.msg_iovlen = 1;
  }
  int n = recvmmsg(fd, in_msgs, BATCH, MSG_DONTWAIT, NULL);
  return n < 0 ? 0 : n;
}

static void run(char *line, int from, int sink) {
  char host[64];
  long ms, window;
  int at = 0;
  if (sscanf(line, "run to=%63s ms=%ld window=%ld ports=%n", host, &ms, &window, &at) != 3 || !at) fail("not a run");
  streams = 0;
  for (char *port = strtok(line + at, ",\n"); port && streams < MOST_STREAMS; port = strtok(NULL, ",\n")) {
    struct sockaddr_in *each = &to[streams++];
    memset(each, 0, sizeof *each);
    each->sin_family = AF_INET;
    each->sin_port = htons((uint16_t)atoi(port));
    if (inet_pton(AF_INET, host, &each->sin_addr) != 1) fail(host);
  }
  if (!streams) fail("no ports");
  next %= streams;
  long sent = 0, received = 0, lost = 0, way = 0;
  uint64_t begin = now_ns(), now = begin, heard = begin;
  for (; now - begin < (uint64_t)ms * 1000000u; now = now_ns()) {
    int n = receive_some(sink);
    if (n) heard = now;
    received += n;
    way = n > way ? 0 : way - n;
    if (window - way < BATCH / 2 && now > heard && now - heard > 500000000u) {
      /* What has not come for so long was lost on its way. */
      lost += way;
      way = 0;
    }
    if (window - way >= BATCH / 2) {
      int count = send_some(from, window - way > BATCH ? BATCH : (int)(window - way));
      sent += count;
      way += count;
    }
  }
  printf("{\"sent\":%ld,\"received\":%ld,\"lost\":%ld,\"seconds\":%.6f}\n", sent, received, lost, (double)(now - begin) / 1e9);
  fflush(stdout);
}

int main(int argc, char **argv) {
  static char line[MOST_STREAMS * 6 + 256];
  if (argc != 3) return 2;
  int from = open_socket(argv[1]), sink = open_socket(argv[2]);
  printf("ready\n");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) run(line, from, sink);
  return 0;
}
