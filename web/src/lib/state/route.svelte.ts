/** The address is the state: #/chain/NIFTY/26FEB2026, #/health, #/watch. Back and bookmarks work. */

export type View = 'chain' | 'watch' | 'health';

interface Place {
  view: View;
  symbol: string | null;
  expiry: string | null;
}

function parse(hash: string): Place {
  const [view, symbol, expiry] = hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  if (view === 'health' || view === 'watch') return { view, symbol: null, expiry: null };
  return { view: 'chain', symbol: symbol || null, expiry: expiry || null };
}

class Route {
  place = $state.raw<Place>(parse(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.place = parse(location.hash)));
  }

  chain(symbol: string, expiry: string | null = null): void {
    location.hash = `#/chain/${encodeURIComponent(symbol)}${expiry ? `/${expiry}` : ''}`;
  }

  view(view: View): void {
    location.hash = `#/${view}`;
  }
}

export const route = new Route();
