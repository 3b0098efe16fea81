// baresip as a client, controlled by its module ctrl_tcp and read by its own trace of SIP messages.
import { spawn } from 'node:child_process';
import { globSync, mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { type Agent, type Place, Wire } from './wire.ts';

/** Port of ctrl_tcp, at the address of the client. */
const CONTROL = 4444;
/** Folders in which distributions install its modules; the program does not search for them itself. */
const MODULES = '/usr/{lib,lib/*,local/lib}/baresip/modules';
/** Time limit for baresip to open its control port after its start, ms. */
const START = 10_000;

/**
 * Returns the files of a configuration, by name. By TCP the farm is its outbound proxy, in a Route (RFC 3261 8.1.2),
 * and it registers by SIP outbound (RFC 5626).
 */
function filesOf({ user, watched, transport, address, farm }: Place): Readonly<Record<string, string>> {
  const modules = ['menu', 'ctrl_tcp', 'contact', 'presence'].map((name) => `module_app ${name}.so`);
  const way = transport === 'tcp' ? `;outbound="sip:${farm};transport=tcp";sipnat=outbound` : '';
  return {
    config: [
      `sip_listen ${address}:5060`,
      `module_path ${globSync(MODULES)[0] ?? ''}`,
      'module g711.so',
      'module_tmp uuid.so',
      'module_tmp account.so',
      ...modules,
      `ctrl_tcp_listen ${address}:${CONTROL}`,
      // No audio device and so no thread for it, whose output would mix with the trace.
      'audio_source none,nil',
      'audio_player none,nil',
      'audio_alert none,nil',
      '',
    ].join('\n'),
    accounts: `<sip:${user}@${farm}>;regint=600;answermode=auto;audio_codecs=pcmu${way}\n`,
    contacts: `<sip:${watched}@${farm}>;presence=p2p\n`,
  };
}

/**
 * Reads the output of `baresip -s` in pieces and records its messages. Each is a line with protocol, source and
 * destination, the message, and an escape sequence. By TCP the source is any address of the host.
 */
function traceOf(wire: Wire): (piece: string) => void {
  const own = new Set(Object.values(networkInterfaces()).flatMap((all) => all?.map(({ address }) => address) ?? []));
  let buffered = '';
  return (piece) => {
    buffered += piece;
    for (let end = buffered.indexOf('\x1b[;m'); end >= 0; end = buffered.indexOf('\x1b[;m')) {
      const [, from = '', to = '', text = ''] = /(?:UDP|TCP) (\S+) -> (\S+)\n(.*)$/s.exec(buffered.slice(0, end)) ?? [];
      buffered = buffered.slice(end + 4);
      const sent = own.has(from.slice(0, from.lastIndexOf(':')));
      if (text.includes('SIP/2.0')) wire.note({ sent, peer: sent ? to : from, text });
    }
  };
}

async function control(address: string): Promise<net.Socket> {
  const end = performance.now() + START;
  for (;;) {
    const socket = net.connect({ host: address, port: CONTROL });
    const isOpen = await new Promise((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    );
    if (isOpen) return socket;
    if (performance.now() > end) throw new Error('baresip does not open its control port');
    await wait(50);
  }
}

/**
 * Starts baresip at a place, with its files in `dir`. It registers and subscribes by itself, and accepts every call.
 */
export async function startBaresip(place: Place, dir: string): Promise<Agent> {
  const home = join(dir, place.name);
  mkdirSync(home);
  for (const [name, text] of Object.entries(filesOf(place))) writeFileSync(join(home, name), text);
  const child = spawn('baresip', ['-s', '-f', home], { stdio: ['ignore', 'pipe', 'inherit'] });
  process.once('exit', () => child.kill('SIGKILL'));
  const wire = new Wire();
  child.stdout.setEncoding('latin1').on('data', traceOf(wire));
  const socket = await control(place.address);
  // Its replies and events are not needed, because the trace shows the effect of a command.
  socket.resume();
  const command = async (name: string, params = ''): Promise<void> => {
    const text = JSON.stringify({ command: name, params });
    socket.write(`${text.length}:${text},`);
  };
  return {
    name: place.name,
    user: place.user,
    wire,
    call: (user) => command('dial', `sip:${user}@${place.farm}`),
    hold: () => command('hold'),
    hangUp: () => command('hangup'),
    // baresip has no command for this: it unsubscribes when it ends, and waits for the last NOTIFY.
    unsubscribe: async () => {
      child.kill('SIGTERM');
    },
  };
}
