// Load generator and sink of the bench: one process, one core, datagrams out by sendmmsg and back by recvmmsg. It has a
// line protocol on stdin and stdout (load.ts). Its sockets stay open between runs, so that no peer appears to be gone.
//
//    load SOCKETS SETS KEY     SOCKETS: ip:port,ip:port,... SETS: files of messages, by commas KEY: 32 hex digits, or -
//    > run from=0 to=IP:PORT count=2 reflect=-1 set=0 window=128 ms=1000 packets=0 rate=0 sign=0 least=200
//    < {"sent":...,"received":...,"lost":...,"seconds":...,"p50":...,"p99":...,"max":...}
//
// The last eight octets of a message are its number in hexadecimal. The sink uses it to look up the time of sending.
// `window`: most packets under way, which keeps every queue filled and none overflowing. `rate`: packets a second,
// evenly spaced, no window. `reflect`: the socket that stands in for the SIP server and answers 200. `sign`: the
// messages are relay frames; number them and make their MAC (SipHash-2-4). A file of messages repeats: length (4
// octets, little endian), then the octets.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM "load"
#include "endpoint.h"

#define BATCH 64
#define ROOM 2048
#define MOST_SOCKETS 8
#define MOST_SETS 8
#define MARKS 65536
#define MOST_SAMPLES 4000000
/* Head of a relay frame over IPv4: bound incarnation (fits an octet in the bench), sequence and MAC. */
#define FRAME_HEAD 71
#define BOUND_AT (FRAME_HEAD - 40 + 15)
#define SEQUENCE_AT (FRAME_HEAD - 40 + 18)
#define MAC_AT (FRAME_HEAD - 40 + 32)

struct set {
  int count;
  uint8_t **messages;
  int *lengths;
};

static int sockets[MOST_SOCKETS];
static int socket_count;
static struct set sets[MOST_SETS];
static uint64_t key0, key1;
static uint64_t sequence;
static uint32_t number;
static uint64_t sent_at[MARKS];
static uint32_t *samples;
static long sample_count;

static uint8_t out_room[BATCH][ROOM], in_room[BATCH][ROOM], answer_room[BATCH][ROOM];
static struct mmsghdr out_msgs[BATCH], in_msgs[BATCH], answer_msgs[BATCH];
static struct iovec out_vecs[BATCH], in_vecs[BATCH], answer_vecs[BATCH];
static struct sockaddr_in in_from[BATCH], answer_to[BATCH];

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
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof octets))
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
  if (bind(fd, (struct sockaddr *)&at, sizeof at)) fail(text);
  return fd;
}

static void read_set(const char *file, struct set *to) {
  FILE *in = fopen(file, "rb");
  uint32_t length;
  int room = 0;
  if (!in) fail(file);
  memset(to, 0, sizeof *to);
  while (fread(&length, 4, 1, in) == 1) {
    if (length > ROOM || length < 8) fail("message too long or too short");
    if (to->count == room) {
      room = room ? room * 2 : 1024;
      to->messages = realloc(to->messages, (size_t)room * sizeof *to->messages);
      to->lengths = realloc(to->lengths, (size_t)room * sizeof *to->lengths);
    }
    to->messages[to->count] = malloc(length);
    if (fread(to->messages[to->count], 1, length, in) != length) fail("file ends early");
    to->lengths[to->count++] = (int)length;
  }
  fclose(in);
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define ROUND                                                     \
  do {                                                            \
    v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);     \
    v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                        \
    v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                        \
    v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);     \
  } while (0)

static uint64_t siphash(const uint8_t *bytes, size_t length) {
  uint64_t v0 = key0 ^ 0x736f6d6570736575u, v1 = key1 ^ 0x646f72616e646f6du;
  uint64_t v2 = key0 ^ 0x6c7967656e657261u, v3 = key1 ^ 0x7465646279746573u;
  uint64_t word;
  size_t i;
  for (i = 0; i + 8 <= length; i += 8) {
    memcpy(&word, bytes + i, 8);
    v3 ^= word; ROUND; ROUND; v0 ^= word;
  }
  word = (uint64_t)(length & 0xff) << 56;
  for (size_t k = 0; i + k < length; k++) word |= (uint64_t)bytes[i + k] << (8 * k);
  v3 ^= word; ROUND; ROUND; v0 ^= word;
  v2 ^= 0xff;
  ROUND; ROUND; ROUND; ROUND;
  return v0 ^ v1 ^ v2 ^ v3;
}

static void sign_frame(uint8_t *frame, int length) {
  uint64_t mac;
  sequence++;
  for (int i = 0; i < 6; i++) frame[SEQUENCE_AT + i] = (uint8_t)(sequence >> (40 - 8 * i));
  memset(frame + MAC_AT, 0, 8);
  frame[MAC_AT + 7] = frame[BOUND_AT];
  mac = siphash(frame, (size_t)length);
  for (int i = 0; i < 8; i++) frame[MAC_AT + i] = (uint8_t)(mac >> (56 - 8 * i));
}

static void write_number(uint8_t *at, uint32_t value) {
  for (int i = 7; i >= 0; i--, value >>= 4) at[i] = (uint8_t)"0123456789abcdef"[value & 15];
}

