// The bin: joins the command line to the process. The only process.exit.
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { runDoctor } from './cli/doctor.ts';
import { type ProgramDeps, runProgram } from './cli/program.ts';
import { runDemo, runNode } from './process/run.ts';
import { firstSignal } from './process/signals.ts';
import { processChannel, runWorker } from './process/workers/worker.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  readonly version: string;
};

// A reader that has gone away (`sipfarm members | head -1`) is no fault.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });

const out = (text: string): void => void process.stdout.write(`${text}\n`);
const err = (text: string): void => void process.stderr.write(`${text}\n`);

const deps: ProgramDeps = {
  version,
  environment: process.env,
  out,
  err,
  runNode: (loaded, path) => runNode(loaded, path, version, process.env),
  runWorker: () => runWorker(processChannel(), version, process.env),
  runDoctor: (options) => runDoctor(options, process.env, out, err),
  runDemo: (options) => runDemo(options, version),
  following: {
    pause: (ms) => pause(ms),
    interrupted: firstSignal,
    ...(process.stdout.isTTY && { terminal: (text: string) => void process.stdout.write(text) }),
  },
};

process.exit(await runProgram(process.argv.slice(2), deps));
