// Runs all checks of `sipfarm doctor`: configuration and facts of the host in, findings out. Pure.
import type { Problem } from '../config/problems.ts';
import type { Config } from '../config/schema.ts';
import { checkAddresses } from './address-checks.ts';
import { checkBinds } from './bind-checks.ts';
import type { HostFacts } from './facts.ts';
import { checkFarm } from './farm-checks.ts';
import { type Finding, finding, type Severity } from './finding.ts';
import { checkKernel } from './kernel-checks.ts';
import { checkMedia } from './media-checks.ts';
import { checkOffload } from './offload-checks.ts';
import { checkThrough } from './through-checks.ts';
import type { ThroughFacts } from './through-probe.ts';
import { checkTransparent } from './transparent-checks.ts';

const ORDER: Readonly<Record<Severity, number>> = { fault: 0, warning: 1, hint: 2 };

function worstFirst(findings: readonly Finding[]): readonly Finding[] {
  return findings.toSorted((a, b) => ORDER[a.severity] - ORDER[b.severity]);
}

/** Returns the findings about answers to clients, worst first. */
export function diagnoseThrough(facts: ThroughFacts): readonly Finding[] {
  return worstFirst(checkThrough(facts));
}

/** Returns the findings about this host and farm, worst first. */
export function diagnose(config: Config, warnings: readonly string[], facts: HostFacts): readonly Finding[] {
  const ofConfig = warnings.map((warning) =>
    finding('DR_CONFIG_WARNING', 'hint', 'configuration', warning, [`sipfarm check -c ${facts.file}`]),
  );
  return worstFirst([
    ...checkBinds(config, facts),
    ...checkAddresses(config, facts),
    ...checkKernel(config, facts),
    ...checkTransparent(config, facts),
    ...checkOffload(facts),
    ...checkFarm(config, facts),
    ...checkMedia(facts),
    ...ofConfig,
  ]);
}

/** Returns the problems of an invalid configuration as findings. */
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
      [`# correct ${place}, then:`, `sipfarm check -c ${file}`],
    );
  });
}

/** Returns whether the findings contain only hints. */
export function isWell(findings: readonly Finding[]): boolean {
  return findings.every(({ severity }) => severity === 'hint');
}
