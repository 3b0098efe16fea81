// Several sockets of this host on one address: allowed only when all of them request it, and then each gets a part.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, type TestContext, test } from 'node:test';
import { type DatagramSocket, nodeNetwork, type StreamServer } from '../../../src/base/network.ts';
import { networks, Party } from '../batch/networks.ts';

const LIMIT = { timeout: 30_000 };
const SHARED = { reusePort: true };
const IN_USE = { code: 'EADDRINUSE' };
/** The kernel chooses by a hash of the addresses: it is practically impossible that all of these fall on one of two. */
const MANY = 64;

for (const [name, network] of networks)
  for (const address of ['127.0.0.1', '::1'])
    test(`UDP sockets of ${name} share ${address}, and a socket without that option is refused`, LIMIT, async (t) => {
      const heard = [0, 0];
      const all = Promise.withResolvers<void>();
      const bind = (index: number, port: number, sharing = {}): Promise<DatagramSocket> => {
        const onDatagram = (): void => {
          heard[index]!++;
          if (heard[0]! + heard[1]! === MANY) all.resolve();
        };
        return network.bindUdp({ address, port }, { onDatagram, onSendError: () => {} }, sharing);
      };
      const first = await bind(0, 0, SHARED);
      t.after(() => first.close());
      await assert.rejects(bind(1, first.local.port), IN_USE);
      const second = await bind(1, first.local.port, SHARED);
      t.after(() => second.close());
      for (let sender = 0; sender < MANY; sender++) {
        const party = await Party.at(network, address);
        t.after(() => party.socket.close());
        party.socket.send(Buffer.from('x'), address, first.local.port);
      }
      await all.promise;
      assert.ok(heard[0]! > 0 && heard[1]! > 0, String(heard));

      const alone = await bind(0, 0);
      t.after(() => alone.close());
      await assert.rejects(bind(1, alone.local.port, SHARED), IN_USE);
    });

describe('TCP listeners', LIMIT, () => {
  const listen = async (
    t: TestContext,
    port: number,
    sharing: object,
    onConnection = (): void => {},
  ): Promise<StreamServer> => {
    const server = await nodeNetwork.listenTcp(
      { address: '127.0.0.1', port },
      (stream) => {
        stream.destroy();
        onConnection();
      },
      sharing,
    );
    t.after(() => server.close());
    return server;
  };

  test('share an address, and one without that option is refused', async (t) => {
    const taken = [0, 0];
    const first = await listen(t, 0, SHARED, () => void taken[0]!++);
    const { port } = first.local;
    await assert.rejects(listen(t, port, {}), IN_USE);
    await listen(t, port, SHARED, () => void taken[1]!++);
    for (let caller = 0; caller < MANY; caller++) {
      const stream = nodeNetwork.connectTcp({ address: '127.0.0.1', port });
      stream.on('error', () => {}).resume();
      await once(stream, 'close');
    }
    assert.equal(taken[0]! + taken[1]!, MANY);
    assert.ok(taken[0]! > 0 && taken[1]! > 0, String(taken));
  });
});
