// Parses and shows durations in the form 90s, 10m, 1h30m.
const UNITS = { h: 3600, m: 60, s: 1 } as const;

/**
 * Returns seconds; undefined unless `text` has hours, minutes and seconds in this order, each at most once and with its
 * unit.
 */
export function parseDuration(text: string): number | undefined {
  const match = /^(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?$/.exec(text);
  if (!match || text === '') return undefined;
  const [hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((digits) => Number(digits ?? 0));
  return hours * UNITS.h + minutes * UNITS.m + seconds * UNITS.s;
}

/** Returns 3725 as 1h2m5s; parts that are 0 are left out. */
export function showDuration(seconds: number): string {
  const hours = Math.floor(seconds / UNITS.h);
  const minutes = Math.floor((seconds % UNITS.h) / UNITS.m);
  const rest = seconds % UNITS.m;
  return `${hours ? `${hours}h` : ''}${minutes ? `${minutes}m` : ''}${rest || seconds === 0 ? `${rest}s` : ''}`;
}
