import { expect, it } from 'vitest';
import type { WatchEntry } from '../src/lib/api';
import { entryKey, moved, ordered } from '../src/watch/order';

const entry = (symbol: string, added_order: number): WatchEntry => ({
  id: added_order,
  symbol,
  expiry_date: null,
  instrument_type: 'EQUITY',
  added_at: '',
  added_order,
  state: 'ACTIVE',
});
const three = [entry('A', 1), entry('B', 2), entry('C', 3)];
const names = (entries: WatchEntry[]): string => entries.map((one) => one.symbol).join('');

it('shows entries as they were added until somebody moves them', () => {
  expect(names(ordered([three[2]!, three[0]!, three[1]!], []))).toBe('ABC');
});

it('keeps a chosen order and puts newcomers last', () => {
  const order = moved(three, 2, 0);
  expect(names(ordered(three, order))).toBe('CAB');
  expect(names(ordered([entry('D', 4), ...three], order))).toBe('CABD');
});

it('forgets nothing when an entry left', () => {
  const order = moved(three, 0, 2);
  expect(names(ordered([three[1]!, three[0]!], order))).toBe('BA');
  expect(order).toContain(entryKey(three[2]!));
});

it('does not move past the ends', () => {
  expect(moved(three, 0, -5)).toEqual(three.map(entryKey));
});
