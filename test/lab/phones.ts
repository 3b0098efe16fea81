// Phones by TCP in the client's namespace (test/tools/tcp-phones.ts), and the injection file that makes SIPp call each
// of them in turn.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Lab } from './lab.ts';

const PROGRAM = join(import.meta.dirname, '..', 'tools', 'tcp-phones.ts');

export interface PhonesResult {
  readonly answered: number;
  readonly ended: number;
  readonly faults: readonly string[];
}

export interface Phones {
  /** Path for SIPp's -inf: the users phone0, phone1, ... as field 0. */
  readonly users: string;
  /** Ends the phones and resolves to their counts. */
  stop(): Promise<PhonesResult>;
}

/**
 * Registers `count` phones at address:port from one client address; resolves when the registrar has accepted all.
 * Rejects when one is refused or lost.
 */
export async function startPhones(
  lab: Lab,
  address: string,
  port: number,
  local: string,
  count: number,
): Promise<Phones> {
  const child = lab.exec('c', process.execPath, [PROGRAM, address, String(port), local, String(count)]);
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  let noise = '';
  child.stderr!.on('data', (bytes: Buffer) => {
    noise += bytes.toString();
  });
  const next = async (): Promise<object> => {
    const { done, value } = await lines.next();
    if (done) throw new Error(`the phones ended: ${noise}`);
    return JSON.parse(value) as object;
  };
  const stop = async (): Promise<PhonesResult> => {
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    const result = (await next()) as PhonesResult;
    await exit;
    return result;
  };
  const late = setTimeout(() => child.kill('SIGTERM'), 15_000);
  const first = await next();
  clearTimeout(late);
  if (!('registered' in first)) throw new Error(`not all phones were registered: ${JSON.stringify(first)}`);
  const users = join(lab.dir, 'phones.csv');
  writeFileSync(
    users,
    `SEQUENTIAL\n${Array.from({ length: count }, (_, i) => `phone${i}`)
      .map((user) => `${user};`)
      .join('\n')}\n`,
  );
  return { users, stop };
}
