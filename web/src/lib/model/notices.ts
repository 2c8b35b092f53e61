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
      return { kind: 'bad', text: `${name} was evicted: ${String(data.reason ?? 'room was needed')}` };
    case 'restored':
      return { kind: 'good', text: `${name} is back` };
    case 'eod':
      return endOfDay(data);
    default:
      return null;
  }
}

function endOfDay(data: Record<string, unknown>): Notice | null {
  const keeps = data.keeps_watchlists === true;
  if (data.phase === 'soon') {
    const at = clock(Date.parse(String(data.at)), false);
    const lists = keeps ? 'lists are kept' : 'watchlists are cleared';
    return { kind: 'info', text: `End of day at ${at}: ${lists}, on-demand chains leave` };
  }
  if (typeof data.cleared !== 'number') return null; // the schedule's own word; the lists' follows with the counts
  const kept = data.kept ? `, ${String(data.kept)} kept for the next session` : '';
  return { kind: 'info', text: `End of day: ${data.cleared} entries cleared${kept}, ${String(data.released)} instruments left` };
}

/** Key of a chain or line, as events and entries both name it. */
export function chainKey(symbol: unknown, expiry: unknown): string {
  return `${String(symbol)}|${expiry ? String(expiry) : ''}`;
}
