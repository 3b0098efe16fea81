// The machine of a run: its description, the cores of the two sides, the installed tools, and processes bound to a
// core.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import { delimiter, join } from 'node:path';

const { PATH = '' } = process.env;
/** The sbin directories, where kamailio is. Not every shell has them in its path. */
const DIRECTORIES = [...PATH.split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];

/** The path of a program; undefined when it is not there. */
export function find(program: string): string | undefined {
  return DIRECTORIES.map((directory) => join(directory, program)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The two cores: the first for the measured program, the second for the load. Undefined when binding is impossible. */
export interface Cores {
  readonly measured: number;
  readonly load: number;
}

export function chooseCores(): Cores | undefined {
  const taskset = find('taskset');
  if (!taskset) return undefined;
  const { stdout, status } = spawnSync(taskset, ['-cp', String(process.pid)], { encoding: 'utf8' });
  const list = /: ([\d,-]+)\s*$/.exec(stdout)?.[1];
  if (status !== 0 || !list) return undefined;
  const cores = list.split(',').flatMap((part) => {
    const [from = 0, to = from] = part.split('-').map(Number);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
  const [measured, load] = cores;
  return measured === undefined || load === undefined ? undefined : { measured, load };
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGB: number;
  readonly kernel: string;
  readonly node: string;
  readonly date: string;
  readonly commit: string;
  readonly pinned: boolean;
}

export function describeMachine(pinned: boolean): Machine {
  const git = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname, encoding: 'utf8' });
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.cpus().length,
    memoryGB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()}`,
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
    commit: git.status === 0 ? git.stdout.trim() : 'unknown',
    pinned,
  };
}

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

/** The command, bound to a core where that is possible. */
export function onCore(core: number | undefined, { file, args }: Command): Command {
  const taskset = core === undefined ? undefined : find('taskset');
  return taskset ? { file: taskset, args: ['-c', String(core), file, ...args] } : { file, args };
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => {
    for (const child of running) child.kill('SIGKILL');
    process.kill(process.pid, signal);
  });

/** Milliseconds until a process must have started, and ended. */
const PATIENCE_MS = 20_000;

/** A process that writes `ready` to its standard output and ends with its standard input. */
export class Worker {
  readonly child: ChildProcess;
  #text = '';
  #errors = '';
  #over = false;
  #wake: () => void = () => {};

  constructor(command: Command) {
    this.child = spawn(command.file, [...command.args], { stdio: ['pipe', 'pipe', 'pipe'] });
    running.add(this.child);
    this.child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
      this.#wake();
    });
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-4000);
    });
    this.child.stdin!.on('error', () => {});
    const end = (): void => {
      this.#over = true;
      running.delete(this.child);
      this.#wake();
    };
    this.child.once('error', end);
    this.child.once('close', end);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** The next line of its output. Rejects when it ends, or is silent for `ms`. */
  line(ms = PATIENCE_MS): Promise<string> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const end = this.#text.indexOf('\n');
        if (end < 0 && !this.#over) return;
        clearTimeout(late);
        this.#wake = () => {};
        if (end < 0) {
          reject(new Error(`${this.child.spawnargs.slice(0, 6).join(' ')} ended: ${this.#errors}`));
          return;
        }
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        resolve(line);
      };
      const late = setTimeout(() => {
        this.#wake = () => {};
        reject(new Error(`${this.child.spawnargs.slice(0, 6).join(' ')} printed nothing: ${this.#errors}`));
      }, ms);
      this.#wake = look;
      look();
    });
  }

  write(line: string): void {
    this.child.stdin!.write(`${line}\n`);
  }

  /** Resolves to all further output when it ends by itself. */
  async rest(ms: number): Promise<string> {
    await this.#end(ms);
    return this.#text;
  }

  /** Closes its input, and kills it when it does not end. */
  async stop(): Promise<void> {
    this.child.stdin!.end();
    await this.#end(3000).catch(() => {});
    if (!this.#over) {
      this.child.kill('SIGKILL');
      await this.#end(PATIENCE_MS).catch(() => {});
    }
  }

  /** Ends it by a signal. For programs that do not read their input. */
  async terminate(): Promise<void> {
    this.child.kill('SIGTERM');
    await this.stop();
  }

  #end(ms: number): Promise<void> {
    if (this.#over) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('does not end')), ms);
      this.child.once('close', () => {
        clearTimeout(late);
        setImmediate(resolve);
      });
    });
  }
}

function descendants(pid: number): number[] {
  const tasks = `/proc/${pid}/task`;
  if (!existsSync(tasks)) return [];
  const children = readdirSync(tasks).flatMap((task) =>
    readFileSync(`${tasks}/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(descendants)];
}

/** Processor time of a process with its children so far, in seconds; NaN when the kernel does not report it. */
export function cpuSeconds(pid: number): number {
  try {
    let ns = 0;
    for (const each of descendants(pid))
      for (const task of readdirSync(`/proc/${each}/task`))
        ns += Number(readFileSync(`/proc/${each}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
    return ns / 1e9;
  } catch {
    return Number.NaN;
  }
}

/** Compiles a C source into `to`. Returns false without a compiler, or when it fails. */
export function compile(source: string, to: string): boolean {
  const compiler = find('cc') ?? find('gcc') ?? find('clang');
  if (!compiler) return false;
  try {
    execFileSync(compiler, ['-O2', '-o', to, source], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
