"""The generated master: what the contract says of it, on the day of the user's examples and on others."""

from __future__ import annotations

import csv
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Segment
from app.market.instrument_master.registry import InstrumentRegistry
from app.sim.listings import commodity_futures, commodity_options, last_weekday, monthlies, quarterlies
from app.sim.master import HEADER, ROWS, contract_id, write_master
from app.sim.underlyings import COMMODITIES, INDICES, THURSDAY, TUESDAY, reference_prices, stocks
from tests.masters import ROOT, registry_of

DAY = date(2026, 2, 3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def source(directory: Path) -> Path:
    path = directory / "generated.csv"
    assert write_master(path, DAY, 1) == ROWS
    return path


@pytest.fixture(scope="module")
def registry(source: Path, directory: Path) -> InstrumentRegistry:
    return registry_of(source, DAY, directory)


def test_is_a_master_in_the_detailed_layout(source: Path) -> None:
    with source.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert ",".join(header) == HEADER
    assert header[-1] == ""  # the trailing comma of the real file
    assert len(rows) == ROWS == 289_000
    assert {len(row) for row in rows} == {len(header)}
    keys = [(row[0], row[1], row[2]) for row in rows]
    assert len(set(keys)) == len(keys)


def test_every_row_is_in_use_or_has_a_reason(registry: InstrumentRegistry) -> None:
    report = registry.report
    assert report is not None
    assert report.rows == report.in_use + sum(report.left_out.values())
    assert set(report.left_out) == {"no feed code", "test scrip", "expired", "name taken by another series"}
    assert report.left_out["no feed code"] == 42_000
    assert report.left_out["expired"] > 10_000
    assert set(report.by_segment) == {segment.name for segment in Segment}


@pytest.mark.parametrize(
    "token",
    [
        "RELIANCE_26FEB2026_2640CE",
        "RELIANCE_26MAR2026_2640PE",
        "RELIANCE_24FEB2026_2640CE",
        "GOLD_05FEB2026_FUT",
        "SENSEX_26FEB2026_82000CE",
        "BANKEX_26MAR2026_64000PE",
        "NIFTY_24FEB2026_25000CE",
        "ONGC_24FEB2026_238.75PE",
        "RELIANCE_EQ",
        "BSE:RELIANCE_EQ",
        "NIFTY_IDX",
    ],
)
def test_the_examples_exist(registry: InstrumentRegistry, token: str) -> None:
    assert registry.by_token(token).token == token


def test_ids_are_the_real_ones_where_known_and_collide_across_segments(registry: InstrumentRegistry) -> None:
    known = {
        InstrumentKey(Segment.IDX_I, 13): "NIFTY_IDX",
        InstrumentKey(Segment.NSE_EQ, 13): "ABB_EQ",
        InstrumentKey(Segment.IDX_I, 25): "BANKNIFTY_IDX",
        InstrumentKey(Segment.NSE_EQ, 25): "ADANIENT_EQ",
        InstrumentKey(Segment.NSE_EQ, 2885): "RELIANCE_EQ",
        InstrumentKey(Segment.IDX_I, 51): "SENSEX_IDX",
    }
    assert {key: found.token for key in known if (found := registry.get(key))} == known
    ladders = {
        exchange: registry.ladder("RELIANCE", day) for exchange, day in (("NSE", "24FEB2026"), ("BSE", "26FEB2026"))
    }
    ids = [{key.security_id for key in ladder.ce if key} for ladder in ladders.values()]
    assert ids[0] & ids[1], "the twins of one week share ids, each in its own segment"


def test_reliance_stands_near_2640_on_both_exchanges(registry: InstrumentRegistry) -> None:
    for expiry, exchange in (("24FEB2026", Exchange.NSE), ("26FEB2026", Exchange.BSE)):
        ladder = registry.ladder("RELIANCE", expiry)
        place = ladder.strikes.index(2640.0)
        assert ladder.exchange is exchange
        assert ladder.step == 20.0
        assert min(place, len(ladder.strikes) - 1 - place) >= 25
        assert None not in ladder.ce + ladder.pe
    assert reference_prices()["RELIANCE"] == 2640


def test_stocks_have_three_monthlies_and_twins(registry: InstrumentRegistry) -> None:
    symbols = registry.fo_stocks()
    assert 205 <= len(symbols) <= 210
    for symbol in symbols:
        nse, bse = registry.expiries(symbol, "NSE"), registry.expiries(symbol, "BSE")
        assert [day.weekday() for day in nse + bse] == [TUESDAY] * 3 + [THURSDAY] * 3
        assert len(registry.futures(symbol)) == 3
        assert registry.cash(symbol) is not None
        # A step of its own size up and down from the price, as many as a stock chain shows.
        assert len(registry.ladder(symbol, nse[0]).strikes) >= 25


def test_some_steps_are_mixed_or_fractional(registry: InstrumentRegistry) -> None:
    ladders = [registry.ladder(symbol, registry.expiries(symbol)[0]) for symbol in registry.fo_stocks()]
    assert sum(not ladder.regular for ladder in ladders) > 100
    assert sum(any(strike % 1 in (0.25, 0.75) for strike in ladder.strikes) for ladder in ladders) >= 5
    assert sum(None in ladder.ce + ladder.pe for ladder in ladders) >= 5


def test_index_chains_are_deep_enough(registry: InstrumentRegistry) -> None:
    for spec in INDICES:
        for expiry in registry.expiries(spec.symbol):
            ladder = registry.ladder(spec.symbol, expiry)
            assert len(ladder.strikes) >= 101
            assert None not in ladder.ce + ladder.pe
        assert registry.spot_of(spec.symbol, None) is not None


def test_commodities_settle_into_futures_that_expire_later(registry: InstrumentRegistry) -> None:
    for spec in COMMODITIES:
        assert registry.futures(spec.symbol)[0].key.segment is Segment.MCX_COMM
        for expiry in registry.expiries(spec.symbol):
            future = registry.spot_of(spec.symbol, expiry)
            assert future is not None
            assert future.kind is InstrumentKind.FUTURE
            assert future.expiry is not None
            assert expiry <= future.expiry
    for symbol in ("CRUDEOIL", "NATURALGAS"):
        assert len(registry.ladder(symbol, registry.expiries(symbol)[0]).strikes) >= 101


@pytest.mark.slow
def test_same_day_and_seed_same_bytes(source: Path, tmp_path: Path) -> None:
    write_master(tmp_path / "again.csv", DAY, 1)
    write_master(tmp_path / "other.csv", DAY, 2)
    assert (tmp_path / "again.csv").read_bytes() == source.read_bytes()
    assert (tmp_path / "other.csv").read_bytes() != source.read_bytes()


def _contracts(path: Path) -> dict[str, tuple[str, str]]:
    """Id and expiry by what a row is; NSE's commodities have no feed code and do not matter."""
    found = {}
    for line in path.read_text().splitlines()[1:]:
        row = line.split(",")
        if row[:2] != ["NSE", "M"]:
            found[",".join((row[0], row[1], row[8], row[10], row[12]))] = (row[2], row[12])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, 27])
