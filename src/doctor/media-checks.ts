// Checks the media ports of the running member.
import type { HostFacts } from './facts.ts';
import { type Finding, finding } from './finding.ts';

/** Share of free ports below which there is a warning. */
const FEW = 0.1;

export function checkMedia({ member, file }: HostFacts): Finding[] {
  return (member?.media ?? []).flatMap(({ member: id, trouble, sides }) => {
    const found = sides
      .filter(({ free, all }) => all > 0 && free < FEW * all)
      .map(({ address, free, all }) =>
        finding(
          'DR_MEDIA_PORTS',
          'warning',
          `${id} (${address})`,
          `${free} of ${all} media ports are free. Ports of other programs and resting ones count as taken.`,
          [
            `# in ${file}: media: { ports: a wider range }, and render the balancer again; or add a member`,
            'sipfarm ports',
          ],
        ),
      );
    if (trouble === '') return found;
    const mend = ['# mend it, then:', 'sipfarm ports --refresh'];
    return [finding('DR_MEDIA_TROUBLE', 'fault', id, `No new media streams: ${trouble}.`, mend), ...found];
  });
}
