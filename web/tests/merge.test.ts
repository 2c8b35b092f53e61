import { expect, it } from 'vitest';
import { mergeDoc } from '../src/lib/wire/merge';

it('replaces members, merges objects and leaves what is not named', () => {
  const held = { states: { LIVE: 5, GAP: 1 }, total: 6, list: [1, 2] };
  expect(mergeDoc(held, { states: { LIVE: 4, GAP: null }, list: [3] })).toEqual({
    states: { LIVE: 4, GAP: null },
    total: 6,
    list: [3],
  });
  expect(held.states.LIVE).toBe(5);
});

it('takes the whole where nothing was held', () => {
  expect(mergeDoc(null, { a: 1 })).toEqual({ a: 1 });
});
