import { parseOption } from './instruments';
import type { RowStore } from './rowstore';

/** The strikes of one chain in order, with the store's slots of both legs (-1: not listed). */
export interface Ladder {
  strikes: number[];
  ce: number[];
  pe: number[];
}

export const EMPTY_LADDER: Ladder = { strikes: [], ce: [], pe: [] };

export function ladderOf(store: RowStore): Ladder {
  const legs = new Map<number, [number, number]>();
  for (let slot = 0; slot < store.tokens.length; slot++) {
    const option = parseOption(store.tokens[slot]!);
    if (!option) continue;
    const pair = legs.get(option.strike) ?? [-1, -1];
    pair[option.side === 'CE' ? 0 : 1] = slot;
    legs.set(option.strike, pair);
  }
  const strikes = [...legs.keys()].sort((a, b) => a - b);
  return {
    strikes,
    ce: strikes.map((strike) => legs.get(strike)![0]),
    pe: strikes.map((strike) => legs.get(strike)![1]),
  };
}

/** Index of the strike nearest to the value, ties up (contract 5.4); -1 if there is none or it is unknown. */
export function nearest(strikes: readonly number[], value: number): number {
  if (!strikes.length || Number.isNaN(value)) return -1;
  let best = 0;
  for (let i = 1; i < strikes.length; i++) {
    if (Math.abs(strikes[i]! - value) <= Math.abs(strikes[best]! - value)) best = i;
  }
  return best;
}

/** Half-open range of rows to show: `reach` strikes each side of the centre, or all (0). */
export function shownRange(count: number, centre: number, reach: number): [number, number] {
  if (reach <= 0 || centre < 0) return [0, count];
  return [Math.max(0, centre - reach), Math.min(count, centre + reach + 1)];
}

/** What price and open interest say together. 0 none, then LB, SB, SC, LU. */
export const BUILDUP = ['', 'LB', 'SB', 'SC', 'LU'] as const;
export const BUILDUP_WORDS = ['', 'Long build-up', 'Short build-up', 'Short covering', 'Long unwinding'] as const;

export function buildup(change: number, oiChange: number): number {
  if (!(change * change > 0) || !(oiChange * oiChange > 0)) return 0;
  if (change > 0) return oiChange > 0 ? 1 : 3;
  return oiChange > 0 ? 2 : 4;
}
