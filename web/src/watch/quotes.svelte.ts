import { untrack } from 'svelte';
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
/** The service takes a hundred topics from one client. */
const TOPICS_MAX = 60;

/** A few dozen prices at a slow pace, as plain reactive records. */
export class QuoteBoard {
  quotes = $state<Record<string, Quote>>({});
  fresh = $state(false);

  /** One topic for all; if one token is not listed any more the topic is refused whole, so then one topic each. */
  watch(tokens: string[]): () => void {
    untrack(() => this.forget(tokens));
    let leaves: (() => void)[] = [];
    const apart = () => {
      leave();
      const followed = tokens.slice(0, TOPICS_MAX);
      this.forget(followed);
      leaves = followed.map((token) => this.follow([token], () => delete this.quotes[token]));
    };
    const leave = () => {
      for (const one of leaves) one();
    };
    leaves = [this.follow(tokens, apart)];
    return () => leave();
  }

  /** What was not watched meanwhile is old: unknown until it is told anew. */
  private forget(kept: string[]): void {
    for (const token of Object.keys(this.quotes)) if (!kept.includes(token)) delete this.quotes[token];
  }

  private follow(tokens: string[], onrefused?: () => void): () => void {
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
