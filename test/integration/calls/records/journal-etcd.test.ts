// The journal on a real etcd: the same contents as in the memory store, in readable JSON.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { pino } from 'pino';
import { systemClock } from '../../../../src/base/clock.ts';
import { NO_GUARD } from '../../../../src/base/guard.ts';
import { CallJournal } from '../../../../src/calls/records/call-journal.ts';
import { parseCallRecord } from '../../../../src/calls/records/call-record.ts';
import { CellFamily } from '../../../../src/metrics/counters.ts';
import { EtcdStore } from '../../../../src/store/etcd-store.ts';
import { FakeEtcd, withoutEtcd } from '../../../fake/etcd.ts';
import { clientLeg, ok, serverLeg } from '../../../unit/calls/records/journal-rig.ts';

describe('the journal on etcd', { skip: withoutEtcd() }, () => {
  let etcd: FakeEtcd;
  let store: EtcdStore;
  const taken: number[] = [];
  let seated = true;
  const open: CallJournal[] = [];

  function journal(): CallJournal {
    const made = new CallJournal({
      store,
      clock: systemClock,
      log: pino({ level: 'silent' }),
      guard: NO_GUARD,
      mode: 'calls',
      self: () => ({ number: 7, incarnation: 2, epoch: 4 }),
      mayWrite: () => true,
      stillSeated: async () => seated,
      onTaken: (entry) => void taken.push(entry),
      mediaOf: () => undefined,
      writes: new CellFamily({ name: 'writes', help: '', labels: ['outcome'] }),
      dropped: new CellFamily({ name: 'dropped', help: '', labels: ['reason'] }),
    });
    open.push(made);
    return made;
  }

  const keys = async (): Promise<string[]> => (await store.list('calls/7/')).map(({ key }) => key);

  before(async () => {
    etcd = await FakeEtcd.start();
    store = new EtcdStore({ farm: 'journal', hosts: [etcd.url], clock: systemClock });
  });
  after(async () => {
    for (const each of open) each.close();
    await store?.close();
    await etcd?.close();
  });

  test('a call is pending, then a dialog, then deleted; another process finds it and may adopt it', async () => {
    const first = journal();
    first.began(35, 'INVITE', 'one', clientLeg('one'));
    first.branched(35, serverLeg('one'));
    first.began(-36, 'INVITE', 'two', serverLeg('two'));
    await first.flush();
    assert.deepEqual(await keys(), ['calls/7/mark', 'calls/7/pending/-10', 'calls/7/pending/z']);
    first.answered(35, '', ok('one'), true);
    await first.flush();
    assert.deepEqual(await keys(), ['calls/7/dialog/z', 'calls/7/mark', 'calls/7/pending/-10']);
    assert.deepEqual(parseCallRecord((await store.get('calls/7/dialog/z'))?.value), first.recordOf(35));

    const second = journal();
    await second.regain((entry, record) => void second.restore(entry, record));
    assert.deepEqual([second.recordOf(35)?.state, second.recordOf(-36)?.callId], ['confirmed', 'two']);
    second.over(35);
    await second.flush();
    assert.deepEqual(await keys(), ['calls/7/mark', 'calls/7/pending/-10']);

    await store.commit([{ key: 'calls/7/pending/-10', value: undefined }]);
    seated = false;
    second.answered(-36, 'z9hG4bKsf1', ok('two'), true);
    await second.flush();
    assert.deepEqual([taken, await keys()], [[-36], ['calls/7/mark']]);
  });
});
