// Reads the project's Markdown pages for the tests of their contents.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../../..');

export function page(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** Returns the fenced blocks of a page in one language; '' for blocks without one. */
export function blocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```([a-z]*)\n(.*?)^```$/gms)]
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? '');
}

/**
 * Returns the rows of the first table whose heading line begins with `| ${first} |`, as trimmed cells without heading
 * and ruler.
 */
export function tableOf(text: string, first: string): string[][] {
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.startsWith(`| ${first} |`));
  if (at < 0) return [];
  const rest = lines.slice(at + 2);
  const end = rest.findIndex((line) => !line.startsWith('|'));
  return rest.slice(0, end < 0 ? rest.length : end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}
