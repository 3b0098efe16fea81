// The kinds of service, by `service.kind`. The only place that names them all.
import type { ServiceConfig } from '../../config/service-section.ts';
import { makeAnswer } from '../answer/answer.ts';
import type { ServiceFactory } from '../service.ts';
import { makeUpstream } from '../upstream/upstream.ts';

export const SERVICES: Readonly<Record<ServiceConfig['kind'], ServiceFactory>> = {
  answer: makeAnswer,
  upstream: makeUpstream,
};

/** Builds the service that the configuration names. */
export const makeService: ServiceFactory = (config, parts) => SERVICES[config.service.kind](config, parts);
