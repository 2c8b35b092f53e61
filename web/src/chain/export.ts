import { csv } from '../lib/model/csv';
import type { Ladder } from '../lib/model/ladder';
import { FIELDS, type Field, type RowStore } from '../lib/model/rowstore';
import { stateName } from '../lib/model/states';

/** The whole chain, one line a strike: unknown is empty, every leg has its state and the time of its last packet. */
export function chainCsv(store: RowStore, ladder: Ladder, fresh: boolean): string {
  const legs = ['ce', 'pe'] as const;
  const names = ['token', 'state', 'seen_ms', ...FIELDS];
  const head = ['strike', 'live_stream', ...legs.flatMap((leg) => names.map((name) => `${leg}_${name}`))];
  const lines = ladder.strikes.map((strike, i) => [
    strike,
    fresh ? 'yes' : 'no',
    ...legs.flatMap((leg) => legCells(store, ladder[leg][i]!)),
  ]);
  return csv([head, ...lines]);
}

function legCells(store: RowStore, slot: number): (string | number | null)[] {
  if (slot < 0) return ['', 'NOT_LISTED', null, ...FIELDS.map(() => null)];
  const numbers = FIELDS.map((field: Field) => store.value(field, slot));
  return [store.tokens[slot]!, stateName(store.stateOf(slot)) ?? '', store.seenMs[slot] || null, ...numbers];
}
