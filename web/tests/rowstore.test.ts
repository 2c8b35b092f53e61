import { describe, expect, it } from 'vitest';
import { RowStore } from '../src/lib/model/rowstore';
import { STATE_UNKNOWN, stateName } from '../src/lib/model/states';

describe('row store', () => {
  it('keeps unknown apart from zero', () => {
    const store = new RowStore(2);
    store.snapshot({ A: { ltp: null, oi: 0 } }, 1_000);
    const slot = store.slot('A');
    expect(store.value('ltp', slot)).toBeNaN();
    expect(store.value('oi', slot)).toBe(0);
    expect(store.value('bid', slot)).toBeNaN();
    expect(store.stateOf(slot)).toBe(STATE_UNKNOWN);
  });

  it('changes only what a delta names', () => {
    const store = new RowStore(2);
    store.snapshot({ A: { ltp: 10, bid: 9, state: 'LIVE', age_ms: 200 } }, 5_000);
    store.delta({ A: { ltp: 11 } }, 6_000);
    const slot = store.slot('A');
    expect([store.value('ltp', slot), store.value('bid', slot)]).toEqual([11, 9]);
    expect(stateName(store.stateOf(slot))).toBe('LIVE');
    expect(store.seenMs[slot]).toBe(4_800);
    store.delta({ A: { ltp: null, state: 'GAP' } }, 7_000);
    expect(store.value('ltp', slot)).toBeNaN();
    expect(stateName(store.stateOf(slot))).toBe('GAP');
  });

  it('forgets what a new snapshot does not name, values included', () => {
    const store = new RowStore(2);
    store.snapshot({ A: { ltp: 1 }, B: { ltp: 2 }, C: { ltp: 3 } }, 0);
    store.snapshot({ B: { bid: 5 } }, 1);
    expect(store.slot('A')).toBe(-1);
    expect(store.size).toBe(1);
    expect(store.value('ltp', store.slot('B'))).toBeNaN();
    expect(store.value('bid', store.slot('B'))).toBe(5);
  });

  it('keeps the slots of the same set and tells when the set changed', () => {
    const store = new RowStore(8);
    store.snapshot({ A: {}, B: {} }, 0);
    const shape = store.shape;
    store.snapshot({ A: {}, B: {} }, 1);
    expect(store.shape).toBe(shape);
    store.delta({ C: {} }, 2);
    expect(store.shape).toBeGreaterThan(shape);
  });

  it('raises the revision of touched rows only', () => {
    const store = new RowStore(2);
    store.snapshot({ A: { ltp: 1 }, B: { ltp: 2 } }, 0);
    const before = [...store.revision];
    store.delta({ B: { ltp: 3 } }, 1);
    expect(store.revision[0]).toBe(before[0]);
    expect(store.revision[1]).toBe(before[1]! + 1);
  });

  it('is not fresh after a loss until it hears again', () => {
    const store = new RowStore(2);
    store.snapshot({ A: { ltp: 1 } }, 0);
    store.lost();
    expect(store.fresh).toBe(false);
    expect(store.value('ltp', 0)).toBe(1);
    store.delta({ A: { ltp: 2 } }, 1);
    expect(store.fresh).toBe(true);
  });

  it('survives tokens named like members of every object', () => {
    const store = new RowStore(2);
    store.snapshot(JSON.parse('{"__proto__":{"ltp":1},"constructor":{"ltp":2}}'), 0);
    expect(store.value('ltp', store.slot('constructor'))).toBe(2);
    expect(store.slot('toString')).toBe(-1);
  });
});
