"""The always-on universe: what the rule asks for, on 800 dates of the generated exchange (contract, 5.1)."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from app.core.ids import format_expiry
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.tiers import (
    DEFAULT_FILE,
    AlwaysOn,
    ChainRule,
    FutureRule,
    Universe,
    UniverseInvalid,
    always_on,
    choose_expiries,
    monthly_expiries,
    parse_universe,
)
from app.sim.listings import commodity_futures, commodity_options, option_expiries
from app.sim.master import write_master
from app.sim.underlyings import COMMODITIES, INDICES, stocks
from tests.masters import registry_of, small_registry

DEFAULT = parse_universe(DEFAULT_FILE.read_text())
FIRST = date(2025, 9, 1)


def days(*texts: str) -> list[date]:
    return [date.fromisoformat(text) for text in texts]


def counted(day: date) -> int:
    """Size of the default universe by the generator's pure functions alone."""
    legs = 0
    for rule in DEFAULT.chains:
        chosen, missing = choose_expiries(rule, option_expiries(rule.symbol, day))
        assert missing == [], f"{rule.symbol} on {day}: {missing}"
        legs += 2 * rule.strikes * len(chosen)
    wanted = {rule.symbol for rule in DEFAULT.futures}
    futures = sum(len(commodity_futures(spec, day)) for spec in COMMODITIES if spec.symbol in wanted)
    near_futures = sum(spec.symbol in wanted for spec in INDICES)
    return legs + futures + near_futures + len(INDICES) + len(stocks())


def test_the_total_is_in_its_band_on_800_dates() -> None:
    totals = {FIRST + timedelta(days=offset): 0 for offset in range(800)}
    for day in totals:
        totals[day] = counted(day)
    assert {day: total for day, total in totals.items() if not 8250 <= total <= 8750} == {}
    assert len(set(totals.values())) > 1, "the calendar does move it"


def test_options_always_settle_into_a_listed_future() -> None:
    for offset in range(800):
        day = FIRST + timedelta(days=offset)
        for spec in COMMODITIES:
            futures, options = commodity_futures(spec, day), commodity_options(spec, day)
            assert all(any(future >= option for future in futures) for option in options)
            assert not spec.option_expiries or len(options) >= 2


# The user's day, an expiry day, the day after a month end, a year's end, a leap day.
@pytest.mark.slow
@pytest.mark.parametrize("text", ["2026-02-03", "2026-02-26", "2026-12-30", "2027-12-31", "2028-02-29"])
def test_the_universe_of_a_whole_master_is_the_one_counted(tmp_path: Path, text: str) -> None:
    day = date.fromisoformat(text)
    write_master(tmp_path / "generated.csv", day, 1)
    registry = registry_of(tmp_path / "generated.csv", day, tmp_path)
    found = always_on(DEFAULT, registry, day)
    assert found.missing == ()
    assert found.total == found.asked == counted(day)
    assert 8250 <= found.total <= 8750
    drivers = {instrument.token for instrument in found.drivers}
    assert {"NIFTY_IDX", "SENSEX_IDX", "BANKEX_IDX", "RELIANCE_EQ", "M&M_EQ"} <= drivers
    for chain in found.chains:
        spot = registry.spot_of(chain.symbol, chain.expiry)
        assert spot is not None
        assert spot.key in found.singles, f"{chain.symbol} has no always-on spot"
    for symbol in registry.fo_stocks():
        assert f"{symbol}_EQ" in drivers


def test_takes_each_expiry_once_in_the_order_of_the_rule() -> None:
    listed = days("2026-03-05", "2026-03-12", "2026-03-19", "2026-03-26", "2026-04-02", "2026-04-30", "2026-05-28")
    listed += days("2026-06-25", "2026-09-24", "2026-12-31", "2027-03-25")
    chosen, missing = choose_expiries(ChainRule("SENSEX", weekly=4, monthly=1, quarterly=4), listed)
    assert missing == []
    assert Counter(chosen.values()) == {"weekly": 4, "quarterly": 4}  # the monthly is the fourth weekly
    assert chosen[date(2026, 3, 26)] == "weekly"  # and so is no quarterly
    assert list(chosen)[-1] == date(2027, 3, 25)
    shorter, _ = choose_expiries(ChainRule("SENSEX", weekly=3, monthly=1, quarterly=4), listed)
    assert shorter[date(2026, 3, 26)] == "monthly"
    assert Counter(shorter.values()) == {"weekly": 3, "monthly": 1, "quarterly": 4}


def test_classifies_by_dates_with_holidays() -> None:
    listed = days("2026-03-24", "2026-03-30", "2026-04-07", "2026-04-13", "2026-04-21", "2026-04-28", "2026-05-26")
    assert monthly_expiries(listed) == days("2026-03-30", "2026-04-28", "2026-05-26")
    chosen, missing = choose_expiries(ChainRule("NIFTY", weekly=8), listed)
    assert list(chosen) == listed[:6]
    assert missing == ["weekly 7 of 8", "weekly 8 of 8"]


