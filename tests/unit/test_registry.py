"""Lookups of the instrument master, on a small one with a real one's oddities (contract, section 3)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from app.core.errors import ExpiryUnknown, InstrumentUnknown, MasterRefused
from app.core.ids import Exchange, InstrumentKey, InstrumentKind, OptionType, Segment
from app.market.instrument_master.ladder import strike_step
from app.market.instrument_master.registry import InstrumentRegistry
from tests.masters import SMALL, SMALL_DAY, small_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> InstrumentRegistry:
    return small_registry(tmp_path_factory.mktemp("small"))


def test_an_empty_registry_knows_nothing() -> None:
    empty = InstrumentRegistry(lambda: SMALL_DAY)
    assert (empty.revision, empty.report, list(empty.symbols())) == (0, None, [])
    assert empty.get(InstrumentKey(Segment.IDX_I, 13)) is None
    assert empty.search("NIFTY") == []
    assert empty.fo_stocks() == []
    with pytest.raises(InstrumentUnknown):
        empty.by_token("NIFTY_IDX")


def test_finds_by_wire_key_and_never_by_the_id_alone(registry: InstrumentRegistry) -> None:
    names = {segment: registry.get(InstrumentKey(segment, 13)) for segment in Segment}
    found = {segment: instrument.token for segment, instrument in names.items() if instrument}
    assert found == {Segment.IDX_I: "NIFTY_IDX", Segment.NSE_EQ: "ABB_EQ"}
    nse, bse = (registry.get(InstrumentKey(segment, 50005)) for segment in (Segment.NSE_FNO, Segment.BSE_FNO))
    assert nse is not None
    assert bse is not None
    assert (nse.token, bse.token) == ("RELIANCE_24FEB2026_2640CE", "RELIANCE_26FEB2026_2640CE")


@pytest.mark.parametrize("kept_ready", [0, 3])
def test_many_wire_keys_give_what_each_gives(registry: InstrumentRegistry, tmp_path: Path, kept_ready: int) -> None:
    listed = [each.key for symbol in registry.symbols() for each in registry.get_by_symbol(symbol)]
    unknown = InstrumentKey(Segment.BSE_FNO, 0xFFFF_FFFF)
    asked = [unknown, *listed, *listed[:5], InstrumentKey(Segment.IDX_I, 0)]
    fresh = small_registry(tmp_path)
    for key in listed[:kept_ready]:
        fresh.get(key)
    assert fresh.get_all(asked) == [registry.get(key) for key in asked]
    assert fresh.get_all(asked) == [registry.get(key) for key in asked]
    assert fresh.get_all([]) == []
    assert InstrumentRegistry(lambda: SMALL_DAY).get_all([unknown]) == [None]


def test_an_option_says_all_of_itself(registry: InstrumentRegistry) -> None:
    option = registry.by_token("ONGC_24FEB2026_238.75PE")
    assert option.kind is InstrumentKind.OPTION
    assert (option.exchange, option.symbol, option.name) == (Exchange.NSE, "ONGC", "ONGC 24 FEB 238.75 PUT")
    assert (option.expiry, option.strike, option.option_type) == (date(2026, 2, 24), 238.75, OptionType.PE)
    assert (option.lot_size, option.tick) == (2250, 0.05)


@pytest.mark.parametrize(
    ("written", "token"),
    [
        (" reliance_eq ", "RELIANCE_EQ"),
        ("nifty50_24feb2026_25000ce", "NIFTY_24FEB2026_25000CE"),
        ("NIFTY 50_24-FEB-2026_25000CE", "NIFTY_24FEB2026_25000CE"),
        ("NIFTY_2026-02-24_25000.0CE", "NIFTY_24FEB2026_25000CE"),
        ("GOLD_FUT", "GOLD_05FEB2026_FUT"),
        ("GOLD_03APR2026_FUT", "GOLD_03APR2026_FUT"),
        ("SENSEX_FUT", "SENSEX_26FEB2026_FUT"),
        ("BSE:RELIANCE_EQ", "BSE:RELIANCE_EQ"),
        ("NSE:RELIANCE_EQ", "RELIANCE_EQ"),
        ("bse:reliance_26feb2026_2640ce", "RELIANCE_26FEB2026_2640CE"),
        ("BSE:ONGC_24FEB2026_260PE", "BSE:ONGC_24FEB2026_260PE"),
        ("ONGC_24FEB2026_260PE", "ONGC_24FEB2026_260PE"),
        ("IDX_I:13", "NIFTY_IDX"),
        ("nifty next 50_idx", "NIFTY NEXT 50_IDX"),
        ("METAL_EQ", "METAL_EQ"),
        ("METAL_IDX", "METAL_IDX"),
        ("nifty ipo_idx", "Nifty IPO_IDX"),
    ],
)
def test_reads_tokens_and_aliases(registry: InstrumentRegistry, written: str, token: str) -> None:
    assert registry.by_token(written).token == token


@pytest.mark.parametrize(
    "written",
    [
        "",
        "RELIANCE",
        "RELIANCE_24FEB2026_2641CE",
        "RELIANCE_25FEB2026_2640CE",
        "ONGC_24FEB2026_238.75CE",
        "BSE:INFY_EQ",
        "MCX:RELIANCE_EQ",
        "XXX:RELIANCE_EQ",
        "INFY_FUT",
        "NSE_EQ:1",
        "USDINR_26AUG2025_87.5CE",
        "011NSETEST_EQ",
        "RELIANCE_99FEB2026_2640CE",
    ],
)
def test_refuses_what_is_not_listed(registry: InstrumentRegistry, written: str) -> None:
    with pytest.raises(InstrumentUnknown):
        registry.by_token(written)


@pytest.mark.parametrize(
    ("written", "symbol"),
    [
        ("NIFTY50", "NIFTY"),
        ("nifty 50", "NIFTY"),
        (" Nifty Bank ", "BANKNIFTY"),
        ("nifty midcap select", "MIDCPNIFTY"),
        ("bajaj auto", "BAJAJ-AUTO"),
        ("m & m", "M&M"),
        ("INDIAVIX", "INDIA VIX"),
        ("nifty ipo", "Nifty IPO"),
    ],
)
def test_resolves_what_people_write(registry: InstrumentRegistry, written: str, symbol: str) -> None:
    assert registry.resolve_symbol(written) == symbol


def test_unknown_symbols_are_errors(registry: InstrumentRegistry) -> None:
    for ask in (
        registry.resolve_symbol,
        registry.get_by_symbol,
        registry.expiries,
        registry.describe,
        registry.futures,
    ):
        with pytest.raises(InstrumentUnknown, match="NOSUCH"):
            ask("NOSUCH")
    assert registry.cash("NOSUCH") is None
    assert registry.index("NOSUCH") is None
    assert registry.spot_of("NOSUCH", None) is None
    assert not registry.is_f_o_eligible("NOSUCH")


def test_expiries_are_of_the_primary_exchange_from_today_on(registry: InstrumentRegistry) -> None:
    assert registry.expiries("RELIANCE") == [date(2026, 2, 24)]
    assert registry.expiries("RELIANCE", "BSE") == [date(2026, 2, 26)]
    assert registry.expiries("nifty50") == [date(2026, 2, 3), date(2026, 2, 24), date(2026, 6, 30)]
    assert registry.expiries("SENSEX") == [date(2026, 2, 26)]
    assert registry.expiries("INFY") == []


def test_an_expiry_only_another_exchange_lists_selects_that_exchange(registry: InstrumentRegistry) -> None:
    ladder = registry.ladder("reliance", "26FEB2026")
    assert (ladder.exchange, ladder.symbol, ladder.expiry) == (Exchange.BSE, "RELIANCE", date(2026, 2, 26))
    assert registry.ladder("RELIANCE", "2026-02-24").exchange is Exchange.NSE
    assert registry.ladder("ONGC", "24FEB2026").exchange is Exchange.NSE
    assert registry.ladder("ONGC", "24FEB2026", "bse").strikes == (260.0,)
    with pytest.raises(ExpiryUnknown):
        registry.ladder("RELIANCE", "26FEB2026", "NSE")


def test_a_ladder_is_the_chain_as_listed(registry: InstrumentRegistry) -> None:
    ladder = registry.ladder("RELIANCE", date(2026, 2, 26))
    assert ladder.strikes == (2600.0, 2620.0, 2640.0, 2660.0, 2680.0)
    assert (ladder.step, ladder.regular, ladder.lot_size, ladder.tick) == (20.0, True, 500, 0.05)
    assert [key.security_id for key in ladder.ce if key] == [50001, 50003, 50005, 50007, 50009]
    assert [key.security_id for key in ladder.pe if key] == [50002, 50004, 50006, 50008, 50010]
    one_sided = registry.ladder("ONGC", "24FEB2026")
    assert one_sided.strikes == (237.5, 238.75, 240.0, 260.0)
    assert [key is None for key in one_sided.ce] == [False, True, False, False]
    assert not one_sided.regular
    assert one_sided.step == 1.25


def test_unknown_expiries_list_the_valid_ones(registry: InstrumentRegistry) -> None:
    with pytest.raises(ExpiryUnknown) as caught:
        registry.ladder("RELIANCE", "27FEB2026")
    assert caught.value.extra["valid"] == ["24FEB2026", "26FEB2026"]
    with pytest.raises(ExpiryUnknown) as caught:
        registry.get_option_chain("NIFTY", "next week")
    assert caught.value.extra["valid"] == ["03FEB2026", "24FEB2026", "30JUN2026"]
    with pytest.raises(InstrumentUnknown, match="no options"):
        registry.ladder("INFY", "24FEB2026")


def test_chains_and_lists_of_a_symbol(registry: InstrumentRegistry) -> None:
    chain = registry.get_option_chain("RELIANCE", "26FEB2026")
    assert [instrument.token for instrument in chain[:3]] == [
        "RELIANCE_26FEB2026_2600CE",
        "RELIANCE_26FEB2026_2600PE",
        "RELIANCE_26FEB2026_2620CE",
    ]
    everything = registry.get_by_symbol("RELIANCE")
    assert len(everything) == 2 + 1 + 10 + 10
    same_day = registry.get_by_symbol_expiry("RELIANCE", "24FEB2026")
    assert {instrument.kind for instrument in same_day} == {InstrumentKind.FUTURE, InstrumentKind.OPTION}
    assert {instrument.exchange for instrument in registry.get_by_symbol_expiry("ONGC", "24FEB2026")} == {Exchange.NSE}
    assert registry.get_by_symbol_expiry("RELIANCE", "25FEB2026") == []


def test_strike_steps(registry: InstrumentRegistry) -> None:
    assert registry.get_strike_step("RELIANCE") == 20.0
    assert registry.get_strike_step("NIFTY") == 50.0
    assert registry.get_strike_step("GOLD", "25FEB2026") == 100.0
    assert registry.get_strike_step("INFY") is None


@pytest.mark.parametrize(
    ("strikes", "step", "regular"),
    [
        ((100.0, 110.0, 120.0), 10.0, True),
        ((105.0, 115.0), 10.0, False),  # rounding to 10 would miss every strike
        ((100.0, 110.0, 120.0, 140.0), 10.0, False),
        ((100.0, 110.0, 130.0), 20.0, False),  # a tie: the larger gap
        ((238.75, 240.0, 241.25), 1.25, True),
        ((100.0,), 0.05, False),
    ],
)
def test_step_is_the_usual_gap(strikes: tuple[float, ...], step: float, regular: bool) -> None:
    assert strike_step(strikes, 0.05) == (step, regular)


def test_underlyings_are_found_by_symbol_and_date(registry: InstrumentRegistry) -> None:
    def spot(symbol: str, expiry: date | None, exchange: str | None = None) -> str | None:
        found = registry.spot_of(symbol, expiry, exchange)
        return found.token if found else None

    assert spot("NIFTY", date(2026, 2, 24)) == "NIFTY_IDX"
    assert spot("SENSEX", date(2026, 2, 26)) == "SENSEX_IDX"  # its options call it 1, which is another index
    assert spot("NIFTYNXT50", date(2026, 2, 24)) == "NIFTY NEXT 50_IDX"
    assert spot("RELIANCE", date(2026, 2, 26), "BSE") == "RELIANCE_EQ"
    assert spot("GOLD", date(2026, 2, 25)) == "GOLD_03APR2026_FUT"
    assert spot("GOLD", date(2026, 2, 5)) == "GOLD_05FEB2026_FUT"
    assert spot("GOLD", None) == "GOLD_05FEB2026_FUT"
    assert spot("GOLD", date(2026, 4, 4)) is None
    assert spot("SILVER", date(2026, 2, 26)) == "SILVER_05MAR2026_FUT"  # not the fund of the same name
    assert spot("USDINR", date(2026, 2, 25)) == "USDINR_25FEB2026_FUT"
    assert spot("INFY", None) == "INFY_EQ"
    assert spot("INDIA VIX", None) == "INDIA VIX_IDX"


def test_cash_and_index_lines(registry: InstrumentRegistry) -> None:
    cash = registry.cash("RELIANCE")
    assert cash is not None
    assert cash.key == InstrumentKey(Segment.NSE_EQ, 2885)
    twin = registry.cash("RELIANCE", "BSE")
    assert twin is not None
    assert twin.token == "BSE:RELIANCE_EQ"
    index = registry.index("SENSEX")
    assert index is not None
    assert index.key == InstrumentKey(Segment.IDX_I, 51)
    assert registry.index("RELIANCE") is None


def test_eligibility(registry: InstrumentRegistry) -> None:
    assert registry.fo_stocks() == ["ONGC", "RELIANCE"]
    assert registry.is_f_o_eligible("nifty 50")
    assert registry.is_f_o_eligible("GOLD")
    assert not registry.is_f_o_eligible("INFY")
    assert "SENSEX" in registry.option_symbols()
    assert "INFY" not in registry.option_symbols()


def test_describes_a_symbol(registry: InstrumentRegistry) -> None:
    info = registry.describe("reliance")
    assert (info.symbol, info.name, info.exchange) == ("RELIANCE", "Reliance Industries", Exchange.NSE)
    assert info.segments == ("NSE_EQ", "NSE_FNO", "BSE_EQ", "BSE_FNO")
    assert (info.f_o_eligible, info.count, info.lot_size, info.strike_step) == (True, 23, 500, 20.0)
    assert (info.nearest_future, info.nearest_expiry) == ("RELIANCE_24FEB2026_FUT", date(2026, 2, 24))
    plain = registry.describe("INFY")
    assert (plain.f_o_eligible, plain.lot_size, plain.tick, plain.strike_step) == (False, 1, 0.1, None)


def test_what_is_over_is_not_listed_any_more(tmp_path: Path) -> None:
    loaded = small_registry(tmp_path)
    today = SMALL_DAY
    registry = InstrumentRegistry(lambda: today)
    registry.load(tmp_path / "master_small.csv.snapshot")
    assert registry.expiries("NIFTY")[0] == date(2026, 2, 3)  # live through its last day
    today = date(2026, 2, 6)
    assert registry.expiries("NIFTY")[0] == date(2026, 2, 24)
    assert registry.by_token("GOLD_FUT").token == "GOLD_03APR2026_FUT"
    assert registry.futures("GOLD") == [loaded.by_token("GOLD_03APR2026_FUT")]
    with pytest.raises(ExpiryUnknown):
        registry.ladder("NIFTY", "03FEB2026")
    # It can still be named until the next load, for whoever shows it as expired.
    assert registry.by_token("GOLD_05FEB2026_FUT").expiry == date(2026, 2, 5)
    report = registry.load(tmp_path / "master_small.csv.snapshot")
    assert (registry.revision, report.left_out["expired"]) == (2, 3 + 6 + 1)
    with pytest.raises(InstrumentUnknown):
        registry.by_token("GOLD_05FEB2026_FUT")


def test_loads_a_csv_as_well_and_the_same_again(tmp_path: Path) -> None:
    registry = InstrumentRegistry(lambda: SMALL_DAY)
    with pytest.raises(MasterRefused, match="name one"):
        registry.load()
    assert registry.load(SMALL).in_use == 94
    assert registry.load().in_use == 94
    assert registry.revision == 2
    (tmp_path / "bad.csv").write_text("EXCH_ID,SEGMENT\n")
    with pytest.raises(MasterRefused, match="columns missing: SECURITY_ID"):
        registry.load(tmp_path / "bad.csv")
    with pytest.raises(MasterRefused, match="cannot be read"):
        registry.load(tmp_path / "none.csv")
    assert registry.by_token("INFY_EQ").name == "Infosys"


def test_the_door_opens_only_when_used() -> None:
    from app.core import current
    from app.market.instrument_master import registry as module
    from app.market.registry import REGISTRY
    from app.market.registry import InstrumentRegistry as short

    class Clock:
        def now(self) -> datetime:
            return datetime(2026, 2, 3, 10, tzinfo=UTC)

    class Runtime:
        registry = InstrumentRegistry()
        clock = Clock()

    assert module.REGISTRY is REGISTRY
    assert short is InstrumentRegistry
    assert "door" in repr(REGISTRY)
    runtime = Runtime()
    current.enter(runtime, None)
    try:
        assert REGISTRY.revision == 0
        assert REGISTRY.search("NIFTY") == []
        assert REGISTRY.load(SMALL).day == SMALL_DAY
        assert REGISTRY.get_strike_step("RELIANCE") == 20.0
    finally:
        current.leave(runtime)
