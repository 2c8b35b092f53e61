import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { WatchEntry } from '../src/lib/api';

type Answer = (body: object) => void;

/** What the page asked, oldest first; each waits for its answer. */
let asked: { path: string; body: { ids?: number[]; id?: number }; answer: Answer }[];

beforeEach(() => {
  vi.resetModules();
  vi.useFakeTimers();
  asked = [];
  vi.stubGlobal('fetch', (path: string, init: RequestInit) => {
    const body = JSON.parse(String(init.body ?? '{}'));
    return new Promise((done, fail) => {
      asked.push({ path, body, answer: (said) => done(Response.json(said)) });
      init.signal?.addEventListener('abort', () => fail(init.signal?.reason));
    });
  });
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    const patience = new AbortController(); // the real one asks a clock that tests cannot move
    setTimeout(() => patience.abort(new DOMException('', 'TimeoutError')), ms);
    return patience.signal;
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

const entry = (id: number): WatchEntry => ({
  id,
  list: 'default',
  symbol: `S${id}`,
  expiry_date: null,
  instrument_type: 'EQUITY',
  added_at: '',
  added_order: id,
  state: 'ACTIVE',
});

const posts = (verb: string) => asked.filter((one) => one.path.endsWith(verb));
const settle = () => vi.advanceTimersByTimeAsync(0);

async function listsOf(...ids: number[]) {
  const { lists } = await import('../src/watch/lists.svelte');
  lists.entries = ids.map(entry);
  return lists;
}

const order = (lists: { shown: WatchEntry[] }) => lists.shown.map((one) => one.id);

it('quick moves reach the service one after another, and no answer in between turns the screen back', async () => {
  const lists = await listsOf(1, 2, 3);
  void lists.placeEntry(0, 1);
  void lists.placeEntry(1, 2);
  await settle();
  expect(order(lists)).toEqual([2, 3, 1]);
  expect(posts('order').map((one) => one.body.ids)).toEqual([[2, 1, 3]]);
  posts('order')[0]!.answer({});
  await settle();
  expect(posts('order').map((one) => one.body.ids)).toEqual([[2, 1, 3], [2, 3, 1]]);
  void lists.refresh(); // its turn comes every few seconds, whatever is under way
  await settle();
  posts('watchlists/1')[0]!.answer({ lists: [] });
  posts('watchlist/1')[0]!.answer({ watchlist: [entry(2), entry(1), entry(3)] });
  await settle();
  expect(order(lists)).toEqual([2, 3, 1]);
});

it('removing twice asks once, and the entry is gone with the answer', async () => {
  const lists = await listsOf(1, 2);
  const [first] = lists.shown;
  const done = lists.remove(first!);
  expect(await lists.remove(first!)).toBe(false);
  await settle();
  expect(posts('remove')).toHaveLength(1);
  expect(order(lists)).toEqual([1, 2]);
  posts('remove')[0]!.answer({ unsubscribed: 1 });
  expect(await done).toBe(true);
  expect(order(lists)).toEqual([2]);
});

it('a change that is never answered fails in the end, and the next one has its turn', async () => {
  const lists = await listsOf(1, 2);
  const first = lists.remove(entry(1));
  const second = lists.remove(entry(2));
  await settle();
  expect(posts('remove').map((one) => one.body.id)).toEqual([1]);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(await first).toBe(false);
  expect(posts('remove').map((one) => one.body.id)).toEqual([1, 2]);
  posts('remove')[1]!.answer({ unsubscribed: 50 });
  expect(await second).toBe(true);
});

const ASHA = { token: 'a', userId: 2, name: 'asha' };
const VIKRAM = { token: 'v', userId: 3, name: 'vikram' };

it('of the one who signs out nothing stays on the screen, nor of the one before on the next', async () => {
  const { session } = await import('../src/lib/state/session.svelte');
  session.enter(ASHA);
  const lists = await listsOf(1, 2);
  lists.all = [{ name: 'default', count: 2, evicted: 0, is_default: true }];
  session.enter({ ...ASHA, token: 'again' }); // signed in again: the screen stays behind the dialog
  void lists.refresh();
  expect(order(lists)).toEqual([1, 2]);
  session.leave();
  void lists.refresh();
  expect([lists.all, lists.entries]).toEqual([[], []]);
});

it('news of one user is not told to the next', async () => {
  const { session } = await import('../src/lib/state/session.svelte');
  session.enter(ASHA);
  const { live } = await import('../src/lib/state/live.svelte');
  vi.spyOn(live.stream, 'reconnect').mockImplementation(() => {});
  live.returned = { 'RELIANCE|': 1 };
  live.note('RELIANCE is back');
  session.enter({ ...ASHA, token: 'again' });
  live.signedIn();
  expect([Object.keys(live.returned), live.notes.length]).toEqual([['RELIANCE|'], 1]);
  session.enter(VIKRAM);
  live.signedIn();
  expect([live.returned, live.notes]).toEqual([{}, []]);
});

it('what one user asked for is not done in the name of the next', async () => {
  const { session } = await import('../src/lib/state/session.svelte');
  session.enter(ASHA);
  const lists = await listsOf(1, 2);
  const first = lists.remove(entry(1));
  const second = lists.remove(entry(2));
  await settle();
  session.enter(VIKRAM);
  posts('remove')[0]!.answer({ unsubscribed: 1 });
  expect(await first).toBe(true);
  expect(await second).toBe(false);
  expect(posts('remove').map((one) => one.body.id)).toEqual([1]);
});
