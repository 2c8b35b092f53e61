import { istDay } from './format';

/** Prices as they came: when on the service's clock, and what. */
export type Trail = [atMs: number, price: number][];

export const TRAIL_MAX = 600;

/** The line with one more price, of one day alone: the hours between two sessions would be most of it. */
export function lengthened(trail: Trail, atMs: number, price: number): Trail {
  if (Number.isNaN(price)) return trail;
  const before = trail.at(-1);
  const held = before && istDay(before[0]) !== istDay(atMs) ? [] : trail;
  return [...held, [atMs, price] as Trail[number]].slice(-TRAIL_MAX);
}
