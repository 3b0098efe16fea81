// Readers of Via, URI, name-addr and header lines.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { HeaderName } from '../../../src/sip/header-name.ts';
import { findHeader, HeaderLine, nextHeader } from '../../../src/sip/headers.ts';
import { NameAddr, parseNameAddr } from '../../../src/sip/name-addr.ts';
import { parseUri, Scheme, Uri } from '../../../src/sip/uri.ts';
import { parseVia, Transport, Via, ViaOutcome } from '../../../src/sip/via.ts';
import { message, mutated, options, scanned, text } from './messages.ts';

function via(value: string) {
  const bytes = Buffer.from(value, 'latin1');
  const out = new Via();
  const outcome = parseVia(bytes, 0, bytes.length, out);
  return {
    outcome,
    out,
    host: text(bytes, out.hostStart, out.hostEnd),
    branch: text(bytes, out.branchStart, out.branchEnd),
    received: text(bytes, out.receivedStart, out.receivedEnd),
    maddr: text(bytes, out.maddrStart, out.maddrEnd),
    value: text(bytes, out.start, out.end),
    sentBy: text(bytes, out.sentByStart, out.sentByEnd),
  };
}

describe('Via', () => {
  test('all parts of a full value are read', () => {
    const read = via(
      ' SIP / 2.0 / tls  h.example.com : 5061 ;ttl=1; Branch = z9hG4bKx ;received=192.0.2.1;rport=1234;maddr=224.2.0.1 , SIP/2.0/UDP b',
    );
    assert.equal(read.outcome, ViaOutcome.OK);
    assert.equal(read.out.transport, Transport.TLS);
    assert.equal(read.host, 'h.example.com');
    assert.equal(read.sentBy, 'h.example.com : 5061');
    assert.equal(read.out.port, 5061);
    assert.equal(read.branch, 'z9hG4bKx');
    assert.equal(read.received, '192.0.2.1');
    assert.equal(read.out.rport, 1234);
    assert.equal(read.maddr, '224.2.0.1');
    assert.ok(read.value?.startsWith('SIP') && read.value.endsWith('224.2.0.1'));
  });

  test('rport is absent, empty or a number', () => {
    assert.equal(via('SIP/2.0/UDP h').out.rport, -1);
    assert.equal(via('SIP/2.0/UDP h;rport').out.rport, 0);
    assert.equal(via('SIP/2.0/UDP h;rport=').out.rport, 0);
    assert.equal(via('SIP/2.0/UDP h;rport=99999').out.rport, 0);
    assert.equal(via('SIP/2.0/UDP h;rport=5').out.rport, 5);
  });

  test('a parameter inside of a quoted string is ignored, and a comma there does not end the value', () => {
    const read = via('SIP/2.0/UDP h;x="a,;branch=no\\"";branch=yes');
    assert.equal(read.outcome, ViaOutcome.OK);
    assert.equal(read.branch, 'yes');
  });

  test("the farm's own parameter is read like any other, in every spelling, and the first of two counts", () => {
    for (const value of [
      ';sf=abc',
      '; SF=abc',
      ';Sf = abc',
      ';\r\n sf\t=\r\n abc;x',
      ';x="sf=no";sf=abc;sf=def',
      ';sf;sf=abc',
    ]) {
      const { out } = via(`SIP/2.0/UDP h;branch=b${value}`);
      const all = Buffer.from(`SIP/2.0/UDP h;branch=b${value}`, 'latin1');
      assert.equal(text(all, out.flowStart, out.flowEnd), 'abc', value);
    }
    for (const value of ['', ';sfx=abc', ';x=;sf', ';x="y;sf=abc"'])
      assert.equal(via(`SIP/2.0/UDP h${value}`).out.flowStart, -1);
  });

  test('the first of two branches counts', () => assert.equal(via('SIP/2.0/UDP h;branch=a;branch=b').branch, 'a'));

  for (const behind of ['', ' ', '\r\n ', ', SIP/2.0/UDP i'])
    test(`one semicolon behind the last parameter is not part of the value before ${JSON.stringify(behind)}`, () => {
      const read = via(`SIP/2.0/UDP h;branch=x ;${behind}`);
      assert.equal(read.outcome, ViaOutcome.OK);
      assert.deepEqual([read.value, read.branch], ['SIP/2.0/UDP h;branch=x', 'x']);
      assert.equal(via(`SIP/2.0/UDP h;${behind}`).value, 'SIP/2.0/UDP h');
    });

  test('port 0 counts as no port', () => {
    const read = via('SIP/2.0/UDP h:0;branch=x');
    assert.deepEqual([read.outcome, read.out.port, read.sentBy], [ViaOutcome.OK, 0, 'h:0']);
  });

  for (const value of [
    '',
    'SIP/2.0/UDP',
    'SIP/2.0 h',
    'SIP/2.0/UDP/h',
    'SIP/2.0/UDP  [::1',
    'SIP/2.0/UDP []',
    'SIP/2.0/UDP h:',
    'SIP/2.0/UDP h:+5',
    'SIP/2.0/UDP h:65536',
    '//UDP h',
  ]) {
    test(`${JSON.stringify(value)} is unreadable`, () => assert.equal(via(value).outcome, ViaOutcome.UNREADABLE));
  }
  for (const value of [
    'SIP/2.0/UDP h;;',
    'SIP/2.0/UDP h; ; ',
    'SIP/2.0/UDP h;;branch=x',
    'SIP/2.0/UDP h;;,;,,',
    'SIP/2.0/UDP h;=x',
    'SIP/2.0/UDP h rubbish',
    'SIP/2.0/UDP h;x="a"b',
    'SIP/2.0/UDP h;received=192.0.2.1;branch=x;Received="192.0.2.2"',
  ]) {
    test(`${JSON.stringify(value)} has a bad parameter and a sent-by`, () => {
      const read = via(value);
      assert.equal(read.outcome, ViaOutcome.BAD_PARAMETER);
      assert.equal(read.host, 'h');
    });
  }
});

