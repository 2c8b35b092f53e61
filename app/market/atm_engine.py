"""Strike windows: which listed strikes around spot a chain shows (contract, rule 5.4). Pure.

A window is a slice of the listed ladder, counted by position and never by arithmetic. It moves only when spot has
travelled a whole step since the last centring, so a price trembling on a boundary moves nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol, cast

from app.core.doors import Door
from app.core.errors import ExpiryUnknown, InstrumentUnknown, SpotUnknown
from app.core.ids import Exchange, InstrumentKey, format_expiry, format_strike, parse_expiry
from app.core.instruments import Instrument
from app.ports.clock import Clock

STOCK_STRIKES = 25
INDEX_STRIKES = 101
COOLDOWN_MS = 5_000
CACHE_TTL_S = 300
_CACHED_CHAINS = 512
_TOLD_CHAINS = 16  # whose tokens are kept by strike
_EXACT = 1e-6  # rupees: strikes have four decimals at most, so a smaller difference is a float's, not a price's


class Strikes(Protocol):
    """Strikes in ascending order: a tuple, or a column."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> float: ...


class ChainId(NamedTuple):
    """One option chain: an expiry of a symbol on one exchange."""

    symbol: str
    expiry: date
    exchange: Exchange

    def __str__(self) -> str:
        prefix = "" if self.exchange is Exchange.NSE else f"{self.exchange}:"
        return f"{prefix}{self.symbol}:{format_expiry(self.expiry)}"


@dataclass(frozen=True, slots=True)
class Window:
    """``strikes[lo:hi]`` of a ladder. ``atm`` is the index of the strike nearest to ``centre``.

    ``centre`` is the spot, in rupees, of the last centring. The ATM strike itself does as well: it centres alike.
    """

    lo: int
    hi: int
    atm: int
    centre: float

    def __len__(self) -> int:
        return self.hi - self.lo


def known_spot(spot: float | None) -> float:
    """The spot, if it can be one.

    Raises:
        SpotUnknown: none, zero, negative or not a number. Nothing is guessed from it.
    """
    if spot is None or not math.isfinite(spot) or spot <= 0.0:
        raise SpotUnknown("no spot price yet and none given")
    return spot


def nearest(strikes: Strikes, spot: float) -> int:
    """Index of the listed strike nearest to ``spot``; of two equally near ones the upper.

    Raises:
        ValueError: an empty ladder.
    """
    if not len(strikes):
        raise ValueError("an empty ladder has no nearest strike")
    above = bisect_left(strikes, spot)
    if above == 0:
        return 0
    if above == len(strikes):
        return above - 1
    return above if strikes[above] - spot <= spot - strikes[above - 1] + _EXACT else above - 1


