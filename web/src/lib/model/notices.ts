import { clock } from './format';
import type { StreamEvent } from '../wire/messages';

/** What the page says of an event; null where it says nothing. */
export interface Notice {
  kind: 'info' | 'good' | 'bad';
  text: string;
}

/** The words for an event of the service. Feed events are judged by the caller, who knows what was shown before. */
export function noticeOf(event: StreamEvent): Notice | null {
  const data = event.data ?? {};
  const name = [data.symbol, data.expiry].filter(Boolean).join(' ') || 'A chain';
  switch (event.kind) {
    case 'evicted':
      return { kind: 'bad', text: `${name} was evicted${because(data.reason)}` };
    case 'restored':
      return { kind: 'good', text: `${name} is back` };
    case 'eod':
      return endOfDay(data);
    default:
      return null;
  }
}

/** What goes behind "evicted": the service's reason may begin with that word itself. */
export function because(reason: unknown): string {
  const text = String(reason ?? 'room was needed');
  return text.startsWith('evicted ') ? text.slice('evicted'.length) : `: ${text}`;
}

function endOfDay(data: Record<string, unknown>): Notice | null {
  const keeps = data.keeps_watchlists === true;
  if (data.phase === 'soon') {
    const at = clock(Date.parse(String(data.at)), false);
    const lists = keeps ? 'lists are kept' : 'watchlists are cleared';
    return { kind: 'info', text: `End of day at ${at}: ${lists}, on-demand chains leave` };
  }
  if (data.phase === 'rolled') return { kind: 'info', text: `Over, and kept with the next expiry: ${moves(data.rolled)}` };
  if (typeof data.cleared !== 'number') return null; // the schedule's own word; the lists' follows with the counts
  const kept = data.kept ? `, ${String(data.kept)} kept for the next session` : '';
  return { kind: 'info', text: `End of day: ${data.cleared} entries cleared${kept}, ${String(data.released)} instruments left` };
}

const MOVES_NAMED = 4;

function moves(rolled: unknown): string {
  const all = rolled as { symbol: string; from: string; to: string }[];
  const named = all.slice(0, MOVES_NAMED).map((one) => `${one.symbol} ${one.from} → ${one.to}`);
  return named.join(', ') + (all.length > MOVES_NAMED ? ` and ${all.length - MOVES_NAMED} more` : '');
}

/** "Upstream connections 1, 2 and 4 are down: cut". */
export function connectionWords(sockets: readonly number[], what: string): string {
  const [last, ...rest] = [...sockets].sort((a, b) => b - a);
  const which = rest.length ? `connections ${rest.reverse().join(', ')} and ${last} are` : `connection ${last} is`;
  return `Upstream ${which} ${what}`;
}

/** Key of a chain or line, as events and entries both name it. */
export function chainKey(symbol: unknown, expiry: unknown): string {
  return `${String(symbol)}|${expiry ? String(expiry) : ''}`;
}
