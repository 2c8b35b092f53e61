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
  return { view: 'chain', symbol: symbol?.toUpperCase() || null, expiry: expiry?.toUpperCase() || null };
}

/** An address that somebody typed or cut short may hold a lone percent sign: then it means itself. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function chainHash(symbol: string, expiry: string | null): string {
  return `#/chain/${encodeURIComponent(symbol)}${expiry ? `/${expiry}` : ''}`;
}

class Route {
  place = $state.raw<Place>(parse(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.place = parse(location.hash)));
  }

  chain(symbol: string, expiry: string | null = null): void {
    this.go(chainHash(symbol, expiry));
  }

  /** The same place under its listed name; the way back does not lead over the other. */
  rename(symbol: string, expiry: string | null): void {
    location.replace(chainHash(symbol, expiry));
    this.place = parse(location.hash);
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
