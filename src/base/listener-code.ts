// Reduces a listener's name to one octet for flow tokens. It is the same on every member, in any order of listeners.

/** Stands for the service's own socket. No listener has this code. */
export const SERVICE_SIDE = 255;

/** Returns 0-254 (FNV-1a). Two listeners of one member may not share a code; the configuration check ensures that. */
export function listenerCode(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % SERVICE_SIDE;
}
