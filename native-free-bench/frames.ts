// Relay frames as the other member of the bench's farm sends them to the real one.
import { listenerCode } from '../src/base/listener-code.ts';
import { keyring } from '../src/ownership/keyring.ts';
import { encodeFrame, Frame, FrameKind, HEAD_IPV4 } from '../src/relay/envelope.ts';
import { OWN, OWN_START, type Place, PORTS, SECRET } from './farm.ts';

/** The frame in which the other member relays `message`. */
export function frameOf(message: Buffer, { address, client }: Place): Buffer {
  const frame = new Frame();
  frame.kind = FrameKind.packet;
  frame.hops = 1;
  frame.sender = OWN + 1;
  frame.senderIncarnation = 1;
  frame.receiver = OWN;
  frame.bound = OWN_START;
  frame.ingress = OWN + 1;
  frame.ingressIncarnation = 1;
  frame.listener = listenerCode('edge');
  frame.epoch = 1;
  frame.address = client;
  frame.port = PORTS.client;
  frame.localAddress = address;
  frame.localPort = PORTS.front;
  const whole = Buffer.alloc(HEAD_IPV4 + message.length);
  encodeFrame(keyring([SECRET]), frame, message, 0, message.length, whole, 0);
  return whole;
}
