"""The real master of 23 March 2026: every figure of the protocol notes' section 13 that it can show."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import pytest
import zstandard

from app.core.errors import InstrumentUnknown
from app.core.ids import InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.tiers import DEFAULT_FILE, always_on, parse_universe
from tests.masters import REAL, REAL_DAY, registry_of

pytestmark = pytest.mark.skipif(not REAL.exists(), reason=f"../shared/data/{REAL.name} is not here")

INDEX_SYMBOLS = ("NIFTY", "BANKNIFTY", "FINNIFTY", "MIDCPNIFTY", "SENSEX", "BANKEX")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> InstrumentRegistry:
    return registry_of(REAL, REAL_DAY, tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def text() -> str:
    return zstandard.ZstdDecompressor().stream_reader(REAL.read_bytes()).read().decode()


@pytest.fixture(scope="module")
def everything(registry: InstrumentRegistry) -> list[Instrument]:
    found: list[Instrument] = []
    for symbol in registry.symbols():
        try:
            found.extend(registry.get_by_symbol(symbol))
        except InstrumentUnknown:
            continue  # all of it had expired
    return found


def test_rows_by_segment(registry: InstrumentRegistry) -> None:
    report = registry.report
    assert report is not None
    assert report.rows == 279_014
    assert dict(report.file_rows) == {
        "NSE_FNO": 105_922,
        "BSE_FNO": 48_379,
        "NSE/M": 42_278,
        "MCX_COMM": 35_421,
        "BSE_EQ": 13_372,
        "BSE_CURRENCY": 12_733,
        "NSE_CURRENCY": 11_429,
        "NSE_EQ": 9_286,
        "IDX_I": 194,
    }


def test_what_is_left_out_and_why(registry: InstrumentRegistry) -> None:
    report = registry.report
    assert report is not None
    assert dict(report.left_out) == {
        "no feed code": 42_278,
        "expired": 22_359,
        "test scrip": 18 + 22 + 1,  # NSE futures, test equities, and a currency future that the notes do not count
        "name taken by another series": 10,
    }
    assert report.in_use == report.rows - sum(report.left_out.values()) == sum(report.by_segment.values())


def test_every_token_is_unique_and_leads_back(registry: InstrumentRegistry, everything: list[Instrument]) -> None:
    report = registry.report
    assert report is not None
    assert len(everything) == report.in_use
    assert len({instrument.token for instrument in everything}) == len(everything)
    assert len({instrument.token.upper() for instrument in everything}) == len(everything)
    assert len({instrument.key for instrument in everything}) == len(everything)
    for instrument in everything[::7]:
        assert registry.by_token(instrument.token) == instrument
        assert registry.get(instrument.key) == instrument


def test_ids_repeat_across_segments_but_not_with_exchange_and_segment(text: str) -> None:
    rows = [line.split(",", 3)[:3] for line in text.splitlines()[1:]]
    assert len({tuple(row) for row in rows}) == len(rows)
    segments = defaultdict(set)
    for exchange, segment, number in rows:
        segments[int(number)].add((exchange, segment))
    assert sum(len(places) > 1 for places in segments.values()) == 33_879
    assert max(segments) == 2_179_738


def test_underlyings_are_found_by_symbol_where_the_id_misleads(registry: InstrumentRegistry, text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(text)))
    claimed = {
        row["UNDERLYING_SYMBOL"]: int(row["UNDERLYING_SECURITY_ID"]) for row in rows if row["INSTRUMENT"] == "OPTIDX"
    }
    assert {symbol: claimed[symbol] for symbol in INDEX_SYMBOLS} == {
        "NIFTY": 26000,
        "BANKNIFTY": 26009,
        "FINNIFTY": 26037,
        "MIDCPNIFTY": 26074,
        "SENSEX": 1,
        "BANKEX": 12,
    }
    found = {symbol: registry.spot_of(symbol, registry.expiries(symbol)[0]) for symbol in INDEX_SYMBOLS}
    assert {symbol: spot.key for symbol, spot in found.items() if spot} == {
        symbol: InstrumentKey(Segment.IDX_I, number)
        for symbol, number in zip(INDEX_SYMBOLS, (13, 25, 27, 442, 51, 69), strict=True)
    }
    wrong = {symbol: registry.get(InstrumentKey(Segment.IDX_I, claimed[symbol])) for symbol in ("SENSEX", "BANKEX")}
    assert all(index is not None and index.symbol != symbol for symbol, index in wrong.items())


def test_every_chain_has_an_underlying(registry: InstrumentRegistry) -> None:
    for symbol in registry.option_symbols():
        for expiry in registry.expiries(symbol):
            spot = registry.spot_of(symbol, expiry)
            assert spot is not None, f"{symbol} {expiry}"
            if spot.kind is InstrumentKind.FUTURE:
                assert spot.expiry is not None
                assert spot.expiry >= expiry
    gold = registry.spot_of("GOLD", date(2026, 4, 30))
    assert gold is not None
    assert gold.token == "GOLD_05JUN2026_FUT"


def test_flags_are_not_to_be_relied_on(text: str) -> None:
    rows = csv.DictReader(io.StringIO(text))
    flags = Counter(
        row["EXPIRY_FLAG"]
        for row in rows
        if (row["INSTRUMENT"], row["UNDERLYING_SYMBOL"], row["SM_EXPIRY_DATE"]) == ("OPTIDX", "SENSEX", "2026-03-25")
    )
    assert flags == {"Q": 404, "M": 202}


def test_listed_expiries(registry: InstrumentRegistry) -> None:
    counts = {symbol: len(registry.expiries(symbol)) for symbol in INDEX_SYMBOLS}
    assert counts == {"NIFTY": 18, "BANKNIFTY": 6, "FINNIFTY": 3, "MIDCPNIFTY": 3, "SENSEX": 19, "BANKEX": 3}
    nifty = registry.expiries("NIFTY")
    assert nifty[-1].year == 2030
    for expiry in nifty[7:]:
        ladder = registry.ladder("NIFTY", expiry)
        assert 33 <= len(ladder.strikes) <= 46
        gaps = {high - low for low, high in zip(ladder.strikes, ladder.strikes[1:], strict=False)}
        assert gaps <= {500.0, 1000.0, 1500.0}
    assert [day.weekday() for day in nifty if day in (date(2026, 3, 30), date(2026, 4, 13))] == [0, 0]
    assert registry.expiries("SENSEX")[0] == date(2026, 3, 25)


def test_strike_steps_are_mixed(registry: InstrumentRegistry) -> None:
    def gaps(symbol: str, expiry: date) -> set[float]:
        strikes = registry.ladder(symbol, expiry).strikes
        return {round(high - low, 4) for low, high in itertools.pairwise(strikes)}

    assert gaps("NIFTY", date(2026, 3, 30)) == {1000.0, 750.0, 50.0, 400.0}
    assert registry.get_strike_step("NIFTY", "30MAR2026") == 50.0
    assert gaps("MIDCPNIFTY", date(2026, 3, 30)) == {100.0, 75.0, 25.0}
    chains = [(symbol, expiry) for symbol in registry.fo_stocks() for expiry in registry.expiries(symbol)]
    assert len(chains) == 612
    assert sum(len(gaps(symbol, expiry)) > 1 for symbol, expiry in chains) == 608
    ongc = registry.ladder("ONGC", "30MAR2026")
    assert sum(key is None for key in ongc.ce + ongc.pe) == 33
    assert registry.by_token("ONGC_30MAR2026_238.75PE").strike == 238.75


def test_fractional_strikes(registry: InstrumentRegistry) -> None:
    names = set()
    for symbol in registry.fo_stocks():
        for expiry in registry.expiries(symbol):
            if any(strike % 1 in (0.5, 0.75) for strike in registry.ladder(symbol, expiry).strikes):
                names.add(symbol)
    assert len(names) == 28


def test_names(text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(text)))
    shown = Counter((row["EXCH_ID"], row["SEGMENT"], row["DISPLAY_NAME"]) for row in rows if row["SEGMENT"] == "D")
    assert max(shown.values()) == 1
    assert sum(row["SYMBOL_NAME"] == "NIFTY-Apr2026-24000-CE" for row in rows) == 4
    assert sum(row["SYMBOL_NAME"] == "BSXOPT" for row in rows) == 5_012


def test_sentinels_and_units(registry: InstrumentRegistry) -> None:
    for token, tick in {"NIFTY_FUT": 0.1, "SENSEX_FUT": 0.05, "GOLD_FUT": 1.0, "USDINR_FUT": 0.0025}.items():
        future = registry.by_token(token)
        assert (future.strike, future.option_type, future.tick) == (None, None, tick)
    assert registry.by_token("NIFTY_IDX").tick == 0.05
    assert registry.by_token("RELIANCE_25MAR2026_1400CE").key.segment is Segment.BSE_FNO
    assert registry.by_token("BSE:RELIANCE_EQ").key == InstrumentKey(Segment.BSE_EQ, 500325)
    assert not any("NSETEST" in symbol for symbol in registry.fo_stocks())
    assert len(registry.fo_stocks()) == 206


def test_takes_what_is_listed_of_the_always_on_universe_and_names_the_rest(registry: InstrumentRegistry) -> None:
    found = always_on(parse_universe(DEFAULT_FILE.read_text()), registry, REAL_DAY)
    chains = Counter(chain.symbol for chain in found.chains)
    assert chains["NIFTY"] == 6 + 4
    assert chains["SENSEX"] == 4 + 4
    assert chains["BANKNIFTY"] == 1 + 3
    assert chains["FINNIFTY"] == chains["MIDCPNIFTY"] == chains["BANKEX"] == 1
    assert "NIFTY weekly 8 of 8: no such expiry is listed" in found.missing
    assert "BANKNIFTY quarterly 4 of 4: no such expiry is listed" in found.missing
    assert "NIFTY 30JUN2026: 84 of 202 legs, 45 of 101 strikes are listed" in found.missing
    assert {f"{symbol}_EQ" for symbol in registry.fo_stocks()} <= {driver.token for driver in found.drivers}
    assert 4_000 < found.total < 8_250
    assert found.total < found.asked


@pytest.mark.parametrize(
    ("q", "first"),
    [
        ("nifty 25000 ce", "NIFTY_24MAR2026_25000CE"),
        ("banknifty apr fut", "BANKNIFTY_28APR2026_FUT"),
        ("reliance 30mar2026 1400 pe", "RELIANCE_30MAR2026_1400PE"),
        ("crudeoil fut", "CRUDEOIL_20APR2026_FUT"),
    ],
)
def test_search_finds_contracts(registry: InstrumentRegistry, q: str, first: str) -> None:
    assert registry.search(q)[0].token == first


@pytest.mark.parametrize(
    ("q", "symbol"),
    [
        ("REL", "RELIANCE"),
        ("relaince", "RELIANCE"),
        ("state bank", "SBIN"),
        ("bank nifty", "BANKNIFTY"),
        ("nfity", "NIFTY"),
    ],
)
def test_search_finds_symbols(registry: InstrumentRegistry, q: str, symbol: str) -> None:
    assert registry.search(q)[0].symbol == symbol


def test_the_newer_layout_reads_too(tmp_path: Path) -> None:
    sample = REAL.with_name("real-rows-new-header.2026-08-26_2026-09-14.txt").read_text()
    blocks: list[list[str]] = []
    for line in sample.splitlines():
        if line.startswith("EXCH_ID"):
            blocks.append([line])
        elif line and not line.startswith("#"):
            blocks[-1].append(line)
    counts = []
    for number, block in enumerate(blocks):
        source = tmp_path / f"block{number}.csv"
        source.write_text("\n".join(block) + "\n")
        report = registry_of(source, date(2026, 8, 26), tmp_path).report
        assert report is not None
        counts.append((report.rows, report.in_use, dict(report.left_out)))
    assert counts == [(1, 1, {}), (9, 8, {"expired": 1})]
