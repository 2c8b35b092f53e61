import { EMPTY_LADDER, ladderOf, type Ladder } from '../lib/model/ladder';
import { RowStore } from '../lib/model/rowstore';
import { isOld } from '../lib/model/states';
import { live } from '../lib/state/live.svelte';
import { mergeDoc } from '../lib/wire/merge';
import type { Coverage, ErrorMessage, RowsData, Summary } from '../lib/wire/messages';

const RATE_HZ = 5;

/** One chain on the stream: the typed store for the painter, and the few facts that components show. */
export class ChainFeed {
  readonly store = new RowStore(256);
  ladder = $state.raw<Ladder>(EMPTY_LADDER);
  summary = $state.raw<Summary | null>(null);
  coverage = $state.raw<Coverage | null>(null);
  /** From the legs themselves; 0 where they do not tell. */
  lotSize = $state(0);
  tick = $state(0);
  fresh = $state(false);
  /** A leg at the money is old, and with it what is made of both. */
  atmOld = $state(false);
  loaded = $state(false);
  refused = $state.raw<ErrorMessage | null>(null);
  /** Legs with nobody behind them: the page then offers to add the chain. */
  unsubscribed = $state(0);
  /** Every applied message; only tests and the root's `data-seq` look at it. */
  applied = $state(0);
  private leave: () => void;
  private shape = -1;

  constructor(
    topic: string,
    private readonly paint: (whole: boolean) => void,
  ) {
    this.leave = live.stream.subscribe(
      topic,
      {
        snapshot: (data, atMs) => this.take(data as RowsData, atMs, true),
        delta: (data, atMs) => this.take(data as RowsData, atMs, false),
        lost: () => this.lost(),
        refused: (error) => (this.refused = error),
      },
      RATE_HZ,
    );
  }

  close(): void {
    this.leave();
  }

  /** Nobody is behind any leg of this chain. */
  get idle(): boolean {
    return this.loaded && this.store.size > 0 && this.unsubscribed === this.store.size;
  }

  /** Legs that are not subscribed, evicted ones among them. */
  private unowned(): number {
    let count = 0;
    for (let slot = 0; slot < this.store.size; slot++) {
      const state = this.store.stateOf(slot);
      if (state === 1 || state === 2) count++;
    }
    return count;
  }

  private take(data: RowsData, atMs: number, whole: boolean): void {
    const before = this.store.updates;
    this.store.take(data, atMs, whole);
    live.count(this.store.updates - before);
    if (data.instruments) this.lot(data.instruments);
    if (data.summary !== undefined) this.summary = mergeDoc(whole ? null : this.summary, data.summary);
    if (data.coverage !== undefined) this.coverage = mergeDoc(whole ? null : this.coverage, data.coverage);
    if (this.shape !== this.store.shape) {
      this.shape = this.store.shape;
      this.ladder = ladderOf(this.store);
    }
    if (whole || data.coverage) this.unsubscribed = this.unowned();
    this.atmOld = this.isAtmOld();
    this.fresh = true;
    this.loaded = true;
    this.refused = null;
    this.applied++;
    this.paint(whole);
  }

  private isAtmOld(): boolean {
    const at = this.ladder.strikes.indexOf(this.summary?.atm_strike ?? NaN);
    return at >= 0 && [this.ladder.ce[at]!, this.ladder.pe[at]!].some((slot) => isOld(this.store.stateOf(slot)));
  }

  /** Lot and tick of the first leg stand for the chain. */
  private lot(instruments: NonNullable<RowsData['instruments']>): void {
    const first = Object.values(instruments)[0];
    this.lotSize = first?.lot_size ?? 0;
    this.tick = first?.tick ?? 0;
  }

  private lost(): void {
    this.store.lost();
    this.fresh = false;
  }
}
