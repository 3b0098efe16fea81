// An application server outside the farm. It returns each request to the farm with its own Via and without its own
// Route.
import { Place } from './place.ts';
import { fresh, headerOf, PORT } from './wire.ts';

export interface Application {
  /** Requests that have come, without their copies. */
  readonly requests: readonly string[];
}

export async function startApplication(address: string, door: string): Promise<Application> {
  const place = await Place.udp(address, door, PORT);
  const requests: string[] = [];
  const branches = new Map<string, string>();
  const ownRoute = new RegExp(`^Route: *<sip:${address.replaceAll('.', '\\.')}[^>]*>\r\n`, 'im');
  place.take = (request) => {
    if (!requests.includes(request)) requests.push(request);
    const hop = headerOf(request, 'Via');
    const branch = branches.get(hop) ?? fresh('z9hG4bKapp');
    branches.set(hop, branch);
    const own = `Via: SIP/2.0/UDP ${place.at};branch=${branch}\r\nVia:`;
    place.send(request.replace(ownRoute, '').replace(/^Via:/m, own));
  };
  place.onResponse = (response) => place.send(response.replace(/^Via:.*\r\n/m, ''));
  return { requests };
}
