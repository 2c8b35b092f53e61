/** The address is the state: #/chain/NIFTY/26FEB2026, #/health, #/watch. Back and bookmarks work. */

export type View = 'chain' | 'watch' | 'health';

interface Place {
  view: View;
  symbol: string | null;
  expiry: string | null;
}

function parse(hash: string): Place {
  const [view, symbol, expiry] = hash.replace(/^#\/?/, '').split('/').map(decoded);
  if (view === 'health' || view === 'watch') return { view, symbol: null, expiry: null };
  return { view: 'chain', symbol: symbol || null, expiry: expiry || null };
}

/** An address that somebody typed or cut short may hold a lone percent sign: then it means itself. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class Route {
  place = $state.raw<Place>(parse(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.place = parse(location.hash)));
  }

  chain(symbol: string, expiry: string | null = null): void {
    this.go(`#/chain/${encodeURIComponent(symbol)}${expiry ? `/${expiry}` : ''}`);
  }

  view(view: View): void {
    this.go(`#/${view}`);
  }

  /** At once: the browser's own word comes later, and the next key would step from the old place. */
  private go(hash: string): void {
    location.hash = hash;
    this.place = parse(hash);
  }
}

export const route = new Route();
