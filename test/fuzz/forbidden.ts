// Places to which a relay never sends, by the rules of docs/media.md, without the code of src.
const PORTS = [/^198\.51\.100\.1 20\d{3}$/, /^203\.0\.113\.11 20\d{3}$/];
const NOBODY = /^(?:0|127|22[4-9]|23\d|24\d|25[0-5])\.|^169\.254\.|^(?:::1?|ff[0-9a-f]{2}:.*) /;

/** Returns true for `address port` of no host, of this host alone, and of an outside port of the rig. */
export function isForbidden(place: string): boolean {
  return NOBODY.test(place) || / 0$/.test(place) || PORTS.some((port) => port.test(place));
}
