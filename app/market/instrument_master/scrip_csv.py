"""Dhan's instrument file to the snapshot that the service maps.

Run as a program of its own, so that polars and the text never enter the service::

    python -m app.market.instrument_master.scrip_csv SOURCE OUT [SNAPSHOT_IN_USE]

It ends with 0, or with 2 and one line on stderr that says why the file was refused. The snapshot does not depend on
the day: rows that have expired are told by the registry when it loads.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from app.core.errors import MasterRefused
from app.core.ids import Segment
from app.market.instrument_master.layout import (
    CALL,
    EXCHANGES,
    KINDS,
    OPTIONAL,
    PUT,
    SEGMENTS,
    TEST_SCRIP,
    Itype,
    Layout,
)
from app.market.instrument_master.snapshot import Column, map_columns, write_columns
from app.market.instrument_master.source_file import check_text, read_source
from app.market.instrument_master.symbols import symbol_columns

FEWER_ROWS_REFUSED = 0.5
"""A file with less than this share of the rows in use is taken for a bad one."""

UNREADABLE_REFUSED = 0.01
"""A file with more than this share of unreadable rows is taken for a bad one."""

_ORDINAL_1970 = 719_163
_YEAR_MIN, _YEAR_MAX = 1990, 2200
_STRIKE_MIN, _STRIKE_MAX = 0.0001, 1e9  # rupees
_DERIVATIVE = int(Itype.FUTIDX)
_OPTION = int(Itype.OPTIDX)
_FIRST_OF_KIND = {item: KINDS.index(KINDS[item]) for item in Itype}


def build_snapshot(source: Path, out: Path, in_use: Path | None = None) -> dict[str, Any]:
    """Read ``source`` and write the snapshot ``out``; return its meta (counts by segment and by reason).

    ``in_use`` is the snapshot that the new one would replace, to tell an absurdly short file.

    Raises:
        MasterRefused: the file may not be used; ``out`` is untouched.
    """
    raw = read_source(source)
    layout = check_text(raw, source.name)
    rows = _read(raw, layout, source.name)
    del raw
    rows = rows.with_columns(_reason().alias("reason"))
    _refuse_bad(rows, source.name, _rows_in_use(in_use))
    meta = {
        "source": source.name,
        "layout": layout.name,
        "rows": rows.height,
        "file_rows": _counts(rows, pl.coalesce(_segment_name(), "place")),
    }
    left_out = _counts(rows.filter(pl.col("reason").is_not_null()), pl.col("reason"))
    kept = _sorted(rows.filter(pl.col("reason").is_null()))
    kept, dropped = _one_row_a_name(kept)
    if dropped:
        left_out["name taken by another series"] = dropped
    meta |= {"left_out": left_out, "in_use": kept.height}
    arrays = _arrays(kept)
    meta["symbols"] = int(arrays["sym_start"].size - 1)
    write_columns(out, meta, arrays)
    return meta


def _read(raw: bytes, layout: Layout, name: str) -> pl.DataFrame:
    """The core columns as typed values; what cannot be read becomes null."""
    text = {ours: pl.col(f"c{position}") for ours, position in layout.positions.items()}
    for absent in OPTIONAL - text.keys():
        text[absent] = pl.lit(None, pl.String)
    try:
        frame = pl.scan_csv(
            raw,
            infer_schema=False,
            with_column_names=lambda names: [f"c{i}" for i in range(len(names))],
            truncate_ragged_lines=True,
        )
        cells = frame.select([column.alias(ours) for ours, column in text.items()]).collect()
        return _typed(cells, is_compact=layout.name == "compact")
    except pl.exceptions.PolarsError as error:
        raise MasterRefused(f"{name}: not CSV: {str(error).splitlines()[0]}") from None


def _typed(cells: pl.DataFrame, *, is_compact: bool) -> pl.DataFrame:
    place = pl.concat_str("exchange", pl.lit("/"), "segment")
    pairs = {f"{exchange}/{segment}": code for (exchange, segment), code in SEGMENTS.items()}
    is_index = pl.col("instrument") == Itype.INDEX.name
    tick = pl.col("tick").cast(pl.Float64, strict=False).fill_null(0.0)
    symbol = _compact_symbol() if is_compact else pl.col("symbol")
    return (
        cells.lazy()
        .with_columns(symbol=symbol.str.strip_chars(), place=place)
        .with_columns(
            upper=pl.col("symbol").str.to_uppercase(),
            segment_code=_coded("place", {text: int(code) for text, code in pairs.items()}),
            id=pl.col("id").cast(pl.Int64, strict=False),
            itype=_coded("instrument", {item.name: int(item) for item in Itype}),
            exch=_coded("exchange", {exchange.value: code for code, exchange in enumerate(EXCHANGES)}),
            opt=_coded("option", {"CE": CALL, "PE": PUT}).fill_null(0),
            lot=pl.col("lot").cast(pl.Float64, strict=False).cast(pl.Int32, strict=False).fill_null(1),
            strike=pl.col("strike").cast(pl.Float64, strict=False),
            expiry=_expiry(cells["expiry"]),
            low_limit=pl.col("low_limit").cast(pl.Float64, strict=False),
            high_limit=pl.col("high_limit").cast(pl.Float64, strict=False),
            freeze=pl.col("freeze").cast(pl.Float64, strict=False).cast(pl.Int32, strict=False),
            # Index rows carry their tick in rupees, all others in paise (protocol notes, 4.4).
            tick=pl.when(is_index).then(tick).otherwise(tick / 100.0).round(6),
        )
        .collect()
    )


def _coded(column: str, codes: dict[str, int]) -> pl.Expr:
    return pl.col(column).replace_strict(codes, default=None, return_dtype=pl.UInt8)


def _expiry(cells: pl.Series) -> pl.Expr:
    """Days as ``date.toordinal()``; 0 for none. ISO with or without a time, else the forms of hand-saved copies.

    A file has few different dates: each is read once.
    """
    seen = cells.unique().drop_nulls().rename("text").to_frame()
    text = pl.col("text").str.strip_chars()
    iso = _day(text.str.slice(0, 10), "%Y-%m-%d")
    others = (_day(text, form) for form in ("%d/%m/%Y", "%d/%m/%y", "%d-%m-%Y", "%d-%b-%Y"))
    days = seen.select("text", day=(pl.coalesce(iso, *others).cast(pl.Int32) + _ORDINAL_1970).fill_null(0))
    return pl.col("expiry").replace_strict(days["text"], days["day"], default=0, return_dtype=pl.Int32)


def _day(text: pl.Expr, form: str) -> pl.Expr:
    """A day that is meant: 0001-01-01 is how the file says "never", and ``%Y`` would take ``26`` for a year."""
    day = text.str.to_date(form, strict=False)
    return pl.when(day.dt.year().is_between(_YEAR_MIN, _YEAR_MAX)).then(day)


def _compact_symbol() -> pl.Expr:
    """The underlying symbol that compact files leave out, from the trading symbol, else from the display name."""
    trading = pl.col("symbol")
    is_derivative = pl.col("instrument").str.contains(r"^(?:FUT|OPT)")
    by_trading = trading.str.extract(r"^(.+?)-(?:\d{0,2}[A-Za-z]{3}\d{2,4})-", 1)
    by_name = pl.col("name").str.extract(r"^(.+?)\s+(?:\d{1,2}\s+)?[A-Z]{3}\s+(?:FUT|[\d.]+\s+(?:CALL|PUT))", 1)
    return pl.when(is_derivative).then(pl.coalesce(by_trading, by_name, trading)).otherwise(trading)


def _reason() -> pl.Expr:
    """Why a row is left out, null if it is not; first reason wins."""
    itype = pl.col("itype")
    is_strike = pl.col("strike").is_between(_STRIKE_MIN, _STRIKE_MAX).fill_null(False)
    bad_option = (itype >= _OPTION) & (~is_strike | (pl.col("opt") == 0))
    return (
        pl.when(pl.col("exchange").is_null() | pl.col("segment").is_null())
        .then(pl.lit("unreadable"))
        .when(pl.col("id").is_null() | (pl.col("id") <= 0) | (pl.col("id") > 0xFFFF_FFFF))
        .then(pl.lit("unreadable"))
        .when(pl.col("segment_code").is_null())
        .then(pl.lit("no feed code"))
        .when(pl.col("symbol").is_null() | (pl.col("symbol") == ""))
        .then(pl.lit("unreadable"))
        .when(itype.is_null())
        .then(pl.lit("unknown instrument"))
        .when(pl.col("upper").str.contains(TEST_SCRIP, literal=True))
        .then(pl.lit("test scrip"))
        .when(bad_option)
        .then(pl.lit("option without strike or type"))
        .when((itype >= _DERIVATIVE) & (pl.col("expiry") == 0))
        .then(pl.lit("derivative without expiry"))
    )


def _refuse_bad(rows: pl.DataFrame, name: str, rows_in_use: int) -> None:
    problems = []
    keyed = rows.select("segment_code", "id", "place").drop_nulls()
    key = keyed.select(pl.col("segment_code").cast(pl.Int64) * 2**32 + pl.col("id")).to_series()
    if key.n_unique() < keyed.height:
        twice = keyed.filter(key.is_duplicated())
        code, number, _ = twice.row(0)
        problems.append(f"{twice.height} rows share a key, first {Segment(code).name}:{number}")
    unreadable = int((rows["reason"] == "unreadable").sum())
    if unreadable > UNREADABLE_REFUSED * rows.height:
        problems.append(f"{unreadable} of {rows.height} rows cannot be read")
    usable = int(rows["reason"].is_null().sum())
    if usable == 0:
        problems.append("no usable row")
    if usable < FEWER_ROWS_REFUSED * rows_in_use:
        problems.append(f"{usable} usable rows, far fewer than the {rows_in_use} in use")
    if problems:
        raise MasterRefused(f"{name}: {'; '.join(problems)}", problems=problems)


def _rows_in_use(snapshot: Path | None) -> int:
    if snapshot is None or not snapshot.exists():
        return 0
    try:
        return int(map_columns(snapshot).meta["in_use"])
    except MasterRefused:
        return 0  # what is in use cannot be read: nothing to compare with


def _segment_name() -> pl.Expr:
    names = {int(segment): segment.name for segment in Segment}
    return pl.col("segment_code").replace_strict(names, default=None, return_dtype=pl.String)


def _counts(rows: pl.DataFrame, by: pl.Expr) -> dict[str, int]:
    counted = rows.group_by(by.alias("by")).len().sort("len", descending=True)
    return {str(key): int(count) for key, count in counted.iter_rows()}


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in the snapshot's order: by symbol, instrument, exchange, expiry, strike, call before put.

    The order is that of two packed integers. Where one token would name several rows, the plain share comes first,
    then the lowest id.
    """
    is_option, is_derivative = pl.col("itype") >= _OPTION, pl.col("itype") >= _DERIVATIVE
    is_main = ((pl.col("series") == "EQ") | (pl.col("type") == "ES")).fill_null(False)
    uppers = rows["upper"].unique().sort()
    number = pl.col("id").cast(pl.UInt64)
    coded = rows.select(
        "symbol",
        "upper",
        "name",
        "itype",
        "exch",
        "lot",
        "tick",
        "type",
        "series",
        "low_limit",
        "high_limit",
        "freeze",
        sym=pl.col("upper").cast(pl.Enum(uppers)).to_physical().cast(pl.UInt64),
        strike=pl.when(is_option).then(pl.col("strike")),
        expiry=pl.when(is_derivative).then(pl.col("expiry")).otherwise(0),
        opt=pl.when(is_option).then(pl.col("opt")).otherwise(0),
        key=pl.col("segment_code").cast(pl.UInt64) * 2**32 + number,
        rest=pl.when(is_derivative).then(0).otherwise((~is_main).cast(pl.UInt64) * 2**32 + number),
    ).with_columns(
        run=((pl.col("sym") * 16 + pl.col("itype")) * 4 + pl.col("exch")) * 2**20 + pl.col("expiry").cast(pl.UInt64),
        rung=(pl.col("strike") * 10_000).round().cast(pl.UInt64).fill_null(0) * 4 + pl.col("opt"),
    )
    order = np.lexsort(tuple(coded[name].to_numpy() for name in ("rest", "rung", "run")))
    return coded[order]


