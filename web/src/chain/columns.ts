import { compact, percent, plain, price, signed, signedCompact, whole } from '../lib/model/format';
import { BUILDUP, BUILDUP_WORDS, buildup } from '../lib/model/ladder';
import type { RowStore } from '../lib/model/rowstore';
import type { ColumnSet } from '../lib/state/prefs.svelte';

/** One column of a leg: a number from the store, and how it is written. */
export interface Column {
  key: string;
  label: string;
  title: string;
  value(store: RowStore, slot: number): number;
  text(value: number): string;
  /** The number has a good and a bad side: coloured, and always with its sign. */
  signed?: boolean;
  /** A count of units, divided by the lot when lots are shown. */
  units?: boolean;
  flash?: boolean;
  /** A price, written with as many decimals as its tick has. */
  money?: boolean;
  bar?: boolean;
  grow?: number;
}

const field =
  (name: Parameters<RowStore['value']>[0]) =>
  (store: RowStore, slot: number): number =>
    store.value(name, slot);

function oiChangePct(store: RowStore, slot: number): number {
  const oi = store.value('oi', slot);
  const change = store.value('oi_change', slot);
  const before = oi - change;
  return before > 0 ? (change / before) * 100 : NaN;
}

const COLUMNS: Record<string, Column> = {
  oi: { key: 'oi', label: 'OI', title: 'Open interest', value: field('oi'), text: compact, units: true, bar: true, grow: 1.15 },
  doi: { key: 'doi', label: 'Chg OI', title: 'Change of open interest since the previous session; a dash where that is not known', value: field('oi_change'), text: signedCompact, signed: true, units: true },
  doip: { key: 'doip', label: 'Chg OI %', title: 'Change of open interest in percent', value: oiChangePct, text: (v) => percent(v, 1), signed: true },
  vol: { key: 'vol', label: 'Volume', title: 'Volume today', value: field('volume'), text: compact, units: true, grow: 1.1 },
  iv: { key: 'iv', label: 'IV', title: 'Implied volatility, percent a year', value: field('iv'), text: plain(1), grow: 0.75 },
  ltp: { key: 'ltp', label: 'LTP', title: 'Last traded price', value: field('ltp'), text: price, money: true, flash: true, grow: 1.15 },
  chg: { key: 'chg', label: 'Chg', title: 'Change since the previous close', value: field('change'), text: signed, signed: true },
  chgp: { key: 'chgp', label: 'Chg %', title: 'Change since the previous close in percent', value: field('change_pct'), text: (v) => percent(v, Math.abs(v) < 10 ? 2 : 1), signed: true, grow: 1.1 },
  bid: { key: 'bid', label: 'Bid', title: 'Best bid', value: field('bid'), text: price, money: true },
  ask: { key: 'ask', label: 'Ask', title: 'Best ask', value: field('ask'), text: price, money: true },
  bidq: { key: 'bidq', label: 'Bid qty', title: 'Quantity at the best bid', value: field('bid_qty'), text: whole, units: true },
  askq: { key: 'askq', label: 'Ask qty', title: 'Quantity at the best ask', value: field('ask_qty'), text: whole, units: true },
  tag: {
    key: 'tag',
    label: 'Build-up',
    title: `What price and open interest say together: ${BUILDUP.slice(1).map((tag, i) => `${tag} ${BUILDUP_WORDS[i + 1]!.toLowerCase()}`).join(', ')}`,
    value: (store, slot) => buildup(store.value('change', slot), store.value('oi_change', slot)),
    text: (value) => BUILDUP[value] || '–',
    grow: 0.95,
  },
  delta: { key: 'delta', label: 'Delta', title: 'Change of the premium for one point of the underlying', value: field('delta'), text: (v) => signed(v, 3), signed: true },
  gamma: { key: 'gamma', label: 'Gamma', title: 'Change of delta for one point', value: field('gamma'), text: plain(5), grow: 1.2 },
  theta: { key: 'theta', label: 'Theta', title: 'Premium lost in one day', value: field('theta'), text: plain(2) },
  vega: { key: 'vega', label: 'Vega', title: 'Change of the premium for one point of volatility', value: field('vega'), text: plain(2) },
};

const pick = (...keys: string[]): Column[] => keys.map((key) => COLUMNS[key]!);

/** From the outside towards the strike, on the call side; the put side is the mirror. */
export const SETS: Record<ColumnSet, Column[]> = {
  price: pick('oi', 'doi', 'vol', 'iv', 'ltp', 'chgp', 'bid', 'ask'),
  oi: pick('oi', 'doi', 'doip', 'vol', 'tag', 'ltp', 'chg', 'chgp'),
  greeks: pick('oi', 'iv', 'vega', 'theta', 'gamma', 'delta', 'ltp', 'chgp'),
};

/** Six a side where a tablet, or an open drawer, leaves less room. */
export const MEDIUM: Record<ColumnSet, Column[]> = {
  price: pick('oi', 'doi', 'ltp', 'chgp', 'bid', 'ask'),
  oi: pick('oi', 'doi', 'vol', 'tag', 'ltp', 'chgp'),
  greeks: pick('iv', 'vega', 'theta', 'gamma', 'delta', 'ltp'),
};

/** Pages of three for a telephone; a swipe turns them. */
export const NARROW: Record<ColumnSet, Column[][]> = {
  price: [pick('oi', 'ltp', 'chgp'), pick('ltp', 'bid', 'ask'), pick('vol', 'iv', 'ltp')],
  oi: [pick('oi', 'doi', 'ltp'), pick('doip', 'tag', 'ltp'), pick('vol', 'tag', 'ltp')],
  greeks: [pick('iv', 'delta', 'ltp'), pick('gamma', 'theta', 'ltp'), pick('vega', 'iv', 'ltp')],
};

export const SET_LABELS: Record<ColumnSet, string> = { price: 'Price', oi: 'OI', greeks: 'Greeks' };
