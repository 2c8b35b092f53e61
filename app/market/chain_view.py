"""Which legs a chain shows, whether anybody subscribed it or not. Showing subscribes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Protocol

from app.core.ids import InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.core.sessions import Calendar
from app.market.atm_engine import ATMEngine, CachedWindow, ChainId, LadderLike, has_moved
from app.market.live_prices import LivePrices

USUAL_CLOSE = time(15, 30)


class ChainListing(Protocol):
    """The part of the instrument registry that chains need."""

    @property
    def revision(self) -> int: ...
    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> LadderLike: ...
    def get(self, key: InstrumentKey) -> Instrument | None: ...
    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None: ...
    def futures(self, symbol: str, exchange: str | None = None) -> Sequence[Instrument]: ...


@dataclass(frozen=True, slots=True)
class ChainLegs:
    """The rows of a chain: ``ce[i]`` and ``pe[i]`` at ``strikes[i]``, None where a leg is not listed.

    ``underlying`` is the instrument whose price is the spot, ``future`` the one that the options settle into or
    that expires with them, ``shown_future`` that one or, where there is none, the nearest. ``expiry_ms`` is when
    trading in the options ends, epoch ms UTC; ``lot_size`` is in units.
    """

    chain: ChainId
    strikes: tuple[float, ...]
    ce: tuple[Instrument | None, ...]
    pe: tuple[Instrument | None, ...]
    underlying: Instrument | None
    future: Instrument | None
    shown_future: Instrument | None
    expiry_ms: int
    lot_size: int

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The listed legs, strike by strike, call before put."""
        return tuple(leg for pair in zip(self.ce, self.pe, strict=True) for leg in pair if leg is not None)

    @property
    def segment(self) -> Segment:
        """Where the legs are traded."""
        return next(leg.key.segment for leg in (*self.ce, *self.pe) if leg is not None)


@dataclass(frozen=True, slots=True)
class _Cut:
    """The legs last cut, and from what."""

    revision: int
    ladder: LadderLike
    lo: int
    hi: int
    legs: ChainLegs


class ChainView:
    """Cuts the legs of a chain: the subscribed window where there is one, else a window around spot.

    Where spot is not known either, the whole listed ladder is shown: no middle of it is guessed.
    """

    def __init__(self, listing: ChainListing, engine: ATMEngine, prices: LivePrices, calendar: Calendar) -> None:
        self._listing = listing
        self._engine = engine
        self._prices = prices
        self._calendar = calendar
        self._shown: dict[ChainId, CachedWindow] = {}
        self._cuts: dict[ChainId, _Cut] = {}

    @property
    def revision(self) -> tuple[int, int]:
        """Changes whenever a subscribed window or the instrument master does."""
        return self._engine.revision, self._listing.revision

    def legs(self, chain: ChainId) -> ChainLegs:
        """The legs as of now; the same object until they become others. Remembered until :meth:`forget`.

        Raises:
            InstrumentUnknown, ExpiryUnknown: no such chain is listed.
        """
        held, revision = self._cuts.get(chain), self._listing.revision
        if held is not None and held.revision == revision:
            underlying = held.legs.underlying
        else:
            held, underlying = None, self._listing.spot_of(chain.symbol, chain.expiry, str(chain.exchange))
        ladder, lo, hi = self._bounds(chain, underlying)
        if held is None or held.ladder is not ladder or (held.lo, held.hi) != (lo, hi):
            legs = self._legs(chain, ladder, lo, hi, underlying)
            held = self._cuts[chain] = _Cut(revision, ladder, lo, hi, legs)
        return held.legs

    def _bounds(self, chain: ChainId, underlying: Instrument | None) -> tuple[LadderLike, int, int]:
        spot = self._prices.last_price(underlying.key) if underlying else None
        window = self._engine.window(chain) or self._around(chain, spot)
        if window is not None:
            return window.ladder, window.window.lo, window.window.hi
        ladder = self._listing.ladder(chain.symbol, chain.expiry, str(chain.exchange))
        return ladder, 0, len(ladder.strikes)

    def _legs(self, chain: ChainId, ladder: LadderLike, lo: int, hi: int, underlying: Instrument | None) -> ChainLegs:
        futures = self._listing.futures(chain.symbol, str(chain.exchange))
        future = next((each for each in futures if each.expiry == chain.expiry), None)
        if underlying is not None and underlying.kind is InstrumentKind.FUTURE:
            future = underlying
        ce, pe = (tuple(self._instrument(key) for key in side[lo:hi]) for side in (ladder.ce, ladder.pe))
        return ChainLegs(
            chain=chain,
            strikes=ladder.strikes[lo:hi],
            ce=ce,
            pe=pe,
            underlying=underlying,
            future=future,
            shown_future=future or next(iter(futures), None),
            expiry_ms=self._expiry_ms(ladder),
            lot_size=next(leg.lot_size for leg in (*ce, *pe) if leg is not None),
        )

    def forget(self, chain: ChainId) -> None:
        """Nobody looks at it any more."""
        self._shown.pop(chain, None)
        self._cuts.pop(chain, None)

    def _around(self, chain: ChainId, spot: float | None) -> CachedWindow | None:
        held = self._shown.get(chain)
        is_old = held is None or held.revision != self._listing.revision
        if spot is not None and (is_old or (held and has_moved(held.window, spot, held.ladder.step))):
            held = self._shown[chain] = self._engine.preview(chain, spot)
        elif is_old:
            return None
        return held

    def _instrument(self, key: InstrumentKey | None) -> Instrument | None:
        return self._listing.get(key) if key else None

    def _expiry_ms(self, ladder: LadderLike) -> int:
        key = next(key for key in (*ladder.ce, *ladder.pe) if key is not None)
        sessions = self._calendar.sessions(key.segment, ladder.expiry)
        usual = datetime.combine(ladder.expiry, USUAL_CLOSE, self._calendar.zone)
        return int((sessions[-1].close if sessions else usual).timestamp() * 1000)
