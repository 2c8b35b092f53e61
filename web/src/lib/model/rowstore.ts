import type { RowsData } from '../wire/messages';
import { cellOf, type Packed, type PackedColumn } from '../wire/binary';
import { STATE_UNKNOWN, stateCode } from './states';

/** Numeric fields of a stream row, in the contract's order (`state` and `age_ms` are kept apart). */
export const FIELDS = [
  'ltp', 'change', 'change_pct', 'bid', 'ask', 'bid_qty', 'ask_qty', 'ltq', 'atp', 'volume',
  'total_buy_qty', 'total_sell_qty', 'oi', 'oi_high', 'oi_low', 'oi_change',
  'open', 'high', 'low', 'prev_close', 'ltt_ms', 'iv', 'delta', 'gamma', 'theta', 'vega',
] as const;

export type Field = (typeof FIELDS)[number];

/** A row as JSON: every field may be missing (unchanged) or null (unknown). */
export type WireRow = { [K in Field]?: number | null } & {
  state?: string;
  age_ms?: number | null;
  oi_basis?: string | null;
};

/** What a change of open interest is measured against; the index is what the store keeps. */
export const OI_BASES = [null, 'previous_session', 'rest', 'feed'] as const;

/**
 * The last values of one topic as typed columns: NaN is unknown.
 *
 * `revision` of a slot grows with every change, so a painter compares one integer per row.
 * `fresh` turns false when the stream is lost and true with the next snapshot or resumed delta.
 */
export class RowStore {
  readonly columns = {} as Record<Field, Float64Array>;
  state = new Uint8Array(0);
  oiBasis = new Uint8Array(0);
  /** When the last packet came, on the service's clock. 0: never. */
  seenMs = new Float64Array(0);
  revision = new Uint32Array(0);
  readonly tokens: string[] = [];
  fresh = false;
  /** Grows when tokens are added or removed. */
  shape = 0;
  /** Rows touched since the store was made; the page's "n/s" badge reads it. */
  updates = 0;
  private readonly slots = new Map<string, number>();
  private capacity = 0;

  constructor(capacity = 256) {
    this.grow(capacity);
  }

  get size(): number {
    return this.tokens.length;
  }

  slot(token: string): number {
    return this.slots.get(token) ?? -1;
  }

  /** Replace everything: tokens that are not in the snapshot are gone. */
  snapshot(rows: Record<string, WireRow>, atMs: number): void {
    const names = Object.keys(rows);
    this.reset(names);
    for (const name of names) this.write(this.ensure(name), rows[name]!, atMs);
    this.fresh = true;
  }

  delta(rows: Record<string, WireRow>, atMs: number): void {
    for (const name in rows) this.write(this.ensure(name), rows[name]!, atMs);
    this.fresh = true;
  }

  /** Either form of a message's rows. */
  take(data: RowsData, atMs: number, isSnapshot: boolean): void {
    if (data.packed) this.packed(data.packed);
    else if (isSnapshot) this.snapshot(data.rows ?? {}, atMs);
    else this.delta(data.rows ?? {}, atMs);
  }

  /** A packed frame; a snapshot replaces everything, like its JSON form. */
  packed(frame: Packed): void {
    if (frame.isSnapshot) this.reset(frame.dictionary.rows);
    else if (this.tokens.length !== frame.dictionary.rows.length) return; // its snapshot never came
    for (const column of frame.columns) this.spread(column, frame);
    for (let i = 0; i < frame.rows.length; i++) this.touched(frame.rows[i]!);
    this.fresh = true;
  }

  /** The stream is gone: values stay, but none may pass for live. */
  lost(): void {
    this.fresh = false;
  }

  value(field: Field, slot: number): number {
    return slot < 0 ? NaN : this.columns[field][slot]!;
  }

  stateOf(slot: number): number {
    return slot < 0 ? STATE_UNKNOWN : this.state[slot]!;
  }

  /** Slot of a token, made if need be, all unknown. */
  ensure(token: string): number {
    const known = this.slots.get(token);
    if (known !== undefined) return known;
    const slot = this.tokens.length;
    if (slot === this.capacity) this.grow(this.capacity * 2);
    this.tokens.push(token);
    this.slots.set(token, slot);
    this.clear(slot);
    this.shape++;
    return slot;
  }

  /** Keep exactly these tokens; values are unknown until written. Same tokens: the slots stay. */
  reset(names: readonly string[]): void {
    const same = names.length === this.tokens.length && names.every((name, i) => this.tokens[i] === name);
    if (!same) {
      this.tokens.length = 0;
      this.slots.clear();
      this.shape++;
    }
    for (const name of names) this.clear(this.ensure(name));
  }

  touched(slot: number): void {
    this.revision[slot]!++;
    this.updates++;
  }

  private spread(column: PackedColumn, frame: Packed): void {
    const { rows, atMs, dictionary } = frame;
    const target = this.columns[column.field as Field];
    if (target) {
      for (let i = 0; i < rows.length; i++) target[rows[i]!] = cellOf(column, i);
    } else if (column.field === 'state') {
      const codes = (dictionary.codes.state ?? []).map(stateCode);
      for (let i = 0; i < rows.length; i++) this.state[rows[i]!] = codes[column.raw[i]!] ?? STATE_UNKNOWN;
    } else if (column.field === 'age_ms') {
      for (let i = 0; i < rows.length; i++) {
        const age = cellOf(column, i);
        this.seenMs[rows[i]!] = Number.isNaN(age) ? 0 : atMs - age;
      }
    } else if (column.field === 'oi_basis') {
      const codes = (dictionary.codes.oi_basis ?? []).map(basisCode);
      for (let i = 0; i < rows.length; i++) this.oiBasis[rows[i]!] = codes[column.raw[i]!] ?? 0;
    }
  }

  private write(slot: number, row: WireRow, atMs: number): void {
    for (const key in row) {
      const value = row[key as keyof WireRow];
      if (key === 'state') this.state[slot] = stateCode(value as string);
      else if (key === 'oi_basis') this.oiBasis[slot] = basisCode(value as string | null);
      else if (key === 'age_ms') this.seenMs[slot] = value == null ? 0 : atMs - (value as number);
      else {
        const column = this.columns[key as Field];
        if (column) column[slot] = typeof value === 'number' ? value : NaN;
      }
    }
    this.touched(slot);
  }

  private clear(slot: number): void {
    for (const field of FIELDS) this.columns[field][slot] = NaN;
    this.state[slot] = STATE_UNKNOWN;
    this.seenMs[slot] = 0;
    this.oiBasis[slot] = 0;
  }

  private grow(capacity: number): void {
    for (const field of FIELDS) {
      const wider = new Float64Array(capacity).fill(NaN);
      if (this.columns[field]) wider.set(this.columns[field]);
      this.columns[field] = wider;
    }
    this.state = widen(this.state, new Uint8Array(capacity).fill(STATE_UNKNOWN));
    this.oiBasis = widen(this.oiBasis, new Uint8Array(capacity));
    this.seenMs = widen(this.seenMs, new Float64Array(capacity));
    this.revision = widen(this.revision, new Uint32Array(capacity));
    this.capacity = capacity;
  }
}

function basisCode(name: string | null): number {
  return Math.max(0, OI_BASES.indexOf(name as (typeof OI_BASES)[number]));
}

function widen<T extends Uint8Array | Float64Array | Uint32Array>(old: T, wider: T): T {
  wider.set(old);
  return wider;
}