def test_nothing_listed_is_all_missing() -> None:
    chosen, missing = choose_expiries(ChainRule("X", weekly=1, monthly=1, quarterly=1, nearest=2), [])
    assert chosen == {}
    assert missing == ["nearest 1 of 2", "nearest 2 of 2", "weekly 1 of 1", "monthly 1 of 1", "quarterly 1 of 1"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> InstrumentRegistry:
    return small_registry(tmp_path_factory.mktemp("small"))


def of_small(text: str, registry: InstrumentRegistry) -> AlwaysOn:
    return always_on(parse_universe(text), registry, date(2026, 2, 3))


def test_names_what_is_not_listed(small: InstrumentRegistry) -> None:
    text = """
        [[chain]]
        symbol = "NIFTY"
        monthly = 1
        strikes = 4
        [[chain]]
        symbol = "ONGC"
        nearest = 2
        strikes = 5
        [[chain]]
        symbol = "NOSUCH"
        nearest = 1
        [[future]]
        symbol = "GOLD"
        expiries = 3
        [[future]]
        symbol = "TIN"
        [drivers]
        fo_stocks = true
    """
    found = of_small(text, small)
    assert [(chain.symbol, format_expiry(chain.expiry), chain.legs) for chain in found.chains] == [
        ("NIFTY", "24FEB2026", 8),
        ("ONGC", "24FEB2026", 7),
    ]
    assert found.missing == (
        "ONGC nearest 2 of 2: no such expiry is listed",
        "ONGC 24FEB2026: 7 of 10 legs, 4 of 5 strikes are listed",
        "NOSUCH nearest 1 of 1: no such expiry is listed",
        "GOLD future 3 of 3: not listed",
        "TIN future 1 of 1: not listed",
    )
    assert [future.token for future in found.futures] == ["GOLD_05FEB2026_FUT", "GOLD_03APR2026_FUT"]
    drivers = {instrument.token for instrument in found.drivers}
    assert drivers == {
        "NIFTY_IDX",
        "SENSEX_IDX",
        "NIFTY NEXT 50_IDX",
        "GOLD_03APR2026_FUT",
        "SILVER_05MAR2026_FUT",
        "ONGC_EQ",
        "RELIANCE_EQ",
    }
    assert found.total == 8 + 7 + len(drivers) + 1  # one gold future drives and is asked for
    assert found.asked > found.total


def test_all_means_all(small: InstrumentRegistry) -> None:
    text = '[[chain]]\nsymbol = "RELIANCE"\nnearest = "all"\nstrikes = "all"\n[drivers]\nfo_stocks = false\n'
    found = of_small(text, small)
    assert [(chain.strikes, chain.legs) for chain in found.chains] == [(5, 10)]
    assert found.missing == ()
    assert "RELIANCE_EQ" not in {instrument.token for instrument in found.drivers}


def test_reads_the_default_file() -> None:
    assert DEFAULT.fo_stocks
    assert ChainRule("NIFTY", weekly=8, quarterly=4) in DEFAULT.chains
    of_indices = {rule.symbol for rule in DEFAULT.futures if rule.expiries == 1}
    assert of_indices == {"NIFTY", "BANKNIFTY", "SENSEX", "FINNIFTY", "MIDCPNIFTY", "BANKEX"}
    rest = [rule.symbol for rule in DEFAULT.futures if rule.symbol not in of_indices]
    assert rest == ["GOLD", "SILVER", "CRUDEOIL", "NATURALGAS", "COPPER"]
    assert parse_universe("") == Universe()
    assert parse_universe('[[future]]\nsymbol = "GOLD"\nexpiries = 2').futures == (FutureRule("GOLD", 2),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[chain]\n", "not TOML"),
        ("[[chains]]\n", "unknown chains; it may have chain, future, drivers"),
        ("[[chain]]\nweekly = 1\n", "has no symbol"),
        ('[[chain]]\nsymbol = " "\nweekly = 1\n', "has no symbol"),
        ('[[chain]]\nsymbol = "A"\n', "takes no expiry"),
        ('[[chain]]\nsymbol = "A"\nweekly = 0\n', "takes no expiry"),
        ('[[chain]]\nsymbol = "A"\nweekly = -1\n', 'weekly is -1, it may be a number from 0 or "all"'),
        ('[[chain]]\nsymbol = "A"\nweekly = true\n', "weekly is True"),
        ('[[chain]]\nsymbol = "A"\nweekly = "some"\n', "weekly is 'some'"),
        ('[[chain]]\nsymbol = "A"\nweekly = 1\nstrikes = 0\n', "strikes is 0"),
        ('[[chain]]\nsymbol = "A"\nweekly = 1\ncolour = 1\n', "unknown colour"),
        ('[[future]]\nsymbol = "A"\nexpiries = 0\n', "expiries is 0"),
        ('chain = "A"\n', "written as [[chain]]"),
        ("drivers = 1\n", "[drivers] is a table"),
        ('[drivers]\nfo_stocks = "yes"\n', "fo_stocks is 'yes'"),
        ("[drivers]\nstocks = true\n", "unknown stocks"),
    ],
)
def test_says_what_is_wrong_with_a_file(text: str, words: str) -> None:
    with pytest.raises(UniverseInvalid) as caught:
        parse_universe(text)
    assert words in caught.value.detail
