// The farms for the fuzzer: their members, listeners and dialogs.
import type { FarmOptions } from '../fake/farm.ts';

export const VARIANTS = 4;
// Indexes of the special nodes; the others, 2 to 4, live from the first input to the last.
export const OUTSIDE = 1;
export const DRAINED = 5;
export const COMING_AND_GOING = 6;
/** Proxy with trusted PROXY headers in variant 2. */
export const PROXY = '198.51.100.254';

export function optionsOf(variant: number): FarmOptions {
  return {
    members: COMING_AND_GOING,
    roles: { [OUTSIDE]: 'disabled' },
    dialogs: variant % 2 === 0 ? 'own' : 'shared',
    answer: variant === 1 || variant === 2 ? 'ingress' : 'direct',
    ...(variant === 2 && {
      listener: { proxyProtocol: 'accept' },
      config: { balancer: { mode: 'dsr', probes: [`${PROXY}/32`], trusted: [`${PROXY}/32`] } },
    }),
    ...(variant === 3 && { relay: (index: number) => (index % 2 === 0 ? { mode: 'transparent' } : {}) }),
    throws: true,
    // A fixed seed, so that the same seed of the fuzzer gives the same route to each input.
    slotSeed: '2a'.repeat(16),
  };
}
