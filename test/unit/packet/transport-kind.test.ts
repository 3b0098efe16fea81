// The kinds of transport, and that their table is the only place that decides by a kind's name.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  advertisedKind,
  advertisedKinds,
  isListenerKind,
  isReliable,
  TRANSPORT_KINDS,
} from '../../../src/packet/transport-kind.ts';

const SRC = join(import.meta.dirname, '../../../src');

test('each kind has the properties that its RFC gives it', () => {
  const rows = Object.entries(TRANSPORT_KINDS).map(([name, kind]) => [
    ...[name, kind.reliable, kind.secure, kind.viaName, kind.uriParameter],
    ...[kind.srvPrefix, kind.naptrService, kind.defaultPort],
  ]);
  assert.deepEqual(rows, [
    ['udp', false, false, 'UDP', '', '_sip._udp.', 'SIP+D2U', 5060],
    ['tcp', true, false, 'TCP', ';transport=tcp', '_sip._tcp.', 'SIP+D2T', 5060],
    ['tls', true, true, 'TLS', ';transport=tls', '_sips._tcp.', 'SIPS+D2T', 5061],
    ['ws', true, false, 'WS', ';transport=ws', '', '', 80],
    ['wss', true, true, 'WSS', ';transport=ws', '', '', 443],
  ]);
});

test('a listener has one of the kinds that this build can open', () => {
  const names = [...Object.keys(TRANSPORT_KINDS), 'sctp', 'UDP', ''];
  assert.deepEqual(names.filter(isListenerKind), ['udp', 'tcp']);
});

test('clients of a TCP listener may be given TLS, which a balancer ends in front of it', () => {
  assert.deepEqual([advertisedKinds('udp'), advertisedKinds('tcp')], [['udp'], ['tcp', 'tls']]);
  assert.equal(advertisedKind('tcp', 'tls'), 'tls');
  assert.equal(advertisedKind('udp', 'tls'), undefined);
  assert.ok(isReliable('tls') && !isReliable('udp'));
});

test('no other file of src compares with the name of a kind', () => {
  const compares = /transport\)?\s*[!=]==\s*['"]|['"](?:udp|tcp|tls|wss?)['"]\s*[!=]==|case '(?:udp|tcp|tls|wss?)'/i;
  const files = readdirSync(SRC, { recursive: true }).map(String);
  const found = files.filter((file) => file.endsWith('.ts') && compares.test(readFileSync(join(SRC, file), 'utf8')));
  assert.deepEqual(found, []);
});
