// All checks of `sipfarm doctor`: the configuration and the facts of the host in, findings out. Pure.
import type { Problem } from '../config/problems.ts';
import type { Config } from '../config/schema.ts';
import { checkAddresses } from './address-checks.ts';
import type { HostFacts } from './facts.ts';
import { checkFarm } from './farm-checks.ts';
import { type Finding, finding, type Severity } from './finding.ts';
import { checkKernel } from './kernel-checks.ts';

const ORDER: Readonly<Record<Severity, number>> = { fault: 0, warning: 1, hint: 2 };

/** What is wrong, the worst first. */
export function diagnose(config: Config, warnings: readonly string[], facts: HostFacts): readonly Finding[] {
  const said = warnings.map((warning) =>
    finding('DR_CONFIG_WARNING', 'hint', 'configuration', warning, ['sipfarm check']),
  );
  return [...checkAddresses(config, facts), ...checkKernel(config, facts), ...checkFarm(config, facts), ...said].sort(
    (a, b) => ORDER[a.severity] - ORDER[b.severity],
  );
}

/** A configuration that is not valid, as findings. */
export function diagnoseProblems(file: string, problems: readonly Problem[]): readonly Finding[] {
  return problems.map(({ field, line, column, message }) => {
    const wildcard =
      /^listeners\[\d+\]\.bind$/.test(field) && message.startsWith('is a wildcard: with balancer.mode dsr');
    const place = line === 0 ? file : `${file}:${line}:${column}`;
    return finding(
      wildcard ? 'DR_WILDCARD_BIND' : 'DR_CONFIG',
      'fault',
      field === '' ? place : `${field} (${place})`,
      `${field} ${message}`.trim(),
      [`edit ${file}, then sipfarm check`],
    );
  });
}

/** Whether nothing was found but hints. */
export function isWell(findings: readonly Finding[]): boolean {
  return findings.every(({ severity }) => severity === 'hint');
}
