import { expect, it } from 'vitest';
import { moved } from '../src/watch/order';

it.each([
  [2, 0, 'CAB'],
  [0, 2, 'BCA'],
  [1, 1, 'ABC'],
  [0, -5, 'ABC'],
  [0, 9, 'BCA'],
  [7, 0, 'ABC'],
])('moves %d to %d', (from, to, result) => expect(moved(['A', 'B', 'C'], from, to).join('')).toBe(result));
