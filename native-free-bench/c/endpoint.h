// The shared start of both programs of the bench: prints a fault, and reads ip:port. PROGRAM is the name it prints.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what) {
  fprintf(stderr, PROGRAM ": %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_in endpoint(const char *text) {
  char host[64];
  struct sockaddr_in at;
  const char *colon = strrchr(text, ':');
  memset(&at, 0, sizeof at);
  if (!colon || (size_t)(colon - text) >= sizeof host) fail("not ip:port");
  memcpy(host, text, (size_t)(colon - text));
  host[colon - text] = 0;
  at.sin_family = AF_INET;
  at.sin_port = htons((uint16_t)atoi(colon + 1));
  if (inet_pton(AF_INET, host, &at.sin_addr) != 1) fail("not an address");
  return at;
}
