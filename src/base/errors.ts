// The public catalogue of errors: code, meaning, and what to do. docs/errors.md is generated from it; a test compares
// both. Codes are never reused. Nothing throws on the packet path: an error there is a counted drop reason
// (packet/verdict.ts).

export const ERRORS = {
  SF_NODE_TOO_OLD: 'Node.js is older than 22.12. Install Node 24 (LTS), or use the Node that `npm ci` installs.',
  SF_CONFIG_UNREADABLE: 'The configuration file cannot be read. Check the path given with -c and its permissions.',
  SF_CONFIG_SYNTAX: 'The configuration file is not valid YAML. The message names line and column.',
  SF_CONFIG_INVALID:
    'A field of the configuration is unknown, missing, or has a wrong value. The message names line, column and ' +
    'the fix.',
  SF_CONFIG_SECRET:
    'The configuration takes a value from an environment variable that is not set, or keyFile cannot be read.',
  SF_KEY_INVALID: 'A farm key is not 64 hexadecimal digits (32 octets). Make one with: openssl rand -hex 32',
  SF_KEYS_MISSING:
    'No farm key: neither keys nor keyFile is set, or keyFile contains none. Make one with: openssl rand -hex 32',
  SF_KEY_MISMATCH:
    'The member has no farm key in common with the living members, which the message names. They would refuse all ' +
    'its frames. It has written nothing. Set the same keys (keys, keyFile). For a farm with a new key, stop the ' +
    'others first.',
  SF_BIND_FAILED:
    'A listener, the relay link, the service or the admin port cannot be bound. The message names address and reason.',
  SF_BATCH_UNAVAILABLE:
    'transport.batch is on, and this host does not support it. Possible reasons: koffi is not installed, the ' +
    'platform is not 64-bit Linux, a check of the system calls failed. The message names the reason. With auto the ' +
    'member runs without batches.',
  SF_MEDIA_UNAVAILABLE:
    'A media relay is configured, and this host does not support it. Possible reasons: koffi is not installed, the ' +
    'platform is not 64-bit Linux, the thread of the relay did not start. The message names the reason.',
  SF_MEDIA_OFFLOAD:
    'media.offload is on, and the kernel of this host cannot forward media: nft or the right CAP_NET_ADMIN is missing, or the host does not forward. The message names the reason; `sipfarm doctor` shows the remedy. With auto the member starts, and relays in user space.',
  SF_STORE_UNREACHABLE: 'The store did not answer while the member started. Check store.hosts; the member retries.',
  SF_STORE_CONFLICT:
    'A transaction in the store failed because another member wrote first. The caller retries. The error is shown ' +
    'only if it persists.',
  SF_MEMBER_UNKNOWN:
    'The farm has no member of that name, and had none recently. `sipfarm members` lists them. Each worker of a ' +
    'host is a member of its own (fe1.0, fe1.1).',
  SF_ORDER_REFUSED:
    'The order cannot be given now: the member is banned, has another order, or is to be removed while it lives. ' +
    'The message names the step to do first.',
  SF_STORE_REFUSED:
    'The store refused a request (too large, no permission, no space). The message contains its answer.',
  SF_MEMBER_ID_TAKEN: 'Another live process uses this member id. Give each member its own `member` name.',
  SF_NUMBERS_EXHAUSTED: 'All 65,535 member numbers are used. Remove members that will not come back.',
  SF_ADMIN_TOKEN_REQUIRED:
    'admin.bind is not a loopback address and admin.token is not set. Set a token or bind to loopback.',
  SF_ADMIN_UNREACHABLE:
    'No running member answers at the admin address. Check that the member runs, and that -c names its configuration.',
  SF_ADMIN_REFUSED: 'The running member refused the request. The message contains its answer.',
  SF_TRANSPARENT_UNAVAILABLE:
    'relay.mode is transparent, and this host cannot send transparently. Either the optional native module ' +
    'raw-socket is not built for the running Node.js, or the capability CAP_NET_RAW is missing. The message prints ' +
    'the commands. relay.mode envelope needs neither.',
  SF_MEDIA_PLAN:
    'The address plan of the media relay does not fit the settings: media.wan is missing, or set where it may not be. The message names the field and the remedy.',
  SF_MEDIA_ADDRESS:
    'media.bind or media.inside is no address of this host. Add it to an interface, or change the field.',
  SF_MEDIA_PORTS:
    'With media.plan single-ip another member has claimed some of these media ports. The message names that member and a free range. Change media.ports of one of the two.',
  SF_DECODE_FAILED: 'The text is neither a token, a branch with a token, nor a relay frame in hexadecimal.',
  SF_BALANCER_PLAN:
    'The members do not fit behind one balancer of this kind, or data about them is missing. The message names the ' +
    'change or the option.',
  SF_WORKER_DIED:
    'A worker process ended before it had joined the farm, and gave no reason. It was killed, ran out of memory, ' +
    'or met a fault of Node.js. Check its last log lines and the kernel log.',
  SF_NO_WORKER:
    'No worker of this host can answer now: all are starting, or have ended. GET /v1/workers shows their state.',
  SF_USAGE: 'The command line is wrong. See sipfarm --help.',
  SF_INTERNAL: 'A fault of sipfarm itself. Please report it with the log lines around it.',
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** An error that an operator can look up. `message` describes this case; the catalogue explains the code. */
export class SipfarmError extends Error {
  override readonly name = 'SipfarmError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
