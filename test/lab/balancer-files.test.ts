// Farms of four behind the files of deploy/lb-examples, which `sipfarm balancer render` also writes for them while they
// run. Only names of devices are replaced (SUBSTITUTES). Without haproxy or nginx (with its stream module) their tests
// are skipped; npm test installs both where it may.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  BACK,
  BALANCER,
  BALANCER_MAC,
  clientAddress,
  FRONT,
  MEMBERS,
  type Mode,
  memberAddress,
  memberMac,
  VIP,
} from './addresses.ts';
import { Farm, type LabConfig, sumOf } from './farm.ts';
import { Lab } from './lab.ts';
import { LAB_TOOLS, without } from './missing.ts';
import { assertGood, client, itCarries, type Outcome, runSuite, type Way } from './suite.ts';
import { until } from './until.ts';

const EXAMPLES = join(import.meta.dirname, '..', '..', 'deploy', 'lb-examples');
const CALLERS = join(import.meta.dirname, '..', 'tools', 'tls-callers.ts');
const NEEDS = without(...LAB_TOOLS, 'etcd', 'etcdctl');
const LIMIT = { timeout: 240_000 };
/**
 * Enough calls for each of four members to get three fifths of its share in all but one of a million farms: five
 * standard deviations.
 */
const SIZE = { calls: 240, others: 40, seconds: 5 };
/** The balancer of the nftables-dsr example has one interface for both sides, that of the laboratory has two. */
const SUBSTITUTES: Readonly<Record<string, string>> = {
  'define in = "eth0"': `define in = "${FRONT}"`,
  'define out = "eth0"': `define out = "${BACK}"`,
};

const isThere = (program: string, flag: string): boolean => spawnSync(program, [flag]).status === 0;
const needs = (what: string, is: boolean): string | false => NEEDS || (is ? false : `needs ${what}`);

/** Returns the configuration with the member names of the examples. */
const likeExample = (k: number, config: LabConfig): LabConfig => ({ ...config, farm: 'example', member: `fe${k}` });

/** Returns the configuration for a proxy, as in the examples: a header on TCP, answers to UDP by the ingress member. */
function behindProxy(k: number, config: LabConfig): LabConfig {
  const listeners = config.listeners
    .filter(({ name }) => !name.startsWith('edge6'))
    .map((listener) =>
      listener.transport === 'tcp' ? { ...listener, proxyProtocol: 'require' } : { ...listener, answer: 'ingress' },
    );
  const balancer = { mode: 'nat', probes: [], trusted: [`${BALANCER}/32`] };
  return { ...likeExample(k, config), listeners, balancer };
}

/** A running farm of four with an example's file in front of it. */
class Site {
  readonly kind: string;
  readonly lab: Lab;
  readonly farm: Farm;
  /** The example's file on the balancer. */
  readonly path: string;

  private constructor(kind: string, lab: Lab, farm: Farm, path: string) {
    this.kind = kind;
    this.lab = lab;
    this.farm = farm;
    this.path = path;
  }

  /**
   * Starts the farm, removes the laboratory's own balancer, and puts the example's file into the directory of the
   * laboratory.
   */
  static async open(
    kind: string,
    file: string,
    mode: Mode,
    adjust: Farm['adjust'],
    made: (lab: Lab) => void,
    members: readonly number[] = MEMBERS,
  ): Promise<Site> {
    const lab = Lab.open(mode, members);
    made(lab);
    const farm = await Farm.start(lab, { members, adjust });
    const site = new Site(kind, lab, farm, join(lab.dir, file));
    site.put(readFileSync(join(EXAMPLES, kind, file), 'utf8'));
    await lab.run('lb', 'nft', ['flush', 'ruleset']);
    return site;
  }

  /** Writes the balancer's file again. */
  put(text: string): void {
    let own = text;
    for (const [theirs, ours] of Object.entries(SUBSTITUTES)) own = own.replace(theirs, ours);
    writeFileSync(this.path, own);
  }

  /** Returns the output of `sipfarm balancer render` at member 1. */
  async render(): Promise<string> {
    const macs = MEMBERS.flatMap((k) => ['--mac', `fe${k}=${memberMac(k)}`]);
    const options = this.kind === 'nftables-dsr' ? [...macs, '--balancer-mac', BALANCER_MAC] : [];
    const { code, stdout, stderr } = await this.farm.command(
      1,
      'balancer',
      'render',
      this.kind,
      '--vip',
      VIP,
      ...options,
    );
    assert.equal(code, 0, stderr);
    return stdout;
  }

  /** Loads the file as rules of nft. */
  async load(): Promise<void> {
    const { code, stderr } = await this.lab.run('lb', 'nft', ['-f', this.path]);
    assert.equal(code, 0, stderr);
  }

  /** Gives the balancer the VIP, as a proxy needs it. */
  takeVip(): Promise<unknown> {
    return this.lab.run('lb', 'ip', ['addr', 'add', `${VIP}/32`, 'dev', 'lo']);
  }

