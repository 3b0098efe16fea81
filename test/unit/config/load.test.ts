import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SipfarmError } from '../../../src/base/errors.ts';
import { loadAdminAddress, loadConfig, parseClusterFile } from '../../../src/config/load.ts';
import { ConfigError } from '../../../src/config/problems.ts';
import { changed, ENVIRONMENT, GOOD, KEY, load, problemsOf, upstreamOf } from './sample.ts';

interface Case {
  readonly title: string;
  readonly from: string;
  readonly to: string;
  /** Code, line:column, field, and words of the fix for the only problem. */
  readonly told: readonly [string, string, string, RegExp];
}

const UDP = 'bind: 198.51.100.1:5060 }\n  - {';
const INVALID = 'SF_CONFIG_INVALID';

const CASES: readonly Case[] = [
  {
    title: 'an unknown section',
    from: 'balancer:',
    to: 'balancr:',
    told: [INVALID, '7:1', 'balancr', /did you mean balancer\?/],
  },
  {
    title: 'an unknown field in a list',
    from: UDP,
    to: 'bnid: 1, bind: 198.51.100.1:5060 }\n  - {',
    told: [INVALID, '5:35', 'listeners[0].bnid', /did you mean bind\?/],
  },
  {
    title: 'an unknown field in a store of one kind',
    from: 'hosts:',
    to: 'leaseSecond: 9, hosts:',
    told: [INVALID, '3:22', 'store.leaseSecond', /did you mean leaseSeconds\?/],
  },
  {
    title: 'an unknown field without a similar one',
    from: 'mode: dsr',
    to: 'mode: dsr, xyzzy: 1',
    told: [INVALID, '7:24', 'balancer.xyzzy', /valid here: mode, probes/],
  },
  {
    title: 'a field of the etcd store in a memory store',
    from: 'kind: etcd',
    to: 'kind: memory',
    told: [INVALID, '3:24', 'store.hosts', /valid here: kind, leaseSeconds/],
  },
  {
    title: 'a missing section',
    from: 'relay: { bind: 10.0.0.11:5064 }\n',
    to: '',
    told: [INVALID, '1:1', 'relay', /is missing; it must be a section/],
  },
  {
    title: 'a missing field, reported at its section',
    from: 'bind: 10.0.0.11:5064',
    to: '',
    told: [INVALID, '9:8', 'relay.bind', /is missing/],
  },
  {
    title: 'a word outside of the choices',
    from: 'transport: tcp',
    to: 'transport: tpc',
    told: [INVALID, '6:34', 'listeners[1].transport', /udp or tcp; did you mean tcp\?/],
  },
  {
    title: 'a store of an unknown kind',
    from: 'kind: etcd',
    to: 'kind: etdc',
    told: [INVALID, '3:16', 'store.kind', /etcd or memory; did you mean etcd\?/],
  },
  {
    title: 'a number instead of text',
    from: 'farm: lab',
    to: 'farm: 7',
    told: [INVALID, '1:7', 'farm', /put it in quotes/],
  },
  {
    title: 'text instead of a number',
    from: 'farm: lab',
    to: 'farm: lab\nweight: much',
    told: [INVALID, '2:9', 'weight', /must be a number/],
  },
  {
    title: 'one value instead of a list',
    from: '[http://127.0.0.1:2379]',
    to: 'http://127.0.0.1:2379',
    told: [INVALID, '3:29', 'store.hosts', /put it in \[ \]/],
  },
  {
    title: 'a number below its range',
    from: 'bind: 10.0.0.11:5064',
    to: 'bind: 10.0.0.11:5064, mtu: 12',
    told: [INVALID, '9:37', 'relay.mtu', /at least 576/],
  },
  {
    title: 'a number above its range',
    from: 'farm: lab',
    to: 'farm: lab\nweight: 1001',
    told: [INVALID, '2:9', 'weight', /at most 1000/],
  },
  {
    title: 'an empty section',
    from: 'farm: lab',
    to: 'farm: lab\nlimits:',
    told: [INVALID, '2:8', 'limits', /is empty/],
  },
  ...['sip:sip.example.com', 'sip.example.com;transport=tls', '*.example.com', '2001:db8::1'].map(
    (name) =>
      ({
        title: `the name ${name} of the farm`,
        from: 'farm: lab',
        to: `farm: lab\nnames: [sip.example.com, "${name}"]`,
        told: [INVALID, '2:26', 'names[1]', /is not a domain name or IP address/],
      }) as const,
  ),
  {
    title: 'a bind that is a name',
    from: 'bind: 10.0.0.11:5064',
    to: 'bind: eth0:5064',
    told: [INVALID, '9:16', 'relay.bind', /is not an IP address with a port/],
  },
  {
    title: 'a port above 65535',
    from: '10.0.0.11:5064',
    to: '10.0.0.11:65536',
    told: [INVALID, '9:16', 'relay.bind', /is not an IP address with a port/],
  },
  {
    title: 'an advertised value that is neither address nor name',
    from: UDP,
    to: 'bind: 198.51.100.1:5060, advertise: "sip:sip.example.com" }\n  - {',
    told: [INVALID, '5:71', 'listeners[0].advertise', /is not a host with a port and a transport/],
  },
  {
    title: 'two listeners with the same name',
    from: 'name: edge-tcp',
    to: 'name: edge',
    told: [INVALID, '6:13', 'listeners[1].name', /its own name/],
  },
  {
    title: 'a server with transport TCP',
    from: 'sip:127.0.0.1:5070',
    to: 'sip:127.0.0.1:5070;transport=tcp',
    told: [INVALID, '10:36', 'service.server', /by UDP/],
  },
  {
    title: 'a trusted proxy that is no network',
    from: 'mode: dsr',
    to: 'mode: dsr, trusted: [proxy.example.org]',
    told: [INVALID, '7:34', 'balancer.trusted[0]', /10\.0\.0\.0\/8/],
  },
  {
    title: 'a probe that is no network',
    from: 'mode: dsr',
    to: 'mode: dsr, probes: [10.0.0.0/33]',
    told: [INVALID, '7:33', 'balancer.probes[0]', /10\.0\.0\.0\/8/],
  },
  {
    title: 'a password in a URL, which is not shown',
    from: 'http://127.0.0.1',
    to: 'http://root:hunter2@127.0.0.1',
    told: [INVALID, '3:30', 'store.hosts[0]', /^((?!hunter2).)*store\.password$/],
  },
  {
    title: 'a certificate without its key',
    from: 'hosts: [http://127.0.0.1:2379]',
    to: 'hosts: [https://127.0.0.1:2379], cert: /x.pem',
    told: [INVALID, '3:61', 'store.cert', /set both/],
  },
  {
    title: 'keys together with keyFile',
    from: 'keys:',
    to: 'keyFile: /k\nkeys:',
    told: [INVALID, '8:10', 'keyFile', /leave one of them out/],
  },
  {
    title: 'an environment variable that is not set',
    from: 'farm: lab',
    to: `farm: "\${FARM_NAME}"`,
    told: ['SF_CONFIG_SECRET', '1:7', 'farm', /FARM_NAME, which is not set/],
  },
  {
    title: 'an invalid key',
    from: `"\${SIPFARM_KEY}"`,
    to: `"\${SIPFARM_KEY}", abcdef`,
    told: ['SF_KEY_INVALID', '8:26', 'keys[1]', /openssl rand -hex 32/],
  },
  {
    title: 'no key',
    from: `keys: ["\${SIPFARM_KEY}"]\n`,
    to: '',
    told: ['SF_KEYS_MISSING', '1:1', 'keys', /keys or keyFile/],
  },
  {
    title: 'a key file that cannot be read',
    from: `keys: ["\${SIPFARM_KEY}"]`,
    to: 'keyFile: /nowhere/keys',
    told: ['SF_CONFIG_SECRET', '8:10', 'keyFile', /cannot be read \(ENOENT\)/],
  },
  {
    title: 'a public admin port without a token',
    from: 'farm: lab',
    to: 'farm: lab\nadmin: { bind: 0.0.0.0:8060 }',
    told: ['SF_ADMIN_TOKEN_REQUIRED', '2:8', 'admin.token', /or bind to 127\.0\.0\.1/],
  },
];

