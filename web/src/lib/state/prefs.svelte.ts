/** What this browser prefers; kept in localStorage, harmless to lose. */

export type Theme = 'dark' | 'light';
export type Palette = 'standard' | 'colourblind';
export type ColumnSet = 'price' | 'oi' | 'greeks';

const KEY = 'bt.prefs.v1';

interface Saved {
  theme: Theme;
  palette: Palette;
  columns: ColumnSet;
  reach: number;
  inLots: boolean;
  flash: boolean;
  pane: boolean;
  charts: boolean;
  symbol: string;
  /** The watchlist on screen. */
  list: string;
}

const DEFAULTS: Saved = {
  theme: 'dark',
  palette: 'standard',
  columns: 'price',
  reach: 0,
  inLots: false,
  flash: true,
  pane: true,
  charts: false,
  symbol: 'NIFTY',
  list: 'default',
};

function load(): Saved {
  try {
    const saved = JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Saved>;
    return { ...DEFAULTS, ...saved };
  } catch {
    return { ...DEFAULTS };
  }
}

class Prefs {
  private saved = $state(load());

  get all(): Readonly<Saved> {
    return this.saved;
  }

  set<K extends keyof Saved>(key: K, value: Saved[K]): void {
    this.saved[key] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.saved));
    } catch {
      // a full or forbidden storage only costs the preference
    }
    if (key === 'theme' || key === 'palette') this.dress();
  }

  /** Put theme and palette on the root, where the style sheet looks. */
  dress(): void {
    document.documentElement.dataset.theme = this.saved.theme;
    document.documentElement.dataset.palette = this.saved.palette;
  }
}

export const prefs = new Prefs();
