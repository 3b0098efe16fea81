import assert from 'node:assert/strict';
import { existsSync, globSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { page, ROOT } from './markdown.ts';

/** Returns the page without code: fences and backticks contain no links. */
function prose(text: string): string {
  return text.replace(/^```.*?^```$/gms, '').replace(/`[^`\n]*`/g, 'code');
}

/** Returns the anchors that GitHub gives the headings of a page. */
function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of text.replace(/^```.*?^```$/gms, '').matchAll(/^#{1,6} +(.+)$/gm)) {
    const name = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replace(/ /g, '-');
    let anchor = name;
    for (let twin = 1; anchors.has(anchor); twin++) anchor = `${name}-${twin}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** Returns the problems of the links in the page at `path`. */
function deadLinks(path: string, text: string): string[] {
  const dead: string[] = [];
  for (const [, target = ''] of prose(text).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z][a-z0-9+.-]*:/i.test(target)) continue;
    const [file = '', anchor] = target.split('#');
    if (file === '') {
      if (!anchorsOf(text).has(anchor ?? '')) dead.push(`${target}: there is no such heading`);
      continue;
    }
    const goal = resolve(ROOT, dirname(path), file);
    if (relative(ROOT, goal).startsWith('..') || !existsSync(goal)) dead.push(`${target}: there is no such file`);
    else if (anchor !== undefined && !(goal.endsWith('.md') && statSync(goal).isFile()))
      dead.push(`${target}: only pages have anchors`);
    else if (anchor !== undefined && !anchorsOf(page(relative(ROOT, goal))).has(anchor))
      dead.push(`${target}: there is no such heading`);
  }
  return dead;
}

const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...globSync('docs/**/*.md', { cwd: ROOT }).sort()];

for (const path of pages)
  test(`every relative link of ${path} has a target`, () => {
    assert.deepEqual(deadLinks(path, page(path)), []);
  });

test('a link to a missing file or heading is found', () => {
  const text =
    '# Here\n[a](#here) [b](#there) [c](nothing.md) [d](README.md#status) [e](https://example.org/) `[f](no.md)`\n';
  assert.deepEqual(deadLinks('PAGE.md', text), [
    '#there: there is no such heading',
    'nothing.md: there is no such file',
    'README.md#status: there is no such heading',
  ]);
});

test('every page of docs/ is reachable from the README', () => {
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path) || !existsSync(join(ROOT, path))) return;
    reached.add(path);
    for (const [, file = ''] of prose(page(path)).matchAll(/\]\(([^)#\s]+\.md)(?:#[^)]*)?\)/g))
      if (!file.includes(':')) visit(relative(ROOT, resolve(ROOT, dirname(path), file)));
  };
  visit('README.md');
  assert.deepEqual(
    pages.filter((path) => !reached.has(path)),
    [],
  );
});
