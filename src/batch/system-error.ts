// Makes errors of system calls as Node.js names them. One object per cause, so that many failures make no flood of
// stack traces.
import { getSystemErrorName } from 'node:util';

const known = new Map<string, Error>();

/** Returns the cached error of `errno`. `what` is the call, with its object where that matters. */
export function systemError(errno: number, what: string): Error {
  const key = `${errno} ${what}`;
  let error = known.get(key);
  if (!error) {
    error = makeSystemError(errno, what);
    known.set(key, error);
  }
  return error;
}

/** Returns a new error with its own stack trace. */
export function makeSystemError(errno: number, what: string): Error {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${what} ${code}`), { code, errno: -errno, syscall: what.split(' ', 1)[0] });
}