function uri(value: string) {
  const bytes = Buffer.from(value, 'latin1');
  const out = new Uri();
  const ok = parseUri(bytes, 0, bytes.length, out);
  return {
    ok,
    out,
    user: text(bytes, out.userStart, out.userEnd),
    host: text(bytes, out.hostStart, out.hostEnd),
    params: text(bytes, out.paramsStart, out.paramsEnd),
    maddr: text(bytes, out.maddrStart, out.maddrEnd),
  };
}

describe('URI', () => {
  test('all parts of a full value are read', () => {
    const read = uri('sips:alice:secret@example.com:5061;transport=TCP;maddr=192.0.2.9;lr;ob;x=y?Subject=a%40b');
    assert.equal(read.ok, true);
    assert.equal(read.out.scheme, Scheme.SIPS);
    assert.equal(read.user, 'alice');
    assert.equal(read.host, 'example.com');
    assert.equal(read.out.port, 5061);
    assert.equal(read.out.transport, Transport.TCP);
    assert.equal(read.maddr, '192.0.2.9');
    assert.equal(read.out.lr && read.out.ob, true);
    assert.equal(read.params, ';transport=TCP;maddr=192.0.2.9;lr;ob;x=y');
  });

  test('parameters inside of the user part are part of the user (RFC 4475 3.1.1.9)', () => {
    const read = uri('sip:user;par=u%40example.net@example.com');
    assert.equal(read.user, 'user;par=u%40example.net');
    assert.equal(read.params, '');
  });

  test('a parameter that only starts with a known name is another one', () => {
    const read = uri('sip:h;lrx;obx=1;transports=tcp');
    assert.equal(read.ok, true);
    assert.equal(read.out.lr || read.out.ob, false);
    assert.equal(read.out.transport, -1);
  });

  test('one semicolon behind the last parameter is ignored', () => {
    for (const value of ['sip:u@h;', 'sip:u@h:5061;', 'sip:u@h;lr;', 'sip:h;?x=y', 'sip:h;lr;?x=y']) {
      const read = uri(value);
      assert.deepEqual([read.ok, read.host, read.out.lr], [true, 'h', value.includes('lr')], value);
    }
  });

  const hosts: readonly (readonly [value: string, host: string, port: number])[] = [
    ['sip:h', 'h', 0],
    ['SIP:u@[2001:db8::10]', '2001:db8::10', 0],
    ['sip:[2001:db8::10:5070]', '2001:db8::10:5070', 0],
    ['sip:[2001:db8::10]:5070', '2001:db8::10', 5070],
    ['sip:[2001:db8:::192.0.2.1]', '2001:db8:::192.0.2.1', 0],
    ['sip:+49-30@192.0.2.1:65535;user=phone', '192.0.2.1', 65535],
    ['sip:*43#@h', 'h', 0],
  ];
  for (const [value, host, port] of hosts) {
    test(`${value} leads to ${host} port ${port}`, () => {
      const read = uri(value);
      assert.equal(read.ok, true);
      assert.equal(read.host, host);
      assert.equal(read.out.port, port);
    });
  }

  for (const value of [
    '',
    'sip',
    'sip:',
    ':h',
    'sip:@h',
    'sip:u@',
    'sip:2001:db8::10',
    'sip:[::1',
    'sip:[]',
    'sip:[h]',
    'sip:h:',
    'sip:h:0',
    'sip:h:65536',
    'sip:h:5060x',
    'sip:a@b@c',
    'sip:a@b;x=c@d',
    'sip:h;;',
    'sip:h;;lr',
    'sip:h; ',
    'sip:h;=x',
    'sip:h x',
    'sip:h/p',
    'sip:<h>',
  ]) {
    test(`${JSON.stringify(value)} is refused`, () => {
      const read = uri(value);
      assert.equal(read.ok, false);
      assert.notEqual(read.out.scheme, Scheme.OTHER);
    });
  }

  test('a URI of another scheme differs from a broken one', () => {
    for (const value of ['tel:+1234', 'urn:service:sos', 'nobodyKnowsThisScheme:totallyopaquecontent']) {
      const read = uri(value);
      assert.equal(read.ok, false);
      assert.equal(read.out.scheme, Scheme.OTHER);
    }
  });
});

