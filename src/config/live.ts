// Decides which settings may change while a member runs: by SIGHUP, or by the cluster-wide settings in the store.
import { isDeepStrictEqual } from 'node:util';
import { LIVE_MEDIA_FIELDS } from './media-section.ts';
import { ConfigError, complaints, fieldText } from './problems.ts';
import { type ClusterSettings, type Config, clusterSchema, clusterSections } from './schema.ts';
import { Secret } from './secret.ts';

/** Fields, and sections with all their fields, that apply without a restart. */
const LIVE_FIELDS: readonly string[] = [
  'weight',
  'names',
  'keys',
  'keyFile',
  'balancer.probes',
  'balancer.trusted',
  'balancer.udpAnswerHeader',
  'limits',
  'ownership',
  'drain',
  'log.level',
  ...LIVE_MEDIA_FIELDS.map((name) => `media.${name}`),
];

/** Parts of a live section that need a restart: open connections were framed by the old value. */
const RESTART_FIELDS: readonly string[] = ['limits.messageBytes'];

const SECTIONS = ['log', 'balancer', 'limits', 'drain', 'ownership', 'media'] as const;

const under = (field: string, section: string): boolean =>
  field === section || field.startsWith(`${section}.`) || field.startsWith(`${section}[`);

/** Returns true when a change of `field` (`limits.idleSeconds`, `keys[1]`) applies at once. */
export function appliesLive(field: string): boolean {
  return LIVE_FIELDS.some((live) => under(field, live)) && !RESTART_FIELDS.some((bound) => under(field, bound));
}

/**
 * Checks cluster-wide settings from the store or the admin API. Throws ConfigError (SF_CONFIG_INVALID) with every
 * problem.
 */
export function parseClusterSettings(value: unknown, source = 'cluster-wide settings'): ClusterSettings {
  const checked = clusterSchema.safeParse(value);
  if (checked.success) return checked.data;
  throw new ConfigError(
    source,
    complaints(clusterSchema, value, checked.error).map(({ path, message }) => ({
      code: 'SF_CONFIG_INVALID',
      line: 0,
      column: 0,
      field: fieldText(path),
      message,
    })),
  );
}

/**
 * Returns `config` merged with the cluster-wide settings. The member's own file wins, field by field. A field that
 * neither sets has its default.
 */
export function effective(config: Config, cluster: ClusterSettings): Config {
  const merged = Object.fromEntries(
    SECTIONS.map((section) => {
      const { probes: _probes, ...fromFile } = config.balancer;
      const own = section === 'balancer' ? fromFile : {};
      return [section, { ...own, ...defined(cluster[section]), ...defined(config.given[section]) }];
    }),
  );
  const { media: shared, ...sections } = clusterSections.parse(merged);
  if (!config.media) return { ...config, ...sections };
  const { bind, inside, ports } = config.media;
  return { ...config, ...sections, media: { ...shared, bind, inside, ports } };
}

function defined(section: object | undefined): object {
  return Object.fromEntries(Object.entries(section ?? {}).filter(([, value]) => value !== undefined));
}

export interface Changes {
  /** Changed fields that apply at once. */
  readonly live: readonly string[];
  /** Changed fields that need a restart of the member. */
  readonly restart: readonly string[];
}

function isSame(a: unknown, b: unknown): boolean {
  return a instanceof Secret && b instanceof Secret ? a.equals(b) : isDeepStrictEqual(a, b);
}

function isSection(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Secret) &&
    // An address with its port is one field in the file, and so is a range.
    !('port' in value || 'first' in value)
  );
}

function sameLists(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((entry, index) => isSame(entry, b[index]));
}

function differences(before: unknown, after: unknown, path: string): string[] {
  if (isSection(before) && isSection(after)) {
    const names = new Set([...Object.keys(before), ...Object.keys(after)]);
    return [...names].flatMap((name) => differences(before[name], after[name], path === '' ? name : `${path}.${name}`));
  }
  const equal = Array.isArray(before) && Array.isArray(after) ? sameLists(before, after) : isSame(before, after);
  return equal ? [] : [path];
}

/**
 * Returns the fields in which two configurations differ: those that apply at once, and those that need a restart. A
 * list counts as one field.
 */
export function liveDiff(before: Config, after: Config): Changes {
  const { given: _before, roleChosenBecause: _why, worker: _old, ...old } = before;
  const { given: _after, roleChosenBecause: _now, worker: _new, ...now } = after;
  const changed = differences(old, now, '').sort();
  return { live: changed.filter(appliesLive), restart: changed.filter((field) => !appliesLive(field)) };
}
