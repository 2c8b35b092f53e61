/** Tokens and expiries as the service writes them (contract section 3). */
import { istDay, MONTHS as MONTH_SHORT, strike } from './format';

export type Side = 'CE' | 'PE';
export interface OptionToken {
  symbol: string;
  expiry: string;
  strike: number;
  side: Side;
}

const OPTION = /^(.+)_(\d{2}[A-Z]{3}\d{4})_(\d+(?:\.\d+)?)(CE|PE)$/;
const FUTURE = /^(.+)_(\d{2}[A-Z]{3}\d{4})_FUT$/;
const MONTHS = MONTH_SHORT.map((month) => month.toUpperCase());

export function parseOption(token: string): OptionToken | null {
  const match = OPTION.exec(token);
  if (!match) return null;
  return { symbol: match[1]!, expiry: match[2]!, strike: Number(match[3]), side: match[4] as Side };
}

/** Expiry of a future's token, else null. */
export function futureExpiry(token: string): string | null {
  return FUTURE.exec(token)?.[2] ?? null;
}

export function isCash(token: string): boolean {
  return token.endsWith('_EQ');
}

export function isIndex(token: string): boolean {
  return token.endsWith('_IDX');
}

/** `BSE:RELIANCE_EQ` -> `RELIANCE`; works on every kind of token. */
export function symbolOf(token: string): string {
  const bare = token.includes(':') ? token.slice(token.indexOf(':') + 1) : token;
  const option = parseOption(bare);
  if (option) return option.symbol;
  const future = FUTURE.exec(bare);
  if (future) return future[1]!;
  return bare.replace(/_(EQ|IDX|FUT)$/, '');
}

/** UTC midnight of `26FEB2026`; NaN if it is none. */
export function expiryMs(expiry: string): number {
  const month = MONTHS.indexOf(expiry.slice(2, 5));
  const day = Number(expiry.slice(0, 2));
  const year = Number(expiry.slice(5));
  return month < 0 ? NaN : Date.UTC(year, month, day);
}

export function daysLeft(expiry: string, nowMs: number): number {
  return Math.floor(expiryMs(expiry) / 86_400_000) - istDay(nowMs);
}

/** `26FEB2026` -> `26 Feb`, with the year where it is not the current one. */
export function expiryLabel(expiry: string, nowMs: number): string {
  const at = new Date(expiryMs(expiry));
  const label = `${at.getUTCDate()} ${MONTH_SHORT[at.getUTCMonth()]}`;
  const thisYear = new Date(nowMs).getUTCFullYear();
  return Number.isNaN(nowMs) || at.getUTCFullYear() === thisYear ? label : `${label} ${String(at.getUTCFullYear()).slice(2)}`;
}

/** M for the last listed expiry of its month, W for the others. */
export function expiryMark(expiry: string, all: readonly string[]): 'W' | 'M' {
  const month = expiry.slice(2);
  const last = all.filter((other) => other.slice(2) === month).at(-1);
  return last === expiry ? 'M' : 'W';
}

export type Kind = 'option' | 'future' | 'index' | 'cash';

export interface Reading {
  /** For people: `NIFTY 25000 CE`, `GOLD FUT`, `RELIANCE`. */
  name: string;
  expiry: string | null;
  kind: Kind;
  /** Only where it is not the symbol's own exchange. */
  exchange: string | null;
}

/** A token as people read it. */
export function reading(token: string): Reading {
  const colon = token.indexOf(':');
  const exchange = colon < 0 ? null : token.slice(0, colon);
  const bare = token.slice(colon + 1);
  const option = parseOption(bare);
  if (option) {
    return { name: `${option.symbol} ${strike(option.strike)} ${option.side}`, expiry: option.expiry, kind: 'option', exchange };
  }
  const expiry = futureExpiry(bare);
  if (expiry || bare.endsWith('_FUT')) return { name: `${symbolOf(bare)} FUT`, expiry, kind: 'future', exchange };
  return { name: symbolOf(bare), expiry: null, kind: isIndex(bare) ? 'index' : 'cash', exchange };
}
