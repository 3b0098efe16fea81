// Runs `sipfarm doctor`: collects facts, runs the checks, shows findings. With --fix it makes the safe fixes after
// confirmation.
import { randomBytes } from 'node:crypto';
import type { Endpoint } from '../base/endpoint.ts';
import { type AdminAddress, type Environment, loadConfig } from '../config/load.ts';
import { ConfigError } from '../config/problems.ts';
import type { Config } from '../config/schema.ts';
import { collectFacts } from '../doctor/collect.ts';
import { diagnose, diagnoseProblems, diagnoseThrough, isWell } from '../doctor/doctor.ts';
import { commandOf, type Finding, type Fix, fixesOf } from '../doctor/finding.ts';
import { askThrough } from '../doctor/through-probe.ts';
import { openStore } from '../process/open-store.ts';
import { AdminClient } from './admin-client.ts';
import { type DoctorHost, thisHost } from './doctor-host.ts';
import { printable } from './table.ts';

export interface DoctorOptions {
  /** Path of the configuration file. */
  readonly path: string;
  /** Admin address of the member, instead of the one in the configuration. */
  readonly admin?: AdminAddress;
  /** Probes this address as a client and makes no other check: no configuration is read. */
  readonly through?: Endpoint;
  readonly json?: boolean;
  readonly fix?: boolean;
  /** Makes fixes without confirmation. */
  readonly yes?: boolean;
}

/** Makes all checks once. Rejects with SF_CONFIG_SECRET when a certificate or key of the store cannot be read. */
async function examine(
  path: string,
  config: Config,
  warnings: readonly string[],
  admin: AdminAddress | undefined,
  host: DoctorHost,
): Promise<readonly Finding[]> {
  const store = config.store.kind === 'memory' ? undefined : openStore(config, () => {});
  const { bind, token } = config.admin;
  const client = new AdminClient(admin ?? { bind, ...(token && { token }) });
  try {
    const ask = (page: string): Promise<string | undefined> => client.getText(page).catch(() => undefined);
    return diagnose(config, warnings, await collectFacts(config, { ...host, store, ask }, path));
  } finally {
    await store?.close();
  }
}

/** Makes the checks from outside once. */
async function examineThrough(to: Endpoint, { network, clock, ownAddresses }: DoctorHost): Promise<readonly Finding[]> {
  const own = ownAddresses();
  const nonce = randomBytes(8).toString('hex');
  const isLocal = (address: string): boolean => own.includes(address);
  return diagnoseThrough(await askThrough({ network, clock, nonce, isLocal }, to));
}

function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}

/** Returns the findings as text, in the given order. */
function showFindings(findings: readonly Finding[]): string {
  const blocks = findings.map(({ severity, code, about, reason, mend }) =>
    [
      `${severity.padEnd(7)} ${code}  ${printable(about)}`,
      `  ${printable(reason)}`,
      ...mend.map((line) => `    ${printable(line)}`),
    ].join('\n'),
  );
  const count = (wanted: string): number => findings.filter(({ severity }) => severity === wanted).length;
  const sum = isWell(findings)
    ? `No fault was found${findings.length > 0 ? `; ${plural(findings.length, 'hint')}` : ''}.`
    : `${plural(count('fault'), 'fault')}, ${plural(count('warning'), 'warning')}, ${plural(count('hint'), 'hint')}.`;
  return [...blocks, sum].join('\n\n');
}

/** Makes one fix. Returns the reason when the system refuses it. */
async function apply(fix: Fix, host: DoctorHost): Promise<string | undefined> {
  if (fix.kind === 'sysctl') {
    try {
      host.writeFile(`/proc/sys/${fix.path}`, fix.value);
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  }
  const done = await host.run('ip', ['addr', 'add', `${fix.address}/${fix.prefix}`, 'dev', 'lo']);
  return done === undefined ? 'ip refused' : undefined;
}

/** Makes the safe fixes in order, and reports each. Returns true when at least one was tried. */
async function mend(
  findings: readonly Finding[],
  options: DoctorOptions,
  host: DoctorHost,
  report: (text: string) => void,
): Promise<boolean> {
  const fixes = fixesOf(findings);
  if (fixes.length === 0) {
    report('--fix: no safe command repairs any of these findings.');
    return false;
  }
  report(
    `These commands are safe. The next boot undoes them:\n${fixes.map((fix) => `  ${commandOf(fix)}`).join('\n')}`,
  );
  if (!options.yes && !(await host.confirm('Run them?'))) {
    report('Nothing was changed.');
    return false;
  }
  for (const fix of fixes) {
    const fault = await apply(fix, host);
    report(`${fault === undefined ? 'done  ' : 'FAILED'} ${commandOf(fix)}${fault === undefined ? '' : ` (${fault})`}`);
    // Later fixes depend on this one: an address must not be added before the kernel stops answering ARP requests for
    // it.
    if (fault !== undefined) break;
  }
  return true;
}

/**
 * Runs the doctor; resolves to true when nothing but hints was found. Rejects with SF_CONFIG_UNREADABLE and similar
 * errors.
 */
export async function runDoctor(
  options: DoctorOptions,
  environment: Environment,
  out: (text: string) => void,
  err: (text: string) => void,
  host: DoctorHost = thisHost,
): Promise<boolean> {
  const show = (findings: readonly Finding[]): boolean => {
    const ok = isWell(findings);
    out(
      options.json
        ? JSON.stringify(
            { ok, findings: findings.map(({ fixes, ...rest }) => ({ ...rest, fix: fixes.map(commandOf) })) },
            null,
            2,
          )
        : showFindings(findings),
    );
    return ok;
  };
  // Timers of the clock do not keep the process alive.
  const alive = setInterval(() => {}, 60_000);
  try {
    if (options.through) return show(await examineThrough(options.through, host));
    const { config, warnings } = loadConfig(options.path, environment);
    const check = (): Promise<readonly Finding[]> => examine(options.path, config, warnings, options.admin, host);
    const findings = await check();
    if (!options.fix) return show(findings);
    if (!options.json) show(findings);
    // With --json the standard output has one JSON text: the remaining findings.
    if (!(await mend(findings, options, host, err))) return options.json ? show(findings) : isWell(findings);
    return show(await check());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return show(diagnoseProblems(options.path, error.problems));
  } finally {
    clearInterval(alive);
  }
}
