// The rooms of src and their order from rooms.json, lowest floor first. A room imports from itself and from the floors
// below it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

/** The floors, lowest first; the rooms of each, with their contents as text. */
export type Floors = readonly Readonly<Record<string, string>>[];

/** Globs of the code that may write to the console. */
const CONSOLE = ['src/cli/**', 'src/process/**', 'src/main.ts', 'bin/**', 'test/**'];
const BEGIN = '<!-- rooms: written by `npm run rooms` from rooms.json -->';
const END = '<!-- /rooms -->';

export function readFloors(): Floors {
  return JSON.parse(readFileSync(join(ROOT, 'rooms.json'), 'utf8')) as Floors;
}

/** Returns all rooms of the floors. `service` has rooms above it: its glob has only its own files. */
export function roomNames(floors: Floors): string[] {
  return floors.flatMap((floor) => Object.keys(floor));
}

function filesOf(room: string, rooms: readonly string[]): string {
  if (room.endsWith('.ts')) return `src/${room}`;
  return rooms.some((other) => other.startsWith(`${room}/`)) ? `src/${room}/*` : `src/${room}/**`;
}

/**
 * Returns the pattern of imports of a room. Import paths end in the room's last name, and from a neighbour in the same
 * folder that is all they have.
 */
function importsOf(room: string, rooms: readonly string[]): string {
  const name = room.slice(room.lastIndexOf('/') + 1);
  if (room.endsWith('.ts')) return `**/${name}`;
  return rooms.some((other) => other.startsWith(`${room}/`)) ? `**/${name}/*.ts` : `**/${name}/**`;
}

function lint(rules: object): object {
  return { linter: { rules } };
}

/** Returns the overrides of biome.json: one for each room with a floor above it. */
export function overrides(floors: Floors): object[] {
  const rooms = roomNames(floors);
  const direction = floors.map((floor) => Object.keys(floor).join(', ')).reverse();
  const message = `imports run one way: ${direction.join(' > ')}`;
  const rules = floors.flatMap((floor, index) =>
    Object.keys(floor).flatMap((room) => {
      const closed = floors.slice(index).flatMap((each) => Object.keys(each).filter((other) => other !== room));
      if (closed.length === 0) return [];
      const group = closed.map((other) => importsOf(other, rooms));
      const noRestrictedImports = { level: 'error', options: { patterns: [{ group, message }] } };
      return [{ includes: [filesOf(room, rooms)], ...lint({ style: { noRestrictedImports } }) }];
    }),
  );
  return [...rules, { includes: CONSOLE, ...lint({ suspicious: { noConsole: 'off' } }) }];
}

function table(floors: Floors): string {
  const rows = floors.map(
    (floor) =>
      `| ${Object.keys(floor)
        .map((room) => `\`${room}\``)
        .join('<br>')} | ${Object.values(floor).join('<br>')} |`,
  );
  return [BEGIN, '| rooms of a floor | contents |', '|---|---|', ...rows.reverse(), END].join('\n');
}

/** Returns the files that contain the rooms, by path, with their correct text. */
export function renderRooms(): ReadonlyMap<string, string> {
  const floors = readFloors();
  const biome = JSON.parse(readFileSync(join(ROOT, 'biome.json'), 'utf8')) as object;
  const page = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
  const [start, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  return new Map([
    ['biome.json', `${JSON.stringify({ ...biome, overrides: overrides(floors) }, null, 2)}\n`],
    ['docs/architecture.md', `${page.slice(0, start)}${table(floors)}${page.slice(end + END.length)}`],
  ]);
}
