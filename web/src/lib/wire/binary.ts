/**
 * Packed frames of the subprotocol `bt.binary.v1`, byte by byte as in docs/STREAM.md.
 *
 * A text message `dictionary` names a topic's rows and fields once; frames then carry row numbers and columns only.
 * Four-byte columns are read as zero-copy views; all numbers are little endian, like every machine that runs a browser.
 */

export const BINARY_PROTOCOL = 'bt.binary.v1';
const VERSION = 1;
const HEADER_BYTES = 40;
const SNAPSHOT = 1;
const PRICES_ARE_F64 = 1;
const NO_COUNT = 0xffff_ffff;
const NO_PRICE = -0x8000_0000;

export interface Dictionary {
  type: 'dictionary';
  topic: string;
  id: number;
  generation: number;
  fields: string[];
  kinds: string[];
  codes: Record<string, (string | null)[]>;
  rows: string[];
  instruments?: Record<string, InstrumentFacts>;
}

export interface InstrumentFacts {
  token?: string;
  kind?: string;
  exchange?: string;
  strike?: number | null;
  option_type?: string | null;
  lot_size?: number | null;
  tick?: number | null;
}

export interface PackedColumn {
  field: string;
  kind: string;
  raw: Int32Array | Uint32Array | Float32Array | Float64Array;
}

/** One frame, read but not yet spread over the store. */
export interface Packed {
  dictionary: Dictionary;
  isSnapshot: boolean;
  seq: number;
  atMs: number;
  rows: Uint32Array;
  columns: PackedColumn[];
  doc: Record<string, unknown>;
}

export class FrameError extends Error {}

/** Reads frames against the dictionaries that came before them. */
export class FrameDecoder {
  private readonly dictionaries = new Map<number, Dictionary>();

  learn(dictionary: Dictionary): void {
    this.dictionaries.set(dictionary.id, dictionary);
  }

  /** A new connection numbers its topics anew. */
  forget(): void {
    this.dictionaries.clear();
  }

  /** The frame, or null when its dictionary is not the one held (a snapshot with a new one is on its way). */
  read(buffer: ArrayBuffer): Packed | null {
    if (buffer.byteLength < HEADER_BYTES) throw new FrameError('a frame has a header of 40 bytes');
    const head = new DataView(buffer, 0, HEADER_BYTES);
    if (head.getUint8(0) !== VERSION) throw new FrameError(`frame version ${head.getUint8(0)}, this page reads ${VERSION}`);
    const dictionary = this.dictionaries.get(head.getUint32(4, true));
    if (!dictionary || dictionary.generation !== head.getUint32(8, true)) return null;
    const count = head.getUint32(12, true);
    const pricesAreF64 = (head.getUint16(2, true) & PRICES_ARE_F64) !== 0;
    const mask = head.getUint32(32, true);
    const body = readColumns(buffer, dictionary, count, mask, pricesAreF64);
    return {
      dictionary,
      isSnapshot: head.getUint8(1) === SNAPSHOT,
      seq: head.getFloat64(16, true),
      atMs: head.getFloat64(24, true),
      rows: new Uint32Array(buffer, HEADER_BYTES, count),
      columns: body.columns,
      doc: readTail(buffer, body.end, head.getUint32(36, true)),
    };
  }
}

function readColumns(
  buffer: ArrayBuffer,
  dictionary: Dictionary,
  count: number,
  mask: number,
  pricesAreF64: boolean,
): { columns: PackedColumn[]; end: number } {
  const columns: PackedColumn[] = [];
  const wide: number[] = [];
  let at = HEADER_BYTES + 4 * count;
  for (let place = 0; place < dictionary.fields.length; place++) {
    if (((mask >>> place) & 1) === 0) continue;
    const kind = dictionary.kinds[place]!;
    if (isWide(kind, pricesAreF64)) {
      wide.push(place);
      continue;
    }
    columns.push({ field: dictionary.fields[place]!, kind, raw: narrowView(buffer, at, count, kind) });
    at += 4 * count;
  }
  at += (8 - (at % 8)) % 8;
  for (const place of wide) {
    const raw = new Float64Array(buffer, at, count);
    columns.push({ field: dictionary.fields[place]!, kind: dictionary.kinds[place]!, raw });
    at += 8 * count;
  }
  return { columns, end: at };
}

function isWide(kind: string, pricesAreF64: boolean): boolean {
  return kind === 'signed' || kind === 'moment' || (kind === 'price' && pricesAreF64);
}

function narrowView(buffer: ArrayBuffer, at: number, count: number, kind: string): Int32Array | Uint32Array | Float32Array {
  if (kind === 'price') return new Int32Array(buffer, at, count);
  if (kind === 'real') return new Float32Array(buffer, at, count);
  return new Uint32Array(buffer, at, count);
}

function readTail(buffer: ArrayBuffer, at: number, length: number): Record<string, unknown> {
  if (!length) return {};
  return JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, at, length))) as Record<string, unknown>;
}

/** The number in a cell of a column; NaN is unknown. */
export function cellOf(column: PackedColumn, i: number): number {
  const raw = column.raw[i]!;
  if (column.raw instanceof Int32Array) return raw === NO_PRICE ? NaN : raw / 100;
  if (column.raw instanceof Uint32Array) return raw === NO_COUNT ? NaN : raw;
  if (column.raw instanceof Float32Array) return tidy(raw);
  return raw;
}

/** A float32 as the shortest decimal that means it: 0.1 and not 0.10000000149. Six digits are all it holds. */
function tidy(value: number): number {
  return Number.isNaN(value) ? NaN : Number(value.toPrecision(7));
}
