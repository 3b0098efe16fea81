// SIP.js as a client: dialogs, transactions and subscriptions of the library, sockets and session descriptions of this
// file.
import {
  type Invitation,
  Inviter,
  Registerer,
  type Session,
  type SessionDescriptionHandler,
  Subscriber,
  UserAgent,
} from 'sip.js';
import { transportAt } from './sockets.ts';
import { type Agent, type Place, Wire } from './wire.ts';

type Direction = 'sendrecv' | 'sendonly' | 'recvonly';
const ANSWERS: Readonly<Record<Direction, Direction>> = {
  sendrecv: 'sendrecv',
  sendonly: 'recvonly',
  recvonly: 'sendonly',
};

/** Fixed media, of which only the direction changes (RFC 3264); no media is sent. */
class FixedMedia implements SessionDescriptionHandler {
  /** Direction of the next offer from this side. */
  wanted: Direction = 'sendrecv';
  readonly #address: string;
  #version = 0;
  /** 'ours': an own offer waits for its answer; else the direction that the other side has offered. */
  #open: 'ours' | Direction | undefined;

  constructor(address: string) {
    this.#address = address;
  }

  hasDescription(contentType: string): boolean {
    return contentType === 'application/sdp';
  }

  async setDescription(sdp: string): Promise<void> {
    const direction = (/^a=(sendrecv|sendonly|recvonly)\r?$/m.exec(sdp)?.[1] ?? 'sendrecv') as Direction;
    this.#open = this.#open === 'ours' ? undefined : direction;
  }

  async getDescription(): Promise<{ body: string; contentType: string }> {
    const offered = this.#open === 'ours' ? undefined : this.#open;
    const direction = offered === undefined ? this.wanted : ANSWERS[offered];
    this.#open = offered === undefined ? 'ours' : undefined;
    const lines = [
      'v=0',
      `o=- 1 ${++this.#version} IN IP4 ${this.#address}`,
      's=-',
      `c=IN IP4 ${this.#address}`,
      't=0 0',
      'm=audio 40000 RTP/AVP 0',
      `a=${direction}`,
    ];
    return { body: `${lines.join('\r\n')}\r\n`, contentType: 'application/sdp' };
  }

  sendDtmf(): boolean {
    return false;
  }

  close(): void {}
}

/** Starts SIP.js at a place. It registers and subscribes, and accepts every call. */
export async function startSipjs(place: Place): Promise<Agent> {
  const { name, user, watched, transport, address, farm } = place;
  const wire = new Wire();
  const uriOf = (whose: string) => UserAgent.makeURI(`sip:${whose}@${farm}`)!;
  let session: Session | undefined;
  const agent = new UserAgent({
    uri: uriOf(user),
    viaHost: address,
    contactName: user,
    contactParams: { transport },
    forceRport: true,
    logBuiltinEnabled: false,
    transportConstructor: transportAt(place, wire),
    sessionDescriptionHandlerFactory: () => new FixedMedia(address),
    delegate: {
      onInvite: (invitation: Invitation) => {
        session = invitation;
        void invitation.accept();
      },
    },
  });
  await agent.start();
  await new Registerer(agent).register();
  const subscriber = new Subscriber(agent, uriOf(watched), 'presence');
  await subscriber.subscribe();
  return {
    name,
    user,
    wire,
    call: async (whom) => {
      const inviter = new Inviter(agent, uriOf(whom));
      session = inviter;
      await inviter.invite();
    },
    hold: async () => {
      (session!.sessionDescriptionHandler as FixedMedia).wanted = 'sendonly';
      await session!.invite();
    },
    hangUp: async () => {
      await session!.bye();
    },
    unsubscribe: () => subscriber.unsubscribe(),
  };
}