static int read_number(const uint8_t *at, uint32_t *value) {
  *value = 0;
  for (int i = 0; i < 8; i++) {
    int c = at[i];
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return 0;
    *value = *value << 4 | (uint32_t)digit;
  }
  return 1;
}

/* Sends the next `n` messages of the set; returns how many the kernel took. */
static int send_some(int fd, const struct set *set, struct sockaddr_in *to, int n, int sign) {
  uint32_t first = number;
  for (int i = 0; i < n; i++) {
    int which = (int)(number % (uint32_t)set->count);
    int length = set->lengths[which];
    memcpy(out_room[i], set->messages[which], (size_t)length);
    write_number(out_room[i] + length - 8, number++);
    if (sign) sign_frame(out_room[i], length);
    out_vecs[i].iov_base = out_room[i];
    out_vecs[i].iov_len = (size_t)length;
    memset(&out_msgs[i].msg_hdr, 0, sizeof out_msgs[i].msg_hdr);
    out_msgs[i].msg_hdr.msg_iov = &out_vecs[i];
    out_msgs[i].msg_hdr.msg_iovlen = 1;
    out_msgs[i].msg_hdr.msg_name = to;
    out_msgs[i].msg_hdr.msg_namelen = sizeof *to;
  }
  uint64_t at = now_ns();
  for (int i = 0; i < n; i++) sent_at[(first + (uint32_t)i) % MARKS] = at;
  int taken = sendmmsg(fd, out_msgs, (unsigned)n, 0);
  if (taken < 0) taken = 0;
  number = first + (uint32_t)taken;
  return taken;
}

static int receive_some(int fd) {
  for (int i = 0; i < BATCH; i++) {
    in_vecs[i].iov_base = in_room[i];
    in_vecs[i].iov_len = ROOM;
    memset(&in_msgs[i].msg_hdr, 0, sizeof in_msgs[i].msg_hdr);
    in_msgs[i].msg_hdr.msg_iov = &in_vecs[i];
    in_msgs[i].msg_hdr.msg_iovlen = 1;
    in_msgs[i].msg_hdr.msg_name = &in_from[i];
    in_msgs[i].msg_hdr.msg_namelen = sizeof in_from[i];
  }
  int n = recvmmsg(fd, in_msgs, BATCH, MSG_DONTWAIT, NULL);
  return n < 0 ? 0 : n;
}

static int starts(const uint8_t *line, const uint8_t *end, const char *name) {
  size_t length = strlen(name);
  return (size_t)(end - line) > length && memcmp(line, name, length) == 0;
}

/* The 200 to a request: Via, Record-Route, From, To with a tag, Call-ID and CSeq as they came, without a body. */
static int answer(const uint8_t *request, int length, uint8_t *to) {
  const uint8_t *end = request + length;
  const uint8_t *line = memchr(request, '\n', (size_t)length);
  uint8_t *out = to;
  if (!line) return 0;
  out = (uint8_t *)stpcpy((char *)out, "SIP/2.0 200 OK\r\n");
  for (line++; line < end && *line != '\r';) {
    const uint8_t *next = memchr(line, '\n', (size_t)(end - line));
    if (!next) return 0;
    next++;
    int is_to = starts(line, next, "To:");
    if (is_to || starts(line, next, "Via:") || starts(line, next, "Record-Route:") || starts(line, next, "From:") ||
        starts(line, next, "Call-ID:") || starts(line, next, "CSeq:")) {
      size_t octets = (size_t)(next - line);
      if (out + octets + 100 > to + ROOM) return 0;
      memcpy(out, line, octets);
      out += octets;
      if (is_to) out = (uint8_t *)stpcpy((char *)out - 2, ";tag=server\r\n");
    }
    line = next;
  }
  out = (uint8_t *)stpcpy((char *)out, "Content-Length: 0\r\n\r\n");
  return (int)(out - to);
}

