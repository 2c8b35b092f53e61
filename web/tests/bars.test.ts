import { describe, expect, it } from 'vitest';
import { joinBars, minuteEnds, nextSince, type Bars } from '../src/lib/model/bars';

const MINUTE = 60_000;

function bars(from: number, close: (number | null)[], day = '2026-02-03', chain = true): Bars {
  const cells = { open: close, high: close, low: close, close };
  const aggregates = { straddle: close, atm_iv: close, ce_oi: close, pe_oi: close, pcr: close };
  return {
    symbol: 'NIFTY', underlying: 'NIFTY_IDX', expiry: '26FEB2026', day, interval_ms: MINUTE, start_ms: from * MINUTE,
    count: close.length, partial: true, ...cells, chain: chain ? aggregates : null, iv_percentile: null, iv_days: null,
  };
}

describe('bars', () => {
  it('asks again from the last minute held, which may not have been complete', () => {
    expect(nextSince(null)).toBeNull();
    expect(nextSince(bars(10, []))).toBeNull();
    expect(nextSince(bars(10, [1, 2, 3]))).toBe(12 * MINUTE);
  });

  it('replaces the minute that ran and puts newer ones behind', () => {
    const joined = joinBars(bars(10, [1, 2, 3]), bars(12, [4, null, 6]));
    expect(joined.close).toEqual([1, 2, 4, null, 6]);
    expect(joined.chain?.straddle).toEqual([1, 2, 4, null, 6]);
    expect([joined.start_ms, joined.count]).toEqual([10 * MINUTE, 5]);
    expect(minuteEnds(joined).at(-1)).toBe(15 * MINUTE);
  });

  it('keeps what is held when there is nothing newer', () => {
    const held = bars(10, [1, 2]);
    expect(joinBars(held, bars(12, []))).toBe(held);
  });

  it('never joins another day, or minutes with a hole between', () => {
    for (const other of [bars(12, [7], '2026-02-04'), bars(20, [7]), bars(9, [7])]) {
      expect(joinBars(bars(10, [1, 2, 3]), other).close).toEqual([7]);
    }
  });

  it('has no aggregates for minutes before the chain was asked for', () => {
    expect(joinBars(bars(10, [1, 2], '2026-02-03', false), bars(11, [5])).chain?.pcr).toEqual([null, 5]);
  });
});