function values(line: string): (string | null)[] {
  const bytes = Buffer.from(line, 'latin1');
  const out = new NameAddr();
  const found: (string | null)[] = [];
  for (let at = 0; at < bytes.length; at = out.next) {
    found.push(parseNameAddr(bytes, at, bytes.length, out) ? text(bytes, out.uriStart, out.uriEnd) : null);
  }
  return found;
}

describe('name-addr', () => {
  const lines: readonly (readonly [line: string, uris: (string | null)[]])[] = [
    ['<sip:a;lr>,<sip:b>', ['sip:a;lr', 'sip:b']],
    ['"x, <sip:no>" <sip:a,b;q=1>;p=",", sip:c;expires=1', ['sip:a,b;q=1', 'sip:c']],
    ['*', ['*']],
    ['< sip:a >;x', ['sip:a']],
    ['<sip:a;lr;>;, <sip:b>;x; ', ['sip:a;lr;', 'sip:b']],
    ['sip:a;tag=1;', ['sip:a']],
    ['<sip:a', [null]],
    ['<>', [null]],
    ['sip:a;x="<sip:no>"', ['sip:a']],
    ['sip:a;x=<sip:no>, <sip:b>', ['sip:a', 'sip:b']],
    [', <sip:b>', [null, 'sip:b']],
    ['"unterminated <sip:a>, <sip:b>', ['"unterminated <sip:a>, <sip:b>']],
  ];
  for (const [line, uris] of lines) test(JSON.stringify(line), () => assert.deepEqual(values(line), uris));
});

