import { age, DASH, price, strike as strikeText, tone } from '../lib/model/format';
import { EMPTY_LADDER, type Ladder } from '../lib/model/ladder';
import type { RowStore } from '../lib/model/rowstore';
import { GAP, isOld, LIVE, QUIET, STALE, STATES, STATE_UNKNOWN, STATE_WORDS, stateName } from '../lib/model/states';
import type { Column } from './columns';

const OVERSCAN = 3;
const FLASH_MS = 350;
/** A cell flashes at most twice a second, however fast its data is (WCAG 2.3.1). */
const FLASH_GAP_MS = 500;
/** No value was painted yet; differs from every number and from NaN (unknown). */
const UNPAINTED = Infinity;

/** What the note beside a price says where the value is not simply live. */
const NOTES: Record<string, string> = {
  EXPIRED: 'expired',
  EVICTED: 'evicted',
  NOT_SUBSCRIBED: 'not sub',
  WANTED: 'wanted',
  SENT: 'sent',
  GAP: 'gap',
};

interface Cell {
  el: HTMLElement;
  text: Text;
  column: Column;
  isCall: boolean;
  /** Last number painted; compared before anything is formatted. */
  painted: number;
  tone: string;
  bar: number;
  flashedAt: number;
}

interface Row {
  el: HTMLElement;
  strike: HTMLElement;
  strikeText: Text;
  cells: Cell[];
  callLtp: Cell | null;
  putLtp: Cell | null;
  index: number;
  ceRevision: number;
  peRevision: number;
  ceState: number;
  peState: number;
  ceNote: string;
  peNote: string;
  kind: string;
}

export interface PaintOptions {
  columns: Column[];
  rowHeight: number;
  inLots: boolean;
  lotSize: number;
  flash: boolean;
  decimals: number;
  /** Say beside each price why it is not live; off where one line above says it for all. */
  notes: boolean;
}

/**
 * Paints the visible rows of a chain into recycled `div`s, once a frame at most.
 *
 * Components never see the store: this is the only reader of it on the hot path, and it touches a text node
 * only where the number behind it changed. Containment and windowing are what keep the layout cheap (web notes 2).
 */
export class ChainPainter {
  private rows: Row[] = [];
  private ladder: Ladder = EMPTY_LADDER;
  private store: RowStore | null = null;
  private from = 0;
  private to = 0;
  private atm = NaN;
  private maxOi = 1;
  private top = new Set<number>();
  private requested = 0;
  private sweepTimer = 0;
  private flashing: Cell[] = [];
  /** Cells painted before this moment were not flashing: a first paint never does. */
  private quiet = true;
  private active = { row: -1, cell: -1 };

  constructor(
    private readonly scroller: HTMLElement,
    private readonly body: HTMLElement,
    private options: PaintOptions,
    private readonly now: () => number,
  ) {}

  configure(options: PaintOptions): void {
    const rebuild =
      options.columns !== this.options.columns ||
      options.rowHeight !== this.options.rowHeight ||
      options.decimals !== this.options.decimals;
    this.options = options;
    if (rebuild) this.clear();
    this.stretch();
    this.repaint();
  }

  show(store: RowStore, ladder: Ladder, from: number, to: number): void {
    this.store = store;
    this.ladder = ladder;
    this.from = from;
    this.to = to;
    this.stretch();
    this.measure();
    this.repaint();
  }

  private stretch(): void {
    this.body.style.height = `${(this.to - this.from) * this.options.rowHeight}px`;
  }

  setAtm(atm: number): void {
    if (Object.is(atm, this.atm)) return;
    this.atm = atm;
    for (const row of this.rows) row.kind = '';
    this.request();
  }

  /** Largest open interest (for the bars) and the three largest of each side. */
  measure(): void {
    const { store, ladder } = this;
    if (!store) return;
    const top = new Set<number>();
    let max = 1;
    for (const legs of [ladder.ce, ladder.pe]) {
      const sorted = legs.filter((slot) => store.value('oi', slot) > 0);
      sorted.sort((a, b) => store.value('oi', b) - store.value('oi', a));
      for (const slot of sorted.slice(0, 3)) top.add(slot);
      if (sorted.length) max = Math.max(max, store.value('oi', sorted[0]!));
    }
    const changed = max !== this.maxOi || top.size !== this.top.size || [...top].some((slot) => !this.top.has(slot));
    this.maxOi = max;
    this.top = top;
    if (changed) for (const row of this.rows) row.ceRevision = row.peRevision = -1;
    this.request();
  }

  /** Everything anew, without flashing: after a snapshot, a change of columns, a return of the page. */
  repaint(): void {
    this.quiet = true;
    for (const row of this.rows) this.unbind(row);
    this.request();
  }

  request(): void {
    if (this.requested || document.hidden) return;
    this.requested = requestAnimationFrame(() => this.frame());
  }

  /** Ages of stale rows move on without packets; called once a second. */
  tickAges(): void {
    for (const row of this.rows) {
      if (row.index < 0) continue;
      if (row.ceState === STALE || row.peState === STALE || row.ceState === GAP || row.peState === GAP) {
        row.ceRevision = row.peRevision = -1;
      }
    }
    this.request();
  }

