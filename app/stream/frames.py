"""What goes to a client, byte by byte: JSON text, and packed columns for ``bt.binary.v1``. Pure.

The layout is laid down in ``docs/STREAM.md``, with golden frames in ``tests/fixtures/wire/``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from app.stream.fields import CODE_NAMES, FIELD_KINDS, ROW_FIELDS, Kind

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Doc = Mapping[str, object]

BINARY_VERSION = 1
SNAPSHOT, DELTA = 1, 2
PRICES_ARE_F64 = 1
NO_COUNT = 0xFFFF_FFFF
NO_PRICE = -0x8000_0000
PENNY_PRICE_MAX = 21_000_000.0  # rupees: hundredths of more do not fit an i32
HEADER = struct.Struct("<BBHIIIddII")


@dataclass(frozen=True, slots=True)
class Labels:
    """What the rows of a topic are called: fixed until its set of instruments changes (``generation``).

    ``topic_id`` names the topic in binary frames. ``fine`` tells that some tick is finer than a paisa. ``about`` is
    told once with each snapshot: strike, side, lot and tick of each row.
    """

    topic: str
    topic_id: int
    generation: int = 0
    tokens: tuple[str, ...] = ()
    fine: bool = False
    about: Mapping[str, Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """One step of a sequence. ``values`` are the rows ``rows`` in full width, ``changed`` marks the cells that differ.

    A snapshot holds every row; ``values`` is None for a topic without rows.
    """

    is_snapshot: bool
    seq: int
    at_ms: int
    doc: Doc
    rows: npt.NDArray[np.intp] | None = None
    values: Floats | None = None
    changed: Bools | None = None


def to_json(labels: Labels, update: Update) -> bytes:
    """The update as the text message of contract section 7."""
    data: dict[str, object] = {}
    if update.values is not None and update.rows is not None:
        data["rows"] = _every_cell(labels, update) if update.changed is None else _changed_cells(labels, update)
        if update.is_snapshot and labels.about is not None:
            data["instruments"] = labels.about
    data.update(update.doc)
    message = {
        "type": "snapshot" if update.is_snapshot else "delta",
        "topic": labels.topic,
        "seq": update.seq,
        "at_ms": update.at_ms,
        "data": data,
    }
    return orjson.dumps(message)


def _columns(values: Floats, fields: npt.NDArray[np.intp]) -> list[list[object]]:
    """The cells of some fields, a list a field, as JSON tells them; a NaN that is left is written as null."""
    part = values[:, fields]
    columns: list[list[object]] = part.T.tolist()
    places = np.flatnonzero(_IS_WHOLE[fields])
    whole = part[:, places]
    unknown = np.isnan(whole)
    numbers = np.where(unknown, 0.0, whole).astype(np.int64).T.tolist()
    for place, cells, gaps in zip(places.tolist(), numbers, unknown.T, strict=True):
        names = CODE_NAMES.get(ROW_FIELDS[fields[place]])
        columns[place] = cells if names is None else [names[code] for code in cells]
        for gap in np.flatnonzero(gaps).tolist():
            columns[place][gap] = None
    return columns


def whole_rows(tokens: Sequence[str], values: Floats) -> dict[str, dict[str, object]]:
    """Rows by token as JSON tells them; a NaN among the cells is written as null."""
    columns = _columns(values, _EVERY_FIELD)
    return {
        token: dict(zip(ROW_FIELDS, cells, strict=True))
        for token, cells in zip(tokens, zip(*columns, strict=True), strict=True)
    }


def _every_cell(labels: Labels, update: Update) -> dict[str, dict[str, object]]:
    assert update.values is not None
    assert update.rows is not None
    return whole_rows([labels.tokens[row] for row in update.rows.tolist()], update.values)


def _changed_cells(labels: Labels, update: Update) -> dict[str, dict[str, object]]:
    assert update.values is not None
    assert update.rows is not None
    assert update.changed is not None
    rows: dict[str, dict[str, object]] = {labels.tokens[row]: {} for row in update.rows.tolist()}
    cells = list(rows.values())
    fields = np.flatnonzero(update.changed.any(axis=0))
    for field, column in zip(fields.tolist(), _columns(update.values, fields), strict=True):
        name = ROW_FIELDS[field]
        for place in np.flatnonzero(update.changed[:, field]).tolist():
            cells[place][name] = column[place]
    return rows


def to_binary(labels: Labels, update: Update) -> bytes:
    """The update as one packed frame; every field that changed in any row is there for all rows of the frame."""
    assert update.values is not None
    assert update.rows is not None
    count = len(update.rows)
    present = _EVERY_FIELD if update.changed is None else np.flatnonzero(update.changed.any(axis=0))
    is_f64 = labels.fine or any((update.values[:, field] > PENNY_PRICE_MAX).any() for field in _DEAREST)
    is_wide = _IS_WIDE[present] | (is_f64 & _IS_PRICE[present])
    columns = update.values.T
    tail = orjson.dumps(update.doc) if update.doc else b""
    head = HEADER.pack(
        BINARY_VERSION,
        SNAPSHOT if update.is_snapshot else DELTA,
        PRICES_ARE_F64 if is_f64 else 0,
        labels.topic_id,
        labels.generation,
        count,
        float(update.seq),
        float(update.at_ms),
        sum(1 << field for field in present.tolist()),
        len(tail),
    )
    body = b"".join((head, update.rows.astype("<u4").tobytes(), _narrow(columns, present[~is_wide]).tobytes()))
    wide = columns[present[is_wide]].astype("<f8").tobytes()
    return b"".join((body, bytes(-len(body) % 8), wide, tail, b" " * (-len(tail) % 4)))


def _places(*kinds: Kind) -> Bools:
    return np.array([kind in kinds for kind in FIELD_KINDS])


_EVERY_FIELD = np.arange(len(FIELD_KINDS))
_IS_WHOLE = _places(Kind.COUNT, Kind.SIGNED, Kind.MOMENT, Kind.CODE)
_IS_PRICE, _IS_REAL, _IS_WIDE = _places(Kind.PRICE), _places(Kind.REAL), _places(Kind.SIGNED, Kind.MOMENT)
_DEAREST = tuple(ROW_FIELDS.index(name) for name in ("ltp", "ask", "high", "prev_close"))  # no price is above these


def _narrow(columns: Floats, fields: npt.NDArray[np.intp]) -> npt.NDArray[np.uint32]:
    """The 4-byte columns as they lie in a frame, one field a row; a number of each kind stands for unknown."""
    packed = np.empty((len(fields), columns.shape[1]), dtype="<u4")
    is_price, is_real = _IS_PRICE[fields], _IS_REAL[fields]
    packed[is_real] = columns[fields[is_real]].astype("<f4").view("<u4")
    prices = np.rint(columns[fields[is_price]] * 100.0)
    packed[is_price] = np.where(np.isnan(prices), NO_PRICE, prices).astype("<i4").view("<u4")
    counts = columns[fields[~is_price & ~is_real]]
    packed[~is_price & ~is_real] = np.where(np.isnan(counts), NO_COUNT, counts).astype("<u4")
    return packed


def dictionary(labels: Labels) -> bytes:
    """The text message that precedes the first binary frame of a topic, and follows a change of its rows."""
    message: dict[str, object] = {
        "type": "dictionary",
        "topic": labels.topic,
        "id": labels.topic_id,
        "generation": labels.generation,
        "fields": ROW_FIELDS,
        "kinds": FIELD_KINDS,
        "codes": CODE_NAMES,
        "rows": labels.tokens,
    }
    if labels.about is not None:
        message["instruments"] = labels.about
    return orjson.dumps(message)


def problem(code: str, detail: str, **extra: object) -> bytes:
    """An error message for a client."""
    return orjson.dumps({"type": "error", "code": code, "detail": detail, **extra})


def text(**members: object) -> bytes:
    """Any other control message."""
    return orjson.dumps(members)


def difference(old: Doc, new: Doc) -> dict[str, object]:
    """The members of ``new`` that differ from ``old``; what is gone is null."""
    changes: dict[str, object] = {name: None for name in old if name not in new and old[name] is not None}
    for name, value in new.items():
        held = old.get(name)
        if isinstance(held, dict) and isinstance(value, dict):  # to ask for any mapping takes ten times as long
            if inner := difference(held, value):
                changes[name] = inner
        elif name not in old or not _same(held, value):
            changes[name] = value
    return changes


def _same(left: object, right: object) -> bool:
    return left == right and type(left) is type(right)
