// A forwarder over dgram that reads no octet, as the measure of dgram itself. It forwards packets to FRONT to SERVER,
// and packets to BACK to CLIENT.
//
//    node bare.ts FRONT CLIENT BACK SERVER
//
// Writes `ready` and runs until its standard input ends.
import dgram from 'node:dgram';
import { type Endpoint, parseEndpoint } from '../src/base/endpoint.ts';
import { UDP_BUFFER_BYTES } from '../src/base/network.ts';

const [front, client, back, server] = process.argv.slice(2, 6).map((text) => parseEndpoint(text)!) as [
  Endpoint,
  Endpoint,
  Endpoint,
  Endpoint,
];

async function open({ address, port }: Endpoint): Promise<dgram.Socket> {
  const socket = dgram.createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
  socket.setRecvBufferSize(UDP_BUFFER_BYTES);
  socket.setSendBufferSize(UDP_BUFFER_BYTES);
  return socket;
}

const outside = await open(front);
const inside = await open(back);
outside.on('message', (bytes) => inside.send(bytes, server.port, server.address));
inside.on('message', (bytes) => outside.send(bytes, client.port, client.address));
process.stdout.write('ready\n');
process.stdin.resume().once('end', () => process.exit());
