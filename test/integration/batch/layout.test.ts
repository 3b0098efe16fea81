// The layouts and constants in the code equal those of this host's C compiler.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ADDRESS4, ADDRESS6, C, EPOLL_EVENT, MESSAGE, VECTOR } from '../../../src/batch/layout.ts';

const WANTED: Readonly<Record<string, number>> = {
  'sizeof(struct mmsghdr)': MESSAGE.octets,
  'offsetof(struct mmsghdr, msg_hdr.msg_name)': MESSAGE.name,
  'offsetof(struct mmsghdr, msg_hdr.msg_namelen)': MESSAGE.nameLength,
  'offsetof(struct mmsghdr, msg_hdr.msg_iov)': MESSAGE.vectors,
  'offsetof(struct mmsghdr, msg_hdr.msg_iovlen)': MESSAGE.vectorCount,
  'offsetof(struct mmsghdr, msg_hdr.msg_control)': MESSAGE.control,
  'offsetof(struct mmsghdr, msg_hdr.msg_controllen)': MESSAGE.controlLength,
  'offsetof(struct mmsghdr, msg_hdr.msg_flags)': MESSAGE.flags,
  'offsetof(struct mmsghdr, msg_len)': MESSAGE.length,
  'sizeof(struct iovec)': VECTOR.octets,
  'offsetof(struct iovec, iov_base)': VECTOR.base,
  'offsetof(struct iovec, iov_len)': VECTOR.length,
  'sizeof(struct sockaddr_in)': ADDRESS4.octets,
  'offsetof(struct sockaddr_in, sin_family)': ADDRESS4.family,
  'offsetof(struct sockaddr_in, sin_port)': ADDRESS4.port,
  'offsetof(struct sockaddr_in, sin_addr)': ADDRESS4.address,
  'sizeof(struct sockaddr_in6)': ADDRESS6.octets,
  'offsetof(struct sockaddr_in6, sin6_family)': ADDRESS6.family,
  'offsetof(struct sockaddr_in6, sin6_port)': ADDRESS6.port,
  'offsetof(struct sockaddr_in6, sin6_flowinfo)': ADDRESS6.flow,
  'offsetof(struct sockaddr_in6, sin6_addr)': ADDRESS6.address,
  'offsetof(struct sockaddr_in6, sin6_scope_id)': ADDRESS6.scope,
  'sizeof(struct epoll_event)': EPOLL_EVENT.octets,
  'offsetof(struct epoll_event, events)': EPOLL_EVENT.events,
  'offsetof(struct epoll_event, data)': EPOLL_EVENT.data,
  ...C,
};

const PROGRAM = `#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
int main(void) {
${Object.keys(WANTED)
  .map((name) => `  printf("%s=%ld\\n", "${name}", (long)(${name}));`)
  .join('\n')}
}
`;

const known = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
const compiler = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0);

test('the layouts are those of the C compiler', { skip: !(known && compiler) && 'no C compiler here' }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-layout-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [source, program] = [join(folder, 'layout.c'), join(folder, 'layout')];
  writeFileSync(source, PROGRAM);
  const compiled = spawnSync(compiler!, ['-o', program, source], { encoding: 'utf8' });
  assert.equal(compiled.status, 0, compiled.stderr);
  const { stdout } = spawnSync(program, { encoding: 'utf8' });
  const said = stdout
    .trim()
    .split('\n')
    .map((line) => line.split('='));
  assert.deepEqual(Object.fromEntries(said.map(([name, value]) => [name, Number(value)])), WANTED);
});
