// Names of the farm: listeners of all nodes and the configured names, in each equivalent spelling (RFC 3261 19.1.4).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHostPort } from '../../../../src/base/endpoint.ts';
import { OwnNames } from '../../../../src/service/shared/own-names.ts';
import { parseUri, Uri } from '../../../../src/sip/uri.ts';

/** Address of the listener that faces the SIP server. */
const SERVER = { host: '10.0.0.1', port: 5080 };
const OWN = { host: '198.51.100.1', port: 5060 };
const uri = new Uri();

const namesOf = (...texts: string[]) => texts.map((text) => parseHostPort(text)!);

type Question = 'has' | 'isOwn' | 'facesServer';

function has(names: OwnNames, text: string, question: Question): boolean {
  const bytes = Buffer.from(`Route: <${text}>`);
  const start = bytes.indexOf('<') + 1;
  assert.ok(parseUri(bytes, start, bytes.length - 1, uri), text);
  return names[question](bytes, uri);
}

/** Returns the `texts` that match the question: the farm, this node, or its listener that faces the SIP server. */
const ours = (names: OwnNames, texts: readonly string[], question: Question = 'has'): string[] =>
  texts.filter((text) => has(names, text, question));

test('a listener address names the farm with its port, and without one if the transport implies it', () => {
  const names = new OwnNames(SERVER, [OWN, { host: '192.0.2.1', port: 5061 }, { host: '192.0.2.2', port: 5080 }], []);
  const good = [
    'sip:198.51.100.1:5060;lr',
    'sip:198.51.100.1',
    'sip:x@198.51.100.1;transport=tls',
    'sip:192.0.2.1:5061',
  ];
  const secure = ['sip:192.0.2.1;transport=TLS;lr', 'sips:192.0.2.1', 'sip:192.0.2.2:5080'];
  const foreign = ['sip:198.51.100.1:5061', 'sip:192.0.2.1', 'sip:192.0.2.2', 'sip:198.51.100.10', 'sip:8.51.100.1'];
  assert.deepEqual(ours(names, [...good, ...secure, ...foreign]), [...good, ...secure]);
});

test('a configured name without a port names the farm with listener ports, 5060, 5061, and no port', () => {
  const names = new OwnNames(
    SERVER,
    [{ host: '198.51.100.1', port: 5080 }],
    namesOf('sip.example.com', 'other.example:5070'),
  );
  const record = { transport: 'udp', bind: '10.0.0.2:5090', advertise: '198.51.100.1:5095' };
  names.setRecords([{ listeners: [record, { transport: 'udp', bind: 'nonsense', advertise: '' }] }]);
  const ports = ['', ':5060', ':5061', ':5080', ':5090', ':5095'].map((port) => `sip:sip.example.com${port};lr`);
  const foreign = ['sip:sip.example.com:5070', 'sip:sip.example.co', 'sip:x.sip.example.com', 'sip:other.example'];
  assert.deepEqual(ours(names, [...ports, 'sip:other.example:5070', ...foreign]), [...ports, 'sip:other.example:5070']);
});

test('an advertised name names the farm with its port, for each address in the older field', () => {
  const names = new OwnNames(SERVER, [{ host: 'own.example.com', port: 5061 }], []);
  const told = 'sip.example.com:5061;transport=tls';
  names.setRecords([{ listeners: [{ transport: 'tcp', bind: '10.0.0.2:5090', advertise: '10.0.0.2:5091', told }] }]);
  const good = ['sip:own.example.com:5061', 'sip:SIP.example.com;transport=tls;lr', 'sip:10.0.0.2:5090'];
  assert.deepEqual(ours(names, [...good, 'sip:sip.example.com', 'sip:10.0.0.2:5091']), good);
});

test('a name matches in any letter case and with a final dot, an IPv6 address in any spelling', () => {
  const names = new OwnNames(
    SERVER,
    [{ host: '2001:db8::1', port: 5060 }],
    namesOf('Sip.Example.COM', '[2001:DB8::A]:5070'),
  );
  const good = [
    ...['SIP:sIP.eXAMPLE.com', 'sips:sip.example.com.', 'sip:[2001:DB8:0:0::1]:5060', 'sip:[2001:db8::0.0.0.1]'],
    'sip:[2001:db8::000a]:5070;lr',
  ];
  assert.deepEqual(ours(names, [...good, 'sip:[2001:db8::2]', 'sip:[::]', 'sip:[zz::1]']), good);
});

test('new records and new names replace all earlier ones', () => {
  const names = new OwnNames(SERVER, [OWN], namesOf('old.example'));
  const record = (address: string) => ({
    listeners: [{ transport: 'udp', bind: `${address}:5060`, advertise: `${address}:5070` }],
  });
  names.setRecords([record('10.0.0.1'), record('10.0.0.2')]);
  const all = [
    ...['sip:198.51.100.1', 'sip:old.example', 'sip:new.example', 'sip:10.0.0.1', 'sip:10.0.0.2', 'sip:10.0.0.2:5070'],
  ];
  assert.deepEqual(ours(names, all), all.toSpliced(2, 1));
  names.setRecords([record('10.0.0.1')]);
  names.setNames(namesOf('new.example'));
  assert.deepEqual(ours(names, all), ['sip:198.51.100.1', 'sip:new.example', 'sip:10.0.0.1']);
});

test('the listener for the SIP server and the other ones match in any spelling and only by their port', () => {
  const server = { host: '2001:db8::1', port: 5060 };
  const names = new OwnNames(server, [OWN, { host: '198.51.100.2', port: 5080 }], namesOf('sip.example.com'));
  names.setRecords([{ listeners: [{ transport: 'udp', bind: '10.0.0.2:5060', advertise: '198.51.100.3:5060' }] }]);
  const facing = ['sip:[2001:db8::1]:5060', 'sip:x@[2001:DB8:0:0::1];lr', 'sip:[2001:db8::0.0.0.1]'];
  const own = ['sip:198.51.100.1', 'sip:198.51.100.2:5080'];
  const others = [
    'sip:[2001:db8::1]:5061',
    'sip:198.51.100.2',
    'sip:198.51.100.3',
    'sip:10.0.0.2',
    'sip:sip.example.com',
  ];
  const all = [...facing, ...own, ...others];
  assert.deepEqual(ours(names, all, 'facesServer'), facing);
  assert.deepEqual(ours(names, all, 'isOwn'), [...facing, ...own]);
});