def _twins(rows: pl.DataFrame) -> npt.NDArray[np.uint8]:
    """Marks rows whose name an earlier exchange has as well."""
    # Kind, not instrument, makes the name; both follow from each other within futures and within options.
    kind = pl.col("itype").replace_strict({int(item): int(first) for item, first in _FIRST_OF_KIND.items()})
    named = rows.select("exch", "rung", name=(pl.col("sym") * 16 + kind) * 2**20 + pl.col("expiry").cast(pl.UInt64))
    found = np.zeros(rows.height, np.uint8)
    for code in range(1, len(EXCHANGES)):
        here = named.with_row_index().filter(pl.col("exch") == code)
        earlier = named.filter(pl.col("exch") < code)
        found[here.join(earlier, on=["name", "rung"], how="semi")["index"].to_numpy()] = 1
    return found


def _one_row_a_name(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Drop all but the first of rows that would get one token: other series of a share, an index listed twice."""
    same = (pl.col("run") == pl.col("run").shift(1)) & (pl.col("rung") == pl.col("rung").shift(1))
    kept = rows.filter(~same.fill_null(False))
    return kept, rows.height - kept.height


def _arrays(rows: pl.DataFrame) -> dict[str, Column]:
    """The columns of the snapshot file; ``docs`` of each are in ``table.py``, their only reader."""
    key = rows["key"].to_numpy()
    order = np.argsort(key, kind="stable").astype(np.uint32)
    names = rows["name"].fill_null("")
    run = rows["run"].to_numpy()
    groups = np.flatnonzero(np.concatenate(([True], run[1:] != run[:-1], [True])))
    symbols = symbol_columns(rows)
    return {
        "key_sorted": key[order],
        "key_row": order,
        "key": key,
        "itype": rows["itype"].to_numpy(),
        "exch": rows["exch"].to_numpy(),
        "opt": rows["opt"].to_numpy(),
        "twin": _twins(rows),
        "expiry": rows["expiry"].to_numpy().astype(np.int32),
        "strike": rows["strike"].fill_null(float("nan")).to_numpy(),
        "lot": rows["lot"].to_numpy(),
        "tick": rows["tick"].to_numpy(),
        **_trading_limits(rows),
        "name_start": _starts(names.str.len_bytes().to_numpy()),
        "names": np.frombuffer(names.str.join("").item().encode(), np.uint8),
        "group_start": groups.astype(np.uint32),
        "sym_group": np.searchsorted(groups, symbols["sym_start"]).astype(np.uint32),
        **symbols,
    }


def _trading_limits(rows: pl.DataFrame) -> dict[str, Column]:
    """Circuit prices count only as a pair that can be meant: 0 says none, and the file has had corrupt ones."""
    low, high = pl.col("low_limit"), pl.col("high_limit")
    is_meant = (low > 0.0) & (low < high) & high.is_finite()
    told = rows.select(
        low_limit=pl.when(is_meant).then(low).fill_null(float("nan")),
        high_limit=pl.when(is_meant).then(high).fill_null(float("nan")),
        freeze=pl.when(pl.col("freeze") > 0).then(pl.col("freeze")).fill_null(0),
    )
    return {name: told[name].to_numpy() for name in told.columns}


def _starts(lengths: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return np.concatenate((np.zeros(1, np.uint32), np.cumsum(lengths, dtype=np.uint32)))


def main(arguments: list[str]) -> int:
    """The program: 0, or 2 with the reason on stderr."""
    if len(arguments) not in (2, 3):
        sys.stderr.write("usage: scrip_csv SOURCE OUT [SNAPSHOT_IN_USE]\n")
        return 2
    source, out, *in_use = map(Path, arguments)
    try:
        build_snapshot(source, out, in_use[0] if in_use else None)
    except MasterRefused as error:
        sys.stderr.write(f"{error.detail}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
