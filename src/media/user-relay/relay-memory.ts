// Memory that the thread of the relay writes and the main thread reads, without messages: counts of the relay, and of
// each port. Every cell has one writer. A port is named by its index: outside ports first, then inside ports.

/** Outcomes of the packets that come to media ports, labels of sipfarm_media_packets_total, and their cells. */
export const Outcome = {
  forwarded: 0,
  /** Its source is not known yet. */
  learning: 1,
  /** Another source is locked, or this one does not fit. */
  foreign: 2,
  /** No RTP, RTCP, STUN or DTLS. */
  garbage: 3,
  /** Came to a port that rests. */
  late: 4,
  /** The facing party has no place yet, or a forbidden one. */
  'no-target': 5,
  /** The system refused to send it. */
  'send-error': 6,
  'internal-error': 7,
} as const;

/** All cells of the whole relay. */
export const Total = {
  ...Outcome,
  /** Octets of the forwarded packets. */
  octets: 8,
  /** Sources that were locked. */
  latches: 9,
} as const;
const TOTALS = Object.keys(Total).length;

/** Cells of one port. */
export const Cell = {
  /** Number of the stream that the other cells belong to. */
  stream: 0,
  packets: 1,
  octets: 2,
  foreign: 3,
  /** -1 = no report. */
  lost: 4,
  jitter: 5,
  lastAt: 6,
} as const;
export const CELLS = 7;

/** Words of a sockaddr. */
export const NAME_WORDS = 8;

const DOUBLE_OCTETS = Float64Array.BYTES_PER_ELEMENT;
const WORD_OCTETS = Int32Array.BYTES_PER_ELEMENT;

export class RelayMemory {
  readonly ports: number;
  readonly buffer: SharedArrayBuffer;
  /** By `Total`. */
  readonly totals: Float64Array;
  /** `CELLS` cells of each port. */
  readonly cells: Float64Array;
  /** Time of the last late packet to each port. */
  readonly heardAt: Float64Array;
  /** 1 while the thread has the descriptor of the port. The main thread sets it, the thread clears it. */
  readonly held: Int32Array;
  /** One word: 1 while messages for the thread wait. */
  readonly waiting: Int32Array;
  /** Number of the lock of each port; 0 = no source is locked. No other lock of the thread has the same number. */
  readonly #locks: Int32Array;
  /** For each port the sockaddr of its locked source. */
  readonly #sources: Uint32Array;
  #lastLock = 0;

  /** `buffer`: that of another thread's memory, for as many ports. */
  constructor(ports: number, buffer?: SharedArrayBuffer) {
    const doubles = TOTALS + ports * (CELLS + 1);
    this.ports = ports;
    const words = doubles * DOUBLE_OCTETS;
    this.buffer = buffer ?? new SharedArrayBuffer(words + (2 * ports + 1 + ports * NAME_WORDS) * WORD_OCTETS);
    this.totals = new Float64Array(this.buffer, 0, TOTALS);
    this.cells = new Float64Array(this.buffer, TOTALS * DOUBLE_OCTETS, ports * CELLS);
    this.heardAt = new Float64Array(this.buffer, (TOTALS + ports * CELLS) * DOUBLE_OCTETS, ports);
    this.held = new Int32Array(this.buffer, words, ports);
    this.waiting = new Int32Array(this.buffer, words + ports * WORD_OCTETS, 1);
    this.#locks = new Int32Array(this.buffer, words + (ports + 1) * WORD_OCTETS, ports);
    this.#sources = new Uint32Array(this.buffer, words + (2 * ports + 1) * WORD_OCTETS, ports * NAME_WORDS);
  }

  /** Clears the cells of a port for stream number `stream`. */
  begin(port: number, stream: number): void {
    const at = port * CELLS;
    // Readers drop what belongs to another stream.
    this.cells[at + Cell.stream] = 0;
    this.unlock(port);
    this.cells.fill(0, at + Cell.packets, at + CELLS);
    this.cells[at + Cell.lost] = -1;
    this.cells[at + Cell.jitter] = -1;
    this.cells[at + Cell.stream] = stream;
  }

  /** Notes that a port has locked the source with this sockaddr. Only the thread may call it. */
  lock(port: number, name: Uint32Array): void {
    this.unlock(port);
    this.#sources.set(name, port * NAME_WORDS);
    this.#lastLock = (this.#lastLock % 0x7fff_ffff) + 1;
    Atomics.store(this.#locks, port, this.#lastLock);
  }

  /** Notes that no source is locked. Only the thread may call it. */
  unlock(port: number): void {
    Atomics.store(this.#locks, port, 0);
  }

  /** Returns the number of a port's lock; 0 = no source is locked. */
  lockOf(port: number): number {
    return Atomics.load(this.#locks, port);
  }

  /** Copies the sockaddr of the source of this lock. Returns false when the lock is another one by now. */
  readSource(port: number, lock: number, into: Uint32Array): boolean {
    for (let i = 0; i < NAME_WORDS; i++) into[i] = this.#sources[port * NAME_WORDS + i]!;
    return this.lockOf(port) === lock;
  }
}
