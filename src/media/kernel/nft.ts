// Runs nft. To start a process copies the page tables of this one and halts all of its threads meanwhile: 30 ms with
// 300 MB of memory. So one shell is started once. It is small, and starts nft for every transaction.
//
//    to the shell      octets of the input, arguments of nft, line end, input
//    from the shell    output of nft, RS, exit status, line end
import { type ChildProcess, spawn } from 'node:child_process';
import type { Clock } from '../../base/clock.ts';

/** Seam of tests. Runs come one after the other. */
export interface Nft {
  /**
   * Runs nft with `input`. `args` hold no sign of the shell. Resolves with '' at success, else with the first line of
   * the fault. Never rejects.
   */
  run(args: string, input: string, onOutput?: (piece: string) => void): Promise<string>;
  /** Ends the shell. Runs that have not ended resolve with a fault. */
  close(): void;
}

/** A service manager sends SIGTERM to all processes. The member still forwards then, until its calls have ended. */
const LOOP =
  "trap '' TERM INT HUP; " +
  'while read -r size args; do head -c "$size" | "$1" $args 2>&1; printf "\\036%s\\n" "$?"; done';
const END = '\x1e';
/** The place of nft is not in the PATH of every user. */
const SYSTEM = '/usr/sbin:/sbin';
/** Time for one run, ms. */
const PATIENCE_MS = 20_000;
const LONGEST_FAULT = 300;
const CLOSED = 'nft is not run any more';

interface Run {
  readonly onOutput: (piece: string) => void;
  readonly resolve: (fault: string) => void;
  /** Begin of the output. */
  said: string;
}

export class NftShell implements Nft {
  readonly #clock: Clock;
  readonly #program: string;
  readonly #runs: Run[] = [];
  #shell: ChildProcess | undefined;
  /** Begin of the line of an exit status. */
  #status: string | undefined;
  #closed = false;

  /** `program`: for tests. */
  constructor(clock: Clock, program = 'nft') {
    this.#clock = clock;
    this.#program = program;
    this.#shell = this.#start();
  }

  run(args: string, input: string, onOutput: (piece: string) => void = () => {}): Promise<string> {
    if (this.#closed) return Promise.resolve(CLOSED);
    this.#shell ??= this.#start();
    const shell = this.#shell;
    return new Promise((resolve) => {
      const late = this.#clock.after(PATIENCE_MS, () => this.#end(shell, `nft has not ended in ${PATIENCE_MS} ms`));
      const done = (fault: string): void => {
        late.cancel();
        resolve(fault);
      };
      this.#runs.push({ onOutput, resolve: done, said: '' });
      shell.stdin?.write(`${Buffer.byteLength(input)} ${args}\n${input}`);
    });
  }

  close(): void {
    this.#closed = true;
    if (this.#shell) this.#end(this.#shell, CLOSED);
  }

  #start(): ChildProcess {
    // A group of its own, so that an nft that hangs can be ended with its shell.
    const { PATH = '' } = process.env;
    const env = { ...process.env, PATH: `${PATH}:${SYSTEM}` };
    const shell = spawn('/bin/sh', ['-c', LOOP, 'sh', this.#program], { stdio: 'pipe', detached: true, env });
    // The end of the shell is reported by its exit.
    for (const stream of [shell.stdin, shell.stdout, shell.stderr]) stream.on('error', () => {});
    shell.stderr.resume();
    shell.stdout.setEncoding('utf8').on('data', (piece: string) => {
      if (this.#shell === shell) this.#take(piece);
    });
    shell.once('error', (error) => this.#end(shell, error.message));
    shell.once('exit', () => this.#end(shell, 'the shell that runs nft has ended'));
    return shell;
  }

  /** Takes output of the shell: of one run or several. */
  #take(piece: string): void {
    let rest = piece;
    while (rest !== '') {
      if (this.#status === undefined) {
        const end = rest.indexOf(END);
        const output = end < 0 ? rest : rest.slice(0, end);
        const run = this.#runs[0];
        if (run && output !== '') {
          if (run.said.length < LONGEST_FAULT) run.said += output.slice(0, LONGEST_FAULT);
          run.onOutput(output);
        }
        if (end < 0) return;
        this.#status = '';
        rest = rest.slice(end + 1);
      }
      const end = rest.indexOf('\n');
      this.#status += end < 0 ? rest : rest.slice(0, end);
      if (end < 0) return;
      rest = rest.slice(end + 1);
      const run = this.#runs.shift();
      run?.resolve(this.#status === '0' ? '' : faultOf(run.said, this.#status));
      this.#status = undefined;
    }
  }

  #end(shell: ChildProcess, fault: string): void {
    if (this.#shell !== shell) return;
    this.#shell = undefined;
    this.#status = undefined;
    try {
      if (shell.pid !== undefined) process.kill(-shell.pid, 'SIGKILL');
    } catch {
      // it has ended by itself
    }
    for (const { resolve } of this.#runs.splice(0)) resolve(fault);
  }
}

function faultOf(said: string, status: string): string {
  const [line = ''] = said.trim().split('\n', 1);
  return line === '' ? `nft has ended with status ${status}` : line;
}
