// A call that passes the farm twice: the SIP server calls another user at the farm's own address with the same Call-ID.
// Each pass removes its own Route values, and none is a loop (RFC 3261 16.3 item 4, 16.4).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { VIP } from '../../../fake/farm.ts';
import { type Message, request, respond } from '../../../fake/sip.ts';
import { cleanUp, rig } from './rig.ts';

cleanUp();

let branches = 0;

for (const [answer, dialogs] of [
  ['direct', 'own'],
  ['ingress', 'shared'],
] as const)
  for (const routed of [true, false])
    for (const straight of [true, false])
      describe(`answer ${answer}, Record-Route ${routed}, by ${straight ? 'the VIP' : 'service.bind'}: a call`, () => {
        test('is acknowledged and ended by the caller, and a second one is ended by the callee', async () => {
          const { farm } = await rig({ answer, dialogs, members: 3 });
          const phone = await farm.phone('192.0.2.7');
          const callId = farm.callIdOf(farm.member(2));
          const { server } = farm.member(2);
          const own = `<sip:${server.at.address}:${server.at.port};lr>`;
          /**
           * Forwards a message like a proxy: removes its own Route value, and adds a Via and perhaps a Record-Route.
           */
          const passOn = (text: string): void => {
            const via = `\r\nVia: SIP/2.0/UDP 10.0.0.2:5070;branch=z9hG4bKproxy${++branches}`;
            const route = routed && text.startsWith('INVITE') ? `\r\nRecord-Route: ${own}` : '';
            const rest = text.replace(`Route: ${own}\r\n`, '').replace('\r\nVia:', `${via}${route}\r\nVia:`);
            const next = /\r\nRoute: <sip:[^@]*@([^;>]*)/.exec(rest)?.[1] ?? '';
            server.send(
              rest,
              next === '' ? (straight ? VIP : server.edge) : next.endsWith(':5062') ? server.edge : VIP,
            );
          };
          const say = (method: string, cseq: number, toTag = '', headers: readonly string[] = []): void =>
            phone.send(
              request({
                method,
                uri: method === 'INVITE' ? 'sip:bob@example.org' : 'sip:carol@10.0.0.2:5070',
                via: `SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKphone${++branches};rport`,
                callId,
                cseq,
                ...(toTag && { toTag }),
                headers: [...headers, 'Contact: <sip:alice@192.0.2.7:5060>'],
              }),
            );
          const passes = (method: string): Message[] => server.requests.filter((each) => each.method === method);
          say('INVITE', 1);
          await farm.settle();
          passOn(server.last.text.replace('INVITE sip:bob@example.org', 'INVITE sip:carol@198.51.100.1:5060'));
          await farm.settle();
          assert.equal(passes('INVITE').length, 2, 'the INVITE comes a second time');
          // Carol is registered at the same server; the answer returns through both passes.
          server.onResponse = (message) =>
            server.send(message.text.replace(/Via: SIP\/2\.0\/UDP 10\.0\.0\.2:5070;.*\r\n/, ''));
          server.send(
            respond(passes('INVITE')[1]!, 200, { toTag: 'carol', headers: ['Contact: <sip:carol@10.0.0.2:5070>'] }),
          );
          await farm.settle();
          const ok = phone.got.at(-1)!;
          assert.equal(ok.status, 200);
          const routes = ok.all('Record-Route').reverse();
          for (const [method, cseq] of [
            ['ACK', 1],
            ['INFO', 2],
          ] as const) {
            say(
              method,
              cseq,
              'carol',
              routes.map((route) => `Route: ${route}`),
            );
            await farm.settle();
            passOn(passes(method)[0]!.text);
            await farm.settle();
            assert.equal(passes(method).length, 2, `${method} comes a second time`);
            assert.deepEqual(passes(method)[1]!.all('Route'), []);
            assert.match(passes(method)[1]!.one('Via'), / 10\.0\.0\.2:5062;/, 'inward');
          }
          // The callee sends BYE: it returns through both passes, and through the server if that is in the route set.
          server.script = (message) => message.method === 'BYE' && passOn(message.text);
          server.send(
            request({
              method: 'BYE',
              uri: 'sip:alice@192.0.2.7:5060',
              via: `SIP/2.0/UDP 10.0.0.2:5070;branch=z9hG4bKbye${++branches}`,
              callId,
              fromTag: 'carol',
              toTag: 'from',
              headers: ok.all('Record-Route').map((route) => `Route: ${route}`),
            }),
            server.edge,
          );
          await farm.settle();
          assert.deepEqual(
            phone.got.filter(({ status }) => status === 0).map(({ method, uri }) => [method, uri]),
            [['BYE', 'sip:alice@192.0.2.7:5060']],
          );
        });
      });
