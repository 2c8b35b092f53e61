import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { TopicSink } from '../src/lib/wire/stream';

/** Who reads which topic. */
let topics: Map<string, TopicSink>;

beforeEach(() => {
  vi.resetModules();
  vi.useFakeTimers();
  topics = new Map();
});
afterEach(() => vi.useRealTimers());

async function board() {
  const { live } = await import('../src/lib/state/live.svelte');
  vi.spyOn(live.stream, 'subscribe').mockImplementation((name, sink) => {
    topics.set(name, sink);
    return () => topics.delete(name);
  });
  const { QuoteBoard } = await import('../src/watch/quotes.svelte');
  return new QuoteBoard();
}

const unknown = (token: string) => ({ type: 'error', code: 'INSTRUMENT_UNKNOWN', token }) as const;
const rows = (prices: Record<string, number>) => ({
  rows: Object.fromEntries(Object.entries(prices).map(([token, ltp]) => [token, { ltp, state: 'LIVE' }])),
});

it('a line that is listed no more loses its price, and the others go on without it', async () => {
  const quotes = await board();
  quotes.watch(['A_EQ', 'B_EQ'])();
  quotes.watch(['A_EQ', 'B_EQ', 'C_EQ']);
  topics.get('quotes:A_EQ,B_EQ,C_EQ')!.snapshot(rows({ A_EQ: 10, B_EQ: 20, C_EQ: 30 }), 0);
  topics.get('quotes:A_EQ,B_EQ,C_EQ')!.refused!(unknown('B_EQ')); // as after a new connection
  expect([...topics.keys()]).toEqual(['quotes:A_EQ,C_EQ']);
  topics.get('quotes:A_EQ,C_EQ')!.snapshot(rows({ A_EQ: 11, C_EQ: 30 }), 1);
  expect(quotes.quotes).toMatchObject({ A_EQ: { ltp: 11 }, C_EQ: { ltp: 30 } });
  expect(quotes.quotes).not.toHaveProperty('B_EQ');
});

it('asks for all again after a while, and of a topic that is refused for itself shows nothing', async () => {
  const quotes = await board();
  const leave = quotes.watch(['A_EQ', 'B_EQ']);
  topics.get('quotes:A_EQ,B_EQ')!.snapshot(rows({ A_EQ: 10, B_EQ: 20 }), 0);
  topics.get('quotes:A_EQ,B_EQ')!.refused!(unknown('B_EQ'));
  topics.get('quotes:A_EQ')!.refused!({ type: 'error', code: 'TOO_MANY_TOPICS' });
  expect(quotes.quotes).toEqual({});
  vi.advanceTimersByTime(60_000);
  expect([...topics.keys()]).toEqual(['quotes:A_EQ,B_EQ']);
  leave();
  vi.advanceTimersByTime(60_000);
  expect(topics.size).toBe(0);
});