for (const { title, from, to, told } of CASES)
  test(`the configuration is refused with line, column and fix for ${title}`, () => {
    const problems = problemsOf(changed(from, to));
    assert.deepEqual(
      problems.map(({ code, line, column, field }) => [code, `${line}:${column}`, field]),
      [told.slice(0, 3)],
    );
    assert.match(problems[0]!.message, told[3]);
  });

test('bad YAML is refused at its line and column', () => {
  for (const [text, line, column] of [
    ['farm: lab\n  member: x\n', 1, 7],
    ['farm: lab\nfarm: lab2\n', 2, 1],
    ['farm: [a\n', 2, 1],
  ] as const) {
    const [problem] = problemsOf(text);
    assert.deepEqual([problem?.code, problem?.line, problem?.column], ['SF_CONFIG_SYNTAX', line, column], text);
  }
});

test('all problems are reported together, in the order of the file', () => {
  const text = GOOD.replace('udp', 'upd').replace('farm: lab', 'farm: L').replace('mode: dsr', 'mod: dsr');
  const fields = problemsOf(text).map(({ field }) => field);
  assert.deepEqual(fields, ['farm', 'listeners[0].transport', 'balancer.mod']);
});

test('an empty file and a list are refused without a crash', () => {
  assert.ok(problemsOf('').some(({ field }) => field === 'farm'));
  assert.equal(problemsOf('- a\n')[0]?.code, 'SF_CONFIG_INVALID');
  assert.equal(problemsOf('just text')[0]?.code, 'SF_CONFIG_INVALID');
});

