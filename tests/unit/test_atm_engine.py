"""Windows of listed strikes: position, edges, ties, hysteresis, and what the engine keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pytest

from app.core.errors import ExpiryUnknown, SpotUnknown
from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Segment, format_expiry, format_strike, parse_expiry
from app.core.instruments import Instrument
from app.market.atm_engine import ATMEngine, ChainId, Window, follow, has_moved, nearest, window_at

REGULAR = tuple(float(strike) for strike in range(2000, 3300, 20))
DAY = date(2026, 2, 26)


@dataclass
class SteppedClock:
    at_ms: int = 1_770_000_000_000

    def now_ms(self) -> int:
        return self.at_ms

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    def monotonic(self) -> float:
        return self.at_ms / 1000


@dataclass(frozen=True)
class OneLadder:
    symbol: str
    exchange: Exchange
    expiry: date
    strikes: tuple[float, ...]
    step: float

    @property
    def ce(self) -> tuple[InstrumentKey | None, ...]:
        return tuple(InstrumentKey(Segment.NSE_FNO, 2 * place + 1) for place in range(len(self.strikes)))

    @property
    def pe(self) -> tuple[InstrumentKey | None, ...]:
        keys = [InstrumentKey(Segment.NSE_FNO, 2 * place + 2) for place in range(len(self.strikes))]
        return (None, *keys[1:])


@dataclass
class OneListing:
    """A registry of RELIANCE (a stock) and NIFTY (an index), one expiry each."""

    revision: int = 1
    strikes: tuple[float, ...] = REGULAR
    gone: set[str] = field(default_factory=set)

    def resolve_symbol(self, text: str) -> str:
        return text.strip().upper()

    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> OneLadder:
        day = expiry if isinstance(expiry, date) else parse_expiry(expiry)
        if day != DAY or symbol in self.gone:
            raise ExpiryUnknown(f"{symbol} lists no {format_expiry(day)}", valid=[format_expiry(DAY)])
        return OneLadder(symbol, Exchange.NSE, day, self.strikes, 20.0)

    def index(self, symbol: str) -> Instrument | None:
        if symbol != "NIFTY":
            return None
        key = InstrumentKey(Segment.IDX_I, 13)
        return Instrument(key, "NIFTY_IDX", InstrumentKind.INDEX, Exchange.NSE, symbol, symbol, 1, 0.05)

    def get(self, key: InstrumentKey) -> Instrument | None:
        strike = self.strikes[(key.security_id - 1) // 2]
        side = "CE" if key.security_id % 2 else "PE"
        token = f"RELIANCE_26FEB2026_{format_strike(strike)}{side}"
        return Instrument(key, token, InstrumentKind.OPTION, Exchange.NSE, "RELIANCE", "RELIANCE", 500, 0.05)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def listing() -> OneListing:
    return OneListing()


@pytest.fixture
def engine(listing: OneListing, clock: SteppedClock) -> ATMEngine:
    return ATMEngine(listing, clock)


RELIANCE = ChainId("RELIANCE", DAY, Exchange.NSE)


@pytest.mark.parametrize(
    ("spot", "strike"),
    [
        (2641.5, 2640.0),
        (2650.0, 2660.0),  # a tie goes up
        (2649.95, 2640.0),
        (1.0, 2000.0),
        (99_999.0, 3280.0),
        (2000.0, 2000.0),
    ],
)
def test_nearest_strike(spot: float, strike: float) -> None:
    assert REGULAR[nearest(REGULAR, spot)] == strike


def test_tie_between_strikes_that_floats_cannot_halve() -> None:
    assert nearest((2.1, 2.2), 2.15) == 1
    assert nearest((237.5, 238.75, 240.0), 239.375) == 2


def test_window_counts_by_position_on_an_irregular_ladder() -> None:
    strikes = (90.0, 95.0, 97.5, 100.0, 101.0, 110.0, 150.0)
    window = window_at(strikes, 100.2, 5)
    assert strikes[window.lo : window.hi] == (95.0, 97.5, 100.0, 101.0, 110.0)


@pytest.mark.parametrize(("spot", "lo", "hi"), [(2000.0, 0, 25), (3280.0, len(REGULAR) - 25, len(REGULAR))])
def test_window_shifts_at_the_edges(spot: float, lo: int, hi: int) -> None:
    window = window_at(REGULAR, spot, 25)
    assert (window.lo, window.hi) == (lo, hi)


def test_window_is_short_only_where_the_ladder_is() -> None:
    assert window_at((100.0, 110.0, 120.0), 111.0, 25) == Window(0, 3, 1, 111.0)


@pytest.mark.parametrize("spot", [None, 0.0, -5.0, float("nan"), float("inf")])
def test_unknown_spot_gives_no_window(spot: float | None) -> None:
    with pytest.raises(SpotUnknown):
        window_at(REGULAR, spot, 25)
    assert has_moved(Window(0, 25, 12, 2640.0), spot, 20.0) is False


def test_window_needs_a_strike_and_a_ladder() -> None:
    with pytest.raises(ValueError, match="at least one strike"):
        window_at(REGULAR, 2640.0, 0)
    with pytest.raises(ValueError, match="empty ladder"):
        window_at((), 2640.0, 25)


def test_follow_waits_for_a_whole_step_and_the_cool_down() -> None:
    held = window_at(REGULAR, 2640.0, 25)
    assert follow(held, REGULAR, 2659.95, 25, 20.0) is None
    assert follow(held, REGULAR, 2660.0, 25, 20.0, moved_ms=1_000, now_ms=5_999, cooldown_ms=5_000) is None
    moved = follow(held, REGULAR, 2660.0, 25, 20.0, moved_ms=1_000, now_ms=6_000, cooldown_ms=5_000)
    assert moved is not None
    assert (moved.lo - held.lo, REGULAR[moved.atm]) == (1, 2660.0)


def test_chain_is_told_as_the_api_tells_it(engine: ATMEngine) -> None:
    chain = engine.generate_chain("RELIANCE", "26-FEB-2026", 2641.5)
    strikes = chain["strikes"]
    assert isinstance(strikes, list)
    assert (len(strikes), chain["atm_strike"], chain["strike_step"]) == (25, 2640.0, 20.0)
    pairs = chain["strikes_ce_pe"]
    assert isinstance(pairs, dict)
    assert pairs["2640"] == {"CE": "RELIANCE_26FEB2026_2640CE", "PE": "RELIANCE_26FEB2026_2640PE"}
    assert engine.windows() == []


def test_leg_that_is_not_listed_is_null(engine: ATMEngine) -> None:
    pairs = engine.generate_chain("RELIANCE", DAY, 2000.0)["strikes_ce_pe"]
    assert isinstance(pairs, dict)
    assert pairs["2000"] == {"CE": "RELIANCE_26FEB2026_2000CE", "PE": None}


def test_chain_is_cached_until_spot_moves_a_step(engine: ATMEngine, clock: SteppedClock) -> None:
    first = engine.generate_chain("RELIANCE", DAY, 2641.5)
    clock.at_ms += 1_000
    assert engine.should_recalculate("RELIANCE", DAY, 2655.0) is False
    assert engine.generate_chain("RELIANCE", DAY, 2655.0)["cached_at"] == first["cached_at"]
    assert engine.should_recalculate("RELIANCE", DAY, 2661.5) is True
    assert engine.generate_chain("RELIANCE", DAY, 2661.5)["atm_strike"] == 2660.0


def test_cache_ends_with_its_time_and_with_invalidation(engine: ATMEngine, clock: SteppedClock) -> None:
    engine.generate_chain("RELIANCE", DAY, 2641.5)
    assert engine.invalidate_expiry("reliance", "26FEB2026") == 1
    assert engine.should_recalculate("RELIANCE", DAY, 2641.5) is True
    engine.generate_chain("RELIANCE", DAY, 2641.5)
    clock.at_ms += engine.cache_ttl_s * 1_000
    assert engine.should_recalculate("RELIANCE", DAY, 2641.5) is True


def test_index_is_wide_and_stock_is_not(engine: ATMEngine) -> None:
    assert engine.usual_count("NIFTY", Exchange.NSE) == 101
    assert engine.usual_count("RELIANCE", Exchange.NSE) == 25
    assert engine.usual_count("CRUDEOIL", Exchange.MCX) == 101


def test_subscribed_window_follows_after_the_cool_down(engine: ATMEngine, clock: SteppedClock) -> None:
    held = engine.centre(RELIANCE, 2640.0)
    assert (len(held.strikes), len(held.keys)) == (25, 50)
    assert engine.follow(RELIANCE, 2700.0) is None
    clock.at_ms += 5_000
    moved = engine.follow(RELIANCE, 2700.0)
    assert moved is not None
    assert moved.atm_strike == 2700.0
    assert engine.window(RELIANCE) == moved


def test_looking_at_a_chain_never_moves_a_subscribed_window(engine: ATMEngine) -> None:
    held = engine.centre(RELIANCE, 2640.0)
    engine.generate_chain("RELIANCE", DAY, 3000.0)
    engine.preview(RELIANCE, 3000.0)
    assert engine.window(RELIANCE) == held


def test_the_atm_strike_alone_brings_a_window_back(engine: ATMEngine) -> None:
    held = engine.centre(RELIANCE, 2647.3)
    engine.forget(RELIANCE)
    assert engine.centre(RELIANCE, held.atm_strike).strikes == held.strikes


def test_new_master_cuts_windows_again(engine: ATMEngine, listing: OneListing) -> None:
    held = engine.centre(RELIANCE, 2640.0)
    listing.strikes = tuple(float(strike) for strike in range(2000, 3300, 10))
    listing.revision = 2
    again = engine.window(RELIANCE)
    assert again is not None
    assert (len(again.strikes), again.atm_strike, again.window.centre) == (25, 2640.0, held.window.centre)
    assert again.strikes[1] - again.strikes[0] == 10.0


def test_chain_no_longer_listed_is_forgotten(engine: ATMEngine, listing: OneListing) -> None:
    engine.centre(RELIANCE, 2640.0)
    listing.gone.add("RELIANCE")
    listing.revision = 2
    assert engine.window(RELIANCE) is None
    assert engine.windows() == []
