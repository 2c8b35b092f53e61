import type { WatchEntry } from '../lib/api';

/** What stays the same when an entry is removed and added again. */
export function entryKey(entry: Pick<WatchEntry, 'symbol' | 'expiry_date' | 'instrument_type'>): string {
  return [entry.symbol, entry.expiry_date ?? '', entry.instrument_type].join('|');
}

/** In the wanted order; entries it does not know come after, as they were added. */
export function ordered(entries: readonly WatchEntry[], order: readonly string[]): WatchEntry[] {
  const rank = new Map(order.map((key, i) => [key, i]));
  const place = (entry: WatchEntry): number => rank.get(entryKey(entry)) ?? order.length + entry.added_order;
  return [...entries].sort((a, b) => place(a) - place(b));
}

/** The order after the entry at `from` went to `to`; every entry shown gets a place. */
export function moved(shown: readonly WatchEntry[], from: number, to: number): string[] {
  const keys = shown.map(entryKey);
  const [key] = keys.splice(from, 1);
  if (key !== undefined) keys.splice(Math.max(0, Math.min(keys.length, to)), 0, key);
  return keys;
}
