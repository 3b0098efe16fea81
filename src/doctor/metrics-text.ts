// Reads single values from Prometheus text of the running member and of etcd.

function valuesOf(text: string, name: string, labels: Readonly<Record<string, string>>): number[] {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return text.split('\n').flatMap((line) => {
    const match = /^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match?.[1] !== name) return [];
    const given: readonly string[] = match[2]?.match(/[a-zA-Z_]+="(?:[^"\\]|\\.)*"/g) ?? [];
    return wanted.every((label) => given.includes(label)) ? [Number(match[3])] : [];
  });
}

/** Returns the sum of all series of `name` that have every one of `labels`; undefined when there is none. */
export function sumOf(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  const values = valuesOf(text, name, labels);
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0);
}

/** Returns the smallest value of all series of `name`, for example of several workers; undefined when there is none. */
export function leastOf(text: string, name: string): number | undefined {
  const values = valuesOf(text, name, {});
  return values.length === 0 ? undefined : Math.min(...values);
}
