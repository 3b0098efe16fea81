// The memory store fulfils the contract of every store.
import { systemClock } from '../../../src/base/clock.ts';
import { MemoryFarm } from '../../../src/store/memory-store.ts';
import { storeContract } from './store-contract.ts';

const farms = new Map<string, MemoryFarm>();

storeContract({
  name: 'memory',
  skip: false,
  start: async () => {},
  open(name) {
    const farm = farms.get(name) ?? new MemoryFarm(systemClock);
    farms.set(name, farm);
    return farm.open();
  },
  stop: async () => {},
});
