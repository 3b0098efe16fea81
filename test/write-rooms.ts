// Writes the linter's import rules, and the rooms in docs/architecture.md, from rooms.json: `npm run rooms`. A test
// compares them.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderRooms } from './rooms.ts';

const ROOT = join(import.meta.dirname, '..');
for (const [path, text] of renderRooms()) writeFileSync(join(ROOT, path), text);
execFileSync(join(ROOT, 'node_modules/.bin/biome'), ['format', '--write', 'biome.json'], { cwd: ROOT });