describe('header lines', () => {
  test('a walk visits every line once, with names in long and compact form', () => {
    const bytes = options({ 'm ': '<sip:a>', 'Record-Route': '<sip:r;lr>,\r\n <sip:s;lr>', x: '1', 'X-Y': '' });
    const { scan } = scanned(bytes);
    const line = new HeaderLine();
    const seen: [HeaderName, string | null][] = [];
    let joined = '';
    for (let at = scan.headersStart; nextHeader(bytes, at, scan.headersEnd, line); at = line.lineEnd) {
      seen.push([line.name, text(bytes, line.valueStart, line.valueEnd)]);
      joined += text(bytes, line.lineStart, line.lineEnd);
    }
    assert.equal(joined, text(bytes, scan.headersStart, scan.headersEnd));
    assert.deepEqual(seen.slice(0, 2), [
      [HeaderName.VIA, 'SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc;rport'],
      [HeaderName.MAX_FORWARDS, '70'],
    ]);
    assert.deepEqual(seen.slice(-4), [
      [HeaderName.CONTACT, '<sip:a>'],
      [HeaderName.RECORD_ROUTE, '<sip:r;lr>,\r\n <sip:s;lr>'],
      [HeaderName.SESSION_EXPIRES, '1'],
      [HeaderName.OTHER, ''],
    ]);
    assert.equal(findHeader(scan, HeaderName.CONTACT, scan.headersStart, line), true);
    assert.equal(findHeader(scan, HeaderName.CONTACT, line.lineEnd, line), false);
  });

  test('every known name is found in its long form in any case, and similar names are not', () => {
    for (const [key, name] of Object.entries(HeaderName)) {
      if (name === HeaderName.OTHER) continue;
      const long = key.toLowerCase().replaceAll('_', '-');
      const bytes = Buffer.from(`${long}: 1\r\n${long.toUpperCase()}: 2\r\n${long}x: 3\r\n`);
      const line = new HeaderLine();
      const names: HeaderName[] = [];
      for (let at = 0; nextHeader(bytes, at, bytes.length, line); at = line.lineEnd) names.push(line.name);
      assert.deepEqual(names, [name, name, HeaderName.OTHER], long);
    }
  });
});

test('no reader throws or leaves its range, whatever the octets are', () => {
  const bytes = fc.oneof(
    mutated,
    fc.uint8Array({ maxLength: 80 }).map((octets) => Buffer.from(octets)),
    fc.string({ unit: fc.constantFrom(...'sip:@[]<>;=",\\ a1?./\t'), maxLength: 60 }).map((s) => Buffer.from(s)),
  );
  fc.assert(
    fc.property(bytes, (octets) => {
      const end = octets.length;
      const padded = Buffer.concat([octets, Buffer.from('">;,\r\n')]);
      const nameAddr = new NameAddr();
      const uriOut = new Uri();
      const viaOut = new Via();
      const line = new HeaderLine();
      for (let at = 0; at < end; at = nameAddr.next) {
        parseNameAddr(padded, at, end, nameAddr);
        assert.ok(nameAddr.next > at && nameAddr.next <= end && nameAddr.uriEnd <= end && nameAddr.end <= end);
        parseUri(padded, nameAddr.uriStart, nameAddr.uriEnd, uriOut);
        assert.ok(uriOut.hostEnd <= end);
      }
      parseVia(padded, 0, end, viaOut);
      assert.ok(viaOut.end <= end && viaOut.next <= end && viaOut.branchEnd <= end && viaOut.receivedParamEnd <= end);
      for (let at = 0; nextHeader(padded, at, end, line); at = line.lineEnd) {
        assert.ok(line.lineEnd > at && line.valueEnd <= end && line.valueStart <= line.valueEnd);
      }
    }),
    { numRuns: 500 },
  );
});

test('a walk over the lines of a generated message covers its complete header section', () => {
  fc.assert(
    fc.property(message, ({ bytes }) => {
      const { scan } = scanned(bytes);
      const line = new HeaderLine();
      let at = scan.headersStart;
      while (nextHeader(bytes, at, scan.headersEnd, line)) at = line.lineEnd;
      assert.equal(at, scan.headersEnd);
      assert.equal(bytes.toString('latin1', at, scan.bodyStart), '\r\n');
    }),
  );
});
