// Runs the test files of one folder in one process: `node test/folder.ts NAME FILE...`. Each file is a suite of its
// own, so its hooks apply to its own tests only. All files are loaded before the first test begins. The run fails when
// a file changes state that all of them share.
import { deepEqual } from 'node:assert/strict';
import { relative } from 'node:path';
import { after, before, describe } from 'node:test';
import { pathToFileURL } from 'node:url';

const [name = '', ...files] = process.argv.slice(2);
const root = process.cwd();

/** Events of the process that a test may not keep a listener for. */
const EVENTS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'uncaughtException', 'unhandledRejection'] as const;
const GLOBALS = ['setTimeout', 'setInterval', 'setImmediate', 'Date', 'fetch', 'performance', 'console'] as const;

/** Returns state that each file must leave as it was, by name. */
function shared(): Map<string, unknown> {
  return new Map<string, unknown>([
    ['the working directory', process.cwd()],
    ['the exit code', process.exitCode],
    ...Object.entries(process.env).map(([key, value]) => [`the environment variable ${key}`, value] as const),
    ...EVENTS.map((event) => [`the listeners of ${event}`, process.listenerCount(event)] as const),
    ...GLOBALS.map((key) => [`the global ${key}`, globalThis[key]] as const),
  ]);
}

describe(name, async () => {
  const changes: string[] = [];
  let state: Map<string, unknown> | undefined;
  let latest = '';
  const compare = (next: string): void => {
    const now = shared();
    // Values are not printed, because variables may contain secrets.
    for (const key of state ? new Set([...state.keys(), ...now.keys()]) : [])
      if (state?.get(key) !== now.get(key)) changes.push(`${latest} changed ${key}`);
    state = now;
    latest = next;
  };
  for (const file of files) {
    const title = relative(root, file);
    // The import runs inside of the suite, therefore the tests and hooks of the file become those of the suite.
    await new Promise<void>((resolve, reject) => {
      describe(title, () => {
        before(() => compare(title));
        return import(pathToFileURL(file).href).then(() => resolve(), reject);
      });
    });
  }
  after(() => {
    compare('');
    deepEqual(changes, []);
  });
});
