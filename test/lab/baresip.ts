// A baresip with a voice in a laboratory: it sends a file of sound as G.711. Its module ctrl_tcp takes commands.
import { globSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { until } from './until.ts';

/** Folders in which distributions install its modules. */
const MODULES = '/usr/{lib,lib/*,local/lib}/baresip/modules';
const CONTROL = 4444;
const RATE = 8000;
/** Length of the sound; longer than the call. */
const SECONDS = 60;

export class Baresip {
  output = '';
  readonly #lab: Lab;
  readonly #address: string;

  private constructor(lab: Lab, address: string) {
    this.#lab = lab;
    this.#address = address;
  }

  /** Starts it at an address of the clients, as `user@host`, and waits until it takes commands. */
  static async start(lab: Lab, address: string, account: string): Promise<Baresip> {
    const home = join(lab.dir, 'baresip');
    mkdirSync(home);
    const config = [
      `sip_listen ${address}:5060`,
      `module_path ${globSync(MODULES)[0] ?? ''}`,
      ...['g711.so', 'aufile.so'].map((name) => `module ${name}`),
      ...['uuid.so', 'account.so'].map((name) => `module_tmp ${name}`),
      ...['menu.so', 'ctrl_tcp.so'].map((name) => `module_app ${name}`),
      `ctrl_tcp_listen ${address}:${CONTROL}`,
      `audio_source aufile,${join(home, 'voice.wav')}`,
      'audio_player none,nil',
      'audio_alert none,nil',
      '',
    ];
    writeFileSync(join(home, 'config'), config.join('\n'));
    writeFileSync(join(home, 'accounts'), `<sip:${account}>;regint=0;audio_codecs=pcmu\n`);
    writeFileSync(join(home, 'contacts'), '');
    writeFileSync(join(home, 'voice.wav'), wave(SECONDS));
    const made = new Baresip(lab, address);
    const child = lab.exec('c', 'baresip', ['-f', home]);
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        made.output += text;
      });
    await until(
      async () => (await made.#send('')) === 0,
      () => `baresip takes no commands: ${made.output}`,
    );
    return made;
  }

  async command(command: string, params = ''): Promise<void> {
    const text = JSON.stringify({ command, params });
    await this.#send(`${text.length}:${text},`);
  }

  /** Sends octets to its control port and returns the exit code. */
  async #send(text: string): Promise<number | null> {
    const script = `exec 3<>/dev/tcp/${this.#address}/${CONTROL} && printf '%s' "$0" >&3 && sleep 0.1`;
    return (await this.#lab.run('c', 'bash', ['-c', script, text])).code;
  }
}

/** Returns a file of RIFF with 16-bit samples of one channel: a sawtooth. */
function wave(seconds: number): Buffer {
  const samples = Buffer.alloc(2 * RATE * seconds);
  for (let i = 0; i < samples.length / 2; i++) samples.writeInt16LE(((i * 400) % 16_000) - 8000, 2 * i);
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + samples.length, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(RATE, 24);
  head.writeUInt32LE(2 * RATE, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(samples.length, 40);
  return Buffer.concat([head, samples]);
}
