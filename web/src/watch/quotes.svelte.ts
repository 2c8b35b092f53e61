import { RowStore } from '../lib/model/rowstore';
import { isOld } from '../lib/model/states';
import { live } from '../lib/state/live.svelte';
import type { RowsData } from '../lib/wire/messages';

export interface Quote {
  ltp: number;
  change: number;
  changePct: number;
  old: boolean;
}

const RATE_HZ = 2;

/** A few dozen prices at a slow pace, as plain reactive records. */
export class QuoteBoard {
  quotes = $state<Record<string, Quote>>({});
  fresh = $state(false);

  watch(tokens: string[]): () => void {
    const store = new RowStore(64);
    const take = (data: unknown, atMs: number, whole: boolean) => {
      const rows = (data as RowsData).rows ?? {};
      if (whole) store.snapshot(rows, atMs);
      else store.delta(rows, atMs);
      this.fresh = true;
      for (const token in rows) this.quotes[token] = read(store, token);
    };
    return live.stream.subscribe(
      `quotes:${tokens.join(',')}`,
      {
        snapshot: (data, atMs) => take(data, atMs, true),
        delta: (data, atMs) => take(data, atMs, false),
        lost: () => (this.fresh = false),
      },
      RATE_HZ,
    );
  }
}

function read(store: RowStore, token: string): Quote {
  const slot = store.slot(token);
  return {
    ltp: store.value('ltp', slot),
    change: store.value('change', slot),
    changePct: store.value('change_pct', slot),
    old: isOld(store.stateOf(slot)),
  };
}