test('aliases that multiply are refused', () => {
  const lines = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]'];
  for (let i = 1; i < 9; i++)
    lines.push(
      `a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(',')}]`,
    );
  assert.equal(problemsOf(lines.join('\n'))[0]?.code, 'SF_CONFIG_SYNTAX');
});

test('a missing file is unreadable', () => {
  assert.throws(
    () => loadConfig('/nowhere/sipfarm.yaml', ENVIRONMENT),
    (error) => error instanceof SipfarmError && error.code === 'SF_CONFIG_UNREADABLE',
  );
});

test('a good file is loaded with every default', () => {
  const { config, warnings } = load(GOOD);
  assert.deepEqual(warnings, []);
  assert.equal(config.weight, 100);
  assert.deepEqual(config.admin.bind, { address: '127.0.0.1', port: 8060 });
  assert.deepEqual(config.listeners[0], {
    name: 'edge',
    transport: 'udp',
    bind: { address: '198.51.100.1', port: 5060 },
    advertise: { host: '198.51.100.1', port: 5060, transport: 'udp' },
    answer: 'direct',
    proxyProtocol: 'off',
  });
  assert.deepEqual(upstreamOf(config).allow, ['127.0.0.1']);
  assert.deepEqual(upstreamOf(config).advertise, upstreamOf(config).bind);
  assert.equal(config.keys[0]?.reveal(), KEY);
  assert.equal(config.limits.tcpConnections, 10_000);
});

test('trust in all addresses gives a warning', () => {
  for (const network of ['0.0.0.0/0', '::/0']) {
    const { warnings } = load(changed('mode: dsr', `mode: dsr, trusted: ["${network}", "!0.0.0.0/0"]`));
    assert.match(warnings.join(), /anybody may claim/);
  }
  assert.deepEqual(load(changed('mode: dsr', 'mode: dsr, trusted: ["10.0.0.1", "!0.0.0.0/0"]')).warnings, []);
});

test('the member has the name of the host unless the file names it', () => {
  assert.equal(load(GOOD).config.member, 'fe1');
  assert.equal(load(changed('member: fe1\n', '')).config.member, 'host1');
});

test('environment variables are replaced in texts, not in names', () => {
  const text = changed('farm: lab', `farm: "\${A}-\${B}"`);
  assert.equal(load(text, { ...ENVIRONMENT, A: 'x', B: 'y' }).config.farm, 'x-y');
});

test('keys are read from a file, one per line, and the first one mints', () => {
  const second = 'cd'.repeat(32);
  const text = changed(`keys: ["\${SIPFARM_KEY}"]`, 'keyFile: farm.keys');
  const files = new Map([
    ['/etc/x/sipfarm.yaml', text],
    ['/etc/x/farm.keys', `# keys\n${KEY}\n\n  ${second}  # old\n`],
  ]);
  const { config } = loadConfig(
    '/etc/x/sipfarm.yaml',
    {},
    { readFile: (path) => files.get(path) ?? assert.fail(path) },
  );
  assert.deepEqual(
    config.keys.map((key) => key.reveal()),
    [KEY, second],
  );
});

test('a memory store gives a warning', () => {
  const text = changed('kind: etcd, hosts: [http://127.0.0.1:2379]', 'kind: memory');
  assert.match(load(text).warnings.join(), /store\.kind is memory/);
});

test('the admin address is found in a file whose keys are not available', () => {
  const readFile = (): string => `${GOOD}admin: { bind: 127.0.0.1:9999, token: "\${T}" }\n`;
  const address = loadAdminAddress('x.yaml', { T: 'tok' }, { readFile });
  assert.deepEqual([address.bind.port, address.token?.reveal()], [9999, 'tok']);
  assert.throws(
    () => loadAdminAddress('x.yaml', {}, { readFile }),
    (error) => error instanceof ConfigError && error.problems[0]?.field === 'admin.token',
  );
});

test('cluster-wide settings from a file are checked with line and column', () => {
  assert.deepEqual(parseClusterFile('c.yaml', 'log: { level: debug }\n'), { log: { level: 'debug' } });
  assert.throws(
    () => parseClusterFile('c.yaml', 'drain: { deadlineSeconds: 5 }\nkeys: [x]\n'),
    (error) => error instanceof ConfigError && error.problems[0]?.line === 2 && error.problems[0].field === 'keys',
  );
});
