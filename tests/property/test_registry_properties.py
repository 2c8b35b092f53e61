"""Names and lookups agree, whatever is listed: every row in use can be found by key, token and chain, and is unique."""

from __future__ import annotations

import itertools
import tempfile
from datetime import date
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import MasterRefused
from app.core.ids import Exchange, InstrumentKind, OptionType, format_expiry, format_strike
from app.market.instrument_master.ladder import strike_step
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.instrument_master.scrip_csv import build_snapshot
from app.market.instrument_master.tokens import TokenParts, parse_token
from app.sim.master import HEADER
from tests.masters import SMALL

DAY = date(2026, 2, 3)
TAIL = "N,N,N,NA,A,0,0,0,0,0,0,0,0,0,0,"

symbols = st.sampled_from(["NIFTY", "M&M", "BAJAJ-AUTO", "GOLD", "NIFTY NEXT 50", "360ONE", "A", "Nifty IPO", "BSE"])
expiries = st.dates(date(2026, 1, 20), date(2026, 4, 30))
strikes = st.integers(1, 4_000_000).map(lambda units: units * 0.25)
venues = st.sampled_from([("NSE", "D", "STK"), ("BSE", "D", "STK"), ("MCX", "M", "FUT")])
# No symbol is a share's and a currency's at once: their tokens would be the same.
underlyings = st.one_of(st.tuples(symbols, venues), st.tuples(st.just("USDINR"), st.just(("NSE", "C", "CUR"))))
options = st.builds(
    lambda of, expiry, strike, side: ("OPT", *of, expiry, strike, side),
    underlyings,
    expiries,
    strikes,
    st.sampled_from(["CE", "PE"]),
)
futures = st.builds(lambda of, expiry: ("FUT", *of, expiry, -0.01, "XX"), underlyings, expiries)
spots = st.tuples(
    st.just("SPOT"),
    symbols,
    st.sampled_from([("NSE", "I", ""), ("NSE", "E", ""), ("BSE", "E", "")]),
    st.none(),
    st.none(),
    st.just(""),
)
Row = tuple[str, str, tuple[str, str, str], date | None, float | None, str]


def line(number: int, row: Row) -> str:
    what, symbol, (exchange, segment, tail), expiry, strike, option = row
    instrument = {"I": "INDEX", "E": "EQUITY"}.get(segment, f"{what}{tail}")
    if what == "FUT" and tail == "FUT":
        instrument = "FUTCOM"
    return (
        f"{exchange},{segment},{number},NA,{instrument},1,{symbol},X,{symbol} {number},X,NA,25.0,"
        f"{expiry or ''},{'' if strike is None else f'{strike:.5f}'},{option},5.0000,M,{TAIL}"
    )


