// This host as `sipfarm doctor` reaches it: files, programs, pages, sockets, and the operator at the terminal.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { systemClock } from '../base/clock.ts';
import { localAddresses } from '../base/local-addresses.ts';
import { nodeNetwork } from '../base/network.ts';
import type { HostAccess } from '../doctor/collect.ts';

export interface DoctorHost extends Omit<HostAccess, 'store' | 'ask'> {
  /** Returns the addresses of all interfaces. */
  ownAddresses(): readonly string[];
  /** Throws when the system refuses. */
  writeFile(path: string, text: string): void;
  /** Requests a yes or no from the operator. Without a terminal the answer is no. */
  confirm(question: string): Promise<boolean>;
}

/** Milliseconds that a program or page may take. */
const PATIENCE_MS = 5000;
const MAX_OUTPUT = 16 * 1024 * 1024;

function runProgramText(command: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(command, [...args], { stdio: ['ignore', 'pipe', 'ignore'], timeout: PATIENCE_MS });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      if (text.length > MAX_OUTPUT) child.kill('SIGKILL');
    });
    child.once('error', () => resolve(undefined));
    child.once('close', (code) => resolve(code === 0 ? text : undefined));
  });
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

export const thisHost: DoctorHost = {
  network: nodeNetwork,
  clock: systemClock,
  readFile: (path) => orUndefined(() => readFileSync(path, 'utf8')),
  listFiles: (path) => orUndefined(() => readdirSync(path)) ?? [],
  run: runProgramText,
  async fetchPage(url) {
    try {
      const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(PATIENCE_MS) });
      return { text: await response.text(), date: response.headers.get('date') };
    } catch {
      return undefined;
    }
  },
  ownAddresses: () => [...localAddresses()],
  writeFile: (path, text) => writeFileSync(path, text),
  async confirm(question) {
    if (!process.stdin.isTTY) return false;
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    try {
      return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
    } finally {
      terminal.close();
    }
  },
};
