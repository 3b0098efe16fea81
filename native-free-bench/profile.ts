// Summarises a V8 cpu profile: the functions with the most time of their own.

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly samples?: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas?: readonly number[];
}

export interface OwnTime {
  readonly name: string;
  /** 0 to 1, of all time that is not idle. */
  readonly share: number;
}

function nameOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const file = url.replace(/^.*\/(?=(?:src|native-free-bench|node_modules)\/)/, '').replace(/^file:\/\//, '');
  return `${functionName || '(anonymous)'}${file ? ` ${file}:${lineNumber + 1}` : ''}`;
}

/** The functions by their own time, the most first; `most` of them. */
export function ownTimes(profile: CpuProfile, most: number): OwnTime[] {
  const names = new Map(profile.nodes.map((node) => [node.id, nameOf(node)]));
  const times = new Map<string, number>();
  let all = 0;
  for (const [index, id] of (profile.samples ?? []).entries()) {
    const name = names.get(id) ?? '';
    if (name === '(idle)') continue;
    const micros = Math.max(0, profile.timeDeltas?.[index] ?? 0);
    times.set(name, (times.get(name) ?? 0) + micros);
    all += micros;
  }
  return [...times]
    .map(([name, micros]) => ({ name, share: micros / all }))
    .sort((a, b) => b.share - a.share)
    .slice(0, most);
}
