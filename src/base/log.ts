// Log lines: JSON, one object a line, secrets taken out. Nothing on the packet way logs at info or above.
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';

/** Fields that are never written, at the top of a line or one level down, whoever puts them there. */
const SECRET_FIELDS = ['key', 'keys', 'token', 'password', 'psk', 'secret', 'authorization'];

export interface LogOptions {
  readonly level: string;
  /** On every line. */
  readonly fields?: Readonly<Record<string, string>>;
  /** Left out: the standard output. */
  readonly destination?: DestinationStream;
}

/** The children of a logger, so that its level changes for all. Rooms make theirs at construction, never per call. */
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
  const log: Logger = options.destination ? pino(settings, options.destination) : pino(settings);
  children.set(log, made);
  return log;
}

/** Changes the level of a logger that `makeLog` made, and of all its children. */
export function setLogLevel(log: Logger, level: string): void {
  for (const one of [log, ...(children.get(log) ?? [])]) one.level = level;
}
