/** One-minute bars of a session (docs/API_REFERENCE.md): parallel columns, null where a minute has no data. */

type Cells = (number | null)[];

export interface ChainBars {
  straddle: Cells;
  atm_iv: Cells;
  ce_oi: Cells;
  pe_oi: Cells;
  pcr: Cells;
}

export interface Bars {
  symbol: string;
  /** Token of the instrument whose prices these are. */
  underlying: string;
  expiry: string | null;
  /** The session's day; null when nothing is kept. */
  day: string | null;
  interval_ms: number;
  start_ms: number;
  count: number;
  /** The last minute still runs. */
  partial: boolean;
  open: Cells;
  high: Cells;
  low: Cells;
  close: Cells;
  chain: ChainBars | null;
  iv_percentile: number | null;
  iv_days: number | null;
}

const PRICES = ['open', 'high', 'low', 'close'] as const;
const AGGREGATES = ['straddle', 'atm_iv', 'ce_oi', 'pe_oi', 'pcr'] as const;

/** From where to ask again: the last minute held comes once more, then complete. */
export function nextSince(held: Bars | null): number | null {
  return held?.count ? held.start_ms + (held.count - 1) * held.interval_ms : null;
}

/** What is held with newer minutes behind it; another day, chain or a hole between them replaces all. */
export function joinBars(held: Bars | null, more: Bars): Bars {
  if (!held || !held.count || held.day !== more.day || held.expiry !== more.expiry || held.symbol !== more.symbol) return more;
  if (!more.count) return held;
  const keep = (more.start_ms - held.start_ms) / held.interval_ms;
  if (!Number.isInteger(keep) || keep < 0 || keep > held.count) return more;
  const joined: Bars = { ...more, start_ms: held.start_ms, count: keep + more.count };
  for (const name of PRICES) joined[name] = [...held[name].slice(0, keep), ...more[name]];
  if (more.chain) {
    joined.chain = { ...more.chain };
    for (const name of AGGREGATES) joined.chain[name] = [...column(held, name, keep), ...more.chain[name]];
  }
  return joined;
}

function column(bars: Bars, name: (typeof AGGREGATES)[number], count: number): Cells {
  return bars.chain ? bars.chain[name].slice(0, count) : new Array<null>(count).fill(null);
}

/** Where each minute ends: its values are those at its end. */
export function minuteEnds(bars: Bars): number[] {
  return Array.from({ length: bars.count }, (_, i) => bars.start_ms + (i + 1) * bars.interval_ms);
}