  /** Makes some calls after the suite and checks that all succeed. */
  async callsAreGood(name: string, transport: 'u1' | 'tn'): Promise<void> {
    const options = { name, transport, calls: 20, rate: 20, pauseMs: 100, timeoutSeconds: 20 };
    assertGood(await client(this.lab, 12, options).done, 20, name, this.farm);
  }
}

/**
 * Adds the tests of every kind: the file is that of the running farm, and it carries the suite. `open` resolves when
 * the balancer works.
 */
function behind(
  kind: string,
  ways: readonly Way[],
  skip: string | false,
  open: (made: (lab: Lab) => void) => Promise<Site>,
  more: (site: () => Site, outcome: () => Outcome) => void,
): void {
  describe(`a farm behind the example of ${kind}`, { skip }, () => {
    let lab: Lab | undefined;
    let site: Site;
    let outcome: Outcome;
    before(async () => {
      site = await open((made) => {
        lab = made;
      });
      outcome = await runSuite(site.lab, site.farm, { ...SIZE, ways, rport: kind === 'nginx-stream' });
    }, LIMIT);
    after(() => lab?.close());

    it('uses the file that render writes for this farm', LIMIT, async () => {
      const { kind, path } = site;
      const [name = ''] = path.split('/').slice(-1);
      const expected = readFileSync(join(EXAMPLES, kind, name), 'utf8');
      let written = '';
      const isSame = async (): Promise<boolean> => {
        written = `${(await site.render()).trimEnd()}\n`;
        return written === expected;
      };
      // A member is left out while its SIP server does not answer, which can happen under the load of the suite.
      await until(isSame, () => `render writes something else:\n${written}`);
    });
    itCarries(ways, () => outcome);
    more(
      () => site,
      () => outcome,
    );
  });
}

for (const mode of ['nat', 'dsr'] as const) {
  const open = async (made: (lab: Lab) => void): Promise<Site> => {
    const site = await Site.open(`nftables-${mode}`, 'sipfarm.nft', mode, likeExample, made);
    await site.load();
    return site;
  };
  behind(`nftables-${mode}`, ['udp', 'tcp'], NEEDS, open, (site, outcome) => {
    it('sends every datagram to another member than the one before', () => {
      const received = outcome().metrics.map((text) =>
        sumOf(text, 'sipfarm_received_packets_total', { listener: 'edge', class: 'sip' }),
      );
      const sum = received.reduce((a, b) => a + b);
      for (const one of received) assert.ok(Math.abs(one - sum / received.length) < sum / 40, `${received}`);
    });
    if (mode === 'dsr') return;
    it('leaves out a departed member after the file is written again', LIMIT, async () => {
      site().farm.signal(3, 'SIGTERM');
      await site().farm.ended(3);
      let text = '';
      const isOut = async (): Promise<boolean> => {
        text = await site().render();
        return !/\bfe3\b/.test(text);
      };
      await until(isOut, () => 'fe3 stays in the configuration');
      site().put(text);
      await site().load();
      await site().callsAreGood('later', 'u1');
    });
  });
}

const openHaproxy = async (made: (lab: Lab) => void): Promise<Site> => {
  const site = await Site.open('haproxy', 'haproxy.cfg', 'nat', behindProxy, made);
  await startHaproxy(site);
  return site;
};

/** Starts haproxy; resolves when it checks the health of all members. */
async function startHaproxy(site: Site): Promise<void> {
  await site.takeVip();
  site.lab.exec('lb', 'haproxy', ['-db', '-f', site.path], 'haproxy');
  const asked = async (): Promise<boolean> =>
    (await site.farm.metrics()).every((text) => sumOf(text, 'sipfarm_proxy_headers_total', { outcome: 'local' }) >= 2);
  await until(asked, () => `haproxy asks nobody: ${site.lab.log('haproxy')}`);
}

