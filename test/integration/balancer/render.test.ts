// Configurations of the balancers are accepted by their tools, where these are installed.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { BalancerPlan } from '../../../src/balancer/plan.ts';
import { isIpv6 } from '../../../src/base/endpoint.ts';
import { EXAMPLE, FARMS, frontend, hasTcp, textOf } from '../../unit/balancer/plans.ts';

/** nft and ip of Debian are outside of an ordinary user's PATH. */
const { PATH = '' } = process.env;
const env = { ...process.env, PATH: `${PATH}:/usr/sbin:/sbin` };

function works(command: string, ...args: readonly string[]): boolean {
  return spawnSync(command, args, { env }).status === 0;
}

const needs = (what: string, is: boolean): { readonly skip: string | false } => ({
  skip: is ? false : `needs ${what}`,
});
const canUnshare = works('unshare', '-rn', 'true') && works('ip', '-V');
const WITH_NFT = needs('nft and user namespaces', canUnshare && works('nft', '--version'));
const WITH_HAPROXY = needs('haproxy', works('haproxy', '-v'));
const WITH_NGINX = needs(
  'nginx with its stream module, and user namespaces',
  canUnshare && works('nginx', '-V') && hasStream(),
);
const WITH_KEEPALIVED = needs('keepalived', works('keepalived', '--version'));
const WITH_TERRAFORM = needs('terraform', works('terraform', '-version'));

function hasStream(): boolean {
  try {
    return readdirSync('/etc/nginx/modules-enabled').some((name) => name.includes('stream'));
  } catch {
    return false;
  }
}

/** Runs `script` with the text in $FILE, and shows the tool's own output when it fails. */
function check(t: TestContext, name: string, text: string, script: string, wrap: readonly string[] = []): void {
  const folder = mkdtempSync(join(tmpdir(), 'sipfarm-balancer-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const FILE = join(folder, name);
  writeFileSync(FILE, text);
  const [command, ...args] = [...wrap, 'sh', '-c', script];
  const { status, stdout, stderr } = spawnSync(command!, args, { encoding: 'utf8', env: { ...env, FILE } });
  assert.equal(status, 0, `${stdout}${stderr}\n${text}`);
}

const ALONE = ['unshare', '-rn'];

for (const kind of ['nftables-nat', 'nftables-dsr'] as const)
  for (const [title, plan] of Object.entries(FARMS))
    test(`nft accepts the file of ${kind} for ${title}`, WITH_NFT, (t) => {
      // Twice, because the second run meets the table of the first.
      const load = 'ip link add eth0 type veth peer name other && nft -c -f $FILE && nft -f $FILE && nft -f $FILE';
      check(t, 'sipfarm.nft', textOf(kind, plan), load, ALONE);
    });

test('an unknown MAC address is marked, and nft refuses the file', WITH_NFT, () => {
  const text = textOf('nftables-dsr', {
    ...EXAMPLE,
    members: [frontend(1), frontend(2, { mac: null })],
    balancerMac: null,
  });
  assert.match(text, /# NOT READY: .*this host.*fe2/);
  const script = 'ip link add eth0 type veth peer name other && nft -c -f -';
  const { status } = spawnSync('unshare', ['-rn', 'sh', '-c', script], { env, input: text });
  assert.notEqual(status, 0);
});

const SECURED: BalancerPlan = {
  ...EXAMPLE,
  services: [...EXAMPLE.services, { transport: 'tcp', port: 5061, targetPort: 5062, tls: true }],
};

test(
  'haproxy ends TLS where clients use it, and checks each SIP port of the members at that port',
  WITH_HAPROXY,
  (t) => {
    const text = textOf('haproxy', SECURED);
    assert.match(text, /^frontend sip-5060\n {2}bind 198\.51\.100\.1:5060$/m);
    assert.match(text, /^ {2}bind 198\.51\.100\.1:5061 ssl crt \/etc\/haproxy\/sipfarm-example\.pem$/m);
    assert.match(text, /^ {2}server fe1 10\.0\.0\.11:5062 weight 1 send-proxy-v2 check inter 1s fall 2 rise 2$/m);
    const make =
      'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=sip.example.com -keyout $FILE.k -out $FILE.c';
    const put = 'cat $FILE.c $FILE.k > $FILE.pem && sed -i "s#/etc/haproxy/sipfarm-example.pem#$FILE.pem#" $FILE';
    check(t, 'haproxy.cfg', text, `${make} 2>&1 && ${put} && haproxy -c -f $FILE`);
  },
);

for (const [title, plan] of Object.entries(FARMS)) {
  if (hasTcp(plan))
    test(`haproxy accepts its file for ${title}`, WITH_HAPROXY, (t) => {
      check(t, 'haproxy.cfg', textOf('haproxy', plan), 'haproxy -c -f $FILE');
    });

  test(`nginx accepts the file of nginx-stream for ${title}`, WITH_NGINX, (t) => {
    const up = `ip link set lo up && ip addr add ${plan.vip} dev lo${isIpv6(plan.vip) ? ' nodad' : ''}`;
    check(t, 'nginx.conf', textOf('nginx-stream', plan), `${up} && nginx -t -c $FILE`, ALONE);
  });

  test(`keepalived accepts the file of ipvs for ${title}`, WITH_KEEPALIVED, (t) => {
    check(t, 'keepalived.conf', textOf('ipvs', plan, 'keepalived.conf'), 'keepalived -t -f $FILE');
  });

  test(`terraform accepts the file of aws-nlb and its format for ${title}`, WITH_TERRAFORM, (t) => {
    check(t, 'main.tf', textOf('aws-nlb', plan), 'terraform fmt -check -diff $FILE');
  });
}
