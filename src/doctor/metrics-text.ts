// Reads single values out of Prometheus text: of the running member and of etcd.

/** Sum over all series of `name` that carry every one of `labels`; undefined when there is none. */
export function sumOf(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  let sum: number | undefined;
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match?.[1] !== name) continue;
    const given: readonly string[] = match[2]?.match(/[a-zA-Z_]+="(?:[^"\\]|\\.)*"/g) ?? [];
    if (wanted.every((label) => given.includes(label))) sum = (sum ?? 0) + Number(match[3]);
  }
  return sum;
}
