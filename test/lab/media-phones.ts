// Starts phones with RTP (media-phone.ts) in a laboratory.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import type { PhoneOptions, PhoneReport } from './media-phone.ts';
import { until } from './until.ts';

const PHONE = join(import.meta.dirname, 'media-phone.ts');

/** A phone in its own process. */
export class MediaPhone {
  /** Its end: all of its output has come. */
  readonly #closed: Promise<unknown>;
  #text = '';
  #errors = '';

  private constructor(child: ChildProcess) {
    this.#closed = once(child, 'close');
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
  }

  static async start(lab: Lab, host: Parameters<Lab['exec']>[0], options: PhoneOptions): Promise<MediaPhone> {
    const phone = new MediaPhone(lab.exec(host, process.execPath, [PHONE, JSON.stringify(options)]));
    await until(
      () => phone.#text.startsWith('ready'),
      () => 'a phone has not started',
    );
    return phone;
  }

  /** The report; undefined while the phone runs. */
  get report(): PhoneReport | undefined {
    const line = this.#text.split('\n')[1] ?? '';
    return line === '' ? undefined : (JSON.parse(line) as PhoneReport);
  }

  async ended(): Promise<PhoneReport> {
    await this.#closed;
    const { report } = this;
    assert.ok(report, this.#text + this.#errors);
    return report;
  }
}
