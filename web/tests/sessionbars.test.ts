import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ApiError } from '../src/lib/api';
import { SessionBars } from '../src/lib/state/bars.svelte';
import { live } from '../src/lib/state/live.svelte';

const page = Object.assign(new EventTarget(), { hidden: false });

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('document', page);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function show(shown: boolean): void {
  page.hidden = !shown;
  page.dispatchEvent(new Event('visibilitychange'));
}

function watched(bars: () => Promise<unknown>) {
  const asked = vi.fn(bars);
  Object.assign(live.api, { bars: asked });
  const session = new SessionBars();
  return { session, asked, leave: session.watch('NIFTY', null) };
}

it('asks at once when the page is shown again, and no more once it is left', async () => {
  const { asked, leave } = watched(() => Promise.resolve({ count: 0 }));
  show(false);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).toHaveBeenCalledTimes(1);
  show(true);
  expect(asked).toHaveBeenCalledTimes(2);
  leave();
  show(false);
  show(true);
  expect(asked).toHaveBeenCalledTimes(2);
});

it('forgets what went wrong once an answer comes', async () => {
  let fails = true;
  const { session } = watched(async () => {
    if (fails) throw new ApiError(503, 'OVERLOADED', 'busy');
    return { count: 0 };
  });
  await vi.advanceTimersByTimeAsync(0);
  expect(session.problem).toBe('busy');
  fails = false;
  await vi.advanceTimersByTimeAsync(15_000);
  expect(session.problem).toBe('');
});
