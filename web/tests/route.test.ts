import { afterEach, beforeEach, expect, it, vi } from 'vitest';

const location = { hash: '' };

beforeEach(() => {
  vi.resetModules();
  vi.stubGlobal('location', location);
  vi.stubGlobal('addEventListener', () => {});
});
afterEach(() => vi.unstubAllGlobals());

const routeAt = async (hash: string) => {
  location.hash = hash;
  return (await import('../src/lib/state/route.svelte')).route;
};

it('an address cut short in its escapes still opens the page', async () => {
  expect((await routeAt('#/chain/%')).place).toEqual({ view: 'chain', symbol: '%', expiry: null });
});

it('a symbol with a sign of its own keeps it', async () => {
  expect((await routeAt('#/chain/M%26M/26FEB2026')).place).toEqual({ view: 'chain', symbol: 'M&M', expiry: '26FEB2026' });
});

it('the place is the new one at once, so that a second key steps on from there', async () => {
  const route = await routeAt('#/chain/NIFTY/03FEB2026');
  route.chain('M&M', '26FEB2026');
  expect(location.hash).toBe('#/chain/M%26M/26FEB2026');
  expect(route.place).toEqual({ view: 'chain', symbol: 'M&M', expiry: '26FEB2026' });
  route.view('health');
  expect(route.place.view).toBe('health');
});

it('an address may be written small', async () => {
  expect((await routeAt('#/chain/nifty/03feb2026')).place).toEqual({ view: 'chain', symbol: 'NIFTY', expiry: '03FEB2026' });
});
