"""Free-text search: what people type, and what they meant."""

from __future__ import annotations

from datetime import date

import pytest

from app.core.ids import OptionType
from app.market.instrument_master.query import read_contract
from app.market.instrument_master.registry import InstrumentRegistry
from tests.masters import small_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> InstrumentRegistry:
    return small_registry(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize(
    ("q", "symbol", "match"),
    [
        ("RELIANCE", "RELIANCE", "exact"),
        ("nifty 50", "NIFTY", "exact"),
        ("REL", "RELIANCE", "prefix"),
        ("state bank", "SBIN", "name"),
        ("infosys", "INFY", "name"),
        ("mahindra", "M&M", "name"),
        ("relaince", "RELIANCE", "typo"),
        ("RELINCE", "RELIANCE", "typo"),
        ("hdfcbnk", "HDFCBANK", "typo"),
        ("nfity", "NIFTY", "typo"),
        ("bajaj auto", "BAJAJ-AUTO", "exact"),
    ],
)
def test_finds_symbols(registry: InstrumentRegistry, q: str, symbol: str, match: str) -> None:
    first = registry.search(q)[0]
    assert (first.symbol, first.match, first.token) == (symbol, match, None)


@pytest.mark.parametrize(
    ("q", "tokens"),
    [
        ("nifty 25000 ce", ["NIFTY_03FEB2026_25000CE", "NIFTY_24FEB2026_25000CE"]),
        ("nifty 50 25000 put", ["NIFTY_03FEB2026_25000PE", "NIFTY_24FEB2026_25000PE"]),
        ("nifty 24 feb 25000 ce", ["NIFTY_24FEB2026_25000CE"]),
        ("NIFTY jun 25500", ["NIFTY_30JUN2026_25500CE", "NIFTY_30JUN2026_25500PE"]),
        ("reliance 26feb2026 2640 pe", ["RELIANCE_26FEB2026_2640PE"]),
        ("reliance 2640pe", ["RELIANCE_24FEB2026_2640PE"]),
        ("RELIANCE_26FEB2026_2640CE", ["RELIANCE_26FEB2026_2640CE"]),
        ("ongc 238.75", ["ONGC_24FEB2026_238.75PE"]),
        ("gold fut", ["GOLD_05FEB2026_FUT", "GOLD_03APR2026_FUT"]),
        ("gold apr fut", ["GOLD_03APR2026_FUT"]),
        ("gold april future", ["GOLD_03APR2026_FUT"]),
        ("relaince feb fut", ["RELIANCE_24FEB2026_FUT"]),
        ("nfity 24feb2026 25000 ce", ["NIFTY_24FEB2026_25000CE"]),
        ("reliance industries 2640 ce", ["RELIANCE_24FEB2026_2640CE"]),
    ],
)
def test_finds_contracts(registry: InstrumentRegistry, q: str, tokens: list[str]) -> None:
    hits = registry.search(q)
    assert [hit.token for hit in hits] == tokens
    assert {hit.match for hit in hits} == {"contract"}


def test_an_expiry_without_a_strike_is_a_chain(registry: InstrumentRegistry) -> None:
    hit = registry.search("reliance 26feb2026")[0]
    assert (hit.symbol, hit.token, hit.expiry, hit.match) == ("RELIANCE", None, date(2026, 2, 26), "contract")


def test_a_contract_that_is_not_listed_leaves_the_symbol(registry: InstrumentRegistry) -> None:
    hits = registry.search("nifty 99999 ce")
    assert [(hit.symbol, hit.match, hit.token) for hit in hits] == [("NIFTY", "exact", None)]


def test_says_what_a_hit_is(registry: InstrumentRegistry) -> None:
    hit = registry.search("RELIANCE")[0]
    assert (hit.count, hit.f_o_eligible, hit.name) == (23, True, "Reliance Industries")
    assert not registry.search("INFY")[0].f_o_eligible


def test_what_has_derivatives_comes_first(registry: InstrumentRegistry) -> None:
    assert [hit.symbol for hit in registry.search("NIFTY")][:2] == ["NIFTY", "NIFTYNXT50"]
    assert registry.search("N")[0].symbol == "NIFTY"


@pytest.mark.parametrize("q", ["", "   ", "zzzzqqqq", "💥", "_", "'; drop table", "ce", "26feb2026", "9" * 500])
def test_nonsense_finds_nothing_and_breaks_nothing(registry: InstrumentRegistry, q: str) -> None:
    assert registry.search(q) == []


def test_limits_hold(registry: InstrumentRegistry) -> None:
    assert len(registry.search("NIFTY 25000", limit=1)) == 1
    assert len(registry.search("N", limit=2)) == 2
    assert registry.search("N", limit=0) == []


def test_test_scrips_and_expired_rows_are_not_found(registry: InstrumentRegistry) -> None:
    assert registry.search("011NSETEST") == []
    assert [hit.token for hit in registry.search("usdinr 87.5")] == [None]


@pytest.mark.parametrize(
    ("words", "day", "month", "year"),
    [
        ("26FEB2026", 26, 2, 2026),
        ("2026-02-26", 26, 2, 2026),
        ("26 FEB", 26, 2, None),
        ("26FEB", 26, 2, None),
        ("FEB", None, 2, None),
        ("FEB26", None, 2, 26),
        ("SEPT", None, 9, None),
        ("DECEMBER 2026 25000", None, 12, 2026),
        ("MARUTI", None, None, None),
        ("MAYBE", None, None, None),
    ],
)
def test_reads_expiries_as_people_write_them(words: str, day: int | None, month: int | None, year: int | None) -> None:
    contract = read_contract(words.split())
    assert (contract.day, contract.month, contract.year) == (day, month, year)


def test_reads_a_whole_contract() -> None:
    contract = read_contract(["HDFC", "26", "FEB", "2640.5", "CALL"])
    assert (contract.strike, contract.option_type, contract.rest) == (2640.5, OptionType.CE, ["HDFC"])
    assert contract.allows(date(2026, 2, 26))
    assert not contract.allows(date(2026, 2, 24))
    assert not contract.allows(date(2026, 3, 26))