def registry_of(rows: list[Row], directory: Path) -> InstrumentRegistry:
    source, out = directory / "m.csv", directory / "m.snapshot"
    source.write_text("\n".join([HEADER, *(line(1 + n, row) for n, row in enumerate(rows)), ""]))
    build_snapshot(source, out)
    registry = InstrumentRegistry(lambda: DAY)
    registry.load(out)
    return registry


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(options, futures, spots), min_size=1, max_size=60))
def test_every_row_in_use_is_found_by_each_of_its_names(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        registry = registry_of(rows, Path(directory))
    report = registry.report
    assert report is not None
    assert report.rows == len(rows) == report.in_use + sum(report.left_out.values())
    found = {}
    for symbol in {row[1] for row in rows}:
        if any(row[1] == symbol and (row[3] is None or row[3] >= DAY) for row in rows):
            for instrument in registry.get_by_symbol(symbol):
                assert instrument.token not in found
                found[instrument.token] = instrument
                assert registry.by_token(instrument.token) == instrument
                assert registry.by_token(instrument.token.lower()) == instrument
                assert registry.get(instrument.key) == instrument
    assert len(found) == report.in_use
    alive = {row[1:] for row in rows if row[3] is None or row[3] >= DAY}
    assert len(found) == len({(what, *row) for what, row in ((row[-1] in ("CE", "PE"), row) for row in alive)})


@settings(max_examples=30, deadline=None)
@given(st.lists(options, min_size=1, max_size=60))
def test_a_ladder_holds_exactly_the_options_of_its_chain(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        registry = registry_of(rows, Path(directory))
    for _, symbol, (exchange, _, _), expiry, _, _ in rows:
        if expiry is None or expiry < DAY:
            continue
        chain = {
            (row[4], row[5])
            for row in rows
            if (row[1], row[2][0], row[3]) == (symbol, exchange, expiry) and row[2] == _first_venue(rows, row)
        }
        ladder = registry.ladder(symbol, expiry, exchange)
        sides = {
            (strike, side)
            for side, keys in (("CE", ladder.ce), ("PE", ladder.pe))
            for strike, key in zip(ladder.strikes, keys, strict=True)
            if key is not None
        }
        assert sides <= {(row[4], row[5]) for row in rows if row[1] == symbol and row[3] == expiry}
        assert list(ladder.strikes) == sorted(set(ladder.strikes))
        if len({row[2] for row in rows if row[1] == symbol}) == 1:
            assert sides == chain
        assert expiry in registry.expiries(symbol, exchange)


def _first_venue(rows: list[Row], row: Row) -> tuple[str, str, str]:
    return next(other[2] for other in rows if other[1] == row[1] and other[2][0] == row[2][0])


@given(symbols, st.sampled_from([None, *Exchange]), expiries, strikes, st.sampled_from(list(OptionType)))
def test_tokens_round_trip(
    symbol: str, exchange: Exchange | None, expiry: date, strike: float, option_type: OptionType
) -> None:
    prefix = f"{exchange}:" if exchange else ""
    upper = symbol.upper()
    assert parse_token(f"{prefix}{symbol}_{format_expiry(expiry)}_{format_strike(strike)}{option_type}") == TokenParts(
        upper, InstrumentKind.OPTION, exchange, expiry, strike, option_type
    )
    assert parse_token(f"{prefix}{symbol}_{format_expiry(expiry)}_FUT") == TokenParts(
        upper, InstrumentKind.FUTURE, exchange, expiry
    )
    assert parse_token(f"{prefix}{symbol}_FUT") == TokenParts(upper, InstrumentKind.FUTURE, exchange)
    assert parse_token(f"{prefix}{symbol}_EQ") == TokenParts(upper, InstrumentKind.EQUITY, exchange)


@given(st.text(max_size=60))
def test_only_value_errors_leave_the_token_reader(text: str) -> None:
    try:
        parts = parse_token(text)
    except ValueError:
        return
    assert parts.symbol


@given(
    st.lists(st.integers(1, 10_000), min_size=2, max_size=60, unique=True).map(sorted),
    st.sampled_from([0.25, 1.0, 50.0]),
)
def test_where_a_ladder_is_regular_rounding_finds_listed_strikes(places: list[int], unit: float) -> None:
    listed = tuple(place * unit for place in places)
    step, regular = strike_step(listed, 0.05)
    assert step > 0
    assert step in {high - low for low, high in itertools.pairwise(listed)}
    if regular:
        assert all(round(strike / step) * step in listed for strike in listed)


LINES = SMALL.read_text().splitlines()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray("\n".join(LINES).encode() + b"\n")
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    with tempfile.TemporaryDirectory() as directory:
        source, out = Path(directory) / "m.csv", Path(directory) / "m.snapshot"
        source.write_bytes(raw)
        try:
            meta = build_snapshot(source, out)
        except MasterRefused:
            assert not out.exists()
        else:
            assert meta["rows"] == meta["in_use"] + sum(meta["left_out"].values())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_search_never_breaks(q: str) -> None:
    registry = _shared()
    for hit in registry.search(q, 5):
        assert hit.symbol in registry.symbols()
        assert hit.token is None or registry.by_token(hit.token).symbol == hit.symbol


_kept: list[InstrumentRegistry] = []


def _shared() -> InstrumentRegistry:
    if not _kept:
        with tempfile.TemporaryDirectory() as directory:
            build_snapshot(SMALL, Path(directory) / "s")
            registry = InstrumentRegistry(lambda: DAY)
            registry.load(Path(directory) / "s")
        _kept.append(registry)
    return _kept[0]
