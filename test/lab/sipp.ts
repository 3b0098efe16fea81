// SIPp in a laboratory: started with strict options, and read by its statistics file.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host, Lab } from './lab.ts';

const SCENARIOS = join(import.meta.dirname, 'scenarios');
/** Characters of SIPp's error file in a result, for the message of a failed assertion. */
const ERROR_TEXT = 3000;
/** Time for a stopped server to end its calls, ms. After that it is killed, and the calls count as running. */
const STOP_MS = 8000;

export interface SippOptions {
  /** Unique in the laboratory; name of the directory of its files. */
  readonly name: string;
  readonly host: Host;
  /** File in test/lab/scenarios without `.xml`. */
  readonly scenario: string;
  readonly address: string;
  readonly port: number;
  /** Target of calls, as address:port; absent for a server. */
  readonly remote?: string;
  /** Outbound proxy for all packets, as address:port. */
  readonly through?: string;
  /** True: records every message, for `messages`. */
  readonly trace?: boolean;
  /** User part of the Request-URI. */
  readonly user?: string;
  readonly calls?: number;
  /** Calls per second. */
  readonly rate?: number;
  /** u1: one UDP socket; t1: one TCP connection; tn: one TCP connection per call. */
  readonly transport?: 'u1' | 't1' | 'tn';
  /** Length of the pauses in the scenario, ms. */
  readonly pauseMs?: number;
  /** An injection file (-inf). */
  readonly users?: string;
  /** Port of RTP at `address`. `echo`: SIPp sends back what comes there. */
  readonly media?: { readonly port: number; readonly echo?: boolean };
  /** Seconds after which the run is stopped. */
  readonly timeoutSeconds?: number;
  /** True: a load run, in which 180 and 200 may overtake each other. False: any unexpected message fails the call. */
  readonly load?: boolean;
}

/** Sums over the whole run, from the last line of SIPp's statistics. */
export interface SippResult {
  /** 0: all calls succeeded; 1: some failed; 255: fatal, or stopped by the timeout; null: killed. */
  readonly exit: number | null;
  readonly created: number;
  readonly successful: number;
  readonly failed: number;
  readonly retransmissions: number;
  readonly unexpected: number;
  readonly outOfCall: number;
  readonly deadCall: number;
  readonly running: number;
  readonly errors: string;
}

/**
 * Parses a SIPp statistics file: a header line and one line per interval, separated by semicolons; (C) columns are sums
 * since the start.
 */
export function parseStatistics(text: string): ReadonlyMap<string, number> {
  const lines = text.split('\n').filter((line) => line !== '');
  const names = lines[0]?.split(';') ?? [];
  const values = lines.length > 1 ? lines[lines.length - 1]!.split(';') : [];
  return new Map(names.map((name, i) => [name, Number(values[i] ?? 0)]));
}

/** One running SIPp. */
export class Sipp {
  /** Resolves when SIPp ends. */
  readonly done: Promise<SippResult>;
  readonly #dir: string;
  readonly #child: ChildProcess;
  #exit: number | null = null;

  private constructor(dir: string, child: ChildProcess) {
    this.#dir = dir;
    this.#child = child;
    this.done = once(child, 'exit').then(([code]) => {
      this.#exit = code as number | null;
      return this.result();
    });
  }

  /** Starts a client or a server. */
  static start(lab: Lab, options: SippOptions): Sipp {
    const dir = join(lab.dir, options.name);
    mkdirSync(dir);
    const isClient = options.remote !== undefined;
    const args = [
      ...(options.remote === undefined ? [] : [options.remote]),
      ...['-sf', join(SCENARIOS, `${options.scenario}.xml`), '-t', options.transport ?? 'u1'],
      ...['-i', options.address, '-p', String(options.port), '-bind_local', '-nostdin', '-max_socket', '9000'],
      ...['-trace_err', '-error_file', join(dir, 'errors.log')],
      ...['-trace_stat', '-stf', join(dir, 'statistics.csv'), '-fd', '1s'],
      ...(options.through === undefined ? [] : ['-rsa', options.through]),
      ...(options.trace ? ['-trace_msg', '-message_file', join(dir, 'messages.log')] : []),
      ...(options.user === undefined ? [] : ['-s', options.user]),
      ...(options.calls === undefined ? [] : ['-m', String(options.calls)]),
      ...(options.rate === undefined ? [] : ['-r', String(options.rate)]),
      ...(options.pauseMs === undefined ? [] : ['-d', String(options.pauseMs)]),
      ...(options.users === undefined ? [] : ['-inf', options.users]),
      ...(options.media === undefined ? [] : ['-mi', options.address, '-mp', String(options.media.port)]),
      ...(options.media?.echo ? ['-rtp_echo'] : []),
      ...(isClient ? ['-timeout', `${options.timeoutSeconds ?? 60}s`, '-timeout_error'] : []),
      ...(isClient && !options.load ? [] : ['-rtcheck', 'loose']),
      ...(options.load ? ['-default_behaviors', 'all,-abortunexp'] : []),
      ...(options.load && !options.trace ? ['-pause_msg_ign'] : []),
    ];
    const child = lab.exec(options.host, 'sipp', args, `${options.name}/screen`, { cwd: dir });
    return new Sipp(dir, child);
  }

  /** Returns all messages so far, if `trace` is set. */
  messages(): string {
    return readFileSync(join(this.#dir, 'messages.log'), 'latin1');
  }

  /** Ends a server or a caller after its current calls; resolves with its counts. It is killed after `limitMs`. */
  async stop(limitMs = STOP_MS): Promise<SippResult> {
    this.#child.kill('SIGUSR1');
    const late = setTimeout(() => this.#child.kill('SIGKILL'), limitMs);
    const result = await this.done;
    clearTimeout(late);
    return result;
  }

  /** Returns the current counts, which SIPp writes every second and at its end. */
  result(): SippResult {
    const read = (name: string): string => {
      const path = join(this.#dir, name);
      return existsSync(path) ? readFileSync(path, 'utf8') : '';
    };
    const sums = parseStatistics(read('statistics.csv'));
    const sum = (name: string): number => sums.get(name) ?? 0;
    const errors = withoutKeepAlives(read('errors.log'));
    const created = sum('TotalCallCreated');
    const [successful, failed] = [sum('SuccessfulCall(C)'), sum('FailedCall(C)')];
    return {
      exit: this.#exit,
      created,
      successful,
      failed,
      retransmissions: sum('Retransmissions(C)'),
      unexpected: sum('FailedUnexpectedMessage(C)'),
      outOfCall: sum('OutOfCallMsgs(C)'),
      deadCall: sum('DeadCallMsgs(C)'),
      running: sum('CurrentCall'),
      errors: (errors || (created === 0 ? read('screen.log') : '')).slice(0, ERROR_TEXT),
    };
  }
}

/** Removes keep-alive datagrams (RFC 5626 4.4.1), which SIPp records as discarded messages. */
function withoutKeepAlives(text: string): string {
  const lines = text.replace(/\d{4}-\d\d-\d\d\t[^"\n]*non SIP message discarded: "\s*" \(\d\)\n?/g, '');
  return lines.trim() === 'The following events occurred:' ? '' : lines;
}
