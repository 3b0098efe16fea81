// Merges several pages of metrics into one. The series of a family must be contiguous (Prometheus text format).

interface Family {
  /** HELP and TYPE. */
  readonly head: string[];
  readonly series: string[];
}

/** Returns one page in Prometheus text format. The pages must have no series in common: each has a label of its own. */
export function mergeMetrics(pages: readonly string[]): string {
  const families = new Map<string, Family>();
  for (const page of pages) {
    let family: Family | undefined;
    for (const line of page.split('\n')) {
      const name = /^# (?:HELP|TYPE) (\S+)/.exec(line)?.[1];
      if (name !== undefined) {
        family = families.get(name) ?? { head: [], series: [] };
        families.set(name, family);
        if (!family.head.includes(line)) family.head.push(line);
      } else if (line !== '') family?.series.push(line);
    }
  }
  return [...families.values()].map(({ head, series }) => `${[...head, ...series].join('\n')}\n`).join('\n');
}
