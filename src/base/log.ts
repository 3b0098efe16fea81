// Writes log lines: JSON, one object per line, without secrets. The packet path logs nothing at info or above.
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino';

/** Fields that are never written, at the top of a line or one level down, from any caller. */
const SECRET_FIELDS = ['key', 'keys', 'token', 'password', 'psk', 'secret', 'authorization'];

export interface LogOptions {
  readonly level: string;
  /** Fields of every line. */
  readonly fields?: Readonly<Record<string, string>>;
  /** Left out: the standard output. */
  readonly destination?: DestinationStream;
}

/** Octets that may wait for a slow reader of the standard output. Further lines are lost; the member continues. */
const WAITING_OCTETS = 4 * 1024 * 1024;
/** Milliseconds that a stopping process waits for that reader. */
const FLUSH_MS = 1000;

/** The standard outputs of loggers. They are written asynchronously. */
const outputs = new WeakMap<Logger, ReturnType<typeof destination>>();

/** Children of a logger, so that its level changes for all. Rooms create theirs at construction, never per call. */
const children = new WeakMap<Logger, Logger[]>();

/** Makes the logger of this process. */
export function makeLog(options: LogOptions): Logger {
  const made: Logger[] = [];
  const settings = {
    onChild: (child: unknown) => void made.push(child as Logger),
    level: options.level,
    base: options.fields ?? {},
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: '[secret]' },
  };
  const output = options.destination ? undefined : destination({ dest: 1, sync: false, maxLength: WAITING_OCTETS });
  const log: Logger = pino(settings, options.destination ?? output!);
  if (output) outputs.set(log, output);
  children.set(log, made);
  return log;
}

/** Changes the level of a logger from `makeLog`, and of all its children. */
export function setLogLevel(log: Logger, level: string): void {
  for (const one of [log, ...(children.get(log) ?? [])]) one.level = level;
}

/**
 * Resolves when all lines are written, or after 1 s. Without it the last lines before the process ends may be reordered
 * or lost.
 */
export function flushLog(log: Logger): Promise<void> {
  const output = outputs.get(log);
  if (!output) return Promise.resolve();
  return new Promise((resolve) => {
    const late = setTimeout(resolve, FLUSH_MS);
    output.once('drain', () => {
      clearTimeout(late);
      resolve();
    });
    // Makes sure that `drain` comes, even when no line waits.
    output.write('');
  });
}
