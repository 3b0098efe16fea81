import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, inspect } from 'node:util';
import { makeLog, setLogLevel } from '../../../src/base/log.ts';
import { Secret } from '../../../src/config/secret.ts';
import { changed, ENVIRONMENT, GOOD, KEY, load, problemsOf } from './sample.ts';

const TOKEN = 'tok-very-hidden';
const PASSWORD = 'pass-very-hidden';
const TEXT = `${GOOD.replace('kind: etcd', `kind: etcd, user: u, password: ${PASSWORD}`)}admin: { token: ${TOKEN} }\n`;

function assertHidden(text: string): void {
  for (const secret of [KEY, TOKEN, PASSWORD]) assert.ok(!text.includes(secret), text);
}

/** Returns a target that collects log lines. */
function recorder(): { readonly lines: string[]; write(line: string): void } {
  const lines: string[] = [];
  return { lines, write: (line) => void lines.push(line) };
}

test('a secret prints as [secret] wherever a configuration is printed', () => {
  const { config } = load(TEXT);
  for (const text of [
    JSON.stringify(config),
    inspect(config, { depth: 20, showHidden: true }),
    format('%s %o %j', config.keys[0], config, config.admin),
    `${config.admin.token}`,
    String(config.keys),
  ])
    assertHidden(text);
  assert.equal(config.admin.token?.reveal(), TOKEN);
});

test('a secret never reaches the log, whatever field has it', () => {
  const record = recorder();
  const log = makeLog({ level: 'info', destination: record });
  const { config } = load(TEXT);
  log.info({
    config,
    token: TOKEN,
    admin: { token: TOKEN, password: PASSWORD },
    keys: [KEY],
    headers: { authorization: TOKEN },
  });
  assert.equal(record.lines.length, 1);
  assertHidden(record.lines[0]!);
  assert.match(record.lines[0]!, /\[secret\]/);
});

test('the errors of an invalid configuration contain no secrets', () => {
  const short = KEY.slice(0, 40);
  const wrong = changed(`"\${SIPFARM_KEY}"`, `"${short}", 12`).replace('farm: lab', 'farm: L');
  for (const { message } of problemsOf(wrong)) assert.ok(!message.includes(short));
  for (const { message } of problemsOf(GOOD, { SIPFARM_KEY: `${short}zz` })) assert.ok(!message.includes(short));
  for (const { message } of problemsOf(`keys: [${KEY}\nfarm: { ${TOKEN} ]`)) assertHidden(message);
});

test('equal secrets compare as equal without being shown', () => {
  assert.ok(new Secret('a').equals(new Secret('a')));
  assert.ok(!new Secret('a').equals(new Secret('b')));
});

test('the log level can change at run time, for child loggers, too', () => {
  const record = recorder();
  const log = makeLog({ level: 'info', destination: record, fields: { member: 'fe1' } });
  const child = log.child({ room: 'relay' });
  child.debug('unseen');
  setLogLevel(log, 'debug');
  child.debug('seen');
  assert.equal(record.lines.length, 1);
  assert.partialDeepStrictEqual(JSON.parse(record.lines[0]!), {
    level: 'debug',
    member: 'fe1',
    room: 'relay',
    msg: 'seen',
  });
  assert.equal(ENVIRONMENT.SIPFARM_KEY, KEY);
});
