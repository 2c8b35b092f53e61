import { ApiError, type AddAnswer, type SymbolInfo } from '../lib/api';
import { futureExpiry, symbolOf } from '../lib/model/instruments';
import { live } from '../lib/state/live.svelte';
import { session } from '../lib/state/session.svelte';
import { lists } from './lists.svelte';

/** What the service calls a chain of this symbol. */
export function chainType(info: SymbolInfo): string {
  const segments = info.segments ?? [];
  if (segments.some((segment) => segment.startsWith('IDX'))) return 'INDEX_OPTION';
  if (segments.some((segment) => segment.startsWith('MCX'))) return 'COMMODITY_OPTION';
  return 'STOCK_OPTION';
}

async function add(symbol: string, expiry: string | null, type: string): Promise<boolean> {
  try {
    const answer = await live.api.addEntry({
      user_id: session.userId,
      symbol,
      instrument_type: type,
      list: lists.current,
      ...(expiry ? { expiry } : {}),
    });
    tell(symbol, expiry, answer);
    live.listRevision++;
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.code === 'ALREADY_IN_WATCHLIST') live.note(error.message);
    else live.failed(error);
    return false;
  }
}

/** Add the chain; without an expiry the nearest listed one. */
export async function addChain(symbol: string, expiry: string | null): Promise<boolean> {
  try {
    const info = await live.api.describe(symbol);
    const chosen = expiry ?? (await live.api.expiries(symbol)).expiries[0] ?? null;
    return await add(symbol, chosen, chosen ? chainType(info) : 'EQUITY');
  } catch (error) {
    live.failed(error);
    return false;
  }
}

/** Add what a token names: a cash line, a future, or the chain an option belongs to. */
export function addToken(token: string): Promise<boolean> {
  const future = futureExpiry(token);
  const symbol = symbolOf(token);
  return future ? add(symbol, future, 'FUTURE') : add(symbol, null, 'EQUITY');
}

function tell(symbol: string, expiry: string | null, answer: AddAnswer): void {
  const name = [symbol, expiry].filter(Boolean).join(' ');
  const missing = answer.missing?.length ? `, ${answer.missing.length} not listed` : '';
  live.note(`${name} added: ${answer.strikes_subscribed} legs${missing}`, 'good');
  for (const gone of answer.evicted ?? []) {
    const whose = gone.owner === 'you' ? 'your' : "another user's";
    live.note(`To make room, ${whose} ${gone.symbol} ${gone.expiry} left (${gone.legs} legs)`, 'bad');
  }
}