def test_a_contract_keeps_its_id_and_stays_until_it_expires(source: Path, tmp_path: Path, days: int) -> None:
    later = DAY + timedelta(days=days)
    write_master(tmp_path / "later.csv", later, 1)
    before, after = _contracts(source), _contracts(tmp_path / "later.csv")
    due = {name for name, (_, expiry) in before.items() if not expiry or expiry == "0001-01-01" or expiry >= str(later)}
    assert len(due) > 100_000
    assert sorted(due - after.keys())[:3] == []
    assert {name for name in due if before[name] != after[name]} == set()


def test_ids_never_run_into_each_other() -> None:
    with pytest.raises(AssertionError, match="share an id"):
        contract_id(1, DAY, 1024, 0)
    assert contract_id(1, DAY, 1023, 1) + 1 < contract_id(1, DAY + timedelta(weeks=1), 0, 0) + 1
    assert contract_id(255, DAY, 1023, 1) < 2**32


def test_expiry_rules() -> None:
    assert last_weekday(2026, 2, THURSDAY) == date(2026, 2, 26)
    assert last_weekday(2026, 12, TUESDAY) == date(2026, 12, 29)
    assert monthlies(date(2026, 2, 26), THURSDAY)[0] == date(2026, 2, 26)
    assert monthlies(date(2026, 2, 27), THURSDAY)[0] == date(2026, 3, 26)
    assert [day.month for day in quarterlies(DAY, TUESDAY)] == [3, 6, 9, 12, 3, 6]
    gold = next(spec for spec in COMMODITIES if spec.symbol == "GOLD")
    assert commodity_futures(gold, DAY)[:2] == [date(2026, 2, 5), date(2026, 4, 3)]  # 5 April is a Sunday
    crude = next(spec for spec in COMMODITIES if spec.symbol == "CRUDEOIL")
    assert (commodity_options(crude, DAY)[0], commodity_futures(crude, DAY)[0]) == (
        date(2026, 2, 17),
        date(2026, 2, 19),
    )


def test_names_and_prices_make_sense() -> None:
    found = stocks()
    assert len({stock.symbol for stock in found}) == len(found)
    assert len({stock.nse_id for stock in found}) == len(found)
    assert len({stock.bse_id for stock in found}) == len(found)
    assert all(0 < stock.step < stock.price for stock in found)
    prices = reference_prices()
    assert prices["NIFTY NEXT 50"] == prices["NIFTYNXT50"]


def test_runs_as_a_program(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "app.sim.master"]
    done = subprocess.run([*run, str(tmp_path / "a.csv"), "2026-02-03", "x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage")
    assert list(tmp_path.iterdir()) == []
