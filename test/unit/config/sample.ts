// A valid configuration for the tests of this folder, and a way to change one line of it.

import { type Loaded, parseConfig } from '../../../src/config/load.ts';
import { ConfigError, type Problem } from '../../../src/config/problems.ts';
import type { Config } from '../../../src/config/schema.ts';
import type { ServiceConfigOf } from '../../../src/config/service-section.ts';

export const KEY = 'ab'.repeat(32);
export const ENVIRONMENT = { SIPFARM_KEY: KEY };

export const GOOD = `farm: lab
member: fe1
store: { kind: etcd, hosts: [http://127.0.0.1:2379] }
listeners:
  - { name: edge, transport: udp, bind: 198.51.100.1:5060 }
  - { name: edge-tcp, transport: tcp, bind: 198.51.100.1:5060 }
balancer: { mode: dsr }
keys: ["\${SIPFARM_KEY}"]
relay: { bind: 10.0.0.11:5064 }
service: { kind: upstream, server: "sip:127.0.0.1:5070", bind: 127.0.0.1:5062 }
`;

/** Returns GOOD with `from` replaced; throws when it does not contain `from`. */
export function changed(from: string, to: string): string {
  if (!GOOD.includes(from)) throw new Error(`the sample holds no ${from}`);
  return GOOD.replace(from, to);
}

export function load(text: string, environment: Readonly<Record<string, string>> = ENVIRONMENT): Loaded {
  return parseConfig('x.yaml', text, environment, { hostName: 'host1' });
}

/** Returns the problems of an invalid configuration. */
export function problemsOf(text: string, environment?: Readonly<Record<string, string>>): readonly Problem[] {
  try {
    load(text, environment);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error('the configuration is good');
}

/** The section `service` of a configuration whose service is `upstream`. */
export function upstreamOf({ service }: Config): ServiceConfigOf<'upstream'> {
  if (service.kind !== 'upstream') throw new Error(`the service is ${service.kind}`);
  return service;
}
