// Defines the command line of `sipfarm`. Exit codes: 0 done, 1 failed, 2 wrong usage. Errors go to stderr: code, colon,
// message.
import { existsSync, readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { decode } from '../admin/decode.ts';
import { MAX_LISTED_CALLS } from '../admin/routes.ts';
import type { AbsentSummary, CallList, FarmSummary, MemberSummary, OwnerReport } from '../admin/status.ts';
import type { BalancerKind } from '../balancer/render.ts';
import { type Endpoint, parseEndpoint } from '../base/endpoint.ts';
import { SipfarmError } from '../base/errors.ts';
import {
  type AdminAddress,
  DEFAULT_CONFIG_PATH,
  type Environment,
  type Loaded,
  loadAdminAddress,
  loadConfig,
  parseClusterFile,
} from '../config/load.ts';
import { ConfigError } from '../config/problems.ts';
import type { ClusterSettings } from '../config/schema.ts';
import { Secret } from '../config/secret.ts';
import type { DemoOptions } from '../demo/demo.ts';
import type { PortsReport } from '../media/port-status.ts';
import { type Keyring, keyring } from '../ownership/keyring.ts';
import { AdminClient } from './admin-client.ts';
import { etcdUrl, integer, vipAddress } from './arguments.ts';
import { addRenderOptions, planFor, type RenderOptions, showFiles } from './balancer-render.ts';
import type { DoctorOptions } from './doctor.ts';
import { addOrderCommands, OrderCommands, type OrderDeps } from './orders.ts';
import { showPorts } from './ports.ts';
import { showCalls, showDecoded, showMembers, showOwner, summarizeConfig } from './summary.ts';
import { printable } from './table.ts';

/** Parts of the environment that the commands use. */
export interface ProgramDeps {
  readonly version: string;
  readonly environment: Environment;
  /** Writes one text and a line end to the standard output. */
  out(text: string): void;
  /** Writes one text and a line end to the standard error. */
  err(text: string): void;
  /** Runs a member; resolves when it has stopped. SIGHUP reads `path` again. */
  runNode(loaded: Loaded, path: string): Promise<void>;
  /** Runs one worker of a host; resolves to false when it could not start. */
  runWorker(): Promise<boolean>;
  /** Checks this host; resolves to true when nothing but hints was found. */
  runDoctor(options: DoctorOptions): Promise<boolean>;
  /** Runs the demo farm; resolves when it has stopped. */
  runDemo(options: DemoOptions): Promise<void>;
  /** Time, terminal and Ctrl-C for commands that follow something. */
  readonly following: Omit<OrderDeps, 'out' | 'err'>;
}

interface ConfigOption {
  readonly config?: string;
}

interface AskOptions extends ConfigOption {
  readonly admin?: string;
  readonly json?: boolean;
}

/**
 * Returns the admin address: from --admin, else from the file of -c, else from the default file if it exists. Otherwise
 * it is 127.0.0.1:8060.
 */
function adminAddress(options: AskOptions, environment: Environment): AdminAddress {
  const fromEnvironment = environment.SIPFARM_ADMIN_TOKEN;
  const token = fromEnvironment ? { token: new Secret(fromEnvironment) } : {};
  if (options.admin !== undefined) {
    const bind = parseEndpoint(options.admin.replace(/^http:\/\//, '').replace(/\/$/, ''), 8060);
    if (!bind) throw new SipfarmError('SF_USAGE', '--admin must be an IP address with a port, like 127.0.0.1:8060');
    return { bind, ...token };
  }
  if (options.config === undefined && !existsSync(DEFAULT_CONFIG_PATH))
    return { bind: { address: '127.0.0.1', port: 8060 }, ...token };
  return { ...token, ...loadAdminAddress(options.config ?? DEFAULT_CONFIG_PATH, environment) };
}

/**
 * Returns the keys for checks: from the file of -c, else from a valid default file, else from SIPFARM_KEY. undefined
 * when there are none.
 */
function keysAtHand(options: ConfigOption, environment: Environment): Keyring | undefined {
  if (options.config !== undefined || existsSync(DEFAULT_CONFIG_PATH)) {
    try {
      const { config } = loadConfig(options.config ?? DEFAULT_CONFIG_PATH, environment);
      return keyring(config.keys.map((key) => key.reveal()));
    } catch (error) {
      if (options.config !== undefined) throw error;
    }
  }
  const key = environment.SIPFARM_KEY;
  return key ? keyring([key]) : undefined;
}

class Commands {
  readonly #deps: ProgramDeps;
  /** True when a command has run to its end and found something wrong. */
  failed = false;

  constructor(deps: ProgramDeps) {
    this.#deps = deps;
  }

  async run(options: ConfigOption): Promise<void> {
    const path = options.config ?? DEFAULT_CONFIG_PATH;
    const loaded = loadConfig(path, this.#deps.environment);
    await this.#deps.runNode(loaded, path);
  }

  async worker(): Promise<void> {
    this.failed = !(await this.#deps.runWorker());
  }

  check(options: ConfigOption & { readonly json?: boolean }): void {
    const path = options.config ?? DEFAULT_CONFIG_PATH;
    try {
      const { config, warnings } = loadConfig(path, this.#deps.environment);
      const { given: _, ...effective } = config;
      if (options.json) {
        this.#json({ ok: true, problems: [], warnings, config: effective });
        return;
      }
      this.#deps.out(`${path} is valid.\n${summarizeConfig(config)}`);
      for (const warning of warnings) this.#deps.out(`warning: ${printable(warning)}`);
    } catch (error) {
      if (!options.json || !(error instanceof SipfarmError)) throw error;
      const alone = { code: error.code, line: 0, column: 0, field: '', message: error.message };
      this.#json({ ok: false, problems: error instanceof ConfigError ? error.problems : [alone], warnings: [] });
      this.failed = true;
    }
  }

  async members(options: AskOptions): Promise<void> {
    const { members, absent } = (await this.#ask(options).get('/v1/members')) as {
      readonly members: readonly MemberSummary[];
      readonly absent: readonly AbsentSummary[];
    };
    this.#show(options, [...members, ...absent], () => showMembers(members, absent));
  }

  async calls(options: AskOptions & { readonly all?: boolean; readonly limit: number }): Promise<void> {
    const path = `/v1/calls?limit=${options.limit}${options.all ? '&all=1' : ''}`;
    this.#show(options, (await this.#ask(options).get(path)) as CallList, showCalls);
  }

  async owner(callId: string, options: AskOptions): Promise<void> {
    const answer = (await this.#ask(options).get(`/v1/owner?callId=${encodeURIComponent(callId)}`)) as OwnerReport;
    this.#show(options, answer, showOwner);
  }

  async ports(options: AskOptions & { readonly refresh?: boolean }): Promise<void> {
    const client = this.#ask(options);
    const report = (await (options.refresh
      ? client.post('/v1/ports/refresh', {})
      : client.get('/v1/ports'))) as PortsReport;
    this.#show(options, report, showPorts);
    this.failed = report.own.some(({ trouble }) => trouble !== null);
  }

  async doctor(
    options: AskOptions & { readonly fix?: boolean; readonly yes?: boolean; readonly through?: Endpoint },
  ): Promise<void> {
    if (options.through && (options.fix || options.admin !== undefined || options.config !== undefined))
      throw new SipfarmError('SF_USAGE', '--through tests from outside: the only other option is --json');
    const { config, admin, ...rest } = options;
    const path = config ?? DEFAULT_CONFIG_PATH;
    const asked = admin === undefined ? {} : { admin: adminAddress(options, this.#deps.environment) };
    this.failed = !(await this.#deps.runDoctor({ ...rest, ...asked, path }));
  }

  async renderBalancer(kind: BalancerKind, options: AskOptions & RenderOptions): Promise<void> {
    const client = this.#ask(options);
    const { farm } = (await client.get('/v1/farm')) as FarmSummary;
    const { members } = (await client.get('/v1/members')) as { readonly members: readonly MemberSummary[] };
    const { claims } = (await client.get('/v1/ports')) as PortsReport;
    if (!claims) this.#deps.err('warning: the store does not answer: media is left out');
    const { plan, warnings } = planFor(kind, farm, members, options, undefined, claims ?? []);
    for (const warning of warnings) this.#deps.err(`warning: ${printable(warning)}`);
    this.#show(options, plan, () => showFiles(kind, plan, options.file));
  }

  decode(text: string, options: ConfigOption & { readonly json?: boolean }): void {
    const decoded = decode(text, keysAtHand(options, this.#deps.environment));
    this.#show(options, decoded, showDecoded);
    this.failed = decoded.verified === false;
  }

  async getConfig(options: AskOptions): Promise<void> {
    const { config } = (await this.#ask(options).get('/v1/config')) as { readonly config: ClusterSettings };
    this.#json(config);
  }

  async putConfig(file: string, options: AskOptions): Promise<void> {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (error) {
      throw new SipfarmError(
        'SF_CONFIG_UNREADABLE',
        `${file} cannot be read (${(error as NodeJS.ErrnoException).code})`,
      );
    }
    const settings = parseClusterFile(file, text);
    const { config } = (await this.#ask(options).put('/v1/config', settings)) as { readonly config: ClusterSettings };
    this.#json(config);
  }

  orders(options: AskOptions): OrderCommands {
    const { out, err, following } = this.#deps;
    return new OrderCommands(this.#ask(options), { ...following, out, err }, options);
  }

  #ask(options: AskOptions): AdminClient {
    return new AdminClient(adminAddress(options, this.#deps.environment));
  }

  #show<T>(options: { readonly json?: boolean }, value: T, text: (value: T) => string): void {
    if (options.json) this.#json(value);
    else this.#deps.out(text(value));
  }

  #json(value: unknown): void {
    this.#deps.out(JSON.stringify(value, null, 2));
  }
}

function addCommands(program: Command, commands: Commands, deps: ProgramDeps): void {
  const withFile = (command: Command): Command =>
    command.option('-c, --config <file>', `configuration file (default: ${DEFAULT_CONFIG_PATH})`);
  const withJson = (command: Command): Command => command.option('--json', 'print JSON');
  const asking = (command: Command): Command =>
    withJson(withFile(command)).option('--admin <address>', 'admin address of the member to contact, instead of -c');

  withFile(program.command('run').description('run this host as a member of the farm')).action((options) =>
    commands.run(options),
  );
  // Forked by `run`, not typed by an operator.
  program
    .command('worker', { hidden: true })
    .argument('<member>')
    .action(() => commands.worker());
  withJson(
    withFile(program.command('check').description('check the configuration: line, column and fix of every fault')),
  ).action((options) => commands.check(options));
  program
    .command('demo')
    .description('run a farm with its balancer and SIP server in this process, on loopback')
    .option('--members <n>', 'members of the farm', integer(1, 16), 3)
    .option('--port <port>', 'port of the balancer on 127.0.0.1, UDP and TCP', integer(1, 65_535), 5060)
    .option('--etcd <url>', 'use this etcd as the store instead of memory', etcdUrl)
    .action((options: DemoOptions) => deps.runDemo(options));
  asking(program.command('members').description('list the members of the farm')).action((options) =>
    commands.members(options),
  );
  addOrderCommands(
    program,
    asking,
    (options: AskOptions) => commands.orders(options),
    () => {
      commands.failed = true;
    },
  );
  asking(program.command('calls').description('list the recorded calls of the contacted member'))
    .option('--all', 'list the calls of every member, from the store')
    .option('--limit <n>', 'largest number of calls to list', integer(1, MAX_LISTED_CALLS), 100)
    .action((options) => commands.calls(options));
  asking(
    program.command('owner').description('show the owner of a Call-ID, and its call record').argument('<call-id>'),
  ).action((callId: string, options) => commands.owner(callId, options));
  asking(program.command('ports').description('show the media ports of this host, and the claims of the farm'))
    .option('--refresh', 'let the member read the addresses of its host again')
    .action((options) => commands.ports(options));
  asking(
    program
      .command('doctor')
      .description('check this host and the farm, and print the commands that repair each fault'),
  )
    .option('--fix', 'make the safe changes, after confirmation')
    .option('--yes', 'with --fix: without confirmation')
    .option(
      '--through <address>',
      'test the VIP as a client, from a host outside the farm (default port: 5060)',
      vipAddress,
    )
    .action((options) => commands.doctor(options));
  withJson(
    withFile(
      program.command('decode').description('show the fields of a token, a Via branch or a relay frame (hexadecimal)'),
    ),
  )
    .argument('<text>')
    .action((text: string, options) => commands.decode(text, options));
  const balancer = program.command('balancer').description('the L4 balancer in front of the farm');
  addRenderOptions(
    asking(balancer.command('render').description("write a balancer's configuration from the live farm")),
  ).action((kind: BalancerKind, options) => commands.renderBalancer(kind, options));
  const config = program.command('config').description('the cluster-wide settings in the store');
  asking(config.command('get').description('print them')).action((options) => commands.getConfig(options));
  asking(config.command('put').description('replace them by those of a YAML or JSON file').argument('<file>')).action(
    (file: string, options) => commands.putConfig(file, options),
  );
}

/**
 * Returns the commands, bound to `deps`. `failed` returns true after a command that ran to its end and found something
 * wrong.
 */
function buildProgram(deps: ProgramDeps): { readonly program: Command; readonly failed: () => boolean } {
  const commands = new Commands(deps);
  const program = new Command('sipfarm')
    .description('A SIP farm: every member takes any packet and brings it to the member that owns the call.')
    .version(deps.version)
    .exitOverride()
    .configureOutput({ writeOut: (text) => deps.out(text.trimEnd()), writeErr: () => undefined });
  addCommands(program, commands, deps);
  return { program, failed: () => commands.failed };
}

/** Runs one command line (without node and script); resolves to the exit code, never rejects. */
export async function runProgram(argv: readonly string[], deps: ProgramDeps): Promise<0 | 1 | 2> {
  const { program, failed } = buildProgram(deps);
  try {
    if (argv.length === 0) throw new SipfarmError('SF_USAGE', 'a command is missing; see sipfarm --help');
    await program.parseAsync([...argv], { from: 'user' });
    return failed() ? 1 : 0;
  } catch (error) {
    return report(error, deps);
  }
}

function report(error: unknown, deps: ProgramDeps): 0 | 1 | 2 {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    const message = error.message.replace(/^error: /, '').replaceAll('\n', ' ');
    deps.err(`SF_USAGE: ${printable(message)}; see sipfarm --help`);
    return 2;
  }
  if (error instanceof SipfarmError) {
    deps.err(`${error.code}: ${error.message.split('\n').map(printable).join('\n')}`);
    return error.code === 'SF_USAGE' ? 2 : 1;
  }
  deps.err(`SF_INTERNAL: ${printable(error instanceof Error ? (error.stack ?? error.message) : String(error))}`);
  return 1;
}
