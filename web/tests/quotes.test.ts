import { beforeEach, expect, it, vi } from 'vitest';
import type { TopicSink } from '../src/lib/wire/stream';

/** Who reads which topic. */
let topics: Map<string, TopicSink>;

beforeEach(() => {
  vi.resetModules();
  topics = new Map();
});

async function board() {
  const { live } = await import('../src/lib/state/live.svelte');
  vi.spyOn(live.stream, 'subscribe').mockImplementation((name, sink) => {
    topics.set(name, sink);
    return () => topics.delete(name);
  });
  const { QuoteBoard } = await import('../src/watch/quotes.svelte');
  return new QuoteBoard();
}

const UNKNOWN = { type: 'error', code: 'INSTRUMENT_UNKNOWN' } as const;
const rows = (prices: Record<string, number>) => ({
  rows: Object.fromEntries(Object.entries(prices).map(([token, ltp]) => [token, { ltp, state: 'LIVE' }])),
});

it('a line that is listed no more loses its price, and the others keep theirs', async () => {
  const quotes = await board();
  const leave = quotes.watch(['A_EQ', 'B_EQ']);
  topics.get('quotes:A_EQ,B_EQ')!.snapshot(rows({ A_EQ: 10, B_EQ: 20 }), 0);
  leave();
  quotes.watch(['A_EQ', 'B_EQ', 'C_EQ']);
  topics.get('quotes:A_EQ,B_EQ,C_EQ')!.refused!(UNKNOWN);
  topics.get('quotes:A_EQ')!.snapshot(rows({ A_EQ: 11 }), 1);
  topics.get('quotes:B_EQ')!.refused!(UNKNOWN);
  expect(quotes.quotes).toMatchObject({ A_EQ: { ltp: 11 } });
  expect(quotes.quotes).not.toHaveProperty('B_EQ');
});

it('a line for which there is no topic left shows no price of before', async () => {
  const quotes = await board();
  const many = Array.from({ length: 61 }, (_, i) => `S${i}_EQ`);
  quotes.watch(many);
  const [whole] = topics.values();
  whole!.snapshot(rows(Object.fromEntries(many.map((token) => [token, 10]))), 0);
  whole!.refused!(UNKNOWN); // as after a new connection
  expect(quotes.quotes).not.toHaveProperty('S60_EQ');
});
