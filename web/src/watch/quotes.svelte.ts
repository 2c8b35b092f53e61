import { untrack } from 'svelte';
import { RowStore } from '../lib/model/rowstore';
import { isOld } from '../lib/model/states';
import { live } from '../lib/state/live.svelte';
import type { ErrorMessage, RowsData } from '../lib/wire/messages';

export interface Quote {
  ltp: number;
  change: number;
  changePct: number;
  old: boolean;
}

const RATE_HZ = 2;
/** A later master may list again what is refused now. */
const RETRY_MS = 60_000;

/** A few dozen prices at a slow pace, as plain reactive records. */
export class QuoteBoard {
  quotes = $state<Record<string, Quote>>({});
  fresh = $state(false);

  /** One topic for all. It is refused whole for one token that is listed no more: the others do without that one. */
  watch(tokens: string[]): () => void {
    untrack(() => this.forget(tokens));
    let leave = () => {};
    let retry: ReturnType<typeof setTimeout> | undefined;
    const follow = (asked: string[]) => {
      leave();
      leave = this.follow(asked, (error) => {
        const rest = asked.filter((token) => token !== error.token);
        const isWithout = rest.length > 0 && rest.length < asked.length;
        this.forget(isWithout ? rest : []);
        clearTimeout(retry);
        retry = setTimeout(() => follow(tokens), RETRY_MS);
        if (isWithout) follow(rest);
      });
    };
    follow(tokens);
    return () => {
      clearTimeout(retry);
      leave();
    };
  }

  /** What was not watched meanwhile is old: unknown until it is told anew. */
  private forget(kept: string[]): void {
    for (const token of Object.keys(this.quotes)) if (!kept.includes(token)) delete this.quotes[token];
  }

  private follow(tokens: string[], onrefused: (error: ErrorMessage) => void): () => void {
    const store = new RowStore(64);
    const seen: number[] = [];
    const take = (data: unknown, atMs: number, whole: boolean) => {
      store.take(data as RowsData, atMs, whole);
      this.fresh = true;
      for (let slot = 0; slot < store.size; slot++) {
        if (store.revision[slot] === seen[slot]) continue;
        seen[slot] = store.revision[slot]!;
        this.quotes[store.tokens[slot]!] = read(store, slot);
      }
    };
    return live.stream.subscribe(
      `quotes:${tokens.join(',')}`,
      {
        snapshot: (data, atMs) => take(data, atMs, true),
        delta: (data, atMs) => take(data, atMs, false),
        lost: () => (this.fresh = false),
        refused: onrefused,
      },
      RATE_HZ,
    );
  }
}

function read(store: RowStore, slot: number): Quote {
  return {
    ltp: store.value('ltp', slot),
    change: store.value('change', slot),
    changePct: store.value('change_pct', slot),
    old: isOld(store.stateOf(slot)),
  };
}
