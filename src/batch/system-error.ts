// Errors of system calls, as Node.js names them. One object per cause: a flood of failures makes no flood of stack traces.
import { getSystemErrorName } from 'node:util';

const known = new Map<string, Error>();

/** The error of `errno`; `what` is the call, and its object where that matters. */
export function systemError(errno: number, what: string): Error {
  const key = `${errno} ${what}`;
  let error = known.get(key);
  if (!error) {
    error = makeSystemError(errno, what);
    known.set(key, error);
  }
  return error;
}

/** An error of its own, with the stack of its cause. */
export function makeSystemError(errno: number, what: string): Error {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${what} ${code}`), { code, errno: -errno, syscall: what.split(' ', 1)[0] });
}