static void reflect(int fd, int least) {
  int n = receive_some(fd), answers = 0;
  for (int i = 0; i < n; i++) {
    if ((int)in_msgs[i].msg_len < least) continue;
    int length = answer(in_room[i], (int)in_msgs[i].msg_len, answer_room[answers]);
    if (!length) continue;
    answer_to[answers] = in_from[i];
    answer_vecs[answers].iov_base = answer_room[answers];
    answer_vecs[answers].iov_len = (size_t)length;
    memset(&answer_msgs[answers].msg_hdr, 0, sizeof answer_msgs[answers].msg_hdr);
    answer_msgs[answers].msg_hdr.msg_iov = &answer_vecs[answers];
    answer_msgs[answers].msg_hdr.msg_iovlen = 1;
    answer_msgs[answers].msg_hdr.msg_name = &answer_to[answers];
    answer_msgs[answers].msg_hdr.msg_namelen = sizeof answer_to[answers];
    answers++;
  }
  if (answers) sendmmsg(fd, answer_msgs, (unsigned)answers, 0);
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static double sample(double share) {
  if (!sample_count) return 0;
  return samples[(long)(share * (double)(sample_count - 1))] / 1000.0;
}

static long option(const char *line, const char *name, long otherwise) {
  char wanted[32];
  snprintf(wanted, sizeof wanted, " %s=", name);
  const char *at = strstr(line, wanted);
  return at ? atol(at + strlen(wanted)) : otherwise;
}

static void run(const char *line) {
  char to_text[64] = "";
  const char *at = strstr(line, " to=");
  if (!at || sscanf(at, " to=%63s", to_text) != 1) fail("run without to");
  struct sockaddr_in to = endpoint(to_text);
  int from = sockets[option(line, "from", 0)], count = sockets[option(line, "count", 0)];
  long mirror = option(line, "reflect", -1);
  const struct set *set = &sets[option(line, "set", 0)];
  long window = option(line, "window", 128), rate = option(line, "rate", 0), packets = option(line, "packets", 0);
  int sign = (int)option(line, "sign", 0), least = (int)option(line, "least", 200);
  uint64_t length = (uint64_t)option(line, "ms", 1000) * 1000000u;
  long sent = 0, received = 0, lost = 0, way = 0;
  sample_count = 0;
  uint64_t begin = now_ns(), now = begin, heard = begin, last = begin;
  for (; now - begin < length; now = now_ns()) {
    int n = receive_some(count);
    if (n) {
      uint64_t arrived = now_ns();
      for (int i = 0; i < n; i++) {
        uint32_t value;
        int octets = (int)in_msgs[i].msg_len;
        if (octets < least) continue;
        received++;
        if (way > 0) way--;
        heard = last = arrived;
        if (rate && sample_count < MOST_SAMPLES && read_number(in_room[i] + octets - 8, &value) &&
            number - value < MARKS)
          samples[sample_count++] = (uint32_t)(arrived - sent_at[value % MARKS]);
      }
    }
    if (mirror >= 0) reflect(sockets[mirror], least);
    if (packets && sent >= packets) {
      if (way <= 0 || (now > heard && now - heard > 500000000u)) break;
      continue;
    }
    if (rate) {
      long due = (long)((double)(now - begin) * (double)rate / 1e9) - sent;
      if (due > BATCH) due = BATCH;
      if (due > 0) sent += send_some(from, set, &to, (int)due, sign);
    } else {
      long room = window - way;
      if (room < BATCH / 2 && room < window) {
        /* Packets that are missing for so long are lost. */
        if (now > heard && now - heard > 200000000u) {
          lost += way;
          way = 0;
          heard = now;
        }
        continue;
      }
      if (room > BATCH) room = BATCH;
      if (packets && room > packets - sent) room = packets - sent;
      int taken = send_some(from, set, &to, (int)room, sign);
      sent += taken;
      way += taken;
    }
  }
  uint64_t ended = packets ? last : now;
  /* Packets that are still under way belong to no run. */
  for (uint64_t quiet = now_ns(); now_ns() - quiet < 20000000u;) {
    if (mirror >= 0) reflect(sockets[mirror], least);
    for (int i = 0; i < socket_count; i++)
      if (receive_some(sockets[i])) quiet = now_ns();
  }
  qsort(samples, (size_t)sample_count, sizeof *samples, ascending);
  printf("{\"sent\":%ld,\"received\":%ld,\"lost\":%ld,\"seconds\":%.6f,\"p50\":%.2f,\"p99\":%.2f,\"max\":%.2f}\n", sent,
         received, lost,
         (double)(ended - begin) / 1e9, sample(0.5), sample(0.99), sample(1));
  fflush(stdout);
}

int main(int argc, char **argv) {
  char line[512];
  struct pollfd polled[1 + MOST_SOCKETS];
  if (argc != 4) return 2;
  samples = malloc(MOST_SAMPLES * sizeof *samples);
  for (char *at = strtok(argv[1], ","); at && socket_count < MOST_SOCKETS; at = strtok(NULL, ","))
    sockets[socket_count++] = open_socket(at);
  int set_count = 0;
  for (char *at = strtok(argv[2], ","); at && set_count < MOST_SETS; at = strtok(NULL, ","))
    read_set(at, &sets[set_count++]);
  if (strlen(argv[3]) == 32)
    for (int i = 15; i >= 0; i--) {
      unsigned octet;
      sscanf(argv[3] + 2 * i, "%2x", &octet);
      uint64_t *half = i < 8 ? &key0 : &key1;
      *half = *half << 8 | octet;
    }
  /* Frames of a restarted generator must not count as a replay. */
  sequence = now_ns() / 1000;
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    polled[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    for (int i = 0; i < socket_count; i++) polled[i + 1] = (struct pollfd){.fd = sockets[i], .events = POLLIN};
    if (poll(polled, (nfds_t)socket_count + 1, -1) < 0) fail("poll");
    for (int i = 0; i < socket_count; i++)
      if (polled[i + 1].revents) receive_some(sockets[i]);
    if (!polled[0].revents) continue;
    /* One line at a time: the parent process waits for the answer. */
    ssize_t octets = read(0, line, sizeof line - 1);
    if (octets <= 0) return 0;
    line[octets] = 0;
    if (strncmp(line, "run ", 4) == 0) run(line);
  }
}
