// Creates every metric of sipfarm, in one object. The rooms get their cells and families from here. docs/metrics.md is
// generated from it.
import { type EventLoopUtilization, performance } from 'node:perf_hooks';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type Cell, type CellFamily, counter, gauge, histogram } from './counters.ts';

type SeatKind = 'active' | 'draining' | 'disabled' | 'relay';

/** Values read on scrape. The node inserts its own readers while it is built; until then all read zero. */
interface Sources {
  ownedCalls: () => number;
  viewEpoch: () => number;
  /** Seats of the view: members by state, nodes outside the farm by role. */
  members: () => Readonly<Record<SeatKind, number>>;
  peersReachable: () => number;
  storeUp: () => boolean;
  tcpConnections: () => number;
  upstreamUp: () => boolean;
  callRecords: () => number;
  callRecordQueue: () => number;
  mediaPorts: () => Iterable<{ readonly labels: Record<'side' | 'state', string>; readonly value: number }>;
  mediaStreams: () => Iterable<{ readonly labels: Record<'way', string>; readonly value: number }>;
}

export interface Metrics {
  readonly registry: Registry;
  readonly sources: Sources;
  readonly adopted: CellFamily<'why' | 'outcome'>;
  readonly received: CellFamily<'listener' | 'class'>;
  readonly verdicts: CellFamily<'verdict' | 'reason'>;
  readonly relayed: CellFamily<'direction' | 'peer'>;
  readonly relayRefused: CellFamily<'reason'>;
  readonly transparent: CellFamily<'direction' | 'outcome'>;
  readonly relayHop: Histogram;
  readonly forgedTokens: CellFamily<'place'>;
  readonly handled: CellFamily<'from' | 'kind'>;
  readonly closedConnections: CellFamily<'reason'>;
  readonly sendErrors: CellFamily<'listener'>;
  readonly batchCalls: CellFamily<'direction'>;
  readonly batchDatagrams: CellFamily<'direction'>;
  readonly proxyHeaders: CellFamily<'listener' | 'outcome'>;
  readonly answered: CellFamily<'status'>;
  readonly storeRequest: Histogram<'operation'>;
  /** lookups_total */
  readonly lookups: CellFamily<'result'>;
  readonly callRecordWrites: CellFamily<'outcome'>;
  readonly callRecordsDropped: CellFamily<'reason'>;
  readonly mediaDescriptions: CellFamily<'outcome'>;
  readonly reanchored: CellFamily<'outcome'>;
  readonly idleCalls: CellFamily<'outcome'>;
  /** evicted_calls_total */
  readonly evicted: Cell;
  /** bad_store_entries_total */
  readonly badEntries: Cell;
  readonly mediaPackets: CellFamily<'way' | 'outcome'>;
  readonly mediaOctets: CellFamily<'way'>;
  readonly mediaLatches: CellFamily<'way'>;
}

export interface MetricsOptions {
  readonly version: string;
  /** Every value of the label `reason` of a dropped packet. Each is exported as 0 from the start. */
  readonly dropReasons: readonly string[];
}

/** Seconds: from a loopback neighbour to a link that is almost given up. */
const HOP_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5];
const STORE_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

function makeGauges(registry: Registry, sources: Sources): void {
  const single = (name: string, help: string, read: () => number): void =>
    gauge(registry, name, help, [], () => [{ labels: {}, value: read() }]);
  single('owned_calls', 'Calls that this member owns now.', () => sources.ownedCalls());
  single('view_epoch', 'Epoch of the view that this member uses. The same on all members, except for moments.', () =>
    sources.viewEpoch(),
  );
  gauge(
    registry,
    'members',
    'Seats of the view: members by state (active, draining), nodes outside the farm by role (disabled, relay).',
    ['state'],
    () => Object.entries(sources.members()).map(([state, value]) => ({ labels: { state }, value })),
  );
  single('peers_reachable', 'Other members that answer over the relay link.', () => sources.peersReachable());
  single('store_up', '1 while the store answers. At 0 the farm goes on with the last view.', () =>
    Number(sources.storeUp()),
  );
  single('tcp_connections', 'Open TCP connections.', () => sources.tcpConnections());
  single('upstream_up', '1 while the SIP server behind this member answers.', () => Number(sources.upstreamUp()));
  single('call_records', 'Calls whose records this member keeps.', () => sources.callRecords());
  single('call_record_queue', 'Calls whose records wait to be written. Grows while the store is slow or down.', () =>
    sources.callRecordQueue(),
  );
  gauge(
    registry,
    'media_ports',
    'Media ports by side and state: free, used, resting (late packets of the last stream may come), foreign (another program has it). No series without a media relay.',
    ['side', 'state'],
    () => sources.mediaPorts(),
  );
  gauge(
    registry,
    'media_streams',
    'Open streams of media by way: kernel (the kernel forwards the packets of one party at least), user (all others). No series without a media relay.',
    ['way'],
    () => sources.mediaStreams(),
  );
}

