import { describe, expect, it } from 'vitest';
import { daysLeft, expiryLabel, expiryMark, futureExpiry, parseOption, symbolOf } from '../src/lib/model/instruments';
import { BUILDUP, buildup, ladderOf, nearest, shownRange } from '../src/lib/model/ladder';
import { RowStore } from '../src/lib/model/rowstore';
import { csv } from '../src/lib/model/csv';

describe('tokens', () => {
  it('reads options with fractional strikes and odd symbols', () => {
    expect(parseOption('ONGC_30MAR2026_238.75PE')).toEqual({ symbol: 'ONGC', expiry: '30MAR2026', strike: 238.75, side: 'PE' });
    expect(parseOption('BAJAJ-AUTO_26FEB2026_9000CE')?.symbol).toBe('BAJAJ-AUTO');
    expect(parseOption('BSE:RELIANCE_26FEB2026_2640CE')?.symbol).toBe('BSE:RELIANCE');
    expect(parseOption('RELIANCE_EQ')).toBeNull();
  });

  it('finds the symbol in every kind of token', () => {
    expect(symbolOf('BSE:RELIANCE_EQ')).toBe('RELIANCE');
    expect(symbolOf('GOLD_05FEB2026_FUT')).toBe('GOLD');
    expect(symbolOf('GOLD_FUT')).toBe('GOLD');
    expect(symbolOf('NIFTY_IDX')).toBe('NIFTY');
    expect(symbolOf('M&M_26FEB2026_2640CE')).toBe('M&M');
    expect(futureExpiry('GOLD_05FEB2026_FUT')).toBe('05FEB2026');
  });
});

describe('expiries', () => {
  const noon = Date.UTC(2026, 1, 3, 6, 30);
  it('counts days in India, not in the browser', () => {
    expect(daysLeft('03FEB2026', noon)).toBe(0);
    expect(daysLeft('26FEB2026', noon)).toBe(23);
    expect(daysLeft('04FEB2026', Date.UTC(2026, 1, 3, 18, 31))).toBe(0);
  });

  it('marks the last of a month', () => {
    const all = ['05FEB2026', '12FEB2026', '26FEB2026', '30MAR2026'];
    expect(all.map((one) => expiryMark(one, all))).toEqual(['W', 'W', 'M', 'M']);
  });

  it('adds the year where it is another', () => {
    expect(expiryLabel('26FEB2026', noon)).toBe('26 Feb');
    expect(expiryLabel('28JAN2027', noon)).toBe('28 Jan 27');
  });
});

describe('ladder', () => {
  it('puts both legs of a strike in one row and leaves a gap where one is not listed', () => {
    const store = new RowStore(4);
    store.snapshot({ X_26FEB2026_110CE: {}, X_26FEB2026_100PE: {}, X_26FEB2026_100CE: {}, X_EQ: {} }, 0);
    const ladder = ladderOf(store);
    expect(ladder.strikes).toEqual([100, 110]);
    expect(ladder.ce).toEqual([2, 0]);
    expect(ladder.pe).toEqual([1, -1]);
  });

  it('takes the upper of two equally near strikes', () => {
    expect(nearest([100, 110, 120], 105)).toBe(1);
    expect(nearest([100, 110, 120], 104.9)).toBe(0);
    expect(nearest([], 105)).toBe(-1);
    expect(nearest([100], NaN)).toBe(-1);
  });

  it('shows so many strikes each side, cut at the edges', () => {
    expect(shownRange(101, 50, 10)).toEqual([40, 61]);
    expect(shownRange(101, 3, 10)).toEqual([0, 14]);
    expect(shownRange(101, 50, 0)).toEqual([0, 101]);
    expect(shownRange(101, -1, 10)).toEqual([0, 101]);
  });

  it.each([
    [1, 1, 'LB'],
    [-1, 1, 'SB'],
    [1, -1, 'SC'],
    [-1, -1, 'LU'],
    [0, 1, ''],
    [1, NaN, ''],
  ])('names price %d with interest %d %s', (change, oi, tag) => expect(BUILDUP[buildup(change, oi)]).toBe(tag));
});

describe('csv', () => {
  it('quotes, leaves unknown empty and defuses formulas', () => {
    expect(csv([['a', 1, null, NaN], ['x,"y"', '=1+1', '-5', 0.5]])).toBe('a,1,,\r\n"x,""y""",\'=1+1,\'-5,0.5\r\n');
  });
});
