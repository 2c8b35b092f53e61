import { expect, it } from 'vitest';
import { lengthened, TRAIL_MAX, type Trail } from '../src/lib/model/trail';

const NINE = Date.UTC(2026, 1, 25, 3, 30); // 09:00 in India
const DAY = 86_400_000;

it('a line grows at its end and loses what does not fit', () => {
  let trail: Trail = [];
  for (let i = 0; i <= TRAIL_MAX; i++) trail = lengthened(trail, NINE + i, i);
  expect([trail.length, trail[0], trail.at(-1)]).toEqual([TRAIL_MAX, [NINE + 1, 1], [NINE + TRAIL_MAX, TRAIL_MAX]]);
});

it('what is not known adds nothing', () => {
  expect(lengthened([[NINE, 5]], NINE + 1, NaN)).toEqual([[NINE, 5]]);
});

it('another day begins a line of its own', () => {
  expect(lengthened([[NINE, 5], [NINE + 1, 6]], NINE + DAY, 7)).toEqual([[NINE + DAY, 7]]);
});