  setActive(row: number, cell: number): string | null {
    this.active = { row, cell };
    this.frame();
    return row < 0 ? null : cellId(row, cell);
  }

  destroy(): void {
    cancelAnimationFrame(this.requested);
    clearTimeout(this.sweepTimer);
    this.clear();
  }

  private clear(): void {
    this.body.replaceChildren();
    this.rows = [];
    this.flashing = [];
  }

  private frame(): void {
    cancelAnimationFrame(this.requested);
    this.requested = 0;
    this.sweep();
    const { rowHeight } = this.options;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / rowHeight) - OVERSCAN);
    const fits = Math.ceil(this.scroller.clientHeight / rowHeight) + 2 * OVERSCAN;
    const count = this.to - this.from;
    while (this.rows.length < Math.min(fits, count)) this.addRow();
    const size = this.rows.length;
    const last = Math.min(count, first + size);
    for (let i = Math.max(0, last - size); i < last; i++) this.paintRow(this.rows[i % size]!, this.from + i);
    for (let i = count; i < size; i++) this.hide(this.rows[i]!);
    this.quiet = false;
    this.sweepLater();
  }

  private hide(row: Row): void {
    if (row.index < 0 && row.el.hidden) return;
    this.unbind(row);
    row.el.hidden = true;
  }

  private unbind(row: Row): void {
    row.index = -1;
    row.kind = '';
    row.ceRevision = row.peRevision = -1;
    row.ceState = row.peState = -1;
    for (const cell of row.cells) cell.painted = UNPAINTED;
  }

  private paintRow(row: Row, index: number): void {
    const store = this.store!;
    const bound = row.index === index;
    if (!bound) this.bind(row, index);
    const ce = this.ladder.ce[index]!;
    const pe = this.ladder.pe[index]!;
    const ceRevision = ce < 0 ? 0 : store.revision[ce]!;
    const peRevision = pe < 0 ? 0 : store.revision[pe]!;
    this.paintKind(row, index);
    if (ceRevision !== row.ceRevision) {
      this.paintLeg(row, ce, true, bound);
      row.ceRevision = ceRevision;
    }
    if (peRevision !== row.peRevision) {
      this.paintLeg(row, pe, false, bound);
      row.peRevision = peRevision;
    }
  }

  private bind(row: Row, index: number): void {
    this.unbind(row);
    row.index = index;
    row.el.hidden = false;
    row.el.style.top = `${(index - this.from) * this.options.rowHeight}px`;
    row.el.setAttribute('aria-rowindex', String(index - this.from + 3));
    row.el.dataset.index = String(index);
    const text = strikeText(this.ladder.strikes[index]!);
    row.strikeText.data = text;
    row.el.dataset.strike = text;
    row.el.dataset.testid = `row-${text}`;
    const half = row.cells.length / 2;
    for (let i = 0; i < row.cells.length; i++) row.cells[i]!.el.id = cellId(index, i < half ? i : i + 1);
    row.strike.id = cellId(index, half);
  }

  private paintKind(row: Row, index: number): void {
    const strike = this.ladder.strikes[index]!;
    let kind = Number.isNaN(this.atm) ? 'plain' : strike === this.atm ? 'atm' : strike < this.atm ? 'below' : 'above';
    const activeCell = this.active.row === index ? this.active.cell : -1;
    kind += activeCell;
    if (kind === row.kind) return;
    row.kind = kind;
    row.el.classList.toggle('atm', kind.startsWith('atm'));
    row.el.classList.toggle('ce-itm', kind.startsWith('below'));
    row.el.classList.toggle('pe-itm', kind.startsWith('above'));
    row.el.classList.toggle('active', activeCell >= 0);
    row.el.querySelector('.cursor')?.classList.remove('cursor');
    if (activeCell >= 0) row.el.children[activeCell]?.classList.add('cursor');
  }

  private paintLeg(row: Row, slot: number, isCall: boolean, bound: boolean): void {
    const half = row.cells.length / 2;
    for (let i = isCall ? 0 : half, end = i + half; i < end; i++) this.paintCell(row.cells[i]!, slot, bound);
    this.paintState(row, slot, isCall);
  }

  private paintCell(cell: Cell, slot: number, bound: boolean): void {
    const { column } = cell;
    let value = slot < 0 ? NaN : column.value(this.store!, slot);
    if (column.units && this.options.inLots) value /= this.options.lotSize;
    if (column.bar) this.paintBar(cell, slot);
    if (Object.is(value, cell.painted)) return;
    if (column.flash && bound && !this.quiet && this.options.flash) this.flash(cell, value);
    cell.painted = value;
    if (Number.isNaN(value)) cell.text.data = DASH;
    else cell.text.data = column.money ? price(value, this.options.decimals) : column.text(value);
    if (column.signed) this.setTone(cell, tone(cell.text.data));
  }

  private setTone(cell: Cell, next: string): void {
    if (next === cell.tone) return;
    if (cell.tone) cell.el.classList.remove(cell.tone);
    if (next) cell.el.classList.add(next);
    cell.tone = next;
  }

  private paintBar(cell: Cell, slot: number): void {
    const oi = slot < 0 ? NaN : this.store!.value('oi', slot);
    const bar = oi > 0 ? Math.round((oi / this.maxOi) * 100) : 0;
    if (bar !== cell.bar) {
      cell.bar = bar;
      cell.el.style.setProperty('--v', `${bar}%`);
    }
    cell.el.classList.toggle('top', this.top.has(slot));
  }

  private flash(cell: Cell, value: number): void {
    const before = cell.painted;
    if (before === UNPAINTED || Number.isNaN(before) || Number.isNaN(value)) return;
    const at = this.now();
    if (at - cell.flashedAt < FLASH_GAP_MS) return;
    cell.flashedAt = at;
    cell.el.classList.remove('flash-up', 'flash-down');
    cell.el.classList.add(value > before ? 'flash-up' : 'flash-down');
    this.flashing.push(cell);
  }

  /** The next frame of data sweeps anyway, for nothing; the timer is for a market that falls silent. */
  private sweepLater(): void {
    if (!this.flashing.length || this.sweepTimer) return;
    this.sweepTimer = window.setTimeout(() => {
      this.sweepTimer = 0;
      this.sweep();
      this.sweepLater();
    }, FLASH_MS * 1.5);
  }

  /** One shared step takes the flashes off; a fade per cell would cost more than everything else together. */
  private sweep(): void {
    if (!this.flashing.length) return;
    const limit = this.now() - FLASH_MS;
    this.flashing = this.flashing.filter((cell) => {
      if (cell.flashedAt > limit) return true;
      cell.el.classList.remove('flash-up', 'flash-down');
      return false;
    });
  }

  private paintState(row: Row, slot: number, isCall: boolean): void {
    const store = this.store!;
    const state = store.stateOf(slot);
    const cell = isCall ? row.callLtp : row.putLtp;
    const note = slot < 0 ? 'not listed' : this.noteOf(state, slot);
    if (isCall ? note !== row.ceNote : note !== row.peNote) {
      if (isCall) row.ceNote = note;
      else row.peNote = note;
      if (cell) note ? (cell.el.dataset.note = note) : delete cell.el.dataset.note;
    }
    if (state === (isCall ? row.ceState : row.peState)) return;
    if (isCall) row.ceState = state;
    else row.peState = state;
    const prefix = isCall ? 'ce' : 'pe';
    row.el.classList.toggle(`${prefix}-old`, slot < 0 || isOld(state));
    row.el.classList.toggle(`${prefix}-quiet`, state === QUIET);
    const name = stateName(state);
    row.el.dataset[isCall ? 'ceState' : 'peState'] = name ?? 'UNKNOWN';
    if (cell) cell.el.title = slot < 0 ? 'Not listed' : name ? STATE_WORDS[name] : 'Not known';
  }

  private noteOf(state: number, slot: number): string {
    if (!this.options.notes || state === LIVE || state === QUIET || state === STATE_UNKNOWN) return '';
    if (state === STALE) return age(this.now() - this.store!.seenMs[slot]!);
    return NOTES[STATES[state]!] ?? '';
  }

  private addRow(): void {
    const el = document.createElement('div');
    el.className = 'row';
    el.setAttribute('role', 'row');
    el.style.height = `${this.options.rowHeight}px`;
    const strike = document.createElement('div');
    strike.className = 'strike';
    strike.setAttribute('role', 'rowheader');
    const strikeText = strike.appendChild(document.createTextNode(''));
    const calls = this.options.columns.map((column) => makeCell(column, true));
    const puts = [...this.options.columns].reverse().map((column) => makeCell(column, false));
    el.append(...calls.map((cell) => cell.el), strike, ...puts.map((cell) => cell.el));
    this.body.append(el);
    const row: Row = {
      el, strike, strikeText,
      cells: [...calls, ...puts],
      callLtp: calls.find((cell) => cell.column.flash) ?? null,
      putLtp: puts.find((cell) => cell.column.flash) ?? null,
      index: -1, ceRevision: -1, peRevision: -1, ceState: -1, peState: -1, ceNote: '', peNote: '', kind: '',
    };
    this.rows.push(row);
    // slots are handed out by index modulo pool size: a new size moves every row
    for (const other of this.rows) this.unbind(other);
  }
}

function makeCell(column: Column, isCall: boolean): Cell {
  const el = document.createElement('div');
  el.className = `cell ${isCall ? 'ce' : 'pe'} c-${column.key}`;
  el.setAttribute('role', 'gridcell');
  if (column.grow) el.style.flexGrow = String(column.grow);
  const text = el.appendChild(document.createTextNode(DASH));
  return { el, text, column, isCall, painted: UNPAINTED, tone: '', bar: -1, flashedAt: 0 };
}

export function cellId(row: number, cell: number): string {
  return `cell-${row}-${cell}`;
}
