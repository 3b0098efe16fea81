// The built program in a test, started like an operator does: `node bin/sipfarm.js ...`. Each place has its own
// loopback address, so that no two tests need the same port. Programs that still run at the end of a test or of this
// process are killed by their process id.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { stringify } from 'yaml';

const ROOT = join(import.meta.dirname, '..', '..');
export const BIN = join(ROOT, 'bin', 'sipfarm.js');
/** Seconds after which an awaited event counts as missing, far above the usual time on a busy host. */
const PATIENCE = 30;
/** Characters of output in an error message. */
const TAIL = 3000;

/** One JSON line of the log. */
export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly time: string;
  readonly err?: { readonly code?: string; readonly message: string };
  readonly calls?: number;
  /** Only in lines of one of several workers. */
  readonly worker?: string | number;
  readonly number?: number;
  readonly incarnation?: number;
  /** Only in the line of a start that waits for its store. */
  readonly store?: readonly string[];
  readonly reason?: string;
  /** Only in the line of a new view. */
  readonly seats?: readonly string[];
  /** Only in the line of a reload. */
  readonly applied?: readonly string[];
  readonly needRestart?: readonly string[];
  /** Only in the line of new cluster-wide settings. */
  readonly changed?: readonly string[];
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Limit of open files for the program, where the host allows it. */
  readonly openFiles?: number;
  /** Path of another Node.js than that of this process. */
  readonly node?: string;
}

const running = new Set<Program>();
const folders = new Set<string>();
process.on('exit', () => {
  for (const program of running) program.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => {
    for (const program of running) program.kill('SIGKILL');
    process.kill(process.pid, signal);
  });

/** Output of all programs of this test file, in which no secret may occur. */
export const written: string[] = [];

export class Program {
  stdout = '';
  stderr = '';
  /** Exit code; null when a signal ended it. */
  readonly ended: Promise<number | null>;
  isOver = false;
  readonly #child: ChildProcess;
  readonly #changed = new Set<() => void>();

  constructor(args: readonly string[], options: ProgramOptions = {}) {
    if (!existsSync(join(ROOT, 'dist', 'main.js'))) throw new Error('the program is not built: npm run build');
    const command = [options.node ?? process.execPath, BIN, ...args];
    const raised = ['sh', '-c', `ulimit -n ${options.openFiles} 2>/dev/null; exec "$@"`, 'sh', ...command];
    const [file = '', ...rest] = options.openFiles === undefined ? command : raised;
    const { PATH = '' } = process.env;
    this.#child = spawn(file, rest, {
      cwd: tmpdir(),
      env: { PATH, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(this);
    for (const name of ['stdout', 'stderr'] as const)
      this.#child[name]!.setEncoding('utf8').on('data', (text: string) => {
        this[name] += text;
        written.push(text);
        this.#change();
      });
    this.ended = once(this.#child, 'close').then(([code]) => {
      this.isOver = true;
      running.delete(this);
      this.#change();
      return code as number | null;
    });
  }

  /** The JSON lines of the standard output so far. */
  get log(): LogLine[] {
    const whole = this.stdout.slice(0, this.stdout.lastIndexOf('\n') + 1).split('\n');
    return whole.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as LogLine);
  }

  /**
   * Resolves to the first log line that starts with this text, from index `from` on. Rejects when the program ends
   * without it, or after 30 s.
   */
  async line(msg: string, from = 0): Promise<LogLine> {
    const find = (): LogLine | undefined => this.log.slice(from).find((line) => line.msg.startsWith(msg));
    await this.until(() => find() !== undefined, `wrote no line "${msg}"`);
    return find()!;
  }

  /**
   * Resolves once `ask` is true for the output; it is called after each new piece. Rejects with `complaint` when the
   * program ends first, or after 30 s.
   */
  until(ask: () => boolean, complaint: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!ask() && !this.isOver) return;
        clearTimeout(late);
        this.#changed.delete(look);
        if (ask()) resolve();
        else reject(new Error(`the program ended and ${complaint}: ${this.tail()}`));
      };
      const late = setTimeout(() => {
        this.#changed.delete(look);
        reject(new Error(`the program ${complaint}: ${this.tail()}`));
      }, PATIENCE * 1000);
      this.#changed.add(look);
      look();
    });
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.isOver) this.#child.kill(signal);
  }

  /** Ends the program at once, in any state. */
  async close(): Promise<void> {
    this.kill('SIGKILL');
    await this.ended;
  }

  tail(): string {
    return `${this.stdout.slice(-TAIL)}\n${this.stderr.slice(-TAIL)}`;
  }

  #change(): void {
    for (const look of [...this.#changed]) look();
  }
}

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a command that ends by itself. */
export async function sipfarm(args: readonly string[], options: ProgramOptions = {}): Promise<Ran> {
  const program = new Program(args, options);
  const late = setTimeout(() => program.kill('SIGKILL'), PATIENCE * 1000);
  const code = await program.ended;
  clearTimeout(late);
  return { code, out: program.stdout, err: program.stderr };
}

