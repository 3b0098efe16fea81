// Kinds of fields that several sections of the configuration share.

import { z } from 'zod';
import { isNetworkText } from '../base/address-list.ts';
import { type Endpoint, type HostPort, parseEndpoint, parseHostPort } from '../base/endpoint.ts';
import { type AdvertisedText, parseAdvertised } from '../packet/advertised.ts';
import { Secret } from './secret.ts';

export const secret = z
  .string()
  .min(1)
  .transform((value) => new Secret(value));

export function endpoint(defaultPort?: number) {
  const form =
    defaultPort === undefined ? '198.51.100.1:5060' : `198.51.100.1 (port ${defaultPort}) or 198.51.100.1:5060`;
  return z.string().transform((text, context): Endpoint => {
    const value = parseEndpoint(text, defaultPort);
    if (value) return value;
    context.addIssue({
      code: 'custom',
      message: `is not an IP address with a port; write ${form}, IPv6 as [2001:db8::1]:5060`,
    });
    return z.NEVER;
  });
}

export const farmName = z.string().transform((text, context): HostPort => {
  const value = parseHostPort(text);
  if (value) return value;
  context.addIssue({
    code: 'custom',
    message: 'is not a domain name or IP address; write sip.example.com or sip.example.com:5061, IPv6 in brackets',
  });
  return z.NEVER;
});

export const advertised = z.string().transform((text, context): AdvertisedText => {
  const value = parseAdvertised(text);
  if (value) return value;
  context.addIssue({
    code: 'custom',
    message:
      'is not a host with a port and a transport; write 198.51.100.1:5060, [2001:db8::1]:5060, sip.example.com or ' +
      'sip.example.com:5061;transport=tls',
  });
  return z.NEVER;
});

export const network = z
  .string()
  .refine(
    isNetworkText,
    'is not a network; write 10.0.0.0/8, 2001:db8::/32 or one address, with ! in front to exclude it',
  );

export const plainNetwork = network.refine((text) => !text.startsWith('!'), 'excludes a network; leave the ! out');

export const hostUrl = z
  .url({ protocol: /^https?$/, error: 'is not a URL; write http://10.0.0.31:2379 or https://...' })
  .refine(
    (url) => !url.includes('@'),
    'contains a user or password, but URLs appear in logs; use store.user and store.password',
  );
