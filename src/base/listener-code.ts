// A listener's name in one octet, the same on every member whatever the order of its listeners: what flow tokens carry.

/** No listener has this code: it stands for the service's own socket. */
export const SERVICE_SIDE = 255;

/** 0-254 (FNV-1a). Two names of one member may not share a code; the configuration check sees to that. */
export function listenerCode(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % SERVICE_SIDE;
}
