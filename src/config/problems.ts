// Turns errors of zod and YAML into problems that an operator can fix: line, column, field, cause, fix.
import { z } from 'zod';
import { type ErrorCode, SipfarmError } from '../base/errors.ts';

export type FieldPath = readonly (string | number)[];

export interface Problem {
  readonly code: ErrorCode;
  /** 1-based; 0 when the problem has no position in a file. */
  readonly line: number;
  readonly column: number;
  /** `listeners[0].bind`; empty for the whole file. */
  readonly field: string;
  /** The cause and the fix. Never contains a value from the file. */
  readonly message: string;
}

/** All problems of one configuration. `code` is their common code, else SF_CONFIG_INVALID. */
export class ConfigError extends SipfarmError {
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[]) {
    const [first] = problems;
    const code = first && problems.every((problem) => problem.code === first.code) ? first.code : 'SF_CONFIG_INVALID';
    super(code, problems.map((problem) => describe(file, problem)).join('\n'));
    this.problems = problems;
  }
}

function describe(file: string, { line, column, field, message }: Problem): string {
  const place = line === 0 ? file : `${file}:${line}:${column}`;
  return field === '' ? `${place}: ${message}` : `${place}: ${field} ${message}`;
}

/** Returns `['listeners', 0, 'bind']` as `listeners[0].bind`. */
export function fieldText(path: FieldPath): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`)).join('');
}

/** Returns the number of edits (insert, delete, replace, swap of neighbours) from `a` to `b`. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      row[j] = Math.min(last[j]! + 1, row[j - 1]! + 1, replace, swapped ? before[j - 2]! + 1 : Infinity);
    }
    before = last;
    last = row;
  }
  return last[b.length]!;
}

/** Returns the word that was probably meant, if one is near. */
function nearest(word: string, known: readonly string[]): string | undefined {
  if (word.length > 64) return undefined;
  const scored = known
    .map((candidate) => ({ candidate, edits: distance(word.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.edits - b.edits);
  const [best] = scored;
  return best && best.edits <= Math.max(1, Math.floor(word.length / 3)) ? best.candidate : undefined;
}

interface SchemaProperties {
  readonly kind?: SchemaNode;
  readonly [name: string]: SchemaNode | undefined;
}

interface SchemaNode {
  readonly properties?: SchemaProperties;
  readonly items?: SchemaNode;
  readonly oneOf?: readonly SchemaNode[];
  readonly anyOf?: readonly SchemaNode[];
  readonly const?: unknown;
}

/** Returns the field names allowed at `path` of `value`. */
function knownNames(schema: z.ZodType, value: unknown, path: FieldPath): string[] {
  let node: SchemaNode | undefined = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as SchemaNode;
  let here = value;
  for (const part of path) {
    node = typeof part === 'number' ? node?.items : node?.properties?.[part];
    here = (here as Record<string | number, unknown> | undefined)?.[part];
    const kind = (here as { kind?: unknown } | undefined)?.kind;
    node = node?.oneOf?.find((option) => option.properties?.kind?.const === kind) ?? node;
  }
  return Object.keys(node?.properties ?? {});
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  array: 'a list',
  object: 'a section of fields',
  boolean: 'true or false',
};

function valueAt(value: unknown, path: FieldPath): unknown {
  return path.reduce<unknown>((at, part) => (at as Record<string | number, unknown> | undefined)?.[part], value);
}

function chooseFrom(values: readonly unknown[], found: unknown): string {
  const words = values.map(String);
  const meant = typeof found === 'string' ? nearest(found, words) : undefined;
  const allowed = `${words.slice(0, -1).join(', ')}${words.length > 1 ? ' or ' : ''}${words.at(-1)}`;
  return `must be ${allowed}${meant ? `; did you mean ${meant}?` : ''}`;
}

function wrongType(expected: string, found: unknown): string {
  const name = TYPE_NAMES[expected] ?? expected;
  if (found === undefined) return `is missing; it must be ${name}`;
  if (found === null) return `is empty; it must be ${name}`;
  if (expected === 'string' && typeof found === 'number') return 'is a number, but must be text; put it in quotes';
  if (expected === 'array' && typeof found !== 'object') return 'must be a list; put it in [ ]';
  return `must be ${name}`;
}

function bound(issue: { origin: string; minimum?: number | bigint; maximum?: number | bigint }): string {
  const [word, limit] = issue.minimum === undefined ? ['at most', issue.maximum] : ['at least', issue.minimum];
  if (issue.origin === 'string') return `must have ${word} ${limit} characters`;
  if (issue.origin === 'array') return `must have ${word} ${limit} entries`;
  return `must be ${word} ${limit}`;
}

/** An error of zod without a position in a file. `onKey`: it concerns the name of the field, not its value. */
export interface Complaint {
  readonly path: FieldPath;
  readonly message: string;
  readonly onKey: boolean;
}

/** Converts zod's issues about `value` to complaints: one per field. */
export function complaints(schema: z.ZodType, value: unknown, error: z.ZodError): Complaint[] {
  return error.issues.flatMap((issue): Complaint[] => {
    const path = issue.path as FieldPath;
    const found = valueAt(value, path);
    switch (issue.code) {
      case 'unrecognized_keys':
        return issue.keys.map((key) => {
          const known = knownNames(schema, value, path);
          const meant = nearest(key, known);
          const fix = meant ? `did you mean ${meant}?` : `valid here: ${known.join(', ')}`;
          return { path: [...path, key], message: `is not a known field; ${fix}`, onKey: true };
        });
      case 'invalid_type':
        return [{ path, message: wrongType(issue.expected, found), onKey: false }];
      case 'invalid_value':
        return [{ path, message: chooseFrom(issue.values, found), onKey: false }];
      case 'invalid_union':
        return [{ path, message: chooseFrom((issue as { options?: unknown[] }).options ?? [], found), onKey: false }];
      case 'too_small':
      case 'too_big':
        return [{ path, message: bound(issue), onKey: false }];
      default:
        return [{ path, message: issue.message, onKey: false }];
    }
  });
}
