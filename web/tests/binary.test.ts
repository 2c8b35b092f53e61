import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FIELDS, RowStore } from '../src/lib/model/rowstore';
import { FrameDecoder, FrameError, type Dictionary, type Packed } from '../src/lib/wire/binary';
import type { DataMessage, RowsData } from '../src/lib/wire/messages';

// The service wrote these bytes; its own test holds them to its encoder (docs/STREAM.md).
const WIRE = join(import.meta.dirname, '../../tests/fixtures/wire');
const bytes = (name: string): ArrayBuffer => {
  const file = readFileSync(join(WIRE, name));
  return file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) as ArrayBuffer;
};
const json = <T>(name: string): T => JSON.parse(readFileSync(join(WIRE, name), 'utf8')) as T;

const dictionary = json<Dictionary>('stream_dictionary.bin');

function decoder(words: Dictionary = dictionary): FrameDecoder {
  const made = new FrameDecoder();
  made.learn(words);
  return made;
}

function rest(data: unknown): unknown {
  const { rows: _rows, instruments: _instruments, ...doc } = data as RowsData & Record<string, unknown>;
  return doc;
}

function expectSame(packed: RowStore, text: RowStore): void {
  expect(packed.tokens).toEqual(text.tokens);
  for (let slot = 0; slot < text.size; slot++) {
    for (const field of FIELDS) {
      const wanted = text.value(field, slot);
      const found = packed.value(field, slot);
      if (Number.isNaN(wanted)) expect(found, `${text.tokens[slot]} ${field}`).toBeNaN();
      else expect(found, `${text.tokens[slot]} ${field}`).toBeCloseTo(wanted, 5);
    }
    expect(packed.stateOf(slot)).toBe(text.stateOf(slot));
    expect(packed.oiBasis[slot]).toBe(text.oiBasis[slot]);
    expect(packed.seenMs[slot]).toBe(text.seenMs[slot]);
  }
}

describe('golden frames', () => {
  const snapshot = json<DataMessage>('stream_snapshot_json.bin');
  const delta = json<DataMessage>('stream_delta_json.bin');

  it('a packed snapshot says what its JSON says', () => {
    const frame = decoder().read(bytes('stream_snapshot.bin')) as Packed;
    expect([frame.isSnapshot, frame.seq, frame.atMs]).toEqual([true, snapshot.seq, snapshot.at_ms]);
    expect(frame.doc).toEqual(rest(snapshot.data));
    const packed = new RowStore(1);
    const text = new RowStore(1);
    packed.packed(frame);
    text.snapshot((snapshot.data as RowsData).rows!, snapshot.at_ms);
    expectSame(packed, text);
  });

  it('and so does a packed delta on top of it', () => {
    const reader = decoder();
    const packed = new RowStore(1);
    const text = new RowStore(1);
    packed.packed(reader.read(bytes('stream_snapshot.bin'))!);
    text.snapshot((snapshot.data as RowsData).rows!, snapshot.at_ms);
    const frame = reader.read(bytes('stream_delta.bin'))!;
    expect([frame.isSnapshot, frame.seq]).toEqual([false, delta.seq]);
    expect(frame.doc).toEqual(rest(delta.data));
    packed.packed(frame);
    text.delta((delta.data as RowsData).rows!, delta.at_ms);
    expectSame(packed, text);
  });

  it('reads the worked example of the document', () => {
    const reader = decoder();
    const store = new RowStore(1);
    store.packed(reader.read(bytes('stream_snapshot.bin'))!);
    const before = store.revision[1]!;
    store.packed(reader.read(bytes('stream_delta.bin'))!);
    expect(store.value('ltp', 1)).toBe(99.95);
    expect(store.value('bid', 1)).toBeNaN();
    expect(store.value('iv', 1)).toBeNaN();
    expect(store.value('oi_change', 1)).toBeNaN();
    expect(store.value('ltt_ms', 1)).toBe(1771993800000);
    expect(store.revision[1]).toBe(before + 1);
  });

  it('reads prices finer than a paisa', () => {
    const words = json<Dictionary>('stream_dictionary_fine.bin');
    const frame = decoder(words).read(bytes('stream_snapshot_fine.bin'))!;
    const store = new RowStore(1);
    store.packed(frame);
    const prices = frame.columns.filter((column) => column.kind === 'price');
    expect(prices.length).toBeGreaterThan(0);
    expect(prices.every((column) => column.raw instanceof Float64Array)).toBe(true);
    expect(store.size).toBe(words.rows.length);
  });

  it('knows every field that the service sends, or leaves it alone on purpose', () => {
    const elsewhere = ['age_ms', 'state', 'oi_basis'];
    expect(dictionary.fields.filter((field) => !(FIELDS as readonly string[]).includes(field))).toEqual(elsewhere);
  });
});

describe('frames that cannot be read', () => {
  it('are passed over while another generation is held', () => {
    expect(decoder({ ...dictionary, generation: dictionary.generation + 1 }).read(bytes('stream_delta.bin'))).toBeNull();
    expect(new FrameDecoder().read(bytes('stream_delta.bin'))).toBeNull();
  });

  it('are refused when of another version or cut short', () => {
    const other = bytes('stream_delta.bin').slice(0);
    new Uint8Array(other)[0] = 2;
    expect(() => decoder().read(other)).toThrow(FrameError);
    expect(() => decoder().read(bytes('stream_delta.bin').slice(0, 39))).toThrow(FrameError);
    expect(() => decoder().read(bytes('stream_snapshot.bin').slice(0, 60))).toThrow();
  });

  it('a delta never lands in a store that has not seen its snapshot', () => {
    const store = new RowStore(1);
    store.packed(decoder().read(bytes('stream_delta.bin'))!);
    expect(store.size).toBe(0);
    expect(store.fresh).toBe(false);
  });
});