def window_at(strikes: Sequence[float], spot: float | None, count: int) -> Window:
    """The ``count`` listed strikes nearest to ATM by position, shifted at the ladder's edges.

    Raises:
        SpotUnknown: as :func:`known_spot`.
        ValueError: an empty ladder, or ``count`` below one.
    """
    if count < 1:
        raise ValueError(f"a window needs at least one strike, not {count}")
    centre = known_spot(spot)
    atm = nearest(strikes, centre)
    lo = max(0, min(atm - count // 2, len(strikes) - count))
    return Window(lo, min(lo + count, len(strikes)), atm, centre)


def has_moved(window: Window, spot: float | None, step: float) -> bool:
    """Whether spot is known and at least one step away from the last centring."""
    if spot is None or not math.isfinite(spot) or spot <= 0.0:
        return False
    return step > 0.0 and abs(spot - window.centre) >= step - _EXACT


def follow(
    window: Window,
    strikes: Sequence[float],
    spot: float | None,
    count: int,
    step: float,
    *,
    moved_ms: int = 0,
    now_ms: int = 0,
    cooldown_ms: int = 0,
) -> Window | None:
    """The window that a subscribed chain should have now, or None to leave it where it is.

    It stays while spot is unknown, within one step of the last centring, or while the last move is younger than the
    cool-down. A window that comes back may have the same bounds, at the ladder's edge: only its centre is new.
    """
    if not has_moved(window, spot, step):
        return None
    if moved_ms and 0 <= now_ms - moved_ms < cooldown_ms:  # a move to come is one of before the clock was set back
        return None
    return window_at(strikes, spot, count)


class LadderLike(Protocol):
    """What a chain looks like as listed; ``registry.Ladder`` is one."""

    @property
    def symbol(self) -> str: ...
    @property
    def exchange(self) -> Exchange: ...
    @property
    def expiry(self) -> date: ...
    @property
    def strikes(self) -> tuple[float, ...]: ...
    @property
    def step(self) -> float: ...
    @property
    def ce(self) -> tuple[InstrumentKey | None, ...]: ...
    @property
    def pe(self) -> tuple[InstrumentKey | None, ...]: ...


class Listing(Protocol):
    """The part of the instrument registry that windows need."""

    @property
    def revision(self) -> int: ...
    def resolve_symbol(self, text: str) -> str: ...
    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> LadderLike: ...
    def index(self, symbol: str) -> Instrument | None: ...
    def get(self, key: InstrumentKey) -> Instrument | None: ...


@dataclass(frozen=True, slots=True)
class CachedWindow:
    """One chain's window with the ladder it was cut from."""

    chain: ChainId
    window: Window
    ladder: LadderLike
    count: int
    revision: int  # of the registry the ladder came from
    centred_at: datetime
    moved_ms: int

    @property
    def strikes(self) -> tuple[float, ...]:
        return self.ladder.strikes[self.window.lo : self.window.hi]

    @property
    def atm_strike(self) -> float:
        return self.ladder.strikes[self.window.atm]

    @property
    def keys(self) -> tuple[InstrumentKey, ...]:
        """Every listed leg of the window, strike by strike, call before put."""
        lo, hi = self.window.lo, self.window.hi
        return tuple(
            key for pair in zip(self.ladder.ce[lo:hi], self.ladder.pe[lo:hi], strict=True) for key in pair if key
        )


class ATMEngine:
    """OWNS the strike windows of subscribed chains, one per chain, and a cache of chains only looked at.

    ``centre`` is for a chain that is opened or reopened, ``follow`` for one that is subscribed. ``generate_chain``
    and ``preview`` show a chain and never move a subscribed window. Windows cut from an older instrument master are
    cut again, around the same spot, when next asked for.
    """

    def __init__(
        self, listing: Listing, clock: Clock, *, cooldown_ms: int = COOLDOWN_MS, cache_ttl_s: int = CACHE_TTL_S
    ) -> None:
        self._listing = listing
        self._clock = clock
        self._cooldown_ms = cooldown_ms
        self.cache_ttl_s = cache_ttl_s
        self._windows: dict[ChainId, CachedWindow] = {}
        self._seen: dict[ChainId, CachedWindow] = {}
        self._told: dict[ChainId, tuple[CachedWindow, Mapping[str, Mapping[str, str | None]]]] = {}
        self.revision = 0  # +1 with every change of any window

    def usual_count(self, symbol: str, exchange: Exchange) -> int:
        """How many strikes a chain of this symbol shows: 101 for an index or a commodity, 25 for a stock."""
        is_wide = exchange is Exchange.MCX or self._listing.index(symbol) is not None
        return INDEX_STRIKES if is_wide else STOCK_STRIKES

    def chain_id(self, symbol: str, expiry: date | str, exchange: str | None = None) -> ChainId:
        """The chain as listed. Raises ``InstrumentUnknown`` or ``ExpiryUnknown``."""
        ladder = self._listing.ladder(self._listing.resolve_symbol(symbol), expiry, exchange)
        return ChainId(ladder.symbol, ladder.expiry, ladder.exchange)

    def window(self, chain: ChainId) -> CachedWindow | None:
        """The window as it stands, or None for a chain that was never centred or is no longer listed."""
        held = self._windows.get(chain)
        if held is None or held.revision == self._listing.revision:
            return held
        try:
            return self._place(chain, held.window.centre, held.count)
        except (InstrumentUnknown, ExpiryUnknown):
            self.forget(chain)
            return None

    def windows(self) -> list[CachedWindow]:
        return list(self._windows.values())

    def centre(self, chain: ChainId, spot: float | None, count: int | None = None) -> CachedWindow:
        """Centre the chain's window on ``spot``, as when it is opened or reopened.

        It stays put when spot has moved less than a step. Raises ``SpotUnknown``.
        """
        centre = known_spot(spot)
        held = self.window(chain)
        wanted = count or (held.count if held else self.usual_count(chain.symbol, chain.exchange))
        if held and held.count >= wanted and not has_moved(held.window, centre, held.ladder.step):
            return held
        return self._place(chain, centre, max(wanted, held.count if held else 0))

    def follow(self, chain: ChainId, spot: float | None) -> CachedWindow | None:
        """Move a subscribed chain's window after spot; None where it stays."""
        held = self.window(chain)
        if held is None:
            return None
        moved = follow(
            held.window,
            held.ladder.strikes,
            spot,
            held.count,
            held.ladder.step,
            moved_ms=held.moved_ms,
            now_ms=self._clock.now_ms(),
            cooldown_ms=self._cooldown_ms,
        )
        return None if moved is None else self._place(chain, moved.centre, held.count)

    def forget(self, chain: ChainId) -> None:
        if self._windows.pop(chain, None) is not None:
            self.revision += 1

    def invalidate_expiry(self, symbol: str, expiry: date | str) -> int:
        """Forget the windows of that expiry on every exchange; return how many there were."""
        day = expiry if isinstance(expiry, date) else parse_expiry(expiry)
        name = self._listing.resolve_symbol(symbol)
        gone = [chain for chain in {**self._windows, **self._seen} if chain.symbol == name and chain.expiry == day]
        for chain in gone:
            self.forget(chain)
            self._seen.pop(chain, None)
        return len(gone)

    def should_recalculate(
        self, symbol: str, expiry: date | str, ltp: float | None, exchange: str | None = None
    ) -> bool:
        """Whether ``generate_chain`` would centre anew: no chain yet, or spot a step away from the last centring."""
        held = self._fresh(self.chain_id(symbol, expiry, exchange))
        return held is None or has_moved(held.window, ltp, held.ladder.step)

    def generate_chain(
        self,
        symbol: str,
        expiry: date | str,
        ltp: float | None,
        exchange: str | None = None,
        count: int | None = None,
    ) -> dict[str, object]:
        """The chain around ``ltp`` as a plain record; repeated calls with a like price give the cached one.

        Raises:
            SpotUnknown: ``ltp`` is none, zero or negative.
            InstrumentUnknown, ExpiryUnknown: no such chain is listed.
        """
        spot = known_spot(ltp)
        return self.describe(self.look(self.chain_id(symbol, expiry, exchange), spot, count))

    def look(self, chain: ChainId, ltp: float | None, count: int | None = None) -> CachedWindow:
        """The window behind :meth:`generate_chain`: the cached one while it fits. Raises ``SpotUnknown``."""
        spot = known_spot(ltp)
        wanted = count or self.usual_count(chain.symbol, chain.exchange)
        held = self._fresh(chain)
        if held is None or held.count != wanted or has_moved(held.window, spot, held.ladder.step):
            held = self._cut(chain, spot, wanted)
            self._seen.pop(chain, None)
            if len(self._seen) >= _CACHED_CHAINS:
                del self._seen[next(iter(self._seen))]
            self._seen[chain] = held
        return held

    def _fresh(self, chain: ChainId) -> CachedWindow | None:
        """The chain as last looked at, while the master is the same and the cache's time is not up."""
        held = self._seen.get(chain)
        if held is None or held.revision != self._listing.revision:
            return None
        return held if self._clock.now_ms() - held.moved_ms < self.cache_ttl_s * 1000 else None

    def preview(self, chain: ChainId, spot: float | None, count: int | None = None) -> CachedWindow:
        """The window around ``spot`` for one request; nothing is kept."""
        return self._cut(chain, known_spot(spot), count or self.usual_count(chain.symbol, chain.exchange))

    def describe(self, cached: CachedWindow) -> dict[str, object]:
        """A window as endpoint 4 tells it."""
        return {
            "symbol": cached.chain.symbol,
            "expiry": format_expiry(cached.chain.expiry),
            "exchange": str(cached.chain.exchange),
            "underlying_ltp": cached.window.centre,
            "atm_strike": cached.atm_strike,
            "strike_step": cached.ladder.step,
            "strikes": list(cached.strikes),
            "strikes_ce_pe": dict(self._tokens_by_strike(cached)),
            "cached_at": cached.centred_at.isoformat(),
            "cache_ttl_seconds": self.cache_ttl_s,
        }

    def _tokens_by_strike(self, cached: CachedWindow) -> Mapping[str, Mapping[str, str | None]]:
        """Made once for a window that is told again and again."""
        held = self._told.get(cached.chain)
        if held is not None and held[0] is cached:
            return held[1]
        lo, hi = cached.window.lo, cached.window.hi
        pairs = zip(cached.strikes, cached.ladder.ce[lo:hi], cached.ladder.pe[lo:hi], strict=True)
        told = {format_strike(strike): {"CE": self._token(ce), "PE": self._token(pe)} for strike, ce, pe in pairs}
        if held is None and len(self._told) >= _TOLD_CHAINS:
            del self._told[next(iter(self._told))]
        self._told[cached.chain] = cached, told
        return told

    def _token(self, key: InstrumentKey | None) -> str | None:
        instrument = self._listing.get(key) if key else None
        return instrument.token if instrument else None

    def _place(self, chain: ChainId, centre: float, count: int) -> CachedWindow:
        placed = self._cut(chain, centre, count)
        self._windows[chain] = placed
        self.revision += 1
        return placed

    def _cut(self, chain: ChainId, centre: float, count: int) -> CachedWindow:
        ladder = self._listing.ladder(chain.symbol, chain.expiry, str(chain.exchange))
        return CachedWindow(
            chain=chain,
            window=window_at(ladder.strikes, centre, count),
            ladder=ladder,
            count=count,
            revision=self._listing.revision,
            centred_at=self._clock.now(),
            moved_ms=self._clock.now_ms(),
        )


_DOOR = cast("ATMEngine", Door(ATMEngine, lambda service: service.engine))


def get_atm_engine() -> ATMEngine:
    """The running service's engine: a door of the user's document."""
    return _DOOR