function makeProcessGauges(registry: Registry, version: string): void {
  let last: EventLoopUtilization = performance.eventLoopUtilization();
  gauge(
    registry,
    'event_loop_utilization',
    'Share of time the event loop was busy since the last scrape, 0 to 1. Above 0.8 the member is near its limit.',
    [],
    () => {
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, last);
      last = now;
      return [{ labels: {}, value: utilization }];
    },
  );
  new Gauge({
    name: 'sipfarm_build_info',
    help: 'Always 1; the label has the version.',
    labelNames: ['version'],
    registers: [registry],
  }).set({ version }, 1);
}

/** Creates every family in `registry`, with a zero for each drop reason. */
export function makeMetrics(registry: Registry, options: MetricsOptions): Metrics {
  const sources: Sources = {
    ownedCalls: () => 0,
    viewEpoch: () => 0,
    members: () => ({ active: 0, draining: 0, disabled: 0, relay: 0 }),
    peersReachable: () => 0,
    storeUp: () => false,
    tcpConnections: () => 0,
    upstreamUp: () => false,
    callRecords: () => 0,
    callRecordQueue: () => 0,
    mediaPorts: () => [],
    mediaStreams: () => [],
  };
  const metrics: Metrics = {
    registry,
    sources,
    adopted: counter(
      registry,
      'adopted_calls_total',
      'Adopted calls of dead members, by reason (need: a packet needed the call; sweep: after the grace) and ' +
        'outcome (see takeover.md).',
      ['why', 'outcome'],
    ),
    received: counter(registry, 'received_packets_total', 'Packets received from outside, by listener and class.', [
      'listener',
      'class',
    ]),
    verdicts: counter(
      registry,
      'verdicts_total',
      'Verdicts on packets: local, relay, reply (reason = status) or drop (reason: see errors.md).',
      ['verdict', 'reason'],
    ),
    relayed: counter(
      registry,
      'relayed_packets_total',
      'Packets sent to (direction out) or received from (in) another member over the relay link, in frames. The ' +
        'series of a peer end five minutes after it is gone.',
      ['direction', 'peer'],
    ),
    relayRefused: counter(
      registry,
      'relay_refused_total',
      'Frames that the relay link refused or could not send, by reason.',
      ['reason'],
    ),
    transparent: counter(
      registry,
      'transparent_packets_total',
      'Packets relayed with their own source address (relay.mode transparent). out: sent, or refused by the system ' +
        '(over the MTU, no buffer) and sent in a frame instead; in: taken, or garbage.',
      ['direction', 'outcome'],
    ),
    relayHop: histogram(registry, 'relay_hop_seconds', 'Half the round trip of a probe to a peer.', HOP_BUCKETS),
    forgedTokens: counter(
      registry,
      'forged_tokens_total',
      'Texts that look like a token of this farm and fail its check, by place. Grows when a key is missing here, ' +
        'or tokens are forged.',
      ['place'],
    ),
    handled: counter(
      registry,
      'handled_messages_total',
      'Messages handled by the service of this member as their owner. from: client or server; kind: request or ' +
        'response.',
      ['from', 'kind'],
    ),
    closedConnections: counter(
      registry,
      'closed_connections_total',
      'TCP connections that were closed or refused, by reason.',
      ['reason'],
    ),
    sendErrors: counter(registry, 'send_errors_total', 'Datagrams that the system refused to send, by listener.', [
      'listener',
    ]),
    batchCalls: counter(
      registry,
      'batch_calls_total',
      'System calls that received (direction in) or sent (out) UDP datagrams in batches; 0 without transport.batch.',
      ['direction'],
    ),
    batchDatagrams: counter(
      registry,
      'batch_datagrams_total',
      'Datagrams of these calls, up to 64 each; the first of each poll is received singly and not counted. Divided ' +
        'by batch_calls_total: the mean size of a batch, which rises with the load.',
      ['direction'],
    ),
    proxyHeaders: counter(
      registry,
      'proxy_headers_total',
      'PROXY headers on listeners that take them, by outcome (see errors.md): one per datagram, one per connection.',
      ['listener', 'outcome'],
    ),
    answered: counter(registry, 'requests_answered_total', 'Requests that this member answered itself, by status.', [
      'status',
    ]),
    storeRequest: new Histogram({
      name: 'sipfarm_store_request_seconds',
      help: 'Duration of a store request, by operation.',
      labelNames: ['operation'],
      buckets: STORE_BUCKETS,
      registers: [registry],
    }),
    lookups: counter(
      registry,
      'lookups_total',
      'Name lookups by RFC 3263, by result: found, nothing, failed, busy. Cached answers are not counted.',
      ['result'],
    ),
    callRecordWrites: counter(
      registry,
      'call_record_writes_total',
      'Call records, by result in the store: written, deleted, taken (another member has adopted the call), failed ' +
        '(a commit of many, retried).',
      ['outcome'],
    ),
    callRecordsDropped: counter(
      registry,
      'call_records_dropped_total',
      'Call records not written, or written late: queue (the queue is full; written later), size (too long, or ' +
        'refused by the store), room (the memory for records is full).',
      ['reason'],
    ),
    mediaDescriptions: counter(
      registry,
      'media_descriptions_total',
      'Session descriptions that passed a member with media.anchor, by outcome: relayed (they name the media relay), ' +
        'direct (the rule leaves them alone), no-ports (a new call was refused), or why they stay as they are.',
      ['outcome'],
    ),
    reanchored: counter(
      registry,
      'media_reanchored_total',
      'Re-INVITEs by which this member gives the readers of adopted calls its media ports, by outcome: answered, refused, glare (491 each time), no-answer, gone (481), no-offer (no description is recorded, or no ports were free), no-way (no flow, or no CSeq numbers).',
      ['outcome'],
    ),
    idleCalls: counter(
      registry,
      'media_idle_calls_total',
      'Calls without a media packet for media.idleSeconds, by outcome: logged (once per silence), ended (media.onIdle).',
      ['outcome'],
    ),
    evicted: counter(
      registry,
      'evicted_calls_total',
      'Calls forgotten because the table of owned calls was full. Never grows in a healthy farm.',
      [],
    ).cell({}),
    badEntries: counter(registry, 'bad_store_entries_total', 'Entries of the store that could not be read.', []).cell(
      {},
    ),
    mediaPackets: counter(
      registry,
      'media_packets_total',
      'Packets that came to media ports, by way (user: the relay in user space; kernel: RTP that the kernel has forwarded, as of the last reading of its counters) and outcome: forwarded, learning (its source is not known yet), foreign (of another source than the party), garbage (no RTP, RTCP, STUN or DTLS), late (the stream has ended), no-target (the other party has no allowed place), send-error, internal-error.',
      ['way', 'outcome'],
    ),
    mediaOctets: counter(
      registry,
      'media_octets_total',
      'Octets of the forwarded media packets, without UDP headers.',
      ['way'],
    ),
    mediaLatches: counter(
      registry,
      'media_latches_total',
      'Sources that a media port has locked: one per port, party and offer.',
      ['way'],
    ),
  };
  makeGauges(registry, sources);
  makeProcessGauges(registry, options.version);
  metrics.verdicts.cell({ verdict: 'local', reason: '' });
  metrics.verdicts.cell({ verdict: 'relay', reason: '' });
  for (const reason of options.dropReasons) metrics.verdicts.cell({ verdict: 'drop', reason });
  for (const family of [metrics.batchCalls, metrics.batchDatagrams])
    for (const direction of ['in', 'out']) family.cell({ direction });
  for (const from of ['client', 'server'])
    for (const kind of ['request', 'response']) metrics.handled.cell({ from, kind });
  return metrics;
}

