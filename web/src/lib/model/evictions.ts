import type { LogEntry } from '../api';
import { parseOption, reading } from './instruments';

/** One chain that gave way: its legs have a row each in the audit log. */
export interface Eviction {
  name: string;
  expiry: string | null;
  legs: number;
  reason: string;
  at: string;
}

/** The log's rows, newest first, gathered by chain and cause. */
export function gatherEvictions(log: readonly LogEntry[]): Eviction[] {
  const found = new Map<string, Eviction>();
  for (const entry of log) {
    const option = parseOption(entry.instrument_token);
    const read = reading(entry.instrument_token);
    const name = option?.symbol ?? read.name;
    const reason = entry.reason ?? '';
    const key = [name, read.expiry, reason].join('|');
    const known = found.get(key);
    if (known) known.legs++;
    else found.set(key, { name, expiry: read.expiry, legs: 1, reason, at: entry.timestamp });
  }
  return [...found.values()];
}

/** How many instruments have to move until connections that carry so many carry the same. */
export function movesToLevel(carried: readonly number[]): number {
  if (!carried.length) return 0;
  const total = carried.reduce((sum, one) => sum + one, 0);
  const low = Math.floor(total / carried.length);
  let spare = total - low * carried.length;
  return [...carried]
    .sort((a, b) => b - a)
    .reduce((moves, one) => moves + Math.max(0, one - (spare-- > 0 ? low + 1 : low)), 0);
}