behind('haproxy', ['tcp'], needs('haproxy', isThere('haproxy', '-v')), openHaproxy, (site, outcome) => {
  /** Returns member and reason of each member that haproxy's checks took out, in order. */
  const down = (): string[] =>
    [
      ...site()
        .lab.log('haproxy')
        .matchAll(/farm-5060\/(fe\d) is DOWN, reason: (\w+)/g),
    ].map(([, fe, why]) => `${fe} ${why}`);
  const seen = (count: number): Promise<void> =>
    until(
      () => down().length >= count,
      () => `not seen: ${site().lab.log('haproxy')}`,
    );

  it("gives the members the clients' addresses, and every header is valid", () => {
    const sum = (outcome_: string): number =>
      outcome().metrics.reduce(
        (total, text) => total + sumOf(text, 'sipfarm_proxy_headers_total', { outcome: outcome_ }),
        0,
      );
    assert.ok(sum('proxied') > SIZE.calls);
    for (const wrong of ['malformed', 'nested', 'cut', 'too-long']) assert.equal(sum(wrong), 0, wrong);
    assert.deepEqual(down(), []);
  });

  it('takes out only draining, hanging and dead members by its checks, and calls go on', LIMIT, async () => {
    const { farm, lab } = site();
    // The call keeps the draining member alive until haproxy has checked it twice.
    const options = {
      name: 'open',
      transport: 'tn',
      calls: 60,
      rate: 60,
      pauseMs: 6000,
      timeoutSeconds: 30,
    } as const;
    const open = client(lab, 13, options);
    await until(
      async () => sumOf((await farm.get(4, '/metrics')).body, 'sipfarm_owned_calls') > 0,
      () => `fe4 has no call: ${farm.logTail(4)}`,
    );
    farm.signal(4, 'SIGTERM');
    await seen(1);
    assertGood(await open.done, options.calls, options.name, farm);
    farm.signal(3, 'SIGSTOP');
    await seen(2);
    farm.signal(2, 'SIGKILL');
    await seen(3);
    assert.deepEqual(down(), ['fe4 Layer7', 'fe3 Layer7', 'fe2 Layer4']);
    await until(
      async () => sumOf((await farm.get(1, '/metrics')).body, 'sipfarm_members', { state: 'active' }) === 1,
      () => `the view keeps the dead: ${farm.logTail(1)}`,
    );
    await site().callsAreGood('later', 'tn');
    assert.equal(down().length, 3);
    farm.signal(3, 'SIGCONT');
    await until(
      () => site().lab.log('haproxy').includes('farm-5060/fe3 is UP'),
      () => `fe3 does not come back: ${site().lab.log('haproxy')}`,
    );
  });
});

describe('a farm behind haproxy that ends TLS, with the file that render writes,', {
  skip: needs('haproxy and openssl', isThere('haproxy', '-v') && isThere('openssl', 'version')),
}, () => {
  const NAME = 'sip.example.com';
  let lab: Lab | undefined;
  let site: Site;
  let certificate: string;

  const withTls = (k: number, config: LabConfig): LabConfig => {
    const behind = behindProxy(k, config);
    const bind = `${memberAddress(k)}:5061`;
    const tls = {
      name: 'edge-tls',
      transport: 'tcp',
      bind,
      advertise: `${NAME};transport=tls`,
      proxyProtocol: 'require',
    };
    return { ...behind, listeners: [...behind.listeners, tls] };
  };

  before(async () => {
    const made = (opened: Lab): void => {
      lab = opened;
    };
    site = await Site.open('haproxy', 'haproxy.cfg', 'nat', withTls, made, [1, 2]);
    const { dir } = site.lab;
    certificate = join(dir, 'certificate.pem');
    const key = join(dir, 'key.pem');
    const curve = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      key,
      '-out',
      certificate,
    ];
    const { status, stderr } = spawnSync('openssl', [
      ...['req', '-x509', ...curve, '-days', '2', '-subj', `/CN=${NAME}`, '-addext', `subjectAltName=DNS:${NAME}`],
    ]);
    assert.equal(status, 0, String(stderr));
    const both = join(dir, 'sipfarm.pem');
    writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'));
    site.put((await site.render()).replace('/etc/haproxy/sipfarm-example.pem', both));
    await startHaproxy(site);
  }, LIMIT);
  after(() => lab?.close());

  for (const [user, title] of [
    ['invite', 'calls whose client sends its BYE by a new TLS connection'],
    ['hangup', "calls that the server ends: its BYE comes by the client's connection"],
  ] as const)
    it(`carries ${title}`, LIMIT, async () => {
      const arguments_ = [VIP, '5061', NAME, certificate, clientAddress(3), user, '20'];
      const { stdout, stderr } = await site.lab.run('c', process.execPath, [CALLERS, ...arguments_]);
      const tail = `${stderr}${site.farm.logTail(1)}${site.farm.logTail(2)}${site.lab.log('haproxy')}`;
      assert.deepEqual(JSON.parse(stdout || '{}'), { good: 20, faults: [] }, tail);
    });
});

const hasNginx = isThere('nginx', '-V') && globSync('/etc/nginx/modules-enabled/*stream*').length > 0;
const openNginx = async (made: (lab: Lab) => void): Promise<Site> => {
  const site = await Site.open('nginx-stream', 'nginx.conf', 'nat', behindProxy, made);
  const { lab } = site;
  await site.takeVip();
  const here = `daemon off; pid ${join(lab.dir, 'nginx.pid')}; error_log ${join(lab.dir, 'nginx-errors.log')};`;
  lab.exec('lb', 'nginx', ['-c', site.path, '-e', join(lab.dir, 'nginx-start.log'), '-g', here], 'nginx');
  await until(
    async () => /:5060 .*\n(?:.*\n)*.*:5060 /.test((await lab.run('lb', 'ss', ['-lntu'])).stdout),
    () => `nginx does not listen: ${lab.log('nginx')}${lab.log('nginx-errors')}`,
  );
  return site;
};

behind('nginx-stream', ['udp', 'tcp'], needs('nginx with its stream module', hasNginx), openNginx, () => {});