let places = 0;

/** The place of one member: a loopback address, a folder, a farm key. */
export class Place {
  /** 127.64-127.x.x, by process id and count: a wide range, so that programs of other tests have other addresses. */
  readonly address: string;
  /** Another loopback address, for clients. */
  readonly client: string;
  readonly key = randomBytes(32).toString('hex');
  readonly folder = mkdtempSync(join(tmpdir(), 'sipfarm-program-'));
  readonly file = join(this.folder, 'sipfarm.yaml');

  constructor() {
    const [high, low] = [(process.pid >> 8) & 0xff, process.pid & 0xff];
    const count = (places++ % 32) * 2 + 64;
    this.address = `127.${count}.${high}.${low}`;
    this.client = `127.${count + 1}.${high}.${low}`;
    folders.add(this.folder);
  }

  /** Environment of programs that read `file`. */
  get env(): Readonly<Record<string, string>> {
    return { SIPFARM_KEY: this.key };
  }

  /** Returns the configuration, with sections replaced by those of `changes`. */
  config(changes: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
    const { address } = this;
    return {
      farm: 'lab',
      member: 'fe1',
      store: { kind: 'memory' },
      listeners: [
        { name: 'edge', transport: 'udp', bind: `${address}:5060` },
        { name: 'edge-tcp', transport: 'tcp', bind: `${address}:5060` },
      ],
      // biome-ignore lint/suspicious/noTemplateCurlyInString: this is how the file takes a secret from the environment
      keys: ['${SIPFARM_KEY}'],
      relay: { bind: `${address}:5064` },
      rampSeconds: 0,
      service: {
        kind: 'upstream',
        server: `sip:${address}:5070`,
        bind: `${address}:5062`,
        health: { intervalSeconds: 0.2 },
      },
      admin: { bind: `${address}:8060` },
      ...changes,
    };
  }

  /** Writes the configuration file. */
  write(changes: Readonly<Record<string, unknown>> = {}): void {
    this.writeText(stringify(this.config(changes)));
  }

  writeText(text: string): void {
    writeFileSync(this.file, text);
  }

  /** Starts the member and waits until it is ready. */
  async member(options: ProgramOptions = {}): Promise<Program> {
    const program = new Program(['run', '-c', this.file], { env: this.env, ...options });
    await program.line('member started');
    await this.readyIs(200, program);
    return program;
  }

  /** Runs a command with this member's configuration. */
  sipfarm(...args: readonly string[]): Promise<Ran> {
    return sipfarm([...args, '-c', this.file], { env: this.env });
  }

  /** Waits until /readyz answers with `status`. */
  async readyIs(status: number, program: Program): Promise<void> {
    const end = performance.now() + PATIENCE * 1000;
    for (;;) {
      const ready = await this.get('/readyz');
      if (ready.status === status) return;
      if (performance.now() > end || program.isOver)
        throw new Error(`/readyz is ${ready.status} ${ready.body}, not ${status}: ${program.tail()}`);
      await wait(20);
    }
  }

  /** Sends a GET to the admin server. Status 0: no answer. */
  get(path: string): Promise<{ readonly status: number; readonly body: string }> {
    return new Promise((resolve) => {
      const nobody = (): void => resolve({ status: 0, body: '' });
      const options = { host: this.address, port: 8060, path, agent: false, timeout: PATIENCE * 1000 };
      const request = http.get(options, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text: string) => {
          body += text;
        });
        response.once('end', () => resolve({ status: response.statusCode ?? 0, body }));
        response.once('error', nobody);
      });
      request.once('error', nobody);
      request.once('timeout', () => request.destroy());
    });
  }

  async metrics(): Promise<string> {
    return (await this.get('/metrics')).body;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
