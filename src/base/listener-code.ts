// Reduces a listener's name to one octet for flow tokens. It is the same on every member, in any order of listeners.
import { fnv1a } from './rendezvous.ts';

/** Stands for the service's own socket. No listener has this code. */
export const SERVICE_SIDE = 255;

/** Returns 0-254 (FNV-1a). Two listeners of one member may not share a code; the configuration check ensures that. */
export function listenerCode(name: string): number {
  return fnv1a(name) % SERVICE_SIDE;
}