/**
 * Adds prom-client's metrics of the process: memory, CPU, file descriptors, garbage collection. Call once per process.
 */
export function addProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry });
}

/** Returns a registry for `makeMetrics`; every series has `labels`. */
export function makeRegistry(labels: Readonly<Record<string, string>> = {}): Registry {
  const registry = new Registry();
  registry.setDefaultLabels(labels);
  return registry;
}

/** Metrics that a host exports about its several workers. */
export interface HostMetrics {
  readonly registry: Registry;
  /** worker_starts_total */
  readonly starts: CellFamily<'worker'>;
}

/** Creates the families of the process that starts the workers. `up`: whether each worker is in the farm. */
export function makeHostMetrics(
  registry: Registry,
  up: () => Iterable<{ readonly worker: string; readonly up: boolean }>,
): HostMetrics {
  gauge(
    registry,
    'worker_up',
    'With several workers: 1 while the worker is in the farm; 0 while it starts, or waits to be started again.',
    ['worker'],
    function* () {
      for (const one of up()) yield { labels: { worker: one.worker }, value: Number(one.up) };
    },
  );
  return {
    registry,
    starts: counter(
      registry,
      'worker_starts_total',
      'With several workers: number of starts of the worker, the first one included. Grows when it dies.',
      ['worker'],
    ),
  };
}
